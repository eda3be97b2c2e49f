"""A cache that gets the logs of builds with what they made, so that `nix log` finds them there."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from nixmill.doors import DoorError, Logs
from nixmill.doors.cache import Contents, Destination, Pushed
from nixmill.edge.binary_cache.batches import Batches, Layer
from nixmill.edge.binary_cache.names import log_name
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

LOG_MAX: Final = 8 * 1024 * 1024
"""Bytes; longer logs are not published, and are read here."""
TOGETHER: Final = 32 * 1024 * 1024
"""Bytes of logs that are held in memory and stored at once."""

NewestOf = Callable[[Collection[StorePath]], Awaitable[Mapping[StorePath, int]]]
"""Returns the newest build that ended of derivations, where readers of the cache may see its log."""


class Stocked(Destination, Protocol):
    """A destination whose objects are ours."""

    @property
    def objects(self) -> Batches:
        """Where they are."""


class WithLogs:
    """Implements `nixmill.doors.cache.Destination`."""

    def __init__(self, cache: Stocked, logs: Logs, newest_of: NewestOf, log: FilteringBoundLogger) -> None:
        """Publish to `cache`."""
        self._cache = cache
        self._logs = logs
        self._newest_of = newest_of
        self._log = log

    async def lacks(self, paths: Collection[StorePath]) -> set[StorePath]:
        """See `Destination`."""
        return await self._cache.lacks(paths)

    async def push(self, infos: Sequence[PathInfo], contents: Contents) -> Pushed:
        """See `Destination`. Logs go first: a push that is broken off is repeated. One that fails hinders nothing."""
        try:
            newest = await self._newest_of({info.deriver for info in infos if info.deriver is not None})
            await self._put(newest)
        except DoorError as error:
            self._log.warning("logs could not be published", reason=str(error))
        return await self._cache.push(infos, contents)

    async def _put(self, newest: Mapping[StorePath, int]) -> None:
        layer: list[tuple[str, bytes]] = []
        for drv_path, attempt in newest.items():
            if text := await self._text(attempt):
                layer.append((log_name(drv_path), text))
            if sum(len(text) for _, text in layer) > TOGETHER:
                await self._store(layer)
                layer = []
        await self._store(layer)

    async def _store(self, layer: Layer) -> None:
        if layer:
            await self._cache.objects.put_all([layer])

    async def _text(self, attempt: int) -> bytes:
        """Return a log; nothing where there is none, or it is too long."""
        text = b"".join([piece async for piece in self._logs.read(attempt, 0, LOG_MAX + 1)])
        return text if len(text) <= LOG_MAX else b""
