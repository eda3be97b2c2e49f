"""Temporary directories of an evaluation, and the removal of those that killed runs left behind.

A directory's name holds the id of the process that made it. One whose process is gone is nobody's any more.
"""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

MEMORY: Final = "/dev/shm"  # noqa: S108 - a private directory is made in it
_PREFIX: Final = "nixmill-"


def temporary(*, in_memory: bool = False) -> tempfile.TemporaryDirectory[str]:
    """Return a private directory to be entered, in memory where that is asked for and possible."""
    fast = in_memory and os.access(MEMORY, os.W_OK | os.X_OK)
    place = MEMORY if fast else tempfile.gettempdir()
    sweep(Path(place))
    return tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", dir=place)


def sweep(place: Path) -> None:
    """Remove our own directories in `place` whose process is gone."""
    for left in place.glob(f"{_PREFIX}[0-9]*-*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if owner.isdecimal() and left.stat().st_uid == os.geteuid() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(left, ignore_errors=True)
