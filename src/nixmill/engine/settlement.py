"""The one function through which every attribute's result passes (semantics §4).

Whichever way it came about, built, fetched, present, unchanged or inherited: `settle` records the outcome, and tells
it once it is durable. While the base is still being evaluated results are held back, since how an attribute changed
is part of what is told.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from nixmill.core.diff import Base, change_of
from nixmill.core.evaluation import Attribute, EvalError
from nixmill.core.history import AttributeRow, Row
from nixmill.core.outcome import MEANING
from nixmill.core.run_event import AttributeSettled, Work
from nixmill.engine.duties import Duties
from nixmill.engine.recorder import Recorder
from nixmill.engine.request import Tell
from nixmill.engine.result import Result
from nixmill.nix.attr_path import AttrPath

PRESENT: Final = Work.NONE.value


class Settlement:
    """Results of one run."""

    def __init__(self, recorder: Recorder, duties: Duties, tell: Tell) -> None:
        """Begin with no results; `duties` does what is owed for good ones before they are recorded."""
        self._duties = duties
        duties.record = self._record
        self._run = 0
        self._evaluation = ""
        self._recorder = recorder
        self._tell = tell
        self._base: Base | None = None
        self._before: dict[AttrPath, AttributeRow] = {}
        self._inherited: dict[AttrPath, AttributeRow] = {}
        self._held: list[Result] | None = []
        self.results: list[Result] = []
        self.present = 0
        self.errors: list[EvalError] = []

    def begin(self, run: int, evaluation: str, before: Sequence[AttributeRow] = ()) -> None:
        """Record under run `run` and the evaluation's key; `before`: what it recorded before it was broken off."""
        self._run, self._evaluation = run, evaluation
        self._before = {row.path: row for row in before}

    def inherit(self, rows: Sequence[AttributeRow]) -> None:
        """Learn what an earlier run of the very same evaluation found."""
        self._inherited = {row.path: row for row in rows}

    def stands(self, attribute: Attribute) -> Result | None:
        """Return a failure that was found for this very evaluation, by this run before it was broken off or by another.

        Only one that another try would repeat: our own trouble and what was cancelled is done again.
        """
        row = self._before.get(attribute.path) or self._inherited.get(attribute.path)
        if row is None or row.drv_path != attribute.drv_path or not MEANING[row.outcome].propagates:
            return None
        how = row.how if row.run == self._run else f"known from run {row.run}: {row.how}"
        return Result(attribute=attribute, outcome=row.outcome, how=how, culprit=row.culprit, seconds=row.seconds)

    def compare_with(self, base: Base) -> None:
        """Learn the base; tell what was held back for it."""
        self._base = base
        self.let_go()

    def let_go(self) -> None:
        """Hold back nothing any more: there is no base, or it is known."""
        held, self._held = self._held or [], None
        for result in held:
            self._duties.take(result)

    def settle(self, result: Result) -> None:
        """Take a final result."""
        self.results.append(result)
        self.present += result.how == PRESENT
        if self._held is None:
            self._duties.take(result)
        else:
            self._held.append(result)

    def _record(self, result: Result, owed: Sequence[Row]) -> None:
        """Record a result with what was owed for it, all or nothing; then tell it."""
        result = self._as_before(result)
        attribute = result.attribute
        change = change_of(self._base, attribute, result.outcome)
        row = AttributeRow(
            run=self._run,
            evaluation=self._evaluation,
            path=attribute.path,
            drv_path=attribute.drv_path,
            outcome=result.outcome,
            change=change,
            how=result.how,
            culprit=result.culprit,
            seconds=result.seconds,
        )
        event = AttributeSettled(
            attribute=attribute,
            change=change,
            outcome=result.outcome,
            how=result.how,
            culprit=result.culprit,
            culprit_outcome=result.culprit_outcome,
            seconds=result.seconds,
        )
        self._recorder.put(row, *owed, then=lambda: self._tell(event))

    def _as_before(self, result: Result) -> Result:
        """Let a result that was recorded before the run was broken off stay what it was: built, not merely present."""
        row = self._before.get(result.attribute.path)
        if row is None or row.drv_path != result.attribute.drv_path or row.outcome is not result.outcome:
            return result
        return msgspec.structs.replace(result, how=row.how, seconds=row.seconds)
