"""The live side of the schedule: starts what is ready, hears what has ended, until the plan is done.

One owner: only the loop in `run` moves the plan on; attempts are tasks that put their ends in an inbox. Decisions are
`core.schedule` and `core.attempt`; what is announced is recorded first (`engine.recorder`).
"""

import asyncio
import functools
from collections.abc import Callable

import msgspec

from nixmill.core.evaluation import Attribute
from nixmill.core.node import Node
from nixmill.core.outcome import Outcome
from nixmill.core.plan import Plan
from nixmill.core.run_event import Noticed, Work, WorkEnded, WorkWaits
from nixmill.core.schedule import Assignment, Scheduler
from nixmill.core.waiting import reasons
from nixmill.doors import BuildLimits
from nixmill.engine.attempt import Attempt, Attempted
from nixmill.engine.duties import Duties
from nixmill.engine.memory import Memory
from nixmill.engine.planner import Planner
from nixmill.engine.recorder import Recorder
from nixmill.engine.request import RunDoors, RunRequest, Tell, least
from nixmill.engine.works import Listener, Works

ATTEMPT_BLOCK = 64
"""Attempt numbers are reserved this many at a time."""

WAITS_EVERY_S = 1.0

OF_LIMITS = frozenset({Outcome.TIMED_OUT, Outcome.SILENT, Outcome.LOG_TOO_LARGE, Outcome.OUTPUT_TOO_LARGE})
"""Ends that follow from the limits of the run that began an attempt."""


