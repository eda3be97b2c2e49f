"""The first process of an evaluation sandbox: shows store paths one by one, runs one program, ends everything.

    python inside.py CONTROL

`bwrap` has made the namespaces and starts this as process 1 of its own. Over the inherited socket CONTROL comes one
line of JSON (what to run; see `Orders` in `cell.py`), answered by a line with the number of the program's process; then
names of store paths, one a line, each answered by a line when it can be seen. The program has no capability and cannot
get one, cannot trace this process (which has three, in a user namespace that owns nothing but this sandbox) and cannot
signal it (process 1 is immune within its namespace). When it ends, when the server hangs up or when this process ends,
the kernel ends all others.

The store is bound at a hidden place. A descriptor of it is kept and the place covered; paths are bound from there.
Runs alone, without the rest of nixmill and without `typing`: it starts with each worker.
Source: open_tree(2), move_mount(2) of Linux 5.2, whose numbers are the same on all architectures; capabilities(7),
pid_namespaces(7), user_namespaces(7), prctl(2).
"""

import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import stat
import sys

HIDDEN = "/.nixmill"
"""Holds the store and this file; covered before anything else runs."""
FAILED = 125
"""Exit status where the sandbox could not be set up."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_CLONE, _NO_FOLLOW, _EMPTY_PATH = 1, 0x100, 0x4
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_EXEC, _REMOUNT, _BIND, _DETACH = 1, 2, 4, 8, 32, 4096, 2
_SET_DUMPABLE, _DROP_BOUND, _NO_NEW_PRIVILEGES, _AMBIENT, _CLEAR_ALL = 4, 24, 38, 47, 4
_KEYCTL = {"x86_64": 250, "i686": 288, "armv7l": 311, "ppc64le": 271, "s390x": 280}
"""Number of `keyctl` where it is not that of newer architectures."""
_NEW_SESSION_KEYRING = 1
_CAPABILITIES = 64
_CAPABILITIES_VERSION = 0x20080522
_LIMITS = {
    "memory_bytes": resource.RLIMIT_AS,
    "processes": resource.RLIMIT_NPROC,
    "files": resource.RLIMIT_NOFILE,
    "file_bytes": resource.RLIMIT_FSIZE,
}
_CHUNK = 65536
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    words = [word.encode() or None for word in (source, target, kind)]
    _checked(_LIBC.mount(*words, ctypes.c_ulong(flags), data.encode() or None))


class Shown:
    """The store as the sandbox sees it: empty but for what has been exposed."""

    def __init__(self, store: str) -> None:
        """Take over the mounts that `bwrap` made: a small writable one at `store`, the real one at `HIDDEN`."""
        self._real = os.open(HIDDEN + "/store", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._below = os.open(store, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        _mount(store, store, "", _BIND)
        _mount("", store, "", _BIND | _REMOUNT | _READ_ONLY | _NO_SUID | _NO_DEVICES)
        self._seen = os.open(store, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def expose(self, name: str) -> None:
        """Show one path, read-only; raise `OSError` where there is none."""
        if "/" in name or name in ("", ".", ".."):
            raise OSError(0, "not the name of a store path")
        mode = os.stat(name, dir_fd=self._real, follow_symlinks=False).st_mode
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=self._real), name, dir_fd=self._below)
            return
        if stat.S_ISDIR(mode):
            os.mkdir(name, dir_fd=self._below)
            self._bind(name)
            return
        file = os.open(name, _NEW, 0o444, dir_fd=self._below)
        try:
            self._bind(name)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._copy(name, file)
        finally:
            os.close(file)

    def _copy(self, name: str, target: int) -> None:
        """Copy a file: the kernel allows 100 000 mounts, and some evaluations make more derivations."""
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._real)
        try:
            while os.sendfile(target, source, None, _CHUNK):
                pass
        finally:
            os.close(source)

    def _bind(self, name: str) -> None:
        """Bind by descriptors only: no name that the program could have moved is looked up."""
        what = ctypes.c_char_p(name.encode())
        tree = _checked(_LIBC.syscall(_OPEN_TREE, ctypes.c_int(self._real), what, ctypes.c_uint(_CLONE | _NO_FOLLOW)))
        try:
            _checked(
                _LIBC.syscall(
                    *(_MOVE_MOUNT, ctypes.c_int(tree), ctypes.c_char_p(b"")),
                    *(ctypes.c_int(self._seen), what, ctypes.c_uint(_EMPTY_PATH)),
                )
            )
        finally:
            os.close(tree)


def secure(orders: dict[str, object]) -> None:
    """Let nobody in the sandbox end this process, make user namespaces, or find what is hidden."""
    # Process 1 gets no signal from within that it does not handle; Python handles this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with open("/proc/sys/user/max_user_namespaces", "w", encoding="ascii") as file:  # noqa: PTH123 - no pathlib here
        file.write("0")
    for place in orders["forgotten"]:  # type: ignore[attr-defined]
        _checked(_LIBC.umount2(place.encode(), _DETACH))
    _mount("proc", "/proc", "proc", _NO_SUID | _NO_DEVICES | _NO_EXEC, "subset=pid")
    _mount("tmpfs", HIDDEN, "tmpfs", _READ_ONLY | _NO_SUID | _NO_DEVICES | _NO_EXEC, "size=4096,nr_inodes=2,mode=0")


def give_up_power() -> None:
    """Drop every capability for good."""
    _checked(_LIBC.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _LIBC.syscall(_KEYCTL.get(os.uname().machine, 219), _NEW_SESSION_KEYRING, None)  # not every kernel has keys
    _checked(_LIBC.prctl(_AMBIENT, _CLEAR_ALL, 0, 0, 0))
    for number in range(_CAPABILITIES):
        _LIBC.prctl(_DROP_BOUND, number, 0, 0, 0)  # fails for numbers that this kernel does not have
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    _checked(_LIBC.capset(header, (ctypes.c_uint32 * 6)()))


def keep_to(limits: dict[str, int]) -> None:
    """Limit this process and those it starts, for good."""
    for name, limit in limits.items():
        resource.setrlimit(_LIMITS[name], (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def started(orders: dict[str, object]) -> int:
    """Start the program; return its process."""
    child = os.fork()
    if child:
        return child
    try:
        os.chdir(orders["directory"])  # type: ignore[arg-type]
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        give_up_power()
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        keep_to(orders["limits"])  # type: ignore[arg-type]
        argv: list[str] = orders["argv"]  # type: ignore[assignment]
        os.execve(argv[0], argv, orders["environment"])  # type: ignore[arg-type] # noqa: S606 - no shell is wanted
    except BaseException as error:  # noqa: BLE001 - nothing of the first process may go on in the child
        os.write(2, f"the sandbox cannot start the program: {error}\n".encode())
    os._exit(FAILED)


def relay(port: int, path: str, limits: dict[str, int]) -> None:
    """Start what passes connections to a port of the sandbox on to a socket of the server; it has no power either."""
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    if os.fork():
        listener.close()
        return
    try:
        give_up_power()
        keep_to(limits)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.closerange(0, listener.fileno())
        os.closerange(listener.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
        while True:
            near, _ = listener.accept()
            if not _forked():
                listener.close()
                far = socket.socket(socket.AF_UNIX)
                far.connect(path)
                _pump(near, far)
                os._exit(0)
            near.close()
    finally:
        os._exit(0)


def _forked() -> int:
    """Fork; where there are too many processes the connection is closed as by a parent."""
    try:
        return os.fork()
    except OSError:
        return -1


def _pump(near: socket.socket, far: socket.socket) -> None:
    other = {near: far, far: near}
    open_ = [near, far]
    while open_:
        for ready in select.select(open_, [], [])[0]:
            data = ready.recv(_CHUNK)
            if data:
                other[ready].sendall(data)
            else:
                open_.remove(ready)
                other[ready].shutdown(socket.SHUT_WR)


def serve(control: socket.socket, woken: int, rest: bytes, shown: Shown, child: int) -> int:
    """Expose what is asked for until the program ends; return its exit status as a shell gives it."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == woken:
                os.read(woken, _CHUNK)
                status = _reaped(child)
                if status is not None:
                    return status
            else:
                data = control.recv(_CHUNK)
                if not data:
                    return FAILED
                *names, rest = (rest + data).split(b"\n")
                control.sendall(b"".join(_answer(shown, name.decode()) for name in names))


