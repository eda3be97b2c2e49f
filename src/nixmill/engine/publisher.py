"""Publishes good results to caches: each cache by itself, in closure order, again and again until it holds them.

The rows are the truth: nothing that is known only here would be missed after a crash, and pushing again what is there
changes nothing. A cache that is down keeps its queue and holds up no other; nothing here ever fails a run.
What this file does not know: how a path gets into a cache (`nixmill.doors.cache`), and how what a pull request built
comes to be trusted (`vouching`).
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from structlog.typing import FilteringBoundLogger

from nixmill.core.publish import CacheRule, closure_order, gives_up, pause_s, spread
from nixmill.core.upload import Upload, UploadState
from nixmill.doors import Clock, DoorError, Store
from nixmill.doors.cache import Contents, Destination, TakesRealisations, Uploads
from nixmill.engine.cache_closure import Lacking, blocked, lacking
from nixmill.engine.cache_locks import CacheLocks
from nixmill.engine.courier import cancelled, first_of
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

BATCH: Final = 200
"""Uploads that are taken up together: their closures overlap."""
PUSH: Final = 500
"""Paths that are handed to a cache in one go."""
LOOK_AGAIN_S: Final = 30.0
DOWN_S: Final = 15.0
DOWN_MAX_S: Final = 900.0
_TO_REBUILD: Final = "A pull request built it, or something in its closure: it is built again before it enters."
_GONE: Final = (
    "The path is no longer in the store, and the cache does not hold it: something deleted it although it was rooted."
    " Run the attribute again to have it built and published."
)
_NO_ANSWER: Final = "The cache did not say what became of the path. It is tried again."


class CacheProgress(msgspec.Struct, frozen=True, kw_only=True):
    """What a cache's queue does, since this process began."""

    uploading: int = 0
    """Uploads that are being worked on."""
    published: int = 0
    """Paths that were new to the cache."""
    sent_bytes: int = 0
    fault: str = ""
    """Why the cache takes nothing at present; empty: it does."""
    down_until: float | None = None
    """When it is tried again."""
    counts: Mapping[str, int] = {}
    """Uploads by state; empty where the database was not asked (`Publisher.progress`)."""


@dataclass
class _Lane:
    """One cache and its queue."""

    rule: CacheRule
    destination: Destination
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    """Times in a row that nothing could be published."""
    progress: CacheProgress = field(default_factory=CacheProgress)

    def show(self, **changes: object) -> None:
        self.progress = msgspec.structs.replace(self.progress, **changes)

    @property
    def batch(self) -> int:
        """How many uploads are tried at once: fewer after failures, as one of them may be to blame."""
        return max(1, BATCH >> (2 * min(self.failures, 8)))


