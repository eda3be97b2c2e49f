"""Builds again, for caches of branches, what only pull requests built: it has to come out the same (semantics §7).

Not only the path itself: whatever went into it and was built by a pull request alone is built again before it, else
the second build would rest on the first one's trust. Each path that came out the same is recorded at once, so a crash
loses at most the builds under way. No cache is locked meanwhile: what it lacks is asked again when it is published to,
and whatever then turns out to need a second build comes back here.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Final

import msgspec
from structlog.typing import FilteringBoundLogger

from nixmill.core.publish import CacheRule, may_enter
from nixmill.core.trust import Tier
from nixmill.core.upload import Made, ResultClass, Upload, UploadState
from nixmill.doors import BuildLimits, Clock, DoorError, Store
from nixmill.doors.cache import Destination, Rebuilder, Uploads
from nixmill.engine.cache_closure import blocked, lacking
from nixmill.engine.courier import first_of
from nixmill.engine.publisher import failed
from nixmill.engine.task_group import innermost
from nixmill.nix.build_result import BuildStatus
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

BATCH: Final = 50
"""Uploads that are looked at together."""
AT_ONCE: Final = 2
"""Builds."""
LOOK_AGAIN_S: Final = 60.0
LIMITS: Final = BuildLimits(timeout_s=6 * 3600)
_UNKNOWN: Final = (
    "A pull request built {path}, and nobody knows any more from which derivation, so it cannot be built again."
    " Delete it from the store and run the branch again: then it is built for the branch."
)
_DIFFERS: Final = (
    "A pull request built {path}; built again for this cache it came out differently, so it may not enter: its build is"
    " not deterministic. Make the build reproducible, or delete the path from the store and run the branch again."
)
_FAILED: Final = (
    "A pull request built {path}; building it again for this cache failed: {reason} It is tried again later; if it"
    " never succeeds, look at whether the build depends on the time or on the machine."
)
_TROUBLE: Final = "{path} has to be built again for this cache, and could not be: {reason}"


class _Fault(msgspec.Struct, frozen=True):
    """Why a derivation does not vouch for its outputs; `final` where trying again is of no use."""

    sentence: str
    final: bool = False


@dataclass
class _Work:
    """Derivations that are to be built again, and what became of them."""

    inputs: dict[StorePath, set[StorePath]] = field(default_factory=dict)
    """Of each derivation those that have to be built again before it."""
    outputs: dict[StorePath, list[Made]] = field(default_factory=dict)
    """What each of them is to vouch for."""
    faults: dict[StorePath, _Fault] = field(default_factory=dict)
    """By derivation; by path where no derivation is known."""


class Vouching:
    """Looks after uploads that wait for a second build, for as long as `run` runs. One at a time."""

    def __init__(
        self,
        store: Store,
        rebuilder: Rebuilder,
        destinations: Mapping[str, Destination],
        rules: Mapping[str, CacheRule],
        uploads: Uploads,
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        vouched: Callable[[], None] = lambda: None,
        limits: BuildLimits = LIMITS,
    ) -> None:
        """Build on the server's store; `vouched` is told when uploads can go on (`Publisher.wake`)."""
        self._store = store
        self._rebuilder = rebuilder
        self._destinations = destinations
        self._rules = rules
        self._uploads = uploads
        self._clock = clock
        self._log = log
        self._vouched = vouched
        self._limits = limits
        self._room = asyncio.Semaphore(AT_ONCE)
        self._woken = asyncio.Event()
        self.rebuilt = 0
        """Derivations that came out the same."""
        self.refused = 0
        """Uploads that were refused."""

    def wake(self) -> None:
        """Say that something has to be built again."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            self._woken.clear()
            if not await self._all_caches():
                await first_of(self._woken.wait(), self._clock.sleep(LOOK_AGAIN_S))

    async def _all_caches(self) -> bool:
        """Look at each cache's uploads once; say whether there were any."""
        busy = False
        for name in self._destinations:
            try:
                busy = await self._round(name) or busy
            except DoorError as error:
                self._log.warning("nothing can be built again", cache=name, reason=str(error))
            except Exception:  # noqa: BLE001 - whatever it was, the other caches go on
                self._log.exception("building again failed", cache=name)
        return busy

    async def _round(self, cache: str) -> bool:
        due = await self._uploads.due(cache, self._clock.now(), BATCH, UploadState.REBUILDING)
        if not due:
            return False
        try:
            result = await self._vouched_for(self._rules[cache], due)
        except Exception as error:
            reason = _reason(innermost(error))
            await self._uploads.save([failed(upload, reason, self._clock.now()) for upload in due])
            raise
        await self._uploads.save(result)
        self.refused += sum(upload.state is UploadState.REFUSED for upload in result)
        if any(upload.state is UploadState.WAITING for upload in result):
            self._vouched()
        return True

    async def _vouched_for(self, rule: CacheRule, due: Sequence[Upload]) -> list[Upload]:
        """Build again what these uploads need; return how they stand."""
        found = await lacking(self._store, self._destinations[rule.name], rule, {upload.path for upload in due})
        untrusted = await blocked(self._uploads, rule, found.infos)
        work = _Work()
        drv_paths = await self._plan(work, untrusted, found.infos)
        await self._build_all(work, due[0].run)
        return self._settled(due, found.infos, untrusted, drv_paths, work)

    async def _plan(
        self, work: _Work, untrusted: Mapping[StorePath, Made], infos: Mapping[StorePath, PathInfo]
    ) -> dict[StorePath, StorePath]:
        """Find out what is to be built again, level by level of inputs; return the derivations of `untrusted`."""
        first = level = self._derivers(work, untrusted, infos)
        while level:
            new = set(level.values()) - work.inputs.keys()
            inputs = await self._outputs_of_inputs(new)
            made = await self._untrusted({path for paths in inputs.values() for path in paths})
            there = await self._store.path_infos(made.keys())
            level = self._derivers(work, {path: made[path] for path in there if not there[path].content_address}, there)
            for drv_path in new:
                _needs(work, drv_path, inputs.get(drv_path, set()), level)
        return first

    def _derivers(
        self, work: _Work, made: Mapping[StorePath, Made], infos: Mapping[StorePath, PathInfo]
    ) -> dict[StorePath, StorePath]:
        """Return the derivation of each path; where none is known that is a fault of the path."""
        found = {}
        for path, one in made.items():
            drv_path = one.drv_path or infos[path].deriver
            if drv_path is None:
                work.faults[path] = _Fault(_UNKNOWN.format(path=path), final=True)
                continue
            found[path] = drv_path
            outputs = work.outputs.setdefault(drv_path, [])
            if one not in outputs:
                outputs.append(one)
        return found

    async def _outputs_of_inputs(self, drv_paths: Collection[StorePath]) -> dict[StorePath, set[StorePath]]:
        """Return the paths that derivations read and that other derivations make."""
        derivations = await self._store.derivations(drv_paths)
        of_inputs = await self._store.derivations({each for one in derivations.values() for each in one.input_drvs})
        return {
            drv_path: {
                StorePath(of_inputs[each].outputs[name].path)
                for each, names in one.input_drvs.items()
                if each in of_inputs
                for name in names
                if of_inputs[each].outputs[name].path
            }
            for drv_path, one in derivations.items()
        }

    async def _untrusted(self, paths: Collection[StorePath]) -> dict[StorePath, Made]:
        made = await self._uploads.made(paths)
        return {
            path: one
            for path, one in made.items()
            if not may_enter(ResultClass.BRANCH, one, content_addressed=False, signed_upstream=False)
        }

    async def _build_all(self, work: _Work, run: int) -> None:
        """Build again, inputs first; what rests on something that did not come out the same is not tried."""
        order = TopologicalSorter(work.inputs)
        try:
            order.prepare()
        except CycleError as error:
            raise DoorError(
                "Derivations that need each other cannot be built again: the database contradicts the store.",
                door="rebuilder",
                action="plan",
                retryable=False,
            ) from error
        while order.is_active():
            ready = order.get_ready()
            async with asyncio.TaskGroup() as group:
                for drv_path in ready:
                    group.create_task(self._build(work, drv_path, run))
            order.done(*ready)

    async def _build(self, work: _Work, drv_path: StorePath, run: int) -> None:
        before = (drv_path, *work.inputs[drv_path])
        if (fault := next((work.faults[each] for each in before if each in work.faults), None)) is None:
            async with self._room:
                fault = await self._checked(work, drv_path)
        if fault is not None:
            work.faults[drv_path] = fault
            return
        self.rebuilt += 1
        trusted = [msgspec.structs.replace(one, tier=Tier.BRANCH, run=run) for one in work.outputs[drv_path]]
        await self._uploads.vouch(trusted)

    async def _checked(self, work: _Work, drv_path: StorePath) -> _Fault | None:
        path = work.outputs[drv_path][0].path
        try:
            result = await self._rebuilder.check(drv_path, self._limits, _Deaf())
        except Exception as error:  # noqa: BLE001 - whatever it was, the other derivations go on
            if not isinstance(error, DoorError):
                self._log.exception("building again failed", drv_path=drv_path)
            return _Fault(_TROUBLE.format(path=path, reason=_reason(error)))
        if result.good:
            return None
        self._log.warning("a second build vouches for nothing", drv_path=drv_path, reason=result.message)
        if result.status is BuildStatus.NOT_DETERMINISTIC:
            return _Fault(_DIFFERS.format(path=path), final=True)
        return _Fault(_FAILED.format(path=path, reason=result.message))

    def _settled(
        self,
        due: Sequence[Upload],
        infos: Mapping[StorePath, PathInfo],
        untrusted: Mapping[StorePath, Made],
        drv_paths: Mapping[StorePath, StorePath],
        work: _Work,
    ) -> list[Upload]:
        faults = {path: work.faults.get(drv_paths.get(path, path)) for path in untrusted}
        return [self._standing(upload, _faults_below(upload.path, infos, faults)) for upload in due]

    def _standing(self, upload: Upload, faults: Sequence[_Fault]) -> Upload:
        now = self._clock.now()
        if not faults:
            return msgspec.structs.replace(upload, state=UploadState.WAITING, tries=0, due_at=now, fault="")
        if (final := next((fault for fault in faults if fault.final), None)) is not None:
            self._log.warning("an upload is refused", cache=upload.cache, path=upload.path, reason=final.sentence)
            return msgspec.structs.replace(upload, state=UploadState.REFUSED, fault=final.sentence, done_at=now)
        return failed(upload, faults[0].sentence, now)