class Farm:
    """Builds one plan."""

    def __init__(
        self,
        plan: Plan,
        planner: Planner,
        scheduler: Scheduler,
        doors: RunDoors,
        request: RunRequest,
        recorder: Recorder,
        tell: Tell,
        settle: Callable[[], None],
        works: Works,
        memory: Memory,
        duties: Duties,
    ) -> None:
        """Build `plan` with the machines of `scheduler`; call `settle` whenever derivations may have ended."""
        self._works = works
        self._duties = duties
        self._memory = memory
        self._plan = plan
        self._planner = planner
        self._scheduler = scheduler
        self._doors = doors
        self._request = request
        self._recorder = recorder
        self._tell = tell
        self._settle = settle
        self._inbox: asyncio.Queue[tuple[Assignment, Attempted] | None] = asyncio.Queue()
        self._tasks: dict[int, asyncio.Task[Attempted]] = {}
        self._numbers: list[int] = []
        self._waits_at = 0.0
        self._waiting = 0
        self._own: dict[str, Attribute] = {}
        self._held = False

    def knows(self, attribute: Attribute) -> None:
        """Hear of an attribute, whose `meta` may limit its own build."""
        self._own.setdefault(attribute.drv_path, attribute)

    def look(self) -> None:
        """Look at the plan again: it has grown."""
        self._inbox.put_nowait(None)

    def hold(self) -> bool:
        """Start nothing more; say whether something is going on."""
        self._held = True
        return bool(self._tasks)

    def cancel(self) -> None:
        """Stop everything; builders end within a second."""
        self._plan.cancel()
        self._stop_running()
        self.look()

    async def run(self, number: int) -> None:
        """Work for run `number` until everything that is wanted has ended and nothing more can come."""
        async with asyncio.TaskGroup() as group:
            while not self._plan.done:
                await self._start_all(group, number)
                self._say_waits()
                await self._hear()

    async def _start_all(self, group: asyncio.TaskGroup, number: int) -> None:
        while not self._held and (what := self._scheduler.pick(self._doors.clock.monotonic())) is not None:
            if not self._numbers:
                first = await self._doors.history.next_attempts(ATTEMPT_BLOCK)
                self._numbers = list(range(first + ATTEMPT_BLOCK - 1, first - 1, -1))
            derivation = self._planner.derivations.get(what.drv_path)
            tier = self._request.party.tier
            attempt = Attempt(self._numbers.pop(), number, what, derivation, self._doors, tier)
            task = self._tasks[what.node.id] = group.create_task(self._carry_out(what, attempt))
            task.add_done_callback(functools.partial(self._came_back, what, attempt))

    async def _carry_out(self, what: Assignment, attempt: Attempt) -> Attempted:
        listener = Listener(self._tell, self._begin)
        return await self._works.do(what, self._request.party, attempt, self._limits(what), listener)

    def _came_back(self, what: Assignment, attempt: Attempt, task: asyncio.Task[Attempted]) -> None:
        """Hear the end of an attempt, also of one that was cancelled before its task had begun."""
        if task.cancelled():
            self._inbox.put_nowait((what, attempt.left()))
        elif task.exception() is None:
            self._inbox.put_nowait((what, task.result()))

    def _begin(self, attempt: Attempt) -> None:
        self._recorder.put(attempt.row, *self._duties.of_beginning(attempt))

    def _limits(self, what: Assignment) -> BuildLimits:
        """Return the request's limits, made tighter by what the attribute says of itself."""
        limits = self._request.build_limits
        own = self._own.get(what.drv_path)
        if own is None:
            return limits
        return msgspec.structs.replace(
            limits,
            timeout_s=least(own.timeout_s or 0, limits.timeout_s),
            silence_s=least(own.max_silent_s or 0, limits.silence_s),
        )

    async def _hear(self) -> None:
        """Wait for an end, for the plan to grow, or until something that was put off is due."""
        now = self._doors.clock.monotonic()
        due = self._scheduler.next_change(now)
        said = self._waits_at if self._waiting else None
        soonest = min((at for at in (due, said) if at is not None), default=None)
        try:
            async with asyncio.timeout(None if soonest is None else max(0.0, soonest - now)):
                message = await self._inbox.get()
        except TimeoutError:
            return
        await self._take(message)
        while not self._inbox.empty():
            await self._take(self._inbox.get_nowait())
        await self._planner.expand()
        self._settle()

    async def _take(self, message: tuple[Assignment, Attempted] | None) -> None:
        if message is None:
            return
        what, attempted = message
        self._tasks.pop(what.node.id, None)
        now = self._doors.clock.monotonic()
        delay = self._delay_s(what, attempted)
        self._lose_inputs(what.node, attempted)
        what.node.learn(attempted.outputs)
        self._plan.ended(
            what.drv_path,
            attempted.ending.outcome,
            now=now,
            message=attempted.ending.message,
            retry_at=None if delay is None else now + delay,
        )
        if self._plan.cancelled:
            self._stop_running()
        if attempted.log_fault:
            self._tell(Noticed(text=attempted.log_fault))
        if attempted.begun:
            await self._memory.learn(attempted.row)
            owed = self._duties.of_attempt(what.node, attempted)
            self._recorder.put(attempted.row, *owed, then=lambda: self._tell(self._ended(what, attempted, delay)))

    def _delay_s(self, what: Assignment, attempted: Attempted) -> float | None:
        """Return the pause before another attempt; a fetch gets one more, then its derivation is built instead."""
        if self._plan.cancelled:
            return None
        if attempted.ending.outcome in OF_LIMITS and attempted.limits not in {None, self._limits(what)}:
            return 0.0  # another run began it, and was less patient: that says nothing of ours
        if what.work is not Work.FETCH:
            return self._request.retry.delay_s(attempted.ending, what.node.attempts)
        delay = msgspec.structs.replace(self._request.retry, attempts_max=2).delay_s(
            attempted.ending, what.node.attempts
        )
        if delay is None and attempted.ending.outcome is not Outcome.SUCCEEDED:
            text = f"A cache announced {what.node.name} but did not deliver it ({attempted.ending.message})."
            self._tell(Noticed(text=f"{text} It is built instead."))
        return delay

    def _stop_running(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()

    def _lose_inputs(self, node: Node, attempted: Attempted) -> None:
        for dependency in node.inputs or ():
            gone = [name for name, path in (dependency.outputs or {}).items() if path in attempted.lost_inputs]
            if gone:
                self._plan.lost(dependency.drv_path, gone)

    def _ended(self, what: Assignment, attempted: Attempted, delay: float | None) -> WorkEnded:
        row, past = attempted.row, self._planner.past.get(what.drv_path)
        good = attempted.ending.outcome is Outcome.SUCCEEDED
        return WorkEnded(
            attempt=row.number,
            drv_path=row.drv_path,
            name=what.node.name,
            work=row.work,
            outcome=attempted.ending.outcome,
            seconds=row.seconds,
            message="" if good else row.message,
            exit_status=row.exit_status,
            tail=attempted.tail,
            log=row.log,
            retry_in_s=delay,
            failed_before=past.failed_in_run if past and not good and not self._request.remember else None,
            kept_directory=attempted.kept_directory,
        )

    def _say_waits(self) -> None:
        """Tell why things wait, at most once in `WAITS_EVERY_S`."""
        counts = self._plan.counts()
        before, self._waiting = self._waiting, counts.waiting + counts.ready
        now = self._doors.clock.monotonic()
        if (self._waiting and now >= self._waits_at) or (before and not self._waiting):
            self._waits_at = now + WAITS_EVERY_S
            self._tell(WorkWaits(reasons=reasons(self._scheduler, now), waiting=self._waiting))
