"""The way of a change on the server, from top to bottom: take → fetch → check → conclude.

`travel` is the story. Each step is durable: after a crash it is begun again at the first one that was not recorded, and
each finds in the database what it did before (`nixmill.doors.server.Durable`). Within `check` the way goes on in
`nixmill.engine.flow`: tree → evaluation → diff → plan → build → report. Whatever happens, a change gets a verdict.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import msgspec
import structlog

from nixmill.config import ProjectConfig
from nixmill.core.change import Change, ChangeState, Origin, Progress
from nixmill.core.errors import GoneError, InputError
from nixmill.core.history import AttemptRow
from nixmill.core.pin import PinRule
from nixmill.core.posting import CheckState
from nixmill.core.project import Project, default_branch
from nixmill.core.run_event import Verdict
from nixmill.core.source import TreeRequest
from nixmill.core.trust import is_untrusted
from nixmill.doors import DoorError, Store
from nixmill.engine.aftermath import Aftermath
from nixmill.engine.bring import bring
from nixmill.engine.flow import Flow
from nixmill.engine.insist import insist
from nixmill.engine.keeper import Keeper
from nixmill.engine.known_inputs import known_inputs
from nixmill.engine.known_projects import project_by_id
from nixmill.engine.live import log_topic, project_topic, run_topic
from nixmill.engine.owed import Owed, cache_duties, pin_rule
from nixmill.engine.reporter import Reporter
from nixmill.engine.request import RunRequest
from nixmill.engine.room import Room
from nixmill.engine.run_teller import RunTeller
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.server_request import config_of, server_request
from nixmill.engine.sizes import Measure
from nixmill.engine.task_group import innermost
from nixmill.engine.works import Works

FETCH_TRIES: Final = 5
FETCH_AGAIN_S: Final = 3.0
FULL_S: Final = 2.0
"""Between two looks whether a disk has room again."""
GONE_TRIES: Final = 2
"""Further tries for a head that is not there yet."""
MOVING: Final = frozenset({Origin.PUSH, Origin.TAG, Origin.PULL_REQUEST, Origin.MERGE_QUEUE})
"""What asks for a commit that may be gone when it is fetched."""

CHANGE: Final = "change"
"""Name of the durable workflow of a change."""

log = structlog.get_logger("nixmill.journey")


class Journey:
    """Carries changes through; one for the whole server."""

    def __init__(self, doors: ServerDoors, works: Works, cores: int, keeper: Keeper, room: Room) -> None:
        """Share `works` among all runs; `keeper` holds what they rely on, and they begin while there is `room`."""
        self._doors = doors
        self.keeper = keeper
        self.room = room
        self._works = works
        self._cores = cores
        self._aftermath = Aftermath(doors)
        self._writing: set[asyncio.Task[None]] = set()
        works.wanted = lambda drv_path: any(flow.site.wants(drv_path) for flow in self.flows.values())
        works.ended_alone = self._ended_alone
        self.flows: dict[int, Flow] = {}
        """Runs under way, by number."""
        self._taken: set[int] = set()
        """Changes that were begun, or withdrawn before, since the server started."""
        self._superseded: dict[int, list[int]] = {}
        """By the newer run: older ones whose builds it may want."""
        self.reporter = Reporter(doors)
        self.concluded: Callable[[], None] = lambda: None
        """Called when messages and hooks may be waiting."""

    async def travel(self, key: str) -> None:
        """Carry change number `key` from its acceptance to its verdict and what follows from it."""
        number = int(key)
        step = self._doors.durable.step
        going = await step("take", lambda: self._guarded(number, self._take))
        if going:
            going = await step("fetch", lambda: self._guarded(number, self._fetch))
        if going:
            await step("check", lambda: self._guarded(number, self._check))
        await step("conclude", lambda: self._conclude(number))

    async def supersede(self, older: Change, newer: int) -> None:
        """Stop a run for a newer one. What it builds now goes on until it is known what the newer one wants of it."""
        flow = self.flows.get(older.number)
        if flow is not None and flow.hold():
            self._superseded.setdefault(newer, []).append(older.number)
        else:
            await self.cancel(older, f": run {newer} is newer")

    def _let_go(self, newer: int) -> None:
        for older in self._superseded.pop(newer, []):
            if flow := self.flows.get(older):
                flow.cancel()

    async def cancel(self, change: Change, why: str = "") -> None:
        """Stop a run that is under way; one that was not begun has its verdict at once."""
        if change.state in {ChangeState.HELD, ChangeState.DONE}:
            return  # the database ended it, and it is on its way to be concluded
        if change.number not in self._taken:
            self._taken.add(change.number)
            await self._end(change, Verdict.CANCELLED, f"Cancelled before it began{why}.")
        elif flow := self.flows.get(change.number):
            flow.cancel()

    def halt(self) -> None:
        """Record nothing more: the server stops, and everything under way goes on at its next start."""
        self._works.wanted = lambda _: False
        self._works.ended_alone = lambda _: None

    def _ended_alone(self, row: AttemptRow) -> None:
        """Record the end of an attempt whose run is gone, for those that will find its output."""
        task = asyncio.create_task(insist(lambda: self._doors.history.record([row])))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        task.add_done_callback(lambda _: self._doors.live.tell(log_topic(row.number), ended=True))

    # The steps. Each returns whether the way goes on; a verdict ends it.

    async def _take(self, change: Change) -> bool:
        """Begin, unless the change was cancelled or superseded while it waited."""
        if change.number in self._taken:
            return False  # withdrawn a moment ago
        self._taken.add(change.number)
        if change.skipped:
            return await self._end(change, Verdict.CANCELLED, f"Skipped: {change.skipped}.")
        if change.cancel_asked:
            by = f": run {change.superseded_by} is newer" if change.superseded_by else ""
            return await self._end(change, Verdict.CANCELLED, f"Cancelled before it began{by}.")
        await self._note(change, state=ChangeState.FETCHING, started_at=self._doors.clock.now())
        return True

    async def _fetch(self, change: Change) -> bool:
        """Fetch the commit, merge it into its base; record tree hash, subject and author."""
        self._taken.add(change.number)
        project = await self._project(change)
        for left in range(FETCH_TRIES, 0, -1):
            try:
                brought = await bring(self._doors, project, change)
            except GoneError as error:
                # Force-pushed or deleted: nobody waits for it. A webhook may also be faster than its forge's git.
                if change.origin is Origin.PULL_REQUEST and left > FETCH_TRIES - GONE_TRIES:
                    await self._doors.clock.sleep(FETCH_AGAIN_S)
                    continue
                gone = change.origin in MOVING
                return await self._end(change, Verdict.CANCELLED if gone else Verdict.EVALUATION_FAILED, str(error))
            except InputError as error:
                return await self._end(change, Verdict.EVALUATION_FAILED, f"{error} {error.remedy}".strip())
            except DoorError as error:
                if not error.retryable or left == 1:
                    return await self._end(change, Verdict.INFRASTRUCTURE, str(error))
                await self._note(change, notices=(f"{error} It is tried again.",))
                await self._doors.clock.sleep(FETCH_AGAIN_S)
            else:
                await self._note(change, **brought.known)
                return not brought.skipped or await self._end(change, Verdict.CANCELLED, brought.skipped)
        return False

    async def _check(self, change: Change) -> bool:
        """Evaluate and build. After a crash what is recorded or valid is not done again."""
        self._taken.add(change.number)
        project = await self._project(change)
        teller = RunTeller(change, self._doors.changes, self._doors.live, lambda: self._let_go(change.number))
        teller.told = self.reporter.hurry
        await self._until_room(change, teller)
        guarded = is_untrusted(change.tier) and self._doors.settings.sandbox == "require"
        readable = await known_inputs(self._doors, project, change) if guarded else ()
        opened = self._doors.open_run(teller.notice, guarded=guarded, readable=readable)
        async with opened as opened_doors, teller.writing():
            doors = replace(opened_doors, leases=self.keeper)
            request = await self._request(change, project)
            flow = self.flows[change.number] = Flow(request, doors, teller.tell, self._works)
            flow.keys_known = lambda: teller.keys(flow.evaluation_key, flow.base_key)
            try:
                if (await self._doors.changes.change(change.number) or change).cancel_asked:
                    flow.cancel()
                if await flow.check() is not Verdict.CANCELLED:
                    await self._tell_pins(request.pin, change, flow)
                    await _measure(flow, doors.store, teller)
                for sentence in doors.refused():
                    teller.notice(sentence)
            finally:
                del self.flows[change.number]
        return True

    async def _until_room(self, change: Change, teller: RunTeller) -> None:
        """Wait while a disk is nearly full; not longer than anybody wants the run."""
        if self.room.lacking:
            teller.notice(f"It waits: {self.room.lacking}.")
        while self.room.lacking:
            now = await self._change(change.number)
            if now is None or now.cancel_asked:
                return
            await self._doors.clock.sleep(FULL_S)

    async def _conclude(self, number: int) -> None:
        """Count, tell people and programs, and say that it is over. Doing so again changes nothing.

        A database that is away is waited for: what ends here in a fault is not begun again, as it has its verdict.
        """
        try:
            await insist(lambda: self._concluded(number))
        except Exception:
            log.exception("a run's end could not be told", run=number)
            if (change := await self._change(number)) is not None:
                title = "A fault of nixmill: what this run came to cannot be told here, see its page"
                await self.reporter.bare(change, CheckState.TROUBLE, title)
            raise

    async def _concluded(self, number: int) -> None:
        self._let_go(number)
        change = await self._change(number)
        if change is None:
            return
        counts = await self._doors.past.counts(number)
        await self._note(change, state=ChangeState.DONE, counts=counts)
        await self.reporter.report(number)
        await self._aftermath.of(change)
        self.concluded()
        self._taken.discard(number)
        self.keeper.let_go(number)
        self._doors.live.tell(run_topic(number), ended=True)
        self._doors.live.tell(project_topic(change.project))

    # What the steps need.

    async def _guarded(self, number: int, step: Callable[[Change], Awaitable[bool]]) -> bool:
        """Do a step; whatever goes wrong in it is a verdict, since a change must always reach one."""
        change = await self._change(number)
        if change is None or change.state is ChangeState.DONE:
            return False
        try:
            return await step(change)
        except Exception as error:
            if await self._has_verdict(number):
                log.exception("something went wrong after a run had its verdict, which stands", run=number)
                return False
            return await self._failed(change, innermost(error))

    async def _has_verdict(self, number: int) -> bool:
        try:
            change = await self._change(number)
        except DoorError:
            return False  # the database is away, which is as a rule why this is asked
        return change is not None and change.state is ChangeState.DONE

    async def _failed(self, change: Change, error: BaseException) -> bool:
        match error:
            case InputError():
                return await self._end(change, Verdict.EVALUATION_FAILED, str(error))
            case DoorError():
                return await self._end(change, Verdict.INFRASTRUCTURE, str(error))
        fault = uuid.uuid4().hex[:8]
        log.error("a run was stopped by a fault of nixmill", run=change.number, fault=fault, exc_info=error)
        sentence = f"A fault of nixmill stopped this run; the server's log tells more under {fault}."
        return await self._end(change, Verdict.INFRASTRUCTURE, sentence)

    async def _request(self, change: Change, project: Project) -> RunRequest:
        """Return what is asked of the flow: what the tree says, and what only the default branch may say."""
        source, mirror = self._doors.source, self._doors.remote.mirror(project.id)
        tree = await source.tree(TreeRequest(directory=mirror, revision=change.tested or change.commit))
        config = await config_of(source, tree, change.commit[:12])
        powers = await self._powers(mirror)
        base = await self._base(change, project, mirror)
        limits, owed = self._doors.settings.limits, await self._owed(change, project, powers)
        return server_request(
            change, project, config, powers, limits, mirror=mirror, base=base, cores=self._cores, owed=owed
        )

    async def _owed(self, change: Change, project: Project, powers: ProjectConfig) -> Owed:
        """Return what is owed for good results of a run."""
        settings, root, first = self._doors.settings, None, change
        while first.retry_of is not None and (earlier := await self._change(first.retry_of)) is not None:
            root = first = earlier
        default = default_branch(project, await self._doors.refs.polled(project.id))
        tips = {ref.name: ref.commit for ref in await self._doors.refs.refs(project.id)}
        tip = tips.get(change.ref, "")
        pin = pin_rule(change, root, default, tip, powers.roots, settings.roots)
        return Owed(pin=pin, caches=cache_duties(change, root, tip, project, settings.caches))

    async def _tell_pins(self, rule: PinRule | None, change: Change, flow: Flow) -> None:
        """Tell the book of pins what the branch has, where all of it was evaluated."""
        if rule is not None and flow.evaluated and not (change.targets or change.systems):
            await insist(lambda: self._doors.pins.evaluated(rule, flow.has(), self._doors.clock.now()))

    async def _powers(self, mirror: str) -> ProjectConfig:
        try:
            tree = await self._doors.source.tree(TreeRequest(directory=mirror, revision="HEAD"))
            return await config_of(self._doors.source, tree, "the default branch")
        except InputError:
            return ProjectConfig()  # no default branch here, or one whose file is broken: then nobody grants anything

    async def _base(self, change: Change, project: Project, mirror: str) -> str:
        """Return the commit to compare with; empty where the merge base with the default branch is right."""
        if change.base_commit:
            return change.base_commit
        polled = await self._doors.refs.polled(project.id)
        default = default_branch(project, polled)
        if change.ref != f"refs/heads/{default}":
            return ""
        commit = await self._doors.past.previous_commit(change.number)
        try:
            if commit:
                await self._doors.source.tree(TreeRequest(directory=mirror, revision=commit))
        except InputError:
            return ""  # force-pushed away
        return commit

    async def _change(self, number: int) -> Change | None:
        return await self._doors.changes.change(number)

    async def _project(self, change: Change) -> Project:
        found = await project_by_id(self._doors.projects, change.project)
        if found is None:
            raise InputError("The project was deleted while this run waited.")
        return found

    async def _note(self, change: Change, **known: object) -> None:
        """Record progress, however long the database is away, and tell pages."""
        progress = msgspec.convert({"number": change.number, **known}, Progress)
        await insist(lambda: self._doors.changes.progress(progress))
        self._doors.live.tell(run_topic(change.number), project_topic(change.project))
        self.reporter.hurry(change.number)

    async def _end(self, change: Change, verdict: Verdict, sentence: str) -> bool:
        """Give a change its verdict without a flow."""
        await self._note(change, verdict=verdict, sentence=sentence, ended_at=self._doors.clock.now())
        return False


async def _measure(flow: Flow, store: Store, teller: RunTeller) -> None:
    """Record what changed in size. The verdict stands already: a store that is away costs the table, nothing else."""
    try:
        teller.sizes(await Measure(store).changes(flow.changed()))
    except DoorError as error:
        teller.notice(f"Sizes could not be compared: {error}")
