"""What is known of a run while it goes on: a fold over its events, without I/O, clock or words.

`RunState.apply` is called for every event and must stay cheap (a few microseconds): a run has hundreds of thousands.
What this file does not know: how anything is shown.
"""

from collections import Counter
from typing import Final, assert_never

import msgspec

from nixmill.core.evaluation import Attribute, EvalError, ImportFromDerivation
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
    Work,
    WorkEnded,
    WorkOutput,
    WorkPhase,
    WorkStarted,
    WorkWaits,
)
from nixmill.core.status import Status, of_outcome
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath, derivation_name

_OWN_FAULT: Final = frozenset({Status.FAILED, Status.TROUBLE})
_BY_WORK: Final = frozenset({"built", "fetched", "present"})
_NAMED: Final = (Change.NEWLY_FAILING, Change.FIXED, Change.NEW, Change.CHANGED, Change.REMOVED)


class Running(msgspec.Struct):
    """An attempt that goes on."""

    began: WorkStarted
    since: float
    """Monotonic seconds when it began."""
    phase: str = ""


class Failure(msgspec.Struct):
    """A derivation that failed by itself, and what depends on it."""

    drv_path: StorePath
    name: str
    outcome: Outcome
    ended: WorkEnded | None
    """None where it was not tried in this run: the failure is remembered from an earlier one."""
    machine: str = ""
    for_attributes: tuple[AttrPath, ...] = ()
    own: list[AttrPath] = msgspec.field(default_factory=list)
    """Attributes that are this derivation."""
    victims: list[AttrPath] = msgspec.field(default_factory=list)
    """Attributes that failed because this one did."""
    how: str = ""


