"""What the server's process gives up and takes before it does anything else."""

import asyncio
import ctypes
import gc
import os
import resource
import sys
from typing import Final

UMASK: Final = 0o027
"""git and SQLite ask nobody with what mode to make files. Nix sets its own for what it builds."""
_DUMPABLE: Final = 4
"""`PR_SET_DUMPABLE` of prctl(2)."""
GARBAGE: Final = 10_000
"""New objects after which they are looked through: nobody is answered for 5 to 10 ms; with 100,000 for 40 and more."""


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


def prepare_loop() -> None:
    """Keep short what everybody waits for while it happens: collecting garbage, and starting processes.

    Before Python 3.12 asyncio starts a thread for each process and waits until it runs; a descriptor of the process
    costs nothing (`asyncio.PidfdChildWatcher`), where the system has them.
    """
    gc.set_threshold(GARBAGE, 20, 20)
    if sys.version_info < (3, 12) and _has_pidfd():
        asyncio.set_child_watcher(asyncio.PidfdChildWatcher())


def _has_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True
