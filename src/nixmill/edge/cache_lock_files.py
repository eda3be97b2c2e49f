"""Locks of caches between processes: the server, and commands such as `nixmill cache collect` beside it.

Two files for each cache. Who wants to be alone stays in the first while it waits for the second, so that those who
come later to share wait behind it. The system lets go of both when a process ends, however it ends. Source: flock(2).
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from nixmill.doors import DoorError
from nixmill.edge.private_files import FILE_MODE, make_directory

LOOK_AGAIN_S: Final = (0.01, 0.02, 0.05, 0.1, 0.25)
"""Pauses between looks; the last one repeats."""


class CacheLockFiles:
    """Implements `nixmill.engine.cache_locks.Across`."""

    def __init__(self, directory: Path) -> None:
        """Keep the files in this directory, which is made when it is needed."""
        self._directory = directory

    @contextlib.asynccontextmanager
    async def __call__(self, cache: str, *, alone: bool) -> AsyncIterator[None]:
        """Hold the lock of a cache, alone or together with others."""
        with self._file(f"{cache}.lock") as lock:
            with self._file(f"{cache}.turn") as turn:
                await _take(turn, fcntl.LOCK_EX)
                await _take(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield

    @contextlib.contextmanager
    def _file(self, name: str) -> Iterator[int]:
        path = self._directory / name
        try:
            make_directory(self._directory)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        except OSError as error:
            sentence = f"The lock {path} cannot be opened: {error.strerror}. Work as the user that the server runs as."
            raise DoorError(sentence, door="cache", action="lock", subject=name, retryable=False) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)


async def _take(descriptor: int, how: int) -> None:
    """Take a lock, looking again and again: waiting for it in a thread could not be cancelled."""
    tries = 0
    while True:
        try:
            return fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(LOOK_AGAIN_S[min(tries, len(LOOK_AGAIN_S) - 1)])
            tries += 1
