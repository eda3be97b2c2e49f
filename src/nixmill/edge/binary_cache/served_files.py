"""What a cache serves, as files to read: so that a cache of ours can be restored from, whatever its format."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from nixmill.doors.serving import Served

PIECE_BYTES: Final = 1024 * 1024


class ServedFiles:
    """Reads what `served` serves."""

    def __init__(self, served: Served) -> None:
        """Open nothing yet."""
        self._served = served

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """Yield a file; nothing where there is none."""
        found = await self._served.open(name)
        if found is None:
            return
        match found.content:
            case bytes() as data:
                yield data
            case Path() as path:
                async for piece in _file(path):
                    yield piece
            case slices:
                async for piece in slices(0, found.size):
                    yield piece


async def _file(path: Path) -> AsyncIterator[bytes]:
    stream = await asyncio.to_thread(path.open, "rb")
    try:
        while piece := await asyncio.to_thread(stream.read, PIECE_BYTES):
            yield piece
    finally:
        stream.close()
