"""Hears the events of one run on the server: records how far it is, and tells pages that something changed."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from nixmill.core.change import Change, ChangeState, Progress
from nixmill.core.run_event import (
    AttributeErred,
    AttributeSettled,
    EvaluationTold,
    Noticed,
    Planned,
    RunEvent,
    RunStarted,
    WorkEnded,
    WorkOutput,
    WorkPhase,
)
from nixmill.core.size_change import SizeChange
from nixmill.doors.server import Changes
from nixmill.engine.insist import insist
from nixmill.engine.live import Live, log_topic, project_topic, run_topic

NOTICES_MAX: Final = 50
SIZES_MAX: Final = 50


class RunTeller:
    """One run's."""

    def __init__(self, change: Change, changes: Changes, live: Live, planned: Callable[[], None]) -> None:
        """Record through `changes`, tell through `live`; call `planned` when everything wanted is in the plan."""
        self._planned = planned
        self._number = change.number
        self._topics = run_topic(change.number), project_topic(change.project)
        self._changes = changes
        self._live = live
        self._queue: asyncio.Queue[Progress | None] = asyncio.Queue()
        self.notices: list[str] = []
        self.told: Callable[[int, Planned | None], None] = lambda _number, _plan: None
        """Called with the run's number, and a new plan, when something changed that reports tell."""

    def tell(self, event: RunEvent) -> None:
        """Hear an event; returns at once."""
        match event:
            case WorkOutput() | WorkPhase():
                self._live.tell(log_topic(event.attempt), everywhere=False)
                return
            case WorkEnded():
                self._live.tell(log_topic(event.attempt), ended=event.retry_in_s is None)
            case RunStarted():
                self._progress(
                    state=ChangeState.EVALUATING,
                    targets=event.targets,
                    base_commit=event.base,
                    base_reason=event.base_reason,
                )
            case EvaluationTold():
                self._progress(state=ChangeState.BUILDING)
            case Planned() if event.complete:
                self._planned()
                self.told(self._number, event)
            case AttributeSettled() | AttributeErred():
                self.told(self._number, None)
            case Noticed():
                self.notice(event.text)
            case _:
                pass
        self._live.tell(*self._topics)

    def notice(self, text: str) -> None:
        """Keep a sentence that people should read."""
        if text not in self.notices and len(self.notices) < NOTICES_MAX:
            self.notices.append(text)
            self._progress(notices=tuple(self.notices))

    def keys(self, evaluation: str, base: str) -> None:
        """Record which evaluations the run and its base have."""
        self._progress(evaluation=evaluation, base_evaluation=base)

    def sizes(self, changes: tuple[SizeChange, ...]) -> None:
        """Record what changed in size, the largest first."""
        self._progress(sizes=changes[:SIZES_MAX])

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Write what is to be recorded while the context lasts; all of it is written when it ends."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write())
            try:
                yield
            finally:
                self._queue.put_nowait(None)

    def _progress(self, **known: object) -> None:
        self._queue.put_nowait(msgspec.convert({"number": self._number, **known}, Progress))

    async def _write(self) -> None:
        while (progress := await self._queue.get()) is not None:
            await insist(functools.partial(self._changes.progress, progress))
