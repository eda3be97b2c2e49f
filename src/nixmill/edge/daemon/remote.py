"""The door Builder over a machine that is reached when it is first needed, and again after it was lost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection

from nixmill.doors import BuildLimits, BuildObserver
from nixmill.edge.daemon.builder import DaemonBuilder
from nixmill.edge.daemon.errors import ConnectionLostError
from nixmill.edge.daemon.settings import DaemonSettings
from nixmill.edge.daemon.store import DaemonStore, open_store
from nixmill.nix.build_result import BuildResult
from nixmill.nix.store_path import StorePath


class RemoteBuilder:
    """Builds on the machine at `address` for `home`. A run that never needs the machine never reaches for it."""

    def __init__(self, home: DaemonStore, address: str, settings: DaemonSettings) -> None:
        """Remember where the machine is. Close with `aclose`."""
        self._home = home
        self._address = address
        self._settings = settings
        self._opening = asyncio.Lock()
        self._open: tuple[contextlib.AsyncExitStack, DaemonBuilder] | None = None

    async def prepare(self, drv_path: StorePath, inputs: Collection[StorePath]) -> set[StorePath]:
        """See `Builder`."""
        builder = await self._builder()
        async with self._noticing_loss():
            return await builder.prepare(drv_path, inputs)

    async def build(self, drv_path: StorePath, limits: BuildLimits, observer: BuildObserver) -> BuildResult:
        """See `Builder`."""
        builder = await self._builder()
        async with self._noticing_loss():
            return await builder.build(drv_path, limits, observer)

    async def fetch(self, paths: Collection[StorePath], observer: BuildObserver) -> dict[StorePath, BuildResult]:
        """See `Builder`."""
        builder = await self._builder()
        async with self._noticing_loss():
            return await builder.fetch(paths, observer)

    async def aclose(self) -> None:
        """Let the machine go; what was leased there is free again."""
        async with self._opening:
            opened, self._open = self._open, None
        if opened is not None:
            await opened[0].aclose()

    async def _builder(self) -> DaemonBuilder:
        async with self._opening:
            if self._open is None:
                async with contextlib.AsyncExitStack() as stack:
                    machine = await stack.enter_async_context(open_store(self._address, self._settings))
                    self._open = stack.pop_all(), DaemonBuilder(self._home, machine)
            return self._open[1]

    @contextlib.asynccontextmanager
    async def _noticing_loss(self) -> AsyncIterator[None]:
        try:
            yield
        except ConnectionLostError:
            await self.aclose()
            raise
