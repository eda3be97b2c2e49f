"""What a run records, in SQL. Each function works in the transaction that is open on the connection."""

import functools
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar, assert_never

from sqlalchemy import Connection, Executable, Table, case, delete, func, insert, select, update

from nixmill.core.change import ChangeState
from nixmill.core.evaluation import Attribute, EvalError
from nixmill.core.history import (
    AttemptRow,
    AttributeRow,
    DifferenceRow,
    EvaluationPartRow,
    EvaluationRow,
    Row,
    RunEndRow,
    RunRow,
)
from nixmill.core.pin import Pin
from nixmill.core.realised import Realised
from nixmill.core.upload import Made, Upload
from nixmill.doors import DoorError
from nixmill.edge import process_identity
from nixmill.edge.database import tables, tables_server
from nixmill.edge.database.engine import insert_into
from nixmill.edge.database.pins import record_pins
from nixmill.edge.database.realisations import record_realised
from nixmill.edge.database.rows import (
    Values,
    attempt_values,
    attribute_values,
    clean,
    difference_values,
    error_values,
    outcome_values,
    run_values,
)
from nixmill.edge.database.uploads import record_made, record_uploads

T = TypeVar("T")

BATCH: Final = 5_000
"""Rows of one INSERT: large enough to be fast, small enough to bound memory."""

_ATTEMPTS: Final = "attempt"


def start_run(connection: Connection, row: RunRow) -> int:
    """Record a run that begins; return its number."""
    values = run_values(row, process_identity.identity(row.process))
    key = connection.execute(insert(tables.run).values(values)).inserted_primary_key
    if key is None:
        raise RuntimeError("The database did not say which number it gave to a run.")
    return int(key[0])


def next_attempts(connection: Connection, count: int) -> int:
    """Reserve `count` numbers; return the first."""
    counter = tables.counter
    new = insert_into(connection.dialect.name, counter).values(name=_ATTEMPTS, next=1 + count)
    change = {"next": counter.c.next + count}
    upsert = new.on_conflict_do_update(index_elements=[counter.c.name], set_=change).returning(counter.c.next)
    return int(connection.execute(upsert).scalar_one()) - count


def record(connection: Connection, rows: Sequence[Row]) -> None:
    """Record rows; those of a kind together, in the order in which rows may refer to each other."""
    attempts: list[AttemptRow] = []
    outcomes: list[AttributeRow] = []
    ends: list[RunEndRow] = []
    differences: list[DifferenceRow] = []
    for row in rows:
        match row:
            case AttemptRow():
                attempts.append(row)
            case AttributeRow():
                outcomes.append(row)
            case EvaluationRow():
                _evaluation(connection, row)
            case EvaluationPartRow():
                _part(connection, row)
            case RunEndRow():
                ends.append(row)
            case DifferenceRow():
                differences.append(row)
            case Pin() | Upload() | Made() | Realised():
                pass  # below, those of a kind together
            case _:
                assert_never(row)
    _attempts(connection, attempts)
    _outcomes(connection, outcomes)
    _upsert(connection, tables_server.difference, [difference_values(row) for row in differences])
    record_pins(connection, _only(rows, Pin))
    record_made(connection, _only(rows, Made))
    record_uploads(connection, _only(rows, Upload))
    record_realised(connection, _only(rows, Realised))
    for end in ends:
        _end(connection, end)


def _only(rows: Sequence[Row], kind: type[T]) -> list[T]:
    return [row for row in rows if isinstance(row, kind)]


def _end(connection: Connection, row: RunEndRow) -> None:
    run, attempt = tables.run.c, tables.attempt.c
    values = {
        "ended_at": row.ended_at,
        "verdict": row.verdict.value,
        "sentence": clean(row.sentence),
        "state": case((run.state == "", ""), else_=ChangeState.DONE.value),
        "output_bytes": select(func.coalesce(func.sum(attempt.output_bytes), 0))
        .where(attempt.run == row.number)
        .scalar_subquery(),
    }
    changed = connection.execute(update(tables.run).where(run.number == row.number).values(values))
    if changed.rowcount == 0:
        raise DoorError(
            f"Run {row.number} cannot be ended: the history knows no such run.",
            door="history",
            action="record",
            subject=str(row.number),
            retryable=False,
        )