class _Deaf:
    """Hears nothing of a build: what matters is whether it comes out the same."""

    def started(self) -> None:
        """Ignore it."""

    def line(self, text: str) -> None:
        """Ignore it."""

    def phase(self, name: str) -> None:
        """Ignore it."""

    def kept(self, directory: str) -> None:
        """Ignore it."""


def _needs(
    work: _Work, drv_path: StorePath, inputs: Collection[StorePath], known: Mapping[StorePath, StorePath]
) -> None:
    """Record what has to be built again before a derivation; an input that cannot be is a fault of this one too."""
    work.inputs[drv_path] = {known[path] for path in inputs if path in known} - {drv_path}
    if (fault := next((work.faults[path] for path in inputs if path in work.faults), None)) is not None:
        work.faults[drv_path] = fault


def _faults_below(
    path: StorePath, infos: Mapping[StorePath, PathInfo], faults: Mapping[StorePath, _Fault | None]
) -> list[_Fault]:
    """Return the faults of a path and of what it refers to, however indirectly."""
    seen, todo, found = {path}, [path], []
    while todo:
        each = todo.pop()
        if (fault := faults.get(each)) is not None:
            found.append(fault)
        new = set(infos[each].references) - seen if each in infos else set()
        seen |= new
        todo.extend(new)
    return found


def _reason(error: BaseException) -> str:
    if isinstance(error, DoorError):
        return str(error)
    return f"This is a mistake in nixmill; its log says more ({type(error).__name__}). It is tried again."
