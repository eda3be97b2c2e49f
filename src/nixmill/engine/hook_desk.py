"""Runs the hooks that wait, a few at once, and records how each stands.

A hook's run is recorded as running before its command starts: where the server is killed it is lost, never run twice.
What this file does not know: how a command is run (`nixmill.edge.hook_runner`) and which hooks an attribute starts
(`nixmill.core.hook`).
"""

import asyncio
import errno
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec
from structlog.typing import FilteringBoundLogger

from nixmill.core.hook import Hook, HookRun, HookState
from nixmill.doors import Clock, DoorError
from nixmill.doors.server import HookRunner, Outbox, Story
from nixmill.engine.courier import back_off_s, cancelled, first_of

LOOK_AGAIN_S: Final = 30.0
DOCUMENTS_KEPT: Final = 2
"""Runs whose documents are kept in memory."""
NO_LONGER: Final = errno.ECANCELED
"""Recorded as `errno` where hook or attribute are gone by the time the hook's turn comes."""


class HookDesk:
    """Runs hooks for as long as `run` runs. One at a time."""

    def __init__(
        self,
        outbox: Outbox,
        runner: HookRunner,
        story: Story,
        hooks: Sequence[Hook],
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        at_once: int,
        told: Callable[[HookRun], None],
    ) -> None:
        """Run `hooks` of the settings, `at_once` at a time; `told` hears of every change, after it was recorded."""
        self._outbox = outbox
        self._runner = runner
        self._documents = _Documents(story)
        self._hooks = {hook.name: hook for hook in hooks}
        self._clock = clock
        self._log = log
        self._room = asyncio.Semaphore(at_once)
        self._told = told
        self._running: dict[str, asyncio.Task[None]] = {}
        self._woken = asyncio.Event()
        self.ended = 0
        self.lost = 0

    def wake(self) -> None:
        """Say that new hooks wait."""
        self._woken.set()

    async def run(self) -> None:
        """Run hooks until cancelled; those that run then are killed and lost."""
        try:
            await self._recover()
            while True:
                self._woken.clear()
                try:
                    await self._look()
                except DoorError as error:
                    self._log.warning("waiting hooks cannot be read", reason=str(error))
                await first_of(self._woken.wait(), self._clock.sleep(LOOK_AGAIN_S))
        finally:
            await cancelled(self._running.values())

    async def _recover(self) -> None:
        """Kill what a killed server left behind, and record what it was doing as lost."""
        await self._runner.clean_up()
        for run in await self._persistently(lambda: self._outbox.hook_runs(waiting=False)):
            await self._lose(run)

    async def _look(self) -> None:
        """Start all that wait, as far as there is room. Returns when the last one has started."""
        busy = set(self._running)  # one that starts or ends while we read may still be among those that wait
        for run in await self._outbox.hook_runs(waiting=True):
            if run.id not in busy:
                await self._room.acquire()
                self._running[run.id] = asyncio.create_task(self._one(run))

    async def _one(self, run: HookRun) -> None:
        try:
            await self._carry_out(run)
        except DoorError as error:
            self._log.warning("a hook waits", hook=run.hook, id=run.id, reason=str(error))
        except Exception:  # noqa: BLE001 - whatever it was, this hook must not stop the others
            self._log.exception("a hook was lost", hook=run.hook, id=run.id)
            await self._lose(run)
        finally:
            del self._running[run.id]
            self._room.release()

    async def _carry_out(self, run: HookRun) -> None:
        """Run a hook; raises `DoorError` only before it has begun."""
        hook = self._hooks.get(run.hook)
        document = await self._documents.of(run)
        begun = msgspec.structs.replace(run, state=HookState.RUNNING, started_at=self._clock.now())
        await self._outbox.hook_runs(save=begun, waiting=False)
        if hook is None or document is None:
            ended = msgspec.structs.replace(begun, state=HookState.COULD_NOT_START, errno=NO_LONGER)
            await self._record(msgspec.structs.replace(ended, ended_at=self._clock.now()))
            return
        try:
            ended = await self._runner.run(hook, begun, document, lambda: self._started(begun))
        except asyncio.CancelledError:
            await asyncio.shield(self._lose(begun))
            raise
        await self._record(ended)

    async def _started(self, run: HookRun) -> None:
        self._told(run)

    async def _lose(self, run: HookRun) -> None:
        self.lost += 1
        await self._record(msgspec.structs.replace(run, state=HookState.LOST, ended_at=self._clock.now()))

    async def _record(self, run: HookRun) -> None:
        """Record how a run ended, however long the database takes."""
        await self._persistently(lambda: self._outbox.hook_runs(save=run, waiting=False))
        self.ended += 1
        self._told(run)

    async def _persistently(self, work: Callable[[], Awaitable[Sequence[HookRun]]]) -> Sequence[HookRun]:
        failures = 0
        while True:
            try:
                return await work()
            except DoorError as error:
                failures += 1
                self._log.warning("the state of hooks cannot be read or recorded", reason=str(error))
                await self._clock.sleep(back_off_s(min(failures, 5)))


class _Documents:
    """The JSON documents of the runs that hooks were started by last: a run has many attributes, read at once."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._reading = asyncio.Lock()
        self._known: dict[int, Mapping[str, bytes]] = {}

    async def of(self, run: HookRun) -> bytes | None:
        """Return the document of a hook's run; None where its attribute is gone."""
        async with self._reading:
            if run.run not in self._known:
                while len(self._known) >= DOCUMENTS_KEPT:
                    del self._known[next(iter(self._known))]
                rows = await self._story.attributes_for_hooks(run.run)
                self._known[run.run] = {attribute: document for attribute, _, document in rows}
            return self._known[run.run].get(run.attribute)
