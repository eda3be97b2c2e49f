"""Ctrl-C: once stops cleanly, twice leaves at once."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator

CTRL_C_EXIT_CODE = 130


@contextlib.contextmanager
def interruptible(stop: Callable[[], None], leave: Callable[[], None]) -> Iterator[None]:
    """Within, the first SIGINT, SIGTERM or SIGHUP calls `stop`; a second calls `leave` and ends the process."""
    loop = asyncio.get_running_loop()
    asked = False

    def heard() -> None:
        nonlocal asked
        if asked:
            leave()
            os._exit(CTRL_C_EXIT_CODE)
        asked = True
        stop()

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, heard)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
