"""Tries, within an evaluation sandbox, everything that must not be possible there; for `nixmill doctor`.

    python attempts.py JSON

JSON names what is there to be found (see `Bait` in `trial.py`). One line of JSON comes out: by the name of a property
what could be done, empty where nothing could. Then it waits to be killed, with a child that would outlive a session.
Runs alone, within the sandbox, without the rest of nixmill.
Source: capabilities(7), user_namespaces(7), `include/uapi/linux/sched.h`.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator

_NEW_USERS, _NEW_MOUNTS = 0x10000000, 0x20000
_BIND = 4096
_DETACH, _EXPIRE = 2, 4
_PATIENCE_S = 2.0
_LIBC = ctypes.CDLL(None, use_errno=True)
_SIGHTS = (
    "/etc/shadow",
    "/etc/machine-id",
    "/root/.ssh",
    "/var/lib",
    "/var/log",
    "/sys/class",
    "/proc/kallsyms",
    "/proc/sysrq-trigger",
)


def main(bait: dict[str, object]) -> dict[str, str]:
    """Try everything; return what could be done."""
    tried = {
        "FILES": _files,
        "ENVIRONMENT": _environment,
        "STORE": _store,
        "DAEMON": _daemon,
        "LOOPBACK": _loopback,
        "NETWORK": _network,
        "PROXY": _proxy,
        "USER": _user,
        "NAMESPACES": _namespaces,
        "WRITING": _writing,
        "NEIGHBOURS": _neighbours,
        "MEMORY": _memory,
        "PROCESSES": _processes,
    }
    return {name: "; ".join(attempt(bait)) for name, attempt in tried.items()}


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _files(bait: dict[str, object]) -> Iterator[str]:
    for path in (*_texts(bait["files"]), *_SIGHTS):
        if _can_read(path):
            yield f"it read {path}"


def _can_read(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    os.close(descriptor)
    return True


def _environment(bait: dict[str, object]) -> Iterator[str]:
    secret = str(bait["secret"])
    if any(secret in value for value in os.environ.values()):
        yield "a variable of the environment came through"
    for path in ("/etc/nix/nix.conf", os.path.expanduser("~/.config/nix/nix.conf"), "/etc/gitconfig"):  # noqa: PTH111
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123
                text = file.read()
        except OSError:
            continue
        if secret in text or "include" in text:
            yield f"{path} is not ours"


def _store(bait: dict[str, object]) -> Iterator[str]:
    allowed = set(_texts(bait["closure"]))
    try:
        others = set(os.listdir(str(bait["store"]))) - allowed  # noqa: PTH208
    except OSError:
        others = set()
    if others:
        yield f"{len(others)} store paths can be listed"
    for path in _texts(bait["store_paths"]):
        if os.path.lexists(path):
            yield f"{path} is visible"


def _daemon(bait: dict[str, object]) -> Iterator[str]:
    for path in _texts(bait["sockets"]):
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(path if not path.startswith("@") else "\0" + path[1:])
            except OSError:
                continue
            yield f"it connected to {path}"


def _loopback(bait: dict[str, object]) -> Iterator[str]:
    for host in ("127.0.0.1", "::1"):
        if _connects(host, int(str(bait["port"]))):
            yield f"it connected to {host}"


def _network(_: dict[str, object]) -> Iterator[str]:
    for host in ("1.1.1.1", "169.254.169.254", "10.0.0.1", "2606:4700:4700::1111"):
        if _connects(host, 443):
            yield f"it connected to {host}"
    others = [name for _, name in socket.if_nameindex() if name != "lo"]
    if others:
        yield f"there is a network interface {others[0]}"


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_PATIENCE_S).close()
    except OSError:
        return False
    return True


def _proxy(bait: dict[str, object]) -> Iterator[str]:
    for host in (f"127.0.0.1:{bait['port']}", "127.0.0.1:443", "169.254.169.254:443", "10.0.0.1:443", "[::1]:443"):
        try:
            with socket.create_connection(("127.0.0.1", int(str(bait["proxy_port"]))), timeout=_PATIENCE_S) as sock:
                sock.sendall(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                answer = sock.recv(100)
        except OSError as error:
            yield f"the proxy cannot be reached ({error})"
            return
        if b" 403 " not in answer:
            yield f"asked for {host} it said {answer[:40]!r}"


def _user(_: dict[str, object]) -> Iterator[str]:
    with open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123
        status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    held = [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)]
    if held:
        yield f"it has capabilities ({', '.join(held)})"
    if status["NoNewPrivs"] != "1":
        yield "it may gain privileges by set-user-id programs"
    with open("/proc/self/uid_map", encoding="ascii") as file:  # noqa: PTH123
        maps = [line.split() for line in file]
    if os.getuid() == 0 or any(outside == "0" or count != "1" for _, outside, count in maps):
        yield "it can be root"


def _namespaces(bait: dict[str, object]) -> Iterator[str]:
    for name, flag in (("user", _NEW_USERS), ("mount", _NEW_MOUNTS)):
        if _in_child(lambda flag=flag: _LIBC.unshare(flag) == 0):
            yield f"it made a {name} namespace"
    if _LIBC.mount(b"/usr", b"/tmp", None, ctypes.c_ulong(_BIND), None) == 0:
        _LIBC.umount2(b"/tmp", _DETACH)
        yield "it bound a directory"
    for place in ("/.nixmill", "/proc", "/etc", str(bait["store"])):
        # Takes nothing away, but is refused to whoever could not.
        if _LIBC.umount2(place.encode(), _EXPIRE) == 0 or ctypes.get_errno() in {errno.EBUSY, errno.EAGAIN}:
            yield f"it may take the mount of {place} away"


def _in_child(attempt) -> bool:  # type: ignore[no-untyped-def] # noqa: ANN001
    child = os.fork()
    if not child:
        os._exit(0 if attempt() else 1)
    return os.waitpid(child, 0)[1] == 0


def _writing(bait: dict[str, object]) -> Iterator[str]:
    for place in ("/", "/usr", "/etc", "/dev", "/run/nixmill", str(bait["store"]), *_texts(bait["shown"])):
        name = f"{place}/nixmill-attempt"
        try:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
        except OSError:
            continue
        yield f"it wrote to {place}"


def _neighbours(bait: dict[str, object]) -> Iterator[str]:
    seen = [name for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    if len(seen) > int(str(bait["processes_seen"])):
        yield f"it sees {len(seen)} processes"
    for pid in seen:
        if int(pid) != os.getpid():
            yield from _looked_into(pid)


def _looked_into(pid: str) -> Iterator[str]:
    for name in ("cwd", "root", "exe"):
        if _is_link_read(f"/proc/{pid}/{name}"):
            yield f"it looked into process {pid} ({name})"
    for name in ("fd", "environ", "mem", "maps"):
        if _can_read(f"/proc/{pid}/{name}"):
            yield f"it looked into process {pid} ({name})"


def _is_link_read(path: str) -> bool:
    try:
        return bool(os.readlink(path))  # noqa: PTH115
    except OSError:
        return False


def _memory(bait: dict[str, object]) -> Iterator[str]:
    def take() -> bool:
        try:
            return bool(bytearray(int(str(bait["too_much_memory"]))))
        except MemoryError:
            return False

    if _in_child(take):
        yield "it got more"


def _processes(bait: dict[str, object]) -> Iterator[str]:
    children: list[int] = []
    try:
        while len(children) < int(str(bait["too_many_processes"])):
            child = os.fork()
            if not child:
                signal.pause()
            children.append(child)
    except OSError:
        pass
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if len(children) >= int(str(bait["too_many_processes"])):
        yield f"it started {len(children)}"


if __name__ == "__main__":
    done = main(json.loads(sys.argv[1]))
    if not os.fork():
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        os.write(1, json.dumps(done).encode() + b"\n")
    while True:
        signal.pause()
