"""The parts of a report, and how each is folded from events.

What it decides: which failures are root causes and which are their victims; how the counts come about. The order in
which attributes end does not change a report. What it does not know: the sentence of the verdict
(`verdict_sentence`), and how a report is shown. Texts in it are hostile data from repositories and builders.
"""

from collections import Counter
from collections.abc import Iterable

import msgspec

from nixmill.core.evaluation import EvalFault, EvaluationEnded, ImportFromDerivation
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import (
    EXIT_CODE,
    AttributeErred,
    AttributeSettled,
    AttributesRemoved,
    Change,
    Verdict,
    Work,
    WorkEnded,
    WorkStarted,
)
from nixmill.core.status import Status, fold, of_outcome, verdict_of
from nixmill.nix.attr_path import AttrPath, show
from nixmill.nix.store_path import StorePath, derivation_name


class AttributeReport(msgspec.Struct, frozen=True, kw_only=True):
    """An attribute and how it ended."""

    attribute: str
    """The path as Nix accepts it in a selection."""
    path: AttrPath
    name: str
    system: str
    drv_path: StorePath
    outputs: dict[str, StorePath | None]
    change: Change = Change.UNKNOWN
    outcome: Outcome | None = None
    """None where the run ended before the attribute did."""
    how: str = ""
    culprit: StorePath | None = None
    culprit_outcome: Outcome | None = None
    seconds: float = 0.0
    traces: tuple[str, ...] = ()

    @property
    def good(self) -> bool:
        """Say whether it is good."""
        return self.outcome is Outcome.SUCCEEDED


class ErrorReport(msgspec.Struct, frozen=True, kw_only=True):
    """An attribute that did not evaluate."""

    attribute: str
    path: AttrPath
    fault: EvalFault
    message: str
    position: str
    peak_bytes: int | None
    change: Change = Change.UNKNOWN
    traces: tuple[str, ...] = ()


class AttemptReport(msgspec.Struct, frozen=True, kw_only=True):
    """One try at a build or a fetch; `outcome` is None where it did not end."""

    attempt: int
    drv_path: StorePath
    name: str
    work: Work
    machine: str
    outcome: Outcome | None = None
    seconds: float = 0.0
    message: str = ""
    exit_status: int | None = None
    log: str = ""
    tail: tuple[str, ...] = ()
    kept_directory: str = ""
    failed_before: int | None = None
    retried: bool = False


class CauseReport(msgspec.Struct, frozen=True, kw_only=True):
    """A derivation at fault; above its victims wherever it is shown."""

    drv_path: StorePath
    name: str
    outcome: Outcome
    how: str
    """In words where there was no attempt, such as `fails on the base too (run 12)`."""
    attributes: tuple[AttrPath, ...]
    """Attributes that are this derivation."""
    victims: tuple[AttrPath, ...]
    """Attributes that depend on it."""
    attempt: AttemptReport | None = None
    """The last attempt at it in this run."""


class RemovedReport(msgspec.Struct, frozen=True, kw_only=True):
    """Something the base has and the tree has not."""

    attribute: str
    path: AttrPath
    renamed_to: AttrPath | None
    """The new attribute with the same derivation."""
    hidden_by: AttrPath | None
    """The evaluation error that hides it: then it is failing, not removed."""


