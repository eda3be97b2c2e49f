"""Forgetting old runs, and what only they needed.

A pruning is many short transactions, so that a run that goes on meanwhile never waits long. It may be broken off
anywhere. An evaluation goes when no run is left that recorded it or found outcomes under it.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, delete, exists, select

from nixmill.core.history import Keep, runs_to_prune
from nixmill.edge.database import tables
from nixmill.edge.database.reading import crashed_runs

PAGES: Final = 2_000
"""Pages given back in one transaction."""


def doomed_runs(connection: Connection, keep: Keep, now: float) -> list[int]:
    """Return the numbers of the runs that go, the oldest first; runs that still go on are never among them."""
    of = tables.run.c
    killed = [run.number for run in crashed_runs(connection)]
    over = select(of.number, of.started_at).where(of.ended_at.is_not(None) | of.number.in_(killed))
    return runs_to_prune(((number, started_at) for number, started_at in connection.execute(over)), keep, now)


def attempts_of(connection: Connection, runs: Sequence[int]) -> list[int]:
    """Return the numbers of all attempts of these runs."""
    of = tables.attempt.c
    query = select(of.number).where(of.run.in_(runs)).order_by(of.number)
    return list(connection.execute(query).scalars())


def doomed_evaluations(connection: Connection, runs: Sequence[int]) -> list[int]:
    """Return the ids of the evaluations that no other run than these has to do with."""
    links = tables.run_evaluation.c
    used = exists().where(links.evaluation == tables.evaluation.c.id).where(links.run.not_in(runs))
    return list(connection.execute(select(tables.evaluation.c.id).where(~used)).scalars())


def forget_run(connection: Connection, number: int) -> None:
    """Delete a run; its attempts and outcomes go with it."""
    connection.execute(delete(tables.run).where(tables.run.c.number == number))


def forget_evaluation(connection: Connection, number: int) -> None:
    """Delete an evaluation that no run uses by now; its attributes and errors go with it."""
    used = exists().where(tables.run_evaluation.c.evaluation == number)
    connection.execute(delete(tables.evaluation).where(tables.evaluation.c.id == number).where(~used))


def give_space_back(connection: Connection) -> bool:
    """Let SQLite return some free pages to the file system; say whether there may be more."""
    if connection.dialect.name != "sqlite":
        return False
    free = connection.exec_driver_sql("PRAGMA freelist_count").scalar_one()
    for _ in range(min(free, PAGES)):
        connection.exec_driver_sql("PRAGMA incremental_vacuum")  # each step frees one page, and Python takes one step
    return bool(free > PAGES)


def integrity(connection: Connection) -> list[str]:
    """Return what SQLite finds wrong with its file; reads all of it."""
    if connection.dialect.name != "sqlite":
        return []
    found = [str(row[0]) for row in connection.exec_driver_sql("PRAGMA integrity_check(10)")]
    if found != ["ok"]:
        return [f"The history database is damaged: {' '.join(text.split())}." for text in found]
    broken = len(connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall())
    return [f"The history database has {broken} rows that refer to rows that are not there."] if broken else []
