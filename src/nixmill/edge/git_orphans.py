"""Ends gits whose server was killed: they hold the lock of a mirror, perhaps for as long as a remote is silent.

    <lock file>    two lines: process id and identity of who took the lock last

Only processes that a server started for this mirror are ended, told by their environment, and only where that server is
gone. Source: proc(5); where there is no `/proc` they end by themselves.
"""

import contextlib
import os
import signal
from pathlib import Path
from typing import Final

from nixmill.edge import process_identity

MARK: Final = "NIXMILL_MIRROR"
"""Variable of every git that works for a mirror; git passes it on to what it starts."""


def sign(descriptor: int) -> None:
    """Write into a lock file that this process holds it."""
    text = f"{os.getpid()}\n{process_identity.identity(os.getpid())}\n"
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def end_orphans(lock_file: Path, mirror: Path) -> None:
    """End what works on a mirror for a server that is gone."""
    owner = _read(lock_file)
    if not _is_gone(owner):
        return
    orphans = [process for process in _processes() if _works_for(process, mirror)]
    if _read(lock_file) == owner:  # else somebody has just taken it
        for process in orphans:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _is_gone(owner: str) -> bool:
    process, _, identity = owner.strip().partition("\n")
    return process.isdigit() and bool(identity) and not process_identity.runs(int(process), identity)


def _works_for(process: int, mirror: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.fsencode(f"{MARK}={mirror}") in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return False


def _processes() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except OSError:
        return []


def _read(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_text(errors="replace")
    return ""