class Publisher:
    """Empties the queues of uploads for as long as `run` runs. One at a time."""

    def __init__(
        self,
        store: Store,
        contents: Contents,
        destinations: Mapping[str, Destination],
        rules: Mapping[str, CacheRule],
        uploads: Uploads,
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        to_rebuild: Callable[[], None] = lambda: None,
        pushed: Callable[[str, int, int], None] = lambda _cache, _paths, _size: None,
        locks: CacheLocks | None = None,
    ) -> None:
        """Publish from a store to caches by name; `locks` are those of whoever else works on these caches."""
        self._store = store
        self._contents = contents
        self._uploads = uploads
        self._clock = clock
        self._log = log
        self._locks = locks or CacheLocks()
        self.to_rebuild = to_rebuild
        self._pushed = pushed
        """Told when something has to be built again; may be set once both are made (`Vouching.wake`)."""
        self._lanes = {name: _Lane(rules[name], destination) for name, destination in destinations.items()}

    def wake(self, cache: str | None = None) -> None:
        """Say that uploads were recorded. A cache that is down is left alone, unless it is named."""
        for name, lane in self._lanes.items():
            if name == cache or (cache is None and not lane.failures):
                lane.woken.set()

    def progress(self) -> dict[str, CacheProgress]:
        """Return what each cache's queue does."""
        return {name: lane.progress for name, lane in self._lanes.items()}

    async def numbers(self) -> dict[str, CacheProgress]:
        """Return the same with the uploads by state, of caches that are no longer configured too."""
        counts = await self._uploads.counts()
        idle = {name: CacheProgress() for name in counts}
        return {
            name: msgspec.structs.replace(progress, counts=counts.get(name, {}))
            for name, progress in (idle | self.progress()).items()
        }

    async def run(self) -> None:
        """Publish until cancelled; what is under way is broken off, and goes on after the next start."""
        tasks = [
            asyncio.create_task(self._look_after(lane), name=f"cache {name}") for name, lane in self._lanes.items()
        ]
        try:
            await asyncio.gather(*tasks)
            await asyncio.Event().wait()  # without caches there is nothing to do
        finally:
            await cancelled(tasks)

    async def _look_after(self, lane: _Lane) -> None:
        while True:
            lane.woken.clear()
            pause = await self._round(lane)
            if pause:
                await first_of(lane.woken.wait(), self._clock.sleep(pause))

    async def _round(self, lane: _Lane) -> float:
        """Publish what is due, as much as is taken up together; return after how many seconds to look again."""
        due: Sequence[Upload] = ()
        try:
            due = await self._uploads.due(lane.rule.name, self._clock.now(), lane.batch)
            if not due:
                return LOOK_AGAIN_S
            lane.show(uploading=len(due))
            async with self._locks.sharing(lane.rule.name):  # until saved: a collector spares what still waits
                result = await self._published(lane, due)
                await self._uploads.save(result)
            if any(upload.state is UploadState.REBUILDING for upload in result):
                self.to_rebuild()  # not before it is recorded: whoever is told looks at once
        except DoorError as error:
            return await self._is_down(lane, due, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it was, the other caches go on
            self._log.exception("publishing failed", cache=lane.rule.name)
            return await self._is_down(lane, due, _mistake(error), blame=True)
        finally:
            lane.show(uploading=0)
        return self._pause_s(lane) if lane.failures else 0.0

    async def _published(self, lane: _Lane, due: Sequence[Upload]) -> list[Upload]:
        """Publish what these uploads ask for as far as it may be; return how they stand."""
        found = await lacking(self._store, lane.destination, lane.rule, {upload.path for upload in due})
        order = await asyncio.to_thread(closure_order, found.infos)
        held_back = spread(order, dict.fromkeys(await blocked(self._uploads, lane.rule, found.infos), _TO_REBUILD))
        faults = await self._push(lane, [info for info in order if info.path not in held_back])
        result = [self._standing(upload, found, held_back, faults) for upload in due]
        if isinstance(lane.destination, TakesRealisations):
            await lane.destination.realise({one.path for one in result if one.state is UploadState.DONE})
        return self._heeded(lane, result, {upload.path for upload in due if upload.path in faults})

    async def _push(self, lane: _Lane, order: Sequence[PathInfo]) -> dict[StorePath, str]:
        """Publish paths, those first that others refer to; return the faults of those that could not be."""
        faults: dict[StorePath, str] = {}
        for at in range(0, len(order), PUSH):
            chunk = order[at : at + PUSH]
            faults = spread(chunk, faults)
            clean = [info for info in chunk if info.path not in faults]
            if not clean:
                continue
            pushed = await lane.destination.push(clean, self._contents)
            answered = pushed.new | pushed.known | pushed.faults.keys()
            faults |= {info.path: _NO_ANSWER for info in clean if info.path not in answered}
            faults = spread(chunk, faults | dict(pushed.faults))
            self._pushed(lane.rule.name, len(pushed.new), pushed.sent_bytes)
            lane.show(
                published=lane.progress.published + len(pushed.new),
                sent_bytes=lane.progress.sent_bytes + pushed.sent_bytes,
            )
        return faults

    def _standing(
        self, upload: Upload, found: Lacking, held_back: Mapping[StorePath, str], faults: Mapping[StorePath, str]
    ) -> Upload:
        now = self._clock.now()
        if upload.path in held_back:
            change = {"state": UploadState.REBUILDING, "due_at": now, "tries": 0, "fault": held_back[upload.path]}
            return msgspec.structs.replace(upload, **change)
        fault = _GONE if upload.path in found.gone else faults.get(upload.path)
        if fault is not None:
            return failed(upload, fault, now)
        return msgspec.structs.replace(upload, state=UploadState.DONE, fault="", done_at=now)

    def _heeded(self, lane: _Lane, result: Sequence[Upload], faulty: Collection[StorePath]) -> list[Upload]:
        """Take note of how a try ended. While a cache takes nothing at all, nothing is given up for it."""
        states = {upload.state for upload in result}
        if UploadState.DONE in states:
            lane.failures = 0
            lane.show(fault="", down_until=None)
        elif len(faulty) > 1 or (faulty and lane.failures):
            lane.failures += 1
            fault = next(upload.fault for upload in result if upload.path in faulty)
            lane.show(fault=fault, down_until=self._clock.now() + self._pause_s(lane))
            result = [self._kept(upload) if upload.path in faulty else upload for upload in result]
        for upload in result:
            if upload.state in {UploadState.WAITING, UploadState.FAILED}:
                self._log.warning(
                    "not published", cache=upload.cache, path=upload.path, tries=upload.tries, reason=upload.fault
                )
        return list(result)

    def _kept(self, upload: Upload) -> Upload:
        due_at = self._clock.now() + pause_s(upload.tries)
        return msgspec.structs.replace(upload, state=UploadState.WAITING, due_at=due_at, done_at=None)

    async def _is_down(self, lane: _Lane, due: Sequence[Upload], reason: str, *, blame: bool = False) -> float:
        """Leave a cache alone for a while; its uploads wait, and count it as a try only where they may be to blame."""
        lane.failures += 1
        pause = self._pause_s(lane)
        again_at = self._clock.now() + pause
        lane.show(fault=reason, down_until=again_at)
        self._log.warning("nothing can be published", cache=lane.rule.name, reason=reason, again_in_s=pause)
        later = [msgspec.structs.replace(upload, due_at=again_at, fault=reason) for upload in due]
        try:
            await self._uploads.save([failed(one, reason, self._clock.now()) for one in due] if blame else later)
        except DoorError as error:
            self._log.warning("uploads cannot be recorded", cache=lane.rule.name, reason=str(error))
        return pause

    def _pause_s(self, lane: _Lane) -> float:
        return min(DOWN_MAX_S, DOWN_S * 2.0 ** min(lane.failures - 1, 10))


def failed(upload: Upload, fault: str, now: float) -> Upload:
    """Return an upload after a try that failed: it is tried again later, or given up."""
    tries = upload.tries + 1
    if gives_up(tries):
        return msgspec.structs.replace(upload, state=UploadState.FAILED, tries=tries, fault=fault, done_at=now)
    return msgspec.structs.replace(upload, tries=tries, due_at=now + pause_s(tries), fault=fault)


def _mistake(error: Exception) -> str:
    return f"This is a mistake in nixmill; its log says more ({type(error).__name__}). The path is tried again."
