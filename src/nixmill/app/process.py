"""What the server's process gives up and takes before it does anything else."""

import ctypes
import os
import resource
import sys
from typing import Final

UMASK: Final = 0o027
"""git and SQLite ask nobody with what mode to make files. Nix sets its own for what it builds."""
_DUMPABLE: Final = 4
"""`PR_SET_DUMPABLE` of prctl(2)."""


def prepare() -> None:
    """Let nobody else read what the server makes, nor its memory; take as many files as the system gives.

    Each open page and each run has a few; a service gets 1024 and may have many more.
    """
    os.umask(UMASK)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DUMPABLE, 0, 0, 0, 0)