class RunState(msgspec.Struct):
    """Everything that is shown of a run. Mutable; one owner; memory grows with attributes and failures only."""

    started: RunStarted | None = None
    ended: RunEnded | None = None
    base: BaseCompared | None = None
    plan: Planned | None = None
    evaluation: EvaluationTold | None = None
    waits: WorkWaits | None = None
    began_at: float = 0.0
    work_began_at: float | None = None
    """When the first build or fetch began."""
    found: int = 0
    attributes_of: dict[StorePath, AttrPath] = msgspec.field(default_factory=dict)
    """Derivation → the first attribute that is it."""
    errors: list[EvalError] = msgspec.field(default_factory=list)
    traces: dict[str, list[AttrPath]] = msgspec.field(default_factory=dict)
    """Warnings and traces of evaluation → the attributes that gave them."""
    imports: list[ImportFromDerivation] = msgspec.field(default_factory=list)
    running: dict[int, Running] = msgspec.field(default_factory=dict)
    """By attempt, the oldest first."""
    built: int = 0
    fetched: int = 0
    failed: int = 0
    """Derivations that failed by themselves and are not tried again."""
    retries: int = 0
    settled: Counter[Status] = msgspec.field(default_factory=Counter)
    """Attributes by how they ended."""
    passed_by: Counter[str] = msgspec.field(default_factory=Counter)
    """Good attributes by how they became good: `built`, `fetched`, `present` or `unchanged`."""
    changes: Counter[Change] = msgspec.field(default_factory=Counter)
    changed: dict[Change, list[AttrPath]] = msgspec.field(default_factory=lambda: {change: [] for change in _NAMED})
    renamed: list[tuple[AttrPath, AttrPath]] = msgspec.field(default_factory=list)
    """Attributes of the base that now have another name, with that name."""
    failures: dict[StorePath, Failure] = msgspec.field(default_factory=dict)
    """Root causes, in the order in which they came up."""

    def apply(self, event: RunEvent, now: float) -> Running | None:
        """Take in what happened at `now` (monotonic seconds); return the attempt that it ended, if any."""
        match event:
            case WorkOutput():
                pass  # logs are kept elsewhere; this is by far the most frequent event
            case WorkStarted():
                self._work_started(event, now)
            case WorkPhase():
                if running := self.running.get(event.attempt):
                    running.phase = event.phase
            case WorkEnded():
                return self._work_ended(event)
            case AttributeFound():
                self._found(event.attribute)
            case AttributeSettled():
                self._settled(event)
            case _:
                self._rare(event, now)
        return None

    def _rare(
        self,
        event: RunStarted
        | Noticed
        | BaseCompared
        | AttributesRemoved
        | ErrorsCompared
        | AttributeErred
        | ImportedFromDerivation
        | EvaluationTold
        | Planned
        | WorkWaits
        | RunEnded,
        now: float,
    ) -> None:
        match event:
            case RunStarted():
                self.started, self.began_at = event, now
            case BaseCompared():
                self.base = event
            case AttributesRemoved():
                self._removed(event)
            case ErrorsCompared():
                self._errors_compared(event)
            case AttributeErred():
                self._erred(event.error)
            case ImportedFromDerivation():
                self.imports.append(event.build)
            case EvaluationTold():
                self.evaluation = event
            case Planned():
                self.plan = event
            case WorkWaits():
                self.waits = event if event.waiting else None
            case RunEnded():
                self.ended = event
            case Noticed():
                pass  # a sentence is shown when it comes and changes nothing
            case _:
                assert_never(event)

    def _found(self, attribute: Attribute) -> None:
        self.found += 1
        self.attributes_of.setdefault(attribute.drv_path, attribute.path)
        for trace in attribute.traces:
            self.traces.setdefault(trace, []).append(attribute.path)

    def _erred(self, error: EvalError) -> None:
        self.errors.append(error)
        for trace in error.traces:
            self.traces.setdefault(trace, []).append(error.path)

    def _errors_compared(self, event: ErrorsCompared) -> None:
        for path, change in event.changes:
            self.changes[change] += 1
            if change in self.changed:
                self.changed[change].append(path)

    def _removed(self, event: AttributesRemoved) -> None:
        """Take in what is gone; what an evaluation error hides is not gone, the error is told of."""
        for path, renamed_to, hidden_by in event.removed:
            if renamed_to is not None:
                self.renamed.append((path, renamed_to))
            elif hidden_by is None:
                self.changes[Change.REMOVED] += 1
                self.changed[Change.REMOVED].append(path)

    def _work_started(self, event: WorkStarted, now: float) -> None:
        if self.work_began_at is None:
            self.work_began_at = now
        self.running[event.attempt] = Running(event, now)

    def _work_ended(self, event: WorkEnded) -> Running | None:
        running = self.running.pop(event.attempt, None)
        if event.outcome is Outcome.SUCCEEDED:
            self.built += event.work is Work.BUILD
            self.fetched += event.work is Work.FETCH
        elif event.retry_in_s is not None:
            self.retries += 1
        elif of_outcome(event.outcome) in _OWN_FAULT:
            self.failed += event.drv_path not in self.failures
            began = running.began if running else None
            self.failures[event.drv_path] = Failure(
                drv_path=event.drv_path,
                name=event.name,
                outcome=event.outcome,
                ended=event,
                machine=began.machine if began else "",
                for_attributes=began.for_attributes if began else (),
            )
        return running

    def _settled(self, event: AttributeSettled) -> None:
        path = event.attribute.path
        self.changes[event.change] += 1
        if event.change in self.changed:
            self.changed[event.change].append(path)
        status = of_outcome(event.outcome)
        self.settled[status] += 1
        if status is Status.PASSED:
            self.passed_by[event.how if event.how in _BY_WORK else "unchanged"] += 1
        elif status in _OWN_FAULT:
            self._failure_of(event, event.attribute.drv_path).own.append(path)
        elif status is Status.DEPENDENCY_FAILED and event.culprit:
            self._failure_of(event, event.culprit).victims.append(path)

    def _failure_of(self, event: AttributeSettled, drv_path: StorePath) -> Failure:
        failure = self.failures.get(drv_path)
        if failure is None:
            own = drv_path == event.attribute.drv_path
            outcome = event.outcome if own else Outcome.BUILD_FAILED
            failure = Failure(
                drv_path=drv_path, name=derivation_name(drv_path), outcome=outcome, ended=None, how=event.how
            )
            self.failures[drv_path] = failure
        return failure
