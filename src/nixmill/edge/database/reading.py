"""Questions to the history, in SQL. Each function works in the transaction that is open on the connection."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from statistics import median
from typing import Final

import msgspec
from sqlalchemy import Connection, Select, case, func, select, true
from sqlalchemy.sql import TableValuedAlias

from nixmill.core.evaluation import Attribute, EvalError
from nixmill.core.history import AttemptRow, AttributeRow, EvaluationRow, PastBuild, RunRow
from nixmill.core.outcome import MEANING, Outcome
from nixmill.core.run_event import Work
from nixmill.core.trust import Tier
from nixmill.edge import process_identity
from nixmill.edge.database import tables
from nixmill.edge.database.engine import as_table
from nixmill.edge.database.rows import (
    attempt_row,
    attribute_of,
    error_of,
    outcome_of,
    outcome_row,
    past_build,
    path_of,
    run_row,
)
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath

RECENT: Final = 5
"""How many of the newest builds of a name its median is made of."""


def past(connection: Connection, drv_paths: Collection[StorePath]) -> dict[StorePath, PastBuild]:
    """Return what ended attempts say of these derivations.

    However many attempts there were, the index alone tells which of them matter: the newest, and the newest
    failure that enters failure memory where no success is newer.
    """
    deciding = _deciding(as_table(connection, drv_paths)).subquery()
    last, bad = tables.attempt.alias("last"), tables.attempt.alias("bad")
    still_bad = (bad.c.number == deciding.c.bad) & (deciding.c.bad > func.coalesce(deciding.c.good, 0))
    query = select(
        last.c.drv_path, last.c.number, last.c.run, last.c.started_at, last.c.seconds, last.c.outcome, bad.c.run
    ).select_from(deciding.join(last, last.c.number == deciding.c.last).outerjoin(bad, still_bad))
    return {row[0]: past_build(*row) for row in connection.execute(query)}


def _deciding(wanted: TableValuedAlias) -> Select[tuple[str, int, int, int]]:
    """Return the numbers of the newest ended, newest good and newest remembered bad attempt of each derivation."""
    attempt = tables.attempt.c
    good = attempt.outcome == Outcome.SUCCEEDED.value
    bad = attempt.outcome.in_([outcome.value for outcome, meaning in MEANING.items() if meaning.remembered])
    return (
        select(
            attempt.drv_path,
            func.max(attempt.number).label("last"),
            func.max(case((good, attempt.number))).label("good"),
            func.max(case((bad, attempt.number))).label("bad"),
        )
        .select_from(wanted.join(tables.attempt, attempt.drv_path == wanted.c.value))
        .where(attempt.outcome.is_not(None))
        .group_by(attempt.drv_path)
    )


def medians(connection: Connection, names: Collection[str]) -> dict[str, float]:
    """Return the median seconds of the newest successful builds of these names."""
    wanted = as_table(connection, names)
    built = tables.attempt
    other = tables.attempt.alias()
    newest = (
        select(other.c.number, other.c.name, other.c.seconds)
        .where(other.c.name == wanted.c.value)
        .where(other.c.outcome == Outcome.SUCCEEDED.value)
        .where(other.c.work == Work.BUILD.value)
        .order_by(other.c.number.desc())
        .limit(RECENT)
    )
    if connection.dialect.name == "postgresql":
        each = newest.lateral("newest")
        query = select(each.c.name, each.c.seconds).select_from(wanted.join(each, true()))
    else:  # SQLite knows no LATERAL, but asks the index again for each name; PostgreSQL would not
        numbers = newest.with_only_columns(other.c.number).correlate(wanted)
        query = select(built.c.name, built.c.seconds).select_from(wanted.join(built, built.c.number.in_(numbers)))
    seconds: dict[str, list[float]] = defaultdict(list)
    for name, each in connection.execute(query):
        seconds[name].append(each)
    return {name: median(each) for name, each in seconds.items()}


def evaluation(connection: Connection, key: str) -> EvaluationRow | None:
    """Return a complete evaluation."""
    table = tables.evaluation
    row = connection.execute(select(table).where(table.c.key == key, table.c.complete)).one_or_none()
    if row is None:
        return None
    return EvaluationRow(
        key=row.key,
        run=row.run or 0,
        tree_hash=row.tree_hash,
        commit=row.commit,
        seconds=row.seconds,
        tier=msgspec.convert(row.tier, Tier),
        attributes=_attributes(connection, row.id),
        errors=_errors(connection, row.id),
        outcomes=_outcomes(connection, row.id),
    )


def recent_evaluations(connection: Connection, checkout: str, limit: int) -> list[EvaluationRow]:
    """Return the newest complete evaluations from a checkout, the newest first."""
    of, run = tables.evaluation.c, tables.run.c
    query = select(of.key).join(tables.run, run.number == of.run).where(run.checkout == checkout, of.complete)
    keys = connection.execute(query.order_by(of.id.desc()).limit(limit)).scalars().all()
    return [row for row in (evaluation(connection, key) for key in keys) if row is not None]


def _attributes(connection: Connection, evaluation: int) -> tuple[Attribute, ...]:
    of = tables.attribute.c
    query = select(of.path, of.name, of.system, of.drv_path, of.details)
    rows = connection.execute(query.where(of.evaluation == evaluation).order_by(of.position))
    return tuple(attribute_of(*row) for row in rows)


def _errors(connection: Connection, evaluation: int) -> tuple[EvalError, ...]:
    of = tables.evaluation_error.c
    query = select(of.path, of.fault, of.details)
    rows = connection.execute(query.where(of.evaluation == evaluation).order_by(of.position))
    return tuple(error_of(*row) for row in rows)


def _outcomes(connection: Connection, evaluation: int) -> dict[AttrPath, tuple[Outcome, int]]:
    """Return the latest outcome of each attribute.

    Runs are read from the newest back until each attribute has an outcome: as a rule that is one run,
    however often the same tree was run.
    """
    of = tables.outcome.c
    attributes = tables.attribute.c
    missing = set(connection.execute(select(attributes.path).where(attributes.evaluation == evaluation)).scalars())
    links = tables.run_evaluation.c
    runs = connection.execute(
        select(links.run).where(links.evaluation == evaluation).order_by(links.run.desc())
    ).scalars()
    latest: dict[str, tuple[Outcome, int]] = {}
    for run in runs.all():
        for path, outcome in connection.execute(
            select(of.path, of.outcome).where(of.evaluation == evaluation, of.run == run)
        ):
            latest.setdefault(path, (outcome_of(outcome), run))
        missing -= latest.keys()
        if not missing:
            break
    return {path_of(path): found for path, found in latest.items()}


def run_and_attempts(connection: Connection, number: int | None) -> tuple[RunRow, Sequence[AttemptRow]] | None:
    """Return a run, the latest where `number` is None, and its attempts in the order of their numbers."""
    of = tables.run.c
    query = select(tables.run).order_by(of.number.desc()).limit(1)
    found = connection.execute(query if number is None else query.where(of.number == number)).one_or_none()
    if found is None:
        return None
    attempt = tables.attempt.c
    attempts = select(tables.attempt).where(attempt.run == found.number).order_by(attempt.number)
    return run_row(found), [attempt_row(row) for row in connection.execute(attempts)]


def runs(connection: Connection, limit: int, before: int | None) -> list[RunRow]:
    """Return the newest runs; only those with a number below `before`."""
    query = select(tables.run).order_by(tables.run.c.number.desc()).limit(limit)
    if before is not None:
        query = query.where(tables.run.c.number < before)
    return [run_row(row) for row in connection.execute(query)]


def attributes(connection: Connection, run: int) -> list[AttributeRow]:
    """Return the outcomes that a run recorded, in the order of their paths."""
    of = tables.outcome.c
    key = tables.evaluation.c.key.label("evaluation")
    columns = [column for column in of if column.name not in {"evaluation", "rank"}]
    query = (
        select(key, *columns)
        .join_from(tables.run_evaluation, tables.evaluation)
        .join(tables.outcome, (of.evaluation == tables.run_evaluation.c.evaluation) & (of.run == run))
        .where(tables.run_evaluation.c.run == run)
    )
    rows = [outcome_row(row) for row in connection.execute(query).mappings()]
    return sorted(rows, key=lambda row: (row.path, row.evaluation))


def crashed_runs(connection: Connection) -> list[RunRow]:
    """Return the runs that never ended and whose process is gone; a server's runs go on at its next start."""
    of = tables.run.c
    query = select(tables.run).where(of.ended_at.is_(None), of.state == "").order_by(of.number)
    return [
        run_row(row)
        for row in connection.execute(query)
        if not process_identity.runs(row.process, row.process_identity)
    ]
