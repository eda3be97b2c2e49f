"""Build logs as a cache serves them (`log/NAME.drv`): those that nixmill keeps of attempts."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from nixmill.doors import Logs
from nixmill.doors.serving import ServedObject

Newest = Callable[[str], Awaitable[int | None]]
"""Returns the newest ended attempt at the derivation of this base name that readers of the cache may see."""
TEXT: Final = "text/plain; charset=utf-8"
SIZES_MAX: Final = 1024


class AttemptLogs:
    """Finds logs of attempts. How long a text is only reading it tells, so that is remembered."""

    def __init__(self, logs: Logs, newest: Newest) -> None:
        """Ask `newest` which log it is."""
        self._logs = logs
        self._newest = newest
        self._sizes: OrderedDict[int, int] = OrderedDict()

    async def open(self, base_name: str) -> ServedObject | None:
        """Return the log of a derivation; None where there is none. Raises `DoorError`."""
        attempt = await self._newest(base_name)
        size = await self._size(attempt) if attempt is not None else 0
        if attempt is None or not size:
            return None
        return ServedObject(
            size=size, media_type=TEXT, content=partial(self._logs.read, attempt), etag=f"log-{attempt}-{size}"
        )

    async def _size(self, attempt: int) -> int:
        if attempt not in self._sizes:
            size = 0
            async for piece in self._logs.read(attempt):
                size += len(piece)
            self._sizes[attempt] = size
            while len(self._sizes) > SIZES_MAX:
                self._sizes.popitem(last=False)
        return self._sizes[attempt]
