"""What a run owes for its good results: roots, pins, uploads. All of them go through this one place (semantics §4).

Whichever way a result became good, `take` gets it, `_fulfil` makes its roots stand and asks the store once more, and
only then it is recorded, with its pin and its uploads in the same transaction, and announced. A path that cannot be
rooted is the trouble of its own attribute alone (semantics §5).
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from nixmill.core.history import Row
from nixmill.core.node import IN_A_CACHE, Node
from nixmill.core.outcome import Outcome
from nixmill.core.pin import Pin
from nixmill.core.trust import is_untrusted
from nixmill.core.upload import Made, Upload
from nixmill.doors import DoorError
from nixmill.doors.roots import Leases
from nixmill.engine.attempt import Attempt, Attempted
from nixmill.engine.insist import insist
from nixmill.engine.request import RunDoors, RunRequest
from nixmill.engine.result import Result
from nixmill.nix.store_path import StorePath

WAITS_S: Final = (0.1, 0.5)
"""Before each further try to root something."""
SUBSTITUTER: Final = "substituter"
"""Who holds what no cache of ours does."""

Record = Callable[[Result, Sequence[Row]], None]


class Duties:
    """Those of one run. Use as a task: `run()` until `close()`."""

    def __init__(self, request: RunRequest, doors: RunDoors, notice: Callable[[str], None]) -> None:
        """Owe what `request` says; `record` is set by whoever records results."""
        self._request = request
        self._doors = doors
        self._notice = notice
        self._queue: asyncio.Queue[Result | Sequence[StorePath] | None] = asyncio.Queue()
        self._faults: dict[StorePath, str] = {}
        self._leased: set[StorePath] = set()
        self.record: Record = lambda _result, _rows: None

    @property
    def bound(self) -> bool:
        """Say whether anything is owed beside roots: then no good result may be passed over unseen."""
        return self._request.pin is not None or bool(self._request.caches)

    async def lease(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Root `paths`, then return those that are valid: in this order none of them can go any more.

        A collection that looks for roots now passes over those of paths that are not there yet: once these are, they
        are rooted again.
        """
        if not paths:
            return set()
        await self._root([path for path in paths if path not in self._leased])
        valid = await self._doors.store.hold(paths)
        self._leased.difference_update(path for path in paths if path not in valid)
        return valid

    def take(self, result: Result) -> None:
        """Take a final result; it is recorded once what is owed for it is done."""
        self._queue.put_nowait(result)

    def of_beginning(self, attempt: Attempt) -> Sequence[Row]:
        """Return who builds, where that matters to caches: known before the end, as an end may never be heard of."""
        if self._request.number is None or not is_untrusted(attempt.tier):
            return ()
        return [*attempt.made(), *attempt.begun()]

    async def imported(self, drv_paths: Collection[StorePath]) -> None:
        """Record who built what an evaluation imported, where that matters to caches."""
        party, number = self._request.party, self._request.number
        if number is None or not drv_paths or not is_untrusted(party.tier):
            return
        derivations, now = await self._doors.store.derivations(drv_paths), self._doors.clock.now()
        made = [
            Made(path=StorePath(output.path), tier=party.tier, run=number, attempt=0, at=now)
            for derivation in derivations.values()
            if not derivation.fixed_output
            for output in derivation.outputs.values()
            if output.path
        ]
        await insist(lambda: self._doors.history.record(made))

    def of_attempt(self, node: Node, attempted: Attempted) -> Sequence[Row]:
        """Return what is owed for an attempt that went well: who built its outputs, and their uploads.

        They are rooted soon, so that after a crash what others wait for is not built again; until then this process
        holds them.
        """
        paths = [path for name, path in (node.outputs or {}).items() if path is not None and name in node.valid]
        if attempted.ending.outcome is Outcome.SUCCEEDED:
            self._queue.put_nowait(paths)
        realised = attempted.realised if self._request.number is not None else ()
        if not attempted.built:
            return realised
        made = [one for one in attempted.made if one.path in paths]
        caches = [cache.name for cache in self._request.caches if cache.intermediate]
        return [*made, *realised, *self._uploads(paths, caches)] if self._request.number is not None else ()

    def close(self) -> None:
        """Let `run` end after everything taken so far."""
        self._queue.put_nowait(None)

    async def run(self) -> None:
        """Do what is owed until closed; results that queue up meanwhile share the next questions."""
        while True:
            taken = [await self._queue.get()]
            while not self._queue.empty():
                taken.append(self._queue.get_nowait())
            made = {path for some in taken if isinstance(some, Sequence) for path in some}
            await self._root(made - self._leased)
            await self._fulfil([result for result in taken if isinstance(result, Result)])
            if None in taken:
                return

    async def _fulfil(self, results: Sequence[Result]) -> None:
        good = [result for result in results if result.good] if self.bound else []
        paths = {path for result in good for path in result.paths}
        left = {path for result in good if result.how == IN_A_CACHE for path in result.paths}
        valid, holders, trouble = set[StorePath](), dict[StorePath, str](), ""
        try:
            valid = await self.lease(paths)
            holders = dict(await self._doors.published.where(left)) if self._doors.published and left else {}
        except DoorError as error:
            trouble = str(error)
        for result in results:
            self._settle(result, valid, holders, trouble)

    def _settle(self, result: Result, valid: set[StorePath], holders: Mapping[StorePath, str], trouble: str) -> None:
        if not result.good or not self.bound:
            self.record(result, ())
        elif why := trouble or self._unrooted(result, valid):
            self.record(msgspec.structs.replace(result, outcome=Outcome.INFRASTRUCTURE, how=why), ())
        else:
            self.record(result, self._owed(result, valid, holders))

    def _unrooted(self, result: Result, valid: set[StorePath]) -> str:
        """Return why a good result cannot be kept; empty where it can."""
        if result.how == IN_A_CACHE:
            return ""
        for path in result.paths:
            if path in self._faults and self._request.pin is not None:
                return f"{path} cannot be kept from the garbage collector: {self._faults[path]}"
            if path not in valid:
                return f"{path} vanished from the store though it had a root: somebody deleted it by force. Try again."
        return ""

    def _owed(self, result: Result, valid: set[StorePath], holders: Mapping[StorePath, str]) -> list[Row]:
        here = [path for path in result.paths if path in valid]
        rows: list[Row] = list(self._uploads(here, [cache.name for cache in self._request.caches]))
        if (pin := self._pin(result, valid, holders)) is not None:
            rows.append(pin)
        return rows

    def _pin(self, result: Result, valid: set[StorePath], holders: Mapping[StorePath, str]) -> Pin | None:
        rule, attribute = self._request.pin, result.attribute
        outputs = {name: path for name, path in result.outputs.items() if path is not None}
        if rule is None or not outputs:
            return None
        away = [path for path in outputs.values() if path not in valid]
        return Pin(
            project=rule.project,
            ref=rule.ref,
            path=attribute.path,
            run=self._request.number or 0,
            order=rule.order,
            drv_path=attribute.drv_path,
            outputs=outputs,
            policy=rule.policy,
            keep=rule.keep,
            held=holders.get(away[0], SUBSTITUTER) if away else "",
            at=self._doors.clock.now(),
        )

    def _uploads(self, paths: Sequence[StorePath], caches: Sequence[str]) -> list[Upload]:
        now, project, run = self._doors.clock.now(), self._request.party.project, self._request.number or 0
        return [
            Upload(cache=cache, path=path, project=project, run=run, due_at=now, at=now)
            for cache in caches
            for path in paths
        ]

    async def _root(self, paths: Collection[StorePath]) -> None:
        """Make roots stand, with some more tries for those that cannot be at first; remember what could not."""
        leases = self._doors.leases
        if leases is None or not paths:
            return
        todo = await self._try_to_root(leases, paths)
        for wait in WAITS_S:
            if todo:
                await self._doors.clock.sleep(wait)
                todo = await self._try_to_root(leases, todo)
        if todo:
            path, why = min(todo.items())
            self._notice(f"{len(todo)} paths have no root of their own, such as {path}: {why}")
        self._faults = {path: why for path, why in self._faults.items() if path not in paths} | todo

    async def _try_to_root(self, leases: Leases, paths: Collection[StorePath]) -> dict[StorePath, str]:
        try:
            faults = await leases.hold(self._request.number or 0, paths)
        except DoorError as error:
            faults = dict.fromkeys(paths, str(error))
        self._leased.update(path for path in paths if path not in faults)
        return faults
