"""The report of a run: everything that `--json` prints, folded from its events.

What it decides: nothing; each part is folded in `report_parts`, the sentence of the verdict is `verdict_sentence`.
The order in which attributes end does not change a report. What it does not know: how it is shown. Texts in it are
hostile data from repositories and builders.
"""

from typing import assert_never

import msgspec

from nixmill.core import report_parts as parts
from nixmill.core.evaluation import Attribute, EvaluationEnded, ImportFromDerivation
from nixmill.core.report_parts import (
    AttemptReport,
    AttributeReport,
    CauseReport,
    CountsReport,
    ErrorReport,
    EvaluationReport,
    RemovedReport,
)
from nixmill.core.run_event import (
    AttributeErred,
    AttributeFound,
    AttributeSettled,
    AttributesRemoved,
    BaseCompared,
    ErrorsCompared,
    EvaluationTold,
    ImportedFromDerivation,
    Noticed,
    Planned,
    RunEnded,
    RunEvent,
    RunStarted,
    Verdict,
    WorkEnded,
    WorkOutput,
    WorkPhase,
    WorkStarted,
    WorkWaits,
)
from nixmill.core.verdict_sentence import Facts, sentence
from nixmill.nix.attr_path import AttrPath, show
from nixmill.nix.store_path import StorePath


class RunReport(msgspec.Struct, frozen=True, kw_only=True):
    """A whole run."""

    run: int
    project: str
    commit: str
    dirty: bool
    targets: tuple[str, ...]
    base: str
    base_reason: str
    base_reused: bool | None
    """None where nothing was compared."""
    verdict: Verdict
    exit_code: int
    sentence: str
    seconds: float
    counts: CountsReport
    root_causes: tuple[CauseReport, ...]
    attributes: tuple[AttributeReport, ...]
    errors: tuple[ErrorReport, ...]
    removed: tuple[RemovedReport, ...]
    """Attributes of the base that are gone, renamed, or hidden by an evaluation error."""
    attempts: tuple[AttemptReport, ...]
    evaluation: EvaluationReport
    plan: Planned | None
    """The last plan that was announced: what was to be done, and about how long it should take."""
    notices: tuple[str, ...]

    @property
    def failed(self) -> list[AttributeReport]:
        """Attributes that ended and are not good."""
        return [attribute for attribute in self.attributes if attribute.outcome is not None and not attribute.good]


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Why a run as a whole ended otherwise than its attributes say."""

    verdict: Verdict
    because: str = ""
    """A sentence for people; empty where the verdict says it all."""


class ReportBuilder:
    """Takes every event of one run; `report` may be asked for at any time."""

    def __init__(self, *, typed: bool = True) -> None:
        """Begin with a run of which nothing is known; `typed`: its sentence says what to type next."""
        self._typed = typed
        self._started: RunStarted | None = None
        self._compared: BaseCompared | None = None
        self._evaluated: EvaluationEnded | None = None
        self._planned: Planned | None = None
        self._ended: RunEnded | None = None
        self._found: dict[AttrPath, Attribute] = {}
        self._settled: dict[AttrPath, AttributeReport] = {}
        self._removed: tuple[RemovedReport, ...] = ()
        self._errors: dict[AttrPath, ErrorReport] = {}
        self._attempts: dict[int, AttemptReport] = {}
        self._imported: list[ImportFromDerivation] = []
        self._notices: list[str] = []

    def handle(self, event: RunEvent) -> None:  # noqa: C901, PLR0912 (one line for each kind of event)
        """Take in an event."""
        match event:
            case RunStarted():
                self._started = event
            case Noticed():
                self._notices.append(event.text)
            case BaseCompared():
                self._compared = event
            case AttributeFound():
                self._found[event.attribute.path] = event.attribute
            case AttributeErred():
                self._errors[event.error.path] = parts.error_report(event)
            case ImportedFromDerivation():
                self._imported.append(event.build)
            case EvaluationTold():
                self._evaluated = event.ended
            case Planned():
                self._planned = event
            case WorkStarted():
                self._attempts.setdefault(event.attempt, parts.attempt_report(event))
            case WorkEnded():
                self._attempts[event.attempt] = parts.ended_attempt(self._attempts.get(event.attempt), event)
            case AttributeSettled():
                self._settled[event.attribute.path] = parts.settled_report(event)
            case AttributesRemoved():
                self._removed = parts.removed_reports(event)
            case ErrorsCompared():
                self._compare_errors(event)
            case RunEnded():
                self._ended = event
            case WorkPhase() | WorkOutput() | WorkWaits():
                pass
            case _:
                assert_never(event)

    def report(self, *, seconds: float = 0.0, stop: Stop | None = None) -> RunReport:
        """Return the report of what was heard; `seconds` and `stop` count until the run's own end was heard."""
        attributes = self._attributes()
        errors = tuple(error for _, error in sorted(self._errors.items()))
        causes = parts.causes(attributes, self._last_attempts())
        verdict, text, took = self._end(attributes, errors, causes, seconds, stop)
        started = self._started
        return RunReport(
            run=started.run if started else 0,
            project=started.project if started else "",
            commit=started.commit if started else "",
            dirty=started.dirty if started else False,
            targets=started.targets if started else (),
            base=started.base if started else "",
            base_reason=started.base_reason if started else "",
            base_reused=self._compared.reused if self._compared else None,
            verdict=verdict,
            exit_code=parts.exit_code(verdict),
            sentence=text,
            seconds=took,
            counts=parts.count(attributes, self._removed, errors),
            root_causes=causes,
            attributes=attributes,
            errors=errors,
            removed=self._removed,
            attempts=tuple(attempt for _, attempt in sorted(self._attempts.items())),
            evaluation=parts.evaluation_report(self._evaluated, tuple(self._imported)),
            plan=self._planned,
            notices=tuple(self._notices),
        )

    def _compare_errors(self, event: ErrorsCompared) -> None:
        for path, change in event.changes:
            if path in self._errors:
                self._errors[path] = msgspec.structs.replace(self._errors[path], change=change)

    def _attributes(self) -> tuple[AttributeReport, ...]:
        """Return all attributes in the order of their paths; those that did not end have no outcome."""
        paths = sorted(self._found.keys() | self._settled.keys())
        return tuple(self._settled.get(path) or _open(self._found[path]) for path in paths)

    def _last_attempts(self) -> dict[StorePath, AttemptReport]:
        return {attempt.drv_path: attempt for _, attempt in sorted(self._attempts.items())}

    def _end(
        self,
        attributes: tuple[AttributeReport, ...],
        errors: tuple[ErrorReport, ...],
        causes: tuple[CauseReport, ...],
        seconds: float,
        stop: Stop | None,
    ) -> tuple[Verdict, str, float]:
        if self._ended is not None:
            return self._ended.verdict, self._ended.sentence, self._ended.seconds
        verdict = stop.verdict if stop else parts.verdict_from(attributes, causes, len(errors))
        facts = Facts(
            verdict=verdict,
            seconds=seconds,
            counts=parts.count(attributes, self._removed, errors),
            causes=causes,
            attributes=attributes,
            errors=errors,
            stopped=stop.because if stop else "",
            typed=self._typed,
        )
        return verdict, sentence(facts), seconds


def _open(attribute: Attribute) -> AttributeReport:
    return AttributeReport(
        attribute=show(attribute.path),
        path=attribute.path,
        name=attribute.name,
        system=attribute.system,
        drv_path=attribute.drv_path,
        outputs=attribute.outputs,
        traces=attribute.traces,
    )