def _attempts(connection: Connection, rows: Sequence[AttemptRow]) -> None:
    _upsert(connection, tables.attempt, [attempt_values(row) for row in rows])


def _outcomes(connection: Connection, rows: Sequence[AttributeRow]) -> None:
    ids = {key: _evaluation_id(connection, key) for key in dict.fromkeys(row.evaluation for row in rows)}
    for run, key in dict.fromkeys((row.run, row.evaluation) for row in rows):
        _link(connection, ids[key], run)
    _upsert(connection, tables.outcome, [outcome_values(ids[row.evaluation], row) for row in rows])


def _evaluation_id(connection: Connection, key: str) -> int:
    """Return the id of an evaluation, which need not be complete, or known, yet."""
    table = tables.evaluation
    known = select(table.c.id).where(table.c.key == key)
    found = connection.execute(known).scalar()
    if found is None:
        connection.execute(insert_into(connection.dialect.name, table).values(key=key).on_conflict_do_nothing())
        found = connection.execute(known).scalar_one()
    return int(found)


def _link(connection: Connection, evaluation: int, run: int) -> None:
    new = insert_into(connection.dialect.name, tables.run_evaluation).values(evaluation=evaluation, run=run)
    connection.execute(new.on_conflict_do_nothing())


def _evaluation(connection: Connection, row: EvaluationRow) -> None:
    """Record a complete evaluation in place of what was known under its key."""
    number = _evaluation_id(connection, row.key)
    if not (row.in_parts and _has_parts(connection, number, row)):
        _clear(connection, number)
        _insert_records(connection, number, (0, row.attributes), (0, row.errors))
    table = tables.evaluation
    values = {
        "complete": True,
        "run": row.run,
        "tree_hash": row.tree_hash,
        "commit": row.commit,
        "seconds": row.seconds,
        "tier": row.tier.value,
    }
    connection.execute(update(table).where(table.c.id == number).values(values))
    _link(connection, number, row.run)


def _part(connection: Connection, row: EvaluationPartRow) -> None:
    """Record records of an evaluation that goes on; one that is complete stays as it is until the new one is."""
    number = _evaluation_id(connection, row.key)
    if connection.execute(select(tables.evaluation.c.complete).where(tables.evaluation.c.id == number)).scalar_one():
        return
    if row.start == 0 and row.errors_start == 0:
        _clear(connection, number)
    _link(connection, number, row.run)
    _insert_records(connection, number, (row.start, row.attributes), (row.errors_start, row.errors))


def _has_parts(connection: Connection, number: int, row: EvaluationRow) -> bool:
    """Say whether exactly as many records are there as the evaluation has; those of a complete one are old."""
    if connection.execute(select(tables.evaluation.c.complete).where(tables.evaluation.c.id == number)).scalar_one():
        return False
    counts = [
        connection.execute(select(func.count()).where(table.c.evaluation == number)).scalar_one()
        for table in (tables.attribute, tables.evaluation_error)
    ]
    return counts == [len(row.attributes), len(row.errors)]


def _clear(connection: Connection, number: int) -> None:
    for table in (tables.attribute, tables.evaluation_error):
        connection.execute(delete(table).where(table.c.evaluation == number))


def _insert_records(
    connection: Connection,
    number: int,
    attributes: tuple[int, Sequence[Attribute]],
    errors: tuple[int, Sequence[EvalError]],
) -> None:
    start, rows = attributes
    _insert(connection, tables.attribute, [attribute_values(number, at, each) for at, each in enumerate(rows, start)])
    start, bad = errors
    _insert(connection, tables.evaluation_error, [error_values(number, at, each) for at, each in enumerate(bad, start)])


def _insert(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    for batch in _batches(rows):
        connection.execute(insert(table), batch)


def _upsert(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows; those whose key is there already replace what was."""
    for batch in _batches(rows):
        connection.execute(_upsert_into(connection.dialect.name, table), batch)


@functools.cache
def _upsert_into(dialect: str, table: Table) -> Executable:
    new = insert_into(dialect, table)
    change = {column.name: new.excluded[column.name] for column in table.c if not column.primary_key}
    return new.on_conflict_do_update(index_elements=list(table.primary_key), set_=change)


def _batches(rows: Sequence[Values]) -> Iterator[Sequence[Values]]:
    return (rows[at : at + BATCH] for at in range(0, len(rows), BATCH))
