"""The command line of `bwrap` for an evaluation. Pure.

Decides what a sandbox consists of: all namespaces its own, nobody's user, an empty store, read-only parts of the
system, small memory-backed places to write to, and nothing else. What is done within it from then on: `inside.py`.
Source: bwrap(1) of bubblewrap 0.8. `--dev` is not used: it needs a second user namespace, in which `inside.py` would
have no say over the mounts.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from nixmill.edge.sandbox import inside

NOBODY: Final = 65534
HOME: Final = "/home/evaluator"
SOCKETS: Final = "/run/nixmill"
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
_KEPT: Final = ("CAP_SYS_ADMIN", "CAP_SYS_RESOURCE", "CAP_SETPCAP")
"""What the first process needs to bind paths, to forbid user namespaces, and to give up everything for its child."""
STORE_BYTES: Final = 1024**3
"""Hardly used: for the names of paths, and for copies of derivations where there can be no more mounts."""


class Interior(msgspec.Struct, frozen=True, kw_only=True):
    """What can be seen in a sandbox. Paths are absolute; `shown` and `system` are seen where they are."""

    store_dir: str
    etc: str
    """A directory that becomes `/etc`."""
    system: tuple[str, ...]
    """Directories and files of the system, free of links on the way."""
    links: Mapping[str, str]
    """Links of the system's root, such as `/bin` to `usr/bin`."""
    shown: tuple[str, ...]
    """What the evaluation needs: its tree, its repository, its commands. Private to the server; see `enter.py`."""
    sockets: Mapping[str, str]
    """By their name below `SOCKETS`."""
    scratch_bytes: int
    """How much may be written to `/tmp`, and as much to `HOME`."""


def command(bwrap: str, interior: Interior, program: Sequence[str]) -> list[str]:
    """Return the command line that starts `program` as the first process of a sandbox."""
    return [
        bwrap,
        *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
        *("--unshare-cgroup-try", "--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox"),
        *("--as-pid-1", "--die-with-parent"),
        *(word for name in _KEPT for word in ("--cap-add", name)),
        *_scratch(interior.scratch_bytes),
        *_system(interior),
        *_devices(),
        *_store(interior.store_dir),
        *(word for path in interior.shown for word in ("--ro-bind-try", path, path)),
        *(word for name, path in interior.sockets.items() for word in ("--ro-bind", path, f"{SOCKETS}/{name}")),
        *("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--", *program),
    ]


def _system(interior: Interior) -> list[str]:
    links = [word for place, target in interior.links.items() for word in ("--symlink", target, place)]
    parts = [word for path in interior.system for word in ("--ro-bind", path, path)]
    return [*links, *parts, "--ro-bind", interior.etc, "/etc", "--proc", "/proc"]


def _devices() -> list[str]:
    """Return the devices that nothing can be learnt from, and the usual links; there is no terminal."""
    binds = [word for name in _DEVICES for word in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")]
    streams = (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2"))
    links = [word for name, end in streams for word in ("--symlink", f"/proc/self/fd{end}", f"/dev/{name}")]
    return [*("--size", "65536", "--tmpfs", "/dev"), *binds, *links, "--dir", "/dev/shm"]  # noqa: S108 - of the sandbox


def _scratch(size: int) -> list[str]:
    return [word for place in ("/tmp", HOME) for word in ("--size", str(size), "--tmpfs", place)]  # noqa: S108 - of the sandbox


def _store(store_dir: str) -> list[str]:
    return [
        *("--size", str(STORE_BYTES), "--tmpfs", store_dir),
        *("--ro-bind", store_dir, f"{inside.HIDDEN}/store"),
        *("--ro-bind", inside.__file__, f"{inside.HIDDEN}/inside.py"),
    ]
