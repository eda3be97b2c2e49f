"""Gives up reading some places for good, then becomes another program.

    python confined.py HIDDEN… -- SHOWN… -- WRITTEN… -- PROGRAM ARGUMENTS…

Nix's own modes do not keep an evaluation from the files of whoever runs it: `builtins.fetchTree { type = "path"; … }`
copies any directory, in Nix 2.8 in restricted mode as it stands and in pure mode with an invented `rev`, in newer ones
with a hash that a first try tells. So the kernel keeps it: Landlock, which needs no right and cannot be undone.

Landlock knows only what is allowed. So everything beside the way to a hidden place is: each entry of each directory
above it, but not these directories themselves, in which nothing can be made or listed any more. What is shown below a
hidden place can be read, or written too. Other ways to the same place (links, `/proc/PID/root`) are kept too.
Runs alone, without the rest of nixmill and without `typing`, whose import alone takes as long as all it does: it starts
with each worker.
Source: landlock(7), `include/uapi/linux/landlock.h` of Linux 6.12. The numbers are the same on all architectures.
"""

import ctypes
import os
import stat
import sys

OLDEST = 2
"""Of Linux 5.19. Before, files could not be renamed from one directory to another."""
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_BENEATH = 1
_NO_NEW_PRIVILEGES = 38
_READ = 1 << 0 | 1 << 2 | 1 << 3
"""Execute, read files, list directories."""
_OF_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
"""Rights that a file can have: a rule for one may name no others."""
_RIGHTS = {2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights on files that a version knows; newer ones add none that are asked for here."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled_access_fs", ctypes.c_uint64),)


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def version() -> int:
    """Return the version of Landlock that this kernel has and uses; less than `OLDEST` where there is none for us."""
    return int(_libc().syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def allowed(hidden: list[str], shown: list[str], written: list[str]) -> list[tuple[str, bool]]:
    """Return what may be used, as (path, also written); paths are absolute and without links."""
    above = {"/", *(place[:end] for place in hidden for end, c in enumerate(place) if c == "/" and end)}
    open_ = [directory for directory in above if not any(_is_in(directory, place) for place in hidden)]
    beside = [path for directory in open_ for path in _entries(directory) if path not in above and path not in hidden]
    return [*((path, True) for path in (*beside, *written)), *((path, False) for path in shown)]


def _is_in(path: str, place: str) -> bool:
    return path == place or path.startswith(place + "/")


def _entries(directory: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(directory)]
    except OSError:
        return []  # what cannot be listed now cannot be read later


def confine(hidden: list[str], shown: list[str], written: list[str]) -> None:
    """Give up everything that is not allowed, for this process and all that it starts; raise `OSError`."""
    libc, rights = _libc(), _RIGHTS.get(version(), _RIGHTS[5])
    wanted = _Ruleset(handled_access_fs=rights)
    ruleset = _checked(libc.syscall(_CREATE, ctypes.byref(wanted), ctypes.c_size_t(8), ctypes.c_uint32(0)))
    for path, also_written in allowed(hidden, shown, written):
        _allow(libc, ruleset, path, rights if also_written else rights & _READ)
    _checked(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(libc.syscall(_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # gone meanwhile
    try:
        mode = os.fstat(place).st_mode
        if not stat.S_ISLNK(mode):
            rule = _Beneath(rights if stat.S_ISDIR(mode) else rights & _OF_FILES, place)
            _checked(
                libc.syscall(
                    _ADD, ctypes.c_int(ruleset), ctypes.c_int(_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0)
                )
            )
    finally:
        os.close(place)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def main(words: list[str]) -> None:
    """Be the program that the words name, confined where the kernel can do that."""
    first, second, third = [at for at, word in enumerate(words) if word == "--"][:3]
    if version() >= OLDEST:
        confine(words[:first], words[first + 1 : second], words[second + 1 : third])
    program = words[third + 1 :]
    os.execvp(program[0], program)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
