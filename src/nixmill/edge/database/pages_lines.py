"""Rows of the database as the lines that pages show: runs and attempts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, select

from nixmill.core.access import Sight, Visibility
from nixmill.core.change import BuildClass, ChangeState, Origin
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Verdict, Work
from nixmill.core.status import Status, of_outcome
from nixmill.core.trust import Tier
from nixmill.core.view.parts import AttemptLine, Person, ProjectLink, RunLine
from nixmill.edge.database import reading
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.pages_tally import counts_of, places, tallies
from nixmill.edge.database.rows import outcome_of
from nixmill.edge.database.tables import attempt, run
from nixmill.edge.database.tables_server import jobset, project, user
from nixmill.nix.store_path import StorePath, derivation_name

_STATES: Final = {state.value: state for state in ChangeState}
_ORIGINS: Final = {origin.value: origin for origin in Origin}
_CLASSES: Final = {each.value: each for each in BuildClass}
_VERDICTS: Final = {verdict.value: verdict for verdict in Verdict}
_TIERS: Final = {tier.value: tier for tier in Tier}
_NOT_BEGUN: Final = frozenset({ChangeState.HELD, ChangeState.WAITING})
_VISIBILITIES: Final = {each.value: each for each in Visibility}
_counts: Final = msgspec.json.Decoder(dict[str, int])

FAULTS: Final = (Verdict.BUILD_FAILED, Verdict.EVALUATION_FAILED, Verdict.NOT_ALLOWED)
"""Verdicts by which a branch is broken; our own trouble says nothing about it."""
_STATUS: Final = {
    Verdict.GOOD: Status.PASSED,
    Verdict.CANCELLED: Status.CANCELLED,
    Verdict.INFRASTRUCTURE: Status.TROUBLE,
    Verdict.NOT_ALLOWED: Status.TROUBLE,
    Verdict.BUILD_FAILED: Status.FAILED,
    Verdict.EVALUATION_FAILED: Status.FAILED,
}
COUNTED_MAX: Final = 20
"""How many runs of a list get counts of now, the first ones: counting takes time."""
_NO_COUNTS: Final = "{}"
PROJECT: Final = (
    project.c.id.label("project_key"),
    project.c.name.label("project_name"),
    project.c.title.label("project_title"),
    project.c.visibility.label("project_visibility"),
)
_RUN_COLUMNS: Final = (
    "number",
    "ref",
    "commit",
    "subject",
    "author",
    "origin",
    "build_class",
    "requested_by",
    "requested_at",
    "started_at",
    "ended_at",
    "state",
    "verdict",
    "sentence",
    "counts",
    "retry_of",
    "superseded_by",
    "cancel_asked",
    "pull_request",
    "tier",
    "base_ref",
)
_RUN: Final = (
    *(run.c[name] for name in _RUN_COLUMNS),
    *PROJECT,
    jobset.c.name.label("jobset_name"),
    user.c.name.label("user_name"),
)


def run_query(sight: Sight) -> Select[Any]:
    """Return the question for runs that may be seen; `run_line` makes lines of its answers."""
    return (
        select(*_RUN)
        .select_from(run)
        .join(project, project.c.id == run.c.project_id)
        .outerjoin(jobset, jobset.c.id == run.c.jobset)
        .outerjoin(user, user.c.id == run.c.requested_by)
        .where(visible(sight))
    )


def project_link(row: Any) -> ProjectLink:  # noqa: ANN401 - rows of any width
    """Return the project that a row is about."""
    return ProjectLink(
        id=row.project_key,
        name=row.project_name,
        title=row.project_title,
        visibility=_VISIBILITIES.get(row.project_visibility, Visibility.PRIVATE),
    )


def state_of(text: str, ended_at: float | None) -> ChangeState:
    """Return how far a run is; one that is not the server's own has no state."""
    return _STATES.get(text) or (ChangeState.BUILDING if ended_at is None else ChangeState.DONE)


def run_status(state: ChangeState, verdict: Verdict | None) -> Status:
    """Return how a run is drawn."""
    if verdict is not None:
        return _STATUS[verdict]
    return Status.WAITING if state in _NOT_BEGUN else Status.RUNNING


