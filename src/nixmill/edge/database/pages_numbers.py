"""Numbers for metrics. What is counted over time is of the last 24 hours: old rows go, so totals would fall.

Names are those of a flat mapping, with dots: `runs.waiting`, `runs.day.passed`, `runs.day_seconds`,
`attempts.running`, `attempts.day.build.succeeded`, `attempts.day_seconds.build`, `failures.remembered`, `projects`.
"""

from collections import Counter
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, func, select, true

from nixmill.core.access import Sight
from nixmill.core.change import ChangeState
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Verdict, Work
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.tables import attempt, run
from nixmill.edge.database.tables_server import failure, project

DAY_S: Final = 86_400.0
_LOOK: Final = 10_000
"""Newest runs that those of the last day are looked for among."""


def numbers(connection: Connection, sight: Sight, name: str | None, now: float) -> dict[str, float]:
    """Return the numbers of all projects that may be seen, or of one of them."""
    chosen = visible(sight) & (true() if name is None else project.c.name == name)
    found = _nothing()
    found["projects"] = connection.execute(select(func.count()).select_from(project).where(chosen)).scalar_one()
    for add in (_open_runs, _ended_runs, _attempts, _remembered):
        found.update(add(connection, chosen, now))
    return {key: float(value) for key, value in sorted(found.items())}


def _nothing() -> Counter[str]:
    """Return every name with 0: a series that comes and goes cannot be watched."""
    names = [f"runs.{state.value}" for state in ChangeState if state is not ChangeState.DONE]
    names += [f"runs.day.{verdict.value}" for verdict in Verdict]
    names += [f"attempts.day.{work.value}.{outcome.value}" for work in (Work.BUILD, Work.FETCH) for outcome in Outcome]
    names += [f"attempts.day_seconds.{work.value}" for work in (Work.BUILD, Work.FETCH)]
    return Counter(dict.fromkeys([*names, "runs.day_seconds", "attempts.running", "failures.remembered"], 0))


def _of_runs(*columns: Any) -> Select[Any]:  # noqa: ANN401 - columns of any type
    return select(*columns).select_from(run).join(project, project.c.id == run.c.project_id)


def _open_runs(connection: Connection, chosen: ColumnElement[bool], _now: float) -> Counter[str]:
    query = _of_runs(run.c.state, func.count()).where(chosen, run.c.ended_at.is_(None)).group_by(run.c.state)
    return Counter({f"runs.{state}": amount for state, amount in connection.execute(query)})


def _ended_runs(connection: Connection, chosen: ColumnElement[bool], now: float) -> Counter[str]:
    of = run.c
    newest = select(func.coalesce(func.max(of.number), 0)).scalar_subquery()
    query = _of_runs(of.verdict, func.count(), func.sum(of.ended_at - of.started_at))
    today = query.where(chosen, of.number > newest - _LOOK, of.ended_at > now - DAY_S).group_by(of.verdict)
    found: Counter[str] = Counter()
    for verdict, amount, seconds in connection.execute(today):
        found[f"runs.day.{verdict}"] += amount
        found["runs.day_seconds"] += seconds
    return found


def _attempts(connection: Connection, chosen: ColumnElement[bool], now: float) -> Counter[str]:
    of = attempt.c
    seen = attempt.join(run, run.c.number == of.run).join(project, project.c.id == run.c.project_id)
    query = select(of.work, of.outcome, func.count(), func.sum(of.seconds)).select_from(seen)
    today = query.where(chosen, of.started_at > now - DAY_S, of.outcome.is_not(None)).group_by(of.work, of.outcome)
    found: Counter[str] = Counter()
    for work, outcome, amount, seconds in connection.execute(today):
        found[f"attempts.day.{work}.{outcome}"] += amount
        found[f"attempts.day_seconds.{work}"] += seconds
    going = select(func.count()).select_from(seen).where(chosen, of.outcome.is_(None), run.c.ended_at.is_(None))
    found["attempts.running"] = connection.execute(going).scalar_one()
    return found


def _remembered(connection: Connection, chosen: ColumnElement[bool], now: float) -> Counter[str]:
    joined = failure.join(project, project.c.id == failure.c.project)
    query = select(func.count()).select_from(joined).where(chosen, failure.c.expires_at > now)
    return Counter({"failures.remembered": connection.execute(query).scalar_one()})
