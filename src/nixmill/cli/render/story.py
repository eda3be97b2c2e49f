"""The story of a run for a person who watches: events → lines that stay in the scrollback. Pure.

A verdict is said once, when it is known. What needed no work is only counted; attributes that fail because of the same
derivation share a line.
"""

from typing import assert_never

from nixmill.cli.render import blocks
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.state import Running, RunState
from nixmill.cli.render.summary import summary
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import (
    AttributeErred,
    AttributeFound,
    AttributeSettled,
    AttributesRemoved,
    BaseCompared,
    Change,
    ErrorsCompared,
    EvaluationTold,
    ImportedFromDerivation,
    Noticed,
    Planned,
    RunEnded,
    RunEvent,
    RunStarted,
    WorkEnded,
    WorkOutput,
    WorkPhase,
    WorkStarted,
    WorkWaits,
)
from nixmill.core.status import Status, of_outcome
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath

_Rare = (
    RunStarted
    | Noticed
    | BaseCompared
    | AttributesRemoved
    | ErrorsCompared
    | AttributeErred
    | ImportedFromDerivation
    | EvaluationTold
    | Planned
    | RunEnded
)


class Story:
    """Turns events into permanent lines. Call `tell` after the state took the event in, `rest` before showing."""

    def __init__(self, state: RunState, paint: Paint) -> None:
        """Tell of the run that `state` knows."""
        self._state = state
        self._paint = paint
        self._victims: dict[StorePath, list[AttrPath]] = {}
        self._planned = False
        self._gap = True
        """The line that was said last is blank: another blank one would be a hole."""

    def tell(self, event: RunEvent, ended: Running | None, columns: int) -> list[str]:
        """Return the lines for an event; `ended` is the attempt that it ended, if any."""
        match event:
            case AttributeFound() | WorkOutput() | WorkPhase() | WorkStarted() | WorkWaits():
                return []
            case AttributeSettled():
                return self._spaced(self._settled(event, columns))
            case WorkEnded():
                return self._spaced(self._work_ended(event, ended, columns))
            case _:
                return self._spaced(self._rare(event, columns))

    def _rare(self, event: _Rare, columns: int) -> list[str]:
        paint = self._paint
        match event:
            case RunStarted():
                lines = blocks.header(event, paint, columns)
            case Noticed():
                lines = blocks.notice(event.text, paint, columns)
            case AttributeErred():
                lines = blocks.evaluation_error(event.error, paint, columns)
            case ImportedFromDerivation():
                lines = blocks.imported(event.build, paint, columns)
            case Planned():
                lines = self._plan(event, columns)
            case BaseCompared() | AttributesRemoved() | ErrorsCompared() | EvaluationTold():
                lines = []
            case RunEnded():
                lines = [*self.rest(columns), "", *summary(event, self._state, paint, columns, unfolded=False)]
            case _:
                assert_never(event)
        return lines

    def _spaced(self, lines: list[str]) -> list[str]:
        """Return lines without a second blank one in a row."""
        out = []
        for line in lines:
            if line or not self._gap:
                out.append(line)
            self._gap = not line
        return out

    def rest(self, columns: int) -> list[str]:
        """Return the lines for attributes that failed because of others since the last call."""
        lines = []
        for culprit, paths in self._victims.items():
            lines += blocks.victims(culprit, paths, self._paint, columns)
        self._victims.clear()
        return self._spaced(lines)

    def _plan(self, event: Planned, columns: int) -> list[str]:
        """Return the plan once, when it is complete."""
        if self._planned or not event.complete:
            return []
        self._planned = True
        return blocks.plan(event, self._state, self._paint, columns)

    def _work_ended(self, event: WorkEnded, ended: Running | None, columns: int) -> list[str]:
        if event.outcome in {Outcome.SUCCEEDED, Outcome.CANCELLED}:
            return []
        if event.retry_in_s is not None:
            return blocks.retried(event, ended.began.machine if ended else "", self._paint, columns)
        failure = self._state.failures.get(event.drv_path)
        return ["", *blocks.failure_block(failure, self._state, self._paint, columns), ""] if failure else []

    def _settled(self, event: AttributeSettled, columns: int) -> list[str]:
        status = of_outcome(event.outcome)
        if status is Status.CANCELLED:
            return []
        if status is Status.PASSED:
            told = event.how == blocks.BUILT or event.change is Change.FIXED
            return blocks.passed(event, self._paint, columns) if told else []
        if status is Status.DEPENDENCY_FAILED and event.culprit:
            self._victims.setdefault(event.culprit, []).append(event.attribute.path)
            return []
        twin = self._twin(event)
        return [] if twin == event.attribute.path else blocks.verdict(event, twin, self._paint, columns)

    def _twin(self, event: AttributeSettled) -> AttrPath | None:
        """Return the attribute that the failure block of this attribute's derivation names; None without a block."""
        failure = self._state.failures.get(event.attribute.drv_path)
        if failure is None or failure.ended is None:
            return None
        return self._state.attributes_of.get(event.attribute.drv_path)
