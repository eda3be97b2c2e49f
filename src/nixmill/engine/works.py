"""What is being built or fetched right now, by derivation: one attempt serves every run that wants it.

A run that wants what another one builds already joins it and hears the same events; the attempt goes on while anyone
wants it and is cancelled when the last one leaves (semantics §1, "shared by every attribute of every project").
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from nixmill.core.fairness import Party, Ticket
from nixmill.core.history import AttemptRow
from nixmill.core.run_event import RunEvent, Work, WorkStarted
from nixmill.core.schedule import Assignment
from nixmill.doors import BuildLimits
from nixmill.engine.attempt import Attempt, Attempted
from nixmill.engine.gate import Gate
from nixmill.engine.request import Tell
from nixmill.nix.store_path import StorePath


class Listener(NamedTuple):
    """A run that waits for an attempt."""

    tell: Tell
    begin: Callable[[Attempt], None]
    """Records that the attempt begins; called for one of those who wait, when the builder is about to run."""


class Joint:
    """One attempt and the runs that wait for it."""

    def __init__(self, attempt: Attempt) -> None:
        """Begin with nobody waiting."""
        self.attempt = attempt
        self.task: asyncio.Task[Attempted] | None = None
        self._listeners: list[Listener] = []
        self._started: WorkStarted | None = None

    def join(self, listener: "Listener") -> None:
        """Hear what happens from now on."""
        self._listeners.append(listener)
        if self._started is not None:
            listener.tell(self._started)

    def leave(self, listener: "Listener") -> bool:
        """Hear nothing more; say whether nobody is left."""
        self._listeners.remove(listener)
        return not self._listeners

    @property
    def begun(self) -> bool:
        """Say whether its builder runs, or ran."""
        return self._started is not None

    @property
    def heard(self) -> bool:
        """Say whether somebody waits for it."""
        return bool(self._listeners)

    def begin(self) -> None:
        """Let the first of those who wait record that the attempt begins, then tell all."""
        self.attempt.begins_now()
        self._listeners[0].begin(self.attempt)
        self._started = self.attempt.started()
        self.tell(self._started)

    def tell(self, event: RunEvent) -> None:
        """Tell everybody who waits."""
        for listener in list(self._listeners):
            listener.tell(event)


class Works:
    """Everything under way in this process."""

    def __init__(self, gate: Gate | None = None) -> None:
        """Without a gate everything may start at once: then a run's own schedule is all there is."""
        self._gate = gate
        self.wanted: Callable[[StorePath], bool] = lambda _: False
        """Says whether some run will want a derivation, though it has not come to it yet."""
        self.ended_alone: Callable[[AttemptRow], None] = lambda _: None
        """Called with the end of an attempt that went on for a run which has not come to it: to be recorded."""
        self._under_way: dict[tuple[StorePath, Work], Joint] = {}
        self._evaluating: dict[str, tuple[asyncio.Lock, set[object]]] = {}

    @contextlib.asynccontextmanager
    async def evaluating(self, key: str) -> AsyncIterator[None]:
        """Keep others from evaluating the same tree meanwhile: who comes second finds what the first one recorded."""
        lock, users = self._evaluating.setdefault(key, (asyncio.Lock(), set()))
        users.add(me := object())
        try:
            async with lock:
                yield
        finally:
            users.discard(me)
            if not users:
                self._evaluating.pop(key, None)

    async def do(
        self, what: Assignment, party: Party, attempt: Attempt, limits: BuildLimits, listener: Listener
    ) -> Attempted:
        """Carry out an assignment, or join the attempt that is under way. Cancelling is an answer, too."""
        key = what.drv_path, what.work
        joint = self._under_way.get(key)
        if joint is None:
            joint = self._under_way[key] = Joint(attempt)
            joint.task = asyncio.create_task(self._carry_out(joint, what, party, limits))
            joint.task.add_done_callback(lambda _: self._under_way.pop(key, None))
        joint.join(listener)
        return await self._wait(joint, listener)

    async def _wait(self, joint: Joint, listener: Listener) -> Attempted:
        if joint.task is None:
            raise RuntimeError("An attempt was joined before it had a task. This is a fault of nixmill.")
        try:
            attempted = await asyncio.shield(joint.task)
        except asyncio.CancelledError:
            if not joint.leave(listener) or self._goes_on_alone(joint):
                return joint.attempt.left()
            self._under_way = {key: other for key, other in self._under_way.items() if other is not joint}
            joint.task.cancel()
            return await joint.task
        joint.leave(listener)
        return attempted

    def _goes_on_alone(self, joint: Joint) -> bool:
        """Say whether an attempt that nobody waits for goes on, as some run will come to it."""
        task = joint.task
        if task is None or not joint.begun or not self.wanted(joint.attempt.row.drv_path):
            return False
        task.add_done_callback(lambda done: None if joint.heard else self.ended_alone(done.result().row))
        return True

    async def _carry_out(self, joint: Joint, what: Assignment, party: Party, limits: BuildLimits) -> Attempted:
        if self._gate is None or what.work is not Work.BUILD:
            return await _begin(joint, limits)
        try:
            async with self._gate.place(_ticket(what, party, self._gate.now())):
                return await _begin(joint, limits)
        except asyncio.CancelledError:
            return joint.attempt.left()  # cancelled while it waited for a place


async def _begin(joint: Joint, limits: BuildLimits) -> Attempted:
    joint.begin()
    return await joint.attempt.carry_out(limits, joint.attempt.observer(joint.tell))


def _ticket(what: Assignment, party: Party, since: float) -> Ticket:
    return Ticket(
        party=party,
        drv_path=what.drv_path,
        name=what.node.name,
        machine=what.machine.address,
        since=since,
        about_s=what.node.about_s,
    )
