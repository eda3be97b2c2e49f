"""Small NARs fetched ahead of their turn, so that a distant cache costs bandwidth and not a round trip per path."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final, Self

from nixmill.doors.cache import Holdings
from nixmill.nix.narinfo import NarInfo
from nixmill.nix.store_path import StorePath

AHEAD: Final = 16
"""NARs under way or waiting for their turn."""
SMALL_BYTES: Final = 1024 * 1024
"""What is fetched ahead is at most so large."""


class Ahead:
    """The small ones of some NARs, which are taken or dropped in this order; a context manager."""

    def __init__(self, holdings: Holdings, infos: Iterable[NarInfo]) -> None:
        """Begin with nothing."""
        self._holdings = holdings
        self._rest = deque(info for info in infos if info.info.nar_size <= SMALL_BYTES)
        self._tasks: dict[StorePath, asyncio.Task[bytes]] = {}

    async def __aenter__(self) -> Self:
        """Fetch the first ones."""
        self._fill()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let go of what nobody took."""
        self._rest.clear()
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def take(self, path: StorePath) -> bytes:
        """Return a whole NAR that was verified; raise `DoorError` where the cache did not deliver it."""
        task = self._tasks.pop(path)
        self._fill()
        return await task

    def drop(self, path: StorePath) -> None:
        """Hear that a path is not needed (any more)."""
        task = self._tasks.pop(path, None)
        if task is not None:
            task.add_done_callback(_seen)
            task.cancel()
            self._fill()

    def _fill(self) -> None:
        while self._rest and len(self._tasks) < AHEAD:
            info = self._rest.popleft()
            self._tasks[info.info.path] = asyncio.create_task(self._whole(info))

    async def _whole(self, info: NarInfo) -> bytes:
        return b"".join([piece async for piece in self._holdings.nar(info)])


def _seen(task: asyncio.Task[bytes]) -> None:
    """Mark an error as noticed: nobody wanted the path any more."""
    if not task.cancelled():
        task.exception()
