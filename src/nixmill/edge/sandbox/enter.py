"""Starts `bwrap` for a server that is root, as a user that is nobody else.

    python enter.py UID GID -- bwrap ARGUMENTS…

What `bwrap` binds may lie where only root gets to. So the places are bound, in a mount namespace of this process alone,
over `/sys` (of which the sandbox has no need), and the arguments changed to name them there; then root is given up for
good: a hole in the sandbox leads to the power of a user that owns nothing (see `strange_user.py`).
Places given with `--ro-bind-try` are those of the evaluation, private to the server as they are. They are bound so that
their owner appears to be nobody, where the file system can do that; elsewhere others must be able to read them.
Runs alone, without the rest of nixmill and without `typing`: it starts with each worker.
Source: mount(2), unshare(2), prctl(2), mount_setattr(2) of Linux 5.12; the numbers are the same on all architectures.
"""

import ctypes
import os
import signal
import sys

STAGE = "/sys"
_PLAIN, _GIVEN = ("--bind", "--ro-bind"), "--ro-bind-try"
_NEW_MOUNTS, _NEW_USERS = 0x20000, 0x10000000
_BIND, _RECURSIVE, _SLAVE = 4096, 16384, 1 << 19
_OPEN_TREE, _MOVE_MOUNT, _SET_ATTRIBUTES = 428, 429, 442
_CLONE, _EMPTY_PATH, _MOVED_EMPTY_PATH, _MAP_IDS = 1, 0x1000, 0x4, 0x100000
_HERE = -100
_DIE_WITH_PARENT = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("cleared", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("users", ctypes.c_uint64),
    )


class Stage:
    """A place, visible to this process only, where that user gets to what only root could."""

    def __init__(self, uid: int, gid: int) -> None:
        """Make it."""
        self._uid, self._gid = uid, gid
        self._maps: dict[tuple[int, int], int] = {}
        _checked(_LIBC.unshare(_NEW_MOUNTS))
        _checked(_LIBC.mount(None, b"/", None, ctypes.c_ulong(_RECURSIVE | _SLAVE), None))
        _checked(_LIBC.mount(b"tmpfs", STAGE.encode(), b"tmpfs", ctypes.c_ulong(0), b"mode=755"))

    def staged(self, words: list[str]) -> list[str]:
        """Bind every place that the words name; return words that name them where they are now."""
        changed = list(words)
        for at in range(1, len(words)):
            if words[at - 1] in _PLAIN:
                changed[at] = self._stage(words[at], f"{STAGE}/{at}", given=False)
            elif words[at - 1] == _GIVEN and os.path.exists(words[at]):  # noqa: PTH110 - no pathlib here
                changed[at] = self._stage(words[at], f"{STAGE}/{at}", given=True)
        return changed

    def _stage(self, source: str, target: str, *, given: bool) -> str:
        if os.path.isdir(source):  # noqa: PTH112 - no pathlib here
            os.mkdir(target)  # noqa: PTH102 - likewise
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
        if not (given and self._give(source, target)):
            flags = ctypes.c_ulong(_BIND | _RECURSIVE)
            _checked(_LIBC.mount(os.fsencode(source), target.encode(), None, flags, None))
        return target

    def _give(self, source: str, target: str) -> bool:
        """Bind so that the owner appears to be that user; return whether that can be done here."""
        found = os.stat(source)  # noqa: PTH116 - no pathlib here
        attributes = _Attributes(set=_MAP_IDS, users=self._map(found.st_uid, found.st_gid))
        tree = _checked(_call(_OPEN_TREE, _HERE, os.fsencode(source), _CLONE))
        try:
            size = ctypes.c_size_t(ctypes.sizeof(attributes))
            if _call(_SET_ATTRIBUTES, tree, b"", _EMPTY_PATH, ctypes.byref(attributes), size) < 0:
                return False  # the file system, or the kernel, is not made for it
            _checked(_call(_MOVE_MOUNT, tree, b"", _HERE, target.encode(), _MOVED_EMPTY_PATH))
        finally:
            os.close(tree)
        return True

    def _map(self, uid: int, gid: int) -> int:
        """Return a user namespace, which serves as nothing but a table: that owner is our user."""
        if (uid, gid) not in self._maps:
            self._maps[uid, gid] = _user_namespace(f"{uid} {self._uid} 1", f"{gid} {self._gid} 1")
        return self._maps[uid, gid]


def _user_namespace(users: str, groups: str) -> int:
    ready, wait = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.write(ready[1], b"+" if _LIBC.unshare(_NEW_USERS) == 0 else b"-")
        os.close(wait[1])
        os.read(wait[0], 1)
        os._exit(0)
    try:
        if os.read(ready[0], 1) != b"+":
            raise OSError(0, "there can be no user namespace")
        for name, text in (("uid_map", users), ("gid_map", groups)):
            with open(f"/proc/{child}/{name}", "w", encoding="ascii") as file:  # noqa: PTH123 - no pathlib here
                file.write(text)
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (*ready, *wait):
            os.close(descriptor)
        os.waitpid(child, 0)


def _call(number: int, *words: object) -> int:
    given = [ctypes.c_long(word) if isinstance(word, int) else word for word in words]
    return int(_LIBC.syscall(ctypes.c_long(number), *given))


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def main(uid: int, gid: int, words: list[str]) -> None:
    """Become `bwrap` as another user."""
    parent = os.getppid()
    program = Stage(uid, gid).staged(words)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # The change of user has undone what was asked for before.
    _checked(_LIBC.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0))
    if os.getppid() == parent:
        os.execv(program[0], program)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[4:])
    except OSError as error:
        os.write(2, f"the sandbox cannot be set up: {error}\n".encode())
    os._exit(125)
