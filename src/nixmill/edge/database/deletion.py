"""Deleting projects in the background: a bounded number of rows at a time, children first (semantics §9).

What is deleted by a rule of the database goes with its parent, but only where that is little: a run may have a
hundred thousand outcomes. An evaluation may be of use to several projects; it goes with the last run that has to do
with it.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, exists, select, tuple_, update

from nixmill.core.upload import UploadState
from nixmill.edge.database import tables, tables_forge, tables_roots, tables_server
from nixmill.edge.database.database import Database

T = TypeVar("T")

BATCH: Final = 5_000
"""Most rows of one table that one transaction deletes."""
GRACE_S: Final = 3600.0
EVALUATIONS: Final = 50
"""Evaluations that are looked at together."""

Step = Callable[[Connection, int, int], int]
"""Given a project and a batch, delete some rows; return how many."""


async def sweep(
    database: Database,
    *,
    batch: int = BATCH,
    delete_logs: Callable[[Sequence[int]], Awaitable[None]] | None = None,
    delete_hook_logs: Callable[[Sequence[str]], Awaitable[None]] | None = None,
    now: Callable[[], float] = time.time,
) -> bool:
    """Delete some rows of deleted projects, in one short transaction; say whether there is more to do.

    The logs of attempts and of hooks go before their rows: a log without its row would stay for ever. A project whose
    runs have not ended yet waits for them, and for its forge to hear of it, but not longer than `GRACE_S`.
    """
    at = now()
    project = await database.read(lambda connection: _doomed(connection, at), action="look for deleted projects")
    if project is None:
        return False
    if delete_logs is not None and await _with_files(database, project, tables.attempt.c.number, batch, delete_logs):
        return True
    hook = tables_server.hook_run.c.id
    if delete_hook_logs is not None and await _with_files(database, project, hook, batch, delete_hook_logs):
        return True
    await database.write(lambda connection: _sweep(connection, project, batch), action="delete a project's rows")
    return True


def _doomed(connection: Connection, now: float) -> int | None:
    of, run = tables_server.project.c, tables.run.c
    goes_on = exists().where(run.project_id == of.id, run.ended_at.is_(None))
    unsaid = exists().where(tables_forge.status.c.project == of.id, tables_forge.status.c.due_at.is_not(None))
    ripe = of.deleted_at.is_not(None) & (~(goes_on | unsaid) | (of.deleted_at < now - GRACE_S))
    return connection.execute(select(of.id).where(ripe).order_by(of.id).limit(1)).scalar()


async def _with_files(
    database: Database, project: int, key: Column[T], batch: int, delete_files: Callable[[Sequence[T]], Awaitable[None]]
) -> bool:
    """Delete some rows of runs of a project, their files first; say whether there were any."""
    mine = key.table.c["run"].in_(_runs_of(project))
    query = select(key).where(mine).order_by(key).limit(batch)
    keys = await database.read(lambda connection: list(connection.execute(query).scalars()), action="look for logs")
    if keys:
        await delete_files(keys)
        gone = delete(key.table).where(key.in_(keys))
        await database.write(lambda connection: connection.execute(gone).rowcount, action="delete rows of logs")
    return bool(keys)


def _sweep(connection: Connection, project: int, batch: int) -> None:
    if not any(step(connection, project, batch) for step in _steps()):
        connection.execute(delete(tables_server.project).where(tables_server.project.c.id == project))


def _steps() -> Iterator[Step]:
    """Yield what is to be done, in this order; each step is repeated until it finds nothing."""
    runs = tables.run
    yield _links_outcomes
    for table, column in (
        (tables.run_evaluation, "run"),
        (tables.attempt, "run"),
        (tables_server.difference, "run"),
        (tables_server.hook_run, "run"),
        (tables_server.failure, "run"),
    ):
        yield _of_runs(table, column)
    yield _of_project(tables_server.parcel, "project")
    yield _detach(tables_server.audit, tables_server.audit.c.id)
    yield _unfinished_uploads
    yield _detach(tables_roots.upload, tables_roots.upload.c.cache, tables_roots.upload.c.path)
    yield _unused_evaluations
    yield _of_project(runs, "project_id")
    for table in (
        tables_roots.pin,
        tables_roots.pin_head,
        tables_roots.hand_pin,
        tables_forge.status,
        tables_forge.approval,
        tables_forge.pull_request,
        tables_server.hook_run,
        tables_server.failure,
        tables_server.ref,
        tables_server.delivery_seen,
        tables_server.token,
        tables_server.member,
        tables_server.rule,
        tables_server.jobset,
        tables_server.project_name,
    ):
        yield _of_project(table, "project")


def delete_some(connection: Connection, table: Table, where: ColumnElement[bool], batch: int) -> int:
    """Delete at most `batch` rows; return how many there were."""
    key = tuple_(*table.primary_key)
    chosen = select(*table.primary_key).where(where).limit(batch)
    return connection.execute(delete(table).where(key.in_(chosen))).rowcount


def _runs_of(project: int) -> Any:  # noqa: ANN401 - what `in_` takes
    return select(tables.run.c.number).where(tables.run.c.project_id == project)


def _of_project(table: Table, column: str) -> Step:
    def step(connection: Connection, project: int, batch: int) -> int:
        return delete_some(connection, table, table.c[column] == project, batch)

    return step


def _of_runs(table: Table, column: str) -> Step:
    def step(connection: Connection, project: int, batch: int) -> int:
        return delete_some(connection, table, table.c[column].in_(_runs_of(project)), batch)

    return step


def _links_outcomes(connection: Connection, project: int, batch: int) -> int:
    """Delete outcomes by way of the links that they belong to: the runs alone are not in an index of theirs."""
    links = tables.run_evaluation.c
    mine = select(links.evaluation, links.run).where(links.run.in_(_runs_of(project)))
    key = tuple_(tables.outcome.c.evaluation, tables.outcome.c.run)
    return delete_some(connection, tables.outcome, key.in_(mine), batch)


def _detach(table: Table, *key: Column[Any]) -> Step:
    """Let rows forget the project that stay for what they say: what was done, what a cache holds."""

    def step(connection: Connection, project: int, batch: int) -> int:
        some = select(*key).where(table.c.project == project).limit(batch)
        mine = tuple_(*key).in_(some)
        return connection.execute(update(table).where(mine).values(project=None)).rowcount

    return step


def _unfinished_uploads(connection: Connection, project: int, batch: int) -> int:
    """Publish nothing any more of a project that is gone."""
    of = tables_roots.upload.c
    unfinished = (of.project == project) & (of.state != UploadState.DONE.value)
    return delete_some(connection, tables_roots.upload, unfinished, batch)


def _unused_evaluations(connection: Connection, _project: int, batch: int) -> int:
    return forget_unused_evaluations(connection, batch)


def forget_unused_evaluations(connection: Connection, batch: int) -> int:
    """Delete some rows of evaluations that no run has to do with; return how many."""
    of = tables.evaluation.c
    unused = ~exists().where(tables.run_evaluation.c.evaluation == of.id)
    # Locked: whoever is linking a run to one of them right now goes first (PostgreSQL; SQLite has one writer anyway).
    ids = list(
        connection.execute(select(of.id).where(unused).limit(min(batch, EVALUATIONS)).with_for_update()).scalars()
    )
    if not ids:
        return 0
    mine = of.id.in_(ids) & unused
    # Half an evaluation must not be taken for a whole one.
    connection.execute(update(tables.evaluation).where(mine).values(complete=False))
    still = select(of.id).where(mine)
    for table in (tables.attribute, tables.evaluation_error):
        count = delete_some(connection, table, table.c.evaluation.in_(still), batch)
        if count:
            return count
    return connection.execute(delete(tables.evaluation).where(mine)).rowcount