class CountsReport(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes, by how they ended, came about, and changed."""

    attributes: int
    errors: int
    unfinished: int
    by_status: dict[Status, int]
    by_how: dict[str, int]
    """Good ones: `built`, `fetched`, `present`, `unchanged`, …"""
    by_change: dict[Change, int]


class EvaluationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What evaluation took."""

    complete: bool
    seconds: float | None = None
    first_record_s: float | None = None
    peak_bytes: int | None = None
    workers: int | None = None
    evaluator: str = ""
    imported_from_derivation: tuple[ImportFromDerivation, ...] = ()


def settled_report(event: AttributeSettled) -> AttributeReport:
    """Return the report of an attribute that ended."""
    attribute = event.attribute
    return AttributeReport(
        attribute=show(attribute.path),
        path=attribute.path,
        name=attribute.name,
        system=attribute.system,
        drv_path=attribute.drv_path,
        outputs=attribute.outputs,
        change=event.change,
        outcome=event.outcome,
        how=event.how,
        culprit=event.culprit,
        culprit_outcome=event.culprit_outcome,
        seconds=event.seconds,
        traces=attribute.traces,
    )


def error_report(event: AttributeErred) -> ErrorReport:
    """Return the report of an attribute that did not evaluate."""
    error = event.error
    return ErrorReport(
        attribute=show(error.path),
        path=error.path,
        fault=error.fault,
        message=error.message,
        position=error.position,
        peak_bytes=error.peak_bytes,
        traces=error.traces,
    )


def attempt_report(started: WorkStarted) -> AttemptReport:
    """Return the report of an attempt that began."""
    return AttemptReport(
        attempt=started.attempt,
        drv_path=started.drv_path,
        name=started.name,
        work=started.work,
        machine=started.machine,
    )


def ended_attempt(report: AttemptReport | None, ended: WorkEnded) -> AttemptReport:
    """Return the report of an attempt that ended; `report` is from its beginning."""
    return AttemptReport(
        attempt=ended.attempt,
        drv_path=ended.drv_path,
        name=ended.name,
        work=ended.work,
        machine=report.machine if report else "",
        outcome=ended.outcome,
        seconds=ended.seconds,
        message=ended.message,
        exit_status=ended.exit_status,
        log=ended.log,
        tail=ended.tail,
        kept_directory=ended.kept_directory,
        failed_before=ended.failed_before,
        retried=ended.retry_in_s is not None,
    )


def evaluation_report(ended: EvaluationEnded | None, imported: tuple[ImportFromDerivation, ...]) -> EvaluationReport:
    """Return what evaluation took; `ended` is None where it did not come to its end."""
    if ended is None:
        return EvaluationReport(complete=False, imported_from_derivation=imported)
    return EvaluationReport(
        complete=True,
        seconds=ended.seconds,
        first_record_s=ended.first_record_s,
        peak_bytes=ended.peak_bytes,
        workers=ended.workers,
        evaluator=ended.evaluator,
        imported_from_derivation=imported,
    )


def removed_reports(event: AttributesRemoved) -> tuple[RemovedReport, ...]:
    """Return the reports of what is gone."""
    return tuple(
        RemovedReport(attribute=show(path), path=path, renamed_to=renamed_to, hidden_by=hidden_by)
        for path, renamed_to, hidden_by in event.removed
    )


def count(
    attributes: Iterable[AttributeReport], removed: Iterable[RemovedReport], errors: Iterable[ErrorReport]
) -> CountsReport:
    """Return the counts of a run; what was renamed or is hidden by an error is not removed."""
    known, erred = list(attributes), list(errors)
    ended = [attribute for attribute in known if attribute.outcome is not None]
    changes = Counter([attribute.change for attribute in known] + [error.change for error in erred])
    changes[Change.REMOVED] += len([one for one in removed if one.renamed_to is None and one.hidden_by is None])
    return CountsReport(
        attributes=len(known),
        errors=len(erred),
        unfinished=len(known) - len(ended),
        by_status=dict(sorted(Counter(of_outcome(one.outcome) for one in ended if one.outcome).items())),
        by_how=dict(sorted(Counter(one.how.partition(" ")[0] for one in ended if one.good).items())),
        by_change=dict(sorted((change, number) for change, number in changes.items() if number)),
    )


def causes(
    attributes: Iterable[AttributeReport], last_attempts: dict[StorePath, AttemptReport]
) -> tuple[CauseReport, ...]:
    """Return root causes, what most attributes depend on first; cancelled attributes have none."""
    groups: dict[StorePath, list[AttributeReport]] = {}
    for one in attributes:
        if one.outcome not in {None, Outcome.SUCCEEDED} and (one.culprit or one.outcome is not Outcome.CANCELLED):
            groups.setdefault(one.culprit or one.drv_path, []).append(one)
    found = [_cause(drv_path, group, last_attempts.get(drv_path)) for drv_path, group in groups.items()]
    return tuple(sorted(found, key=lambda cause: (-len(cause.victims), cause.name, cause.drv_path)))


def _cause(drv_path: StorePath, group: list[AttributeReport], attempt: AttemptReport | None) -> CauseReport:
    own = [one for one in group if one.drv_path == drv_path]
    told = [one.culprit_outcome for one in group if one.culprit_outcome is not None]
    outcomes = [one.outcome for one in own if one.outcome is not None]
    tried = [attempt.outcome] if attempt is not None and attempt.outcome is not None else []
    return CauseReport(
        drv_path=drv_path,
        name=derivation_name(drv_path),
        outcome=[*outcomes, *told, *tried, Outcome.BUILD_FAILED][0],
        how=own[0].how if own else "",
        attributes=tuple(sorted(one.path for one in own)),
        victims=tuple(sorted(one.path for one in group if one.drv_path != drv_path)),
        attempt=attempt,
    )


def verdict_from(report_attributes: Iterable[AttributeReport], found: Iterable[CauseReport], errors: int) -> Verdict:
    """Return the verdict of what has ended; what depends on a failure counts as what that failure is."""
    fault = {cause.drv_path: cause.outcome for cause in found}
    verdicts = (
        verdict_of(one.outcome, fault.get(one.culprit or one.drv_path))
        for one in report_attributes
        if one.outcome is not None
    )
    return fold(verdicts, errors=errors)


def exit_code(verdict: Verdict) -> int:
    """Return the exit code of the program after a run with that verdict."""
    return EXIT_CODE[verdict]
