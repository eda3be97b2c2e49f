"""What one attempt says while it goes on: times, phases, its log and the last lines of it."""

import asyncio
from collections import deque
from typing import Final

from nixmill.core.run_event import WorkOutput, WorkPhase
from nixmill.doors import Clock, Logs
from nixmill.engine.request import Tell

TAIL_LINES: Final = 10
GATHER_S: Final = 0.05
"""Lines are told in groups this far apart, so that a flood of them costs an event per group and not per line."""


class Observer:
    """Implements `BuildObserver`; every method returns at once."""

    def __init__(self, attempt: int, logs: Logs, clock: Clock, tell: Tell) -> None:
        """Watch attempt number `attempt`."""
        self._attempt = attempt
        self._logs = logs
        self._clock = clock
        self._tell = tell
        self._sink = logs.open(attempt)
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._begun = clock.monotonic()
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)
        self.line_count = 0
        self.kept_directory = ""

    def started(self) -> None:
        """Start the clock: the builder runs now."""
        self._begun = self._clock.monotonic()

    def line(self, text: str) -> None:
        """Keep a line, and tell it soon."""
        self._sink.write(text)
        self.tail.append(text)
        self.line_count += 1
        self._lines.append(text)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER_S, self._flush)

    def phase(self, name: str) -> None:
        """Tell that a phase began."""
        self._flush()
        self._tell(WorkPhase(attempt=self._attempt, phase=name))

    def kept(self, directory: str) -> None:
        """Remember where the failed build's directory is."""
        self.kept_directory = directory

    def seconds(self) -> float:
        """Return how long the builder has run."""
        return self._clock.monotonic() - self._begun

    async def close(self) -> str:
        """Tell what is left, close the log, and return its path; empty where there was no line."""
        self._flush()
        await self._sink.close()
        return self._logs.location(self._attempt) if self.line_count else ""

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            self._tell(WorkOutput(attempt=self._attempt, lines=tuple(self._lines)))
            self._lines = []