def run_line(row: Row[Any], counts: Mapping[int, dict[str, int]] | None = None) -> RunLine:
    """Return a run; `counts` by number are for those that have none recorded."""
    state = state_of(row.state, row.ended_at)
    verdict = _VERDICTS.get(row.verdict)
    return RunLine(
        number=row.number,
        project=project_link(row),
        jobset=row.jobset_name or "",
        ref=row.ref,
        commit=row.commit,
        subject=row.subject,
        author=row.author,
        origin=_ORIGINS.get(row.origin, Origin.HAND),
        build_class=_CLASSES.get(row.build_class, BuildClass.BRANCH),
        requested_by=None if row.user_name is None else Person(id=row.requested_by, name=row.user_name),
        requested_at=row.requested_at,
        started_at=None if state in _NOT_BEGUN else row.started_at,
        ended_at=row.ended_at,
        state=state,
        verdict=verdict,
        sentence=row.sentence,
        status=run_status(state, verdict),
        counts=_counts.decode(row.counts) or (counts or {}).get(row.number, {}),
        retry_of=row.retry_of,
        superseded_by=row.superseded_by,
        cancel_asked=row.cancel_asked,
        pull_request=row.pull_request,
        tier=_TIERS.get(row.tier, Tier.FORK),
        base_ref=row.base_ref,
    )


def runs_by_number(connection: Connection, sight: Sight, numbers: Iterable[int]) -> dict[int, RunLine]:
    """Return those of these runs that may be seen; at most a few thousand."""
    wanted = sorted(set(numbers))
    if not wanted:
        return {}
    found = connection.execute(run_query(sight).where(run.c.number.in_(wanted)))
    return {row.number: run_line(row) for row in found}


def attempt_query(sight: Sight) -> Select[Any]:
    """Return the question for attempts in runs that may be seen."""
    return (
        select(attempt, *PROJECT)
        .select_from(attempt)
        .join(run, run.c.number == attempt.c.run)
        .join(project, project.c.id == run.c.project_id)
        .where(visible(sight))
    )


def attempt_lines(connection: Connection, query: Select[Any], *, now: float | None = None) -> list[AttemptLine]:
    """Return attempts; with `now`, those that run say how long they have run and may take."""
    rows = connection.execute(query).all()
    names = {row.name for row in rows if row.outcome is None} if now is not None else set()
    about = reading.medians(connection, names) if names else {}
    return [_attempt_line(row, about.get(row.name), now) for row in rows]


def _attempt_line(row: Row[Any], about_s: float | None, now: float | None) -> AttemptLine:
    outcome: Outcome | None = None if row.outcome is None else outcome_of(row.outcome)
    runs = outcome is None and now is not None
    return AttemptLine(
        number=row.number,
        run=row.run,
        project=project_link(row),
        drv_path=StorePath(row.drv_path),
        name=derivation_name(StorePath(row.drv_path)),
        system=row.system,
        work=Work(row.work),
        machine=row.machine,
        started_at=row.started_at,
        seconds=max(0.0, now - row.started_at) if runs and now is not None else row.seconds,
        outcome=outcome,
        status=Status.RUNNING if outcome is None else of_outcome(outcome),
        message=row.message,
        exit_status=row.exit_status,
        has_log=bool(row.log),
        output_bytes=row.output_bytes,
        about_s=about_s,
    )


def newest(query: Select[Any], before: int | None, limit: int) -> Select[Any]:
    """Return a question for runs, the newest first, those below `before` only."""
    return (query if before is None else query.where(run.c.number < before)).order_by(run.c.number.desc()).limit(limit)


def run_lines(connection: Connection, query: Select[Any]) -> list[RunLine]:
    """Return runs; those that go on with the counts of now."""
    rows = connection.execute(query).all()
    going = [row.number for row in rows if row.ended_at is None and row.counts == _NO_COUNTS][:COUNTED_MAX]
    counts = {number: counts_of(each) for number, each in tallies(connection, places(connection, going)).items()}
    return [run_line(row, counts) for row in rows]


def open_runs(sight: Sight) -> Select[Any]:
    """Return the question for runs without a verdict; those that wait for approval come last, if at all."""
    held = run.c.state == ChangeState.HELD.value
    return run_query(sight).where(run.c.ended_at.is_(None)).order_by(held, run.c.number)


def under_way() -> ColumnElement[bool]:
    """Return the condition for runs without a verdict that nobody has to approve first."""
    return run.c.ended_at.is_(None) & (run.c.state != ChangeState.HELD.value)


def older(lines: Sequence[RunLine], limit: int) -> int | None:
    """Return what the next page begins before; None where these lines are fewer than asked for."""
    return lines[-1].number if lines and len(lines) == limit else None
