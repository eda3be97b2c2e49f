"""The dry run of a collection: what it would free now. It runs in the background; only its last result is known."""

import asyncio
import heapq
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from nixmill.core.view.roots import CollectionPage, CollectionState, DeadPath
from nixmill.doors import Clock, DoorError, Store
from nixmill.doors.roots import Collector
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

BATCH: Final = 1000
"""Paths that are measured at once."""
LARGEST: Final = 50

log = structlog.get_logger("nixmill.roots")


class DeadPaths:
    """One dry run at a time."""

    def __init__(self, collector: Collector, store: Store, clock: Clock) -> None:
        """Begin nothing."""
        self._collector = collector
        self._store = store
        self._clock = clock
        self._running: asyncio.Task[None] | None = None
        self.page = CollectionPage()

    def begin(self, by: str) -> CollectionPage:
        """Begin a dry run, unless one goes on; return how it stands."""
        if self._running is None or self._running.done():
            now = self._clock.now()
            self.page = CollectionPage(state=CollectionState.LISTING, by=by, started_at=now)
            self._running = asyncio.create_task(self._run())
        return self.page

    async def close(self) -> None:
        """End what goes on."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self._measure(await self._collector.dead())
        except DoorError as error:
            self._end(CollectionState.FAILED, str(error))
        except Exception:
            log.exception("the dry run of a collection failed")
            self._end(CollectionState.FAILED, "This is a mistake of nixmill's; the server's log has more.")

    async def _measure(self, dead: Sequence[StorePath]) -> None:
        self._note(state=CollectionState.MEASURING, paths=len(dead))
        for at in range(0, len(dead), BATCH):
            batch = dead[at : at + BATCH]
            self._add(len(batch), await self._store.path_infos(batch))
        self._end(CollectionState.DONE)

    def _add(self, looked_at: int, infos: dict[StorePath, PathInfo]) -> None:
        found = [DeadPath(path, info.nar_size) for path, info in infos.items()]
        largest = heapq.nlargest(LARGEST, (*self.page.largest, *found), key=lambda one: (one.size, one.path))
        size = self.page.size + sum(one.size for one in found)
        self._note(measured=self.page.measured + looked_at, size=size, largest=tuple(largest))

    def _end(self, state: CollectionState, fault: str = "") -> None:
        self._note(state=state, fault=fault, ended_at=self._clock.now())

    def _note(self, **fields: object) -> None:
        self.page = msgspec.structs.replace(self.page, **fields)