def _reaped(child: int) -> int | None:
    """Bury the dead; return the exit status of the program once it is among them."""
    found: int | None = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            found = code if code >= 0 else 128 - code


def _answer(shown: Shown, name: str) -> bytes:
    try:
        shown.expose(name)
    except FileExistsError:
        return b"+\n"
    except OSError as error:
        return f"-{error.strerror}\n".encode()
    return b"+\n"


def main(number: int) -> int:
    """Be the first process; return the program's exit status."""
    # Nobody may look into this process, nor into the relay, which begins as a copy of it.
    _checked(_LIBC.prctl(_SET_DUMPABLE, 0, 0, 0, 0))
    control = socket.socket(fileno=number)
    control.set_inheritable(False)
    data = b""
    while b"\n" not in data:
        more = control.recv(_CHUNK)
        if not more:
            return FAILED
        data += more
    line, _, rest = data.partition(b"\n")
    orders = json.loads(line)
    shown = Shown(orders["store"])
    for name in orders["exposed"]:
        shown.expose(name)
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    signal.set_wakeup_fd(waking)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    if orders["relay"]:
        port, path = orders["relay"]
        relay(port, path, orders["limits"])
    secure(orders)
    child = started(orders)
    for stream in (0, 1, 2):
        os.close(stream)
    control.sendall(f"{child}\n".encode())
    return serve(control, woken, rest, shown, child)


if __name__ == "__main__":
    try:
        status = main(int(sys.argv[1]))
    except OSError as error:
        os.write(2, f"the sandbox cannot be set up: {error}\n".encode())
        status = FAILED
    os._exit(status)
