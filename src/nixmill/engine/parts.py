"""Records an evaluation while it goes on: the pages of a server show attributes before the last one is known."""

from typing import Final

from nixmill.core.evaluation import Attribute, EvalError, EvalRecord
from nixmill.core.history import EvaluationPartRow
from nixmill.doors import Clock
from nixmill.engine.recorder import Recorder

RECORDS: Final = 500
EVERY_S: Final = 0.5
"""A part is recorded when it has so many records, or so long after the one before."""


class Parts:
    """The parts of one evaluation."""

    def __init__(self, recorder: Recorder, clock: Clock, key: str, run: int) -> None:
        """Begin with nothing."""
        self._recorder = recorder
        self._clock = clock
        self._key = key
        self._run = run
        self._attributes: list[Attribute] = []
        self._errors: list[EvalError] = []
        self._counts = 0, 0
        self._due = 0.0

    def add(self, record: EvalRecord) -> None:
        """Take a record that was not there before."""
        match record:
            case Attribute():
                self._attributes.append(record)
            case EvalError():
                self._errors.append(record)
            case _:
                pass

    def record(self, *, last: bool = False) -> None:
        """Record what was taken, if it is enough or the last."""
        now, waiting = self._clock.monotonic(), len(self._attributes) + len(self._errors)
        if not waiting or not (last or waiting >= RECORDS or now >= self._due):
            return
        self._due = now + EVERY_S
        start, errors_start = self._counts
        attributes, errors = tuple(self._attributes), tuple(self._errors)
        self._recorder.put(
            EvaluationPartRow(
                key=self._key,
                run=self._run,
                start=start,
                attributes=attributes,
                errors_start=errors_start,
                errors=errors,
            )
        )
        self._counts = start + len(attributes), errors_start + len(errors)
        self._attributes, self._errors = [], []
