"""A cache that also serves the build logs it does not hold: those of builds that failed, which nothing published."""

from nixmill.doors.serving import CacheInfo, Served, ServedObject
from nixmill.edge.binary_cache.store_logs import AttemptLogs

_LOG = "log/"


class WithServerLogs:
    """Implements `nixmill.doors.serving.Served`."""

    def __init__(self, served: Served, logs: AttemptLogs) -> None:
        """Serve what `served` has, else from `logs`."""
        self._served = served
        self._logs = logs

    @property
    def info(self) -> CacheInfo:
        """See `Served`."""
        return self._served.info

    async def open(self, name: str) -> ServedObject | None:
        """See `Served`."""
        found = await self._served.open(name)
        if found is None and name.startswith(_LOG):
            return await self._logs.open(name.removeprefix(_LOG))
        return found
