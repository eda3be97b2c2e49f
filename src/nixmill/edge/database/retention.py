"""Forgetting old runs, and what only they needed.

A pruning is many short transactions, so that a run that goes on meanwhile never waits long. It may be broken off
anywhere. An evaluation goes when no run is left that recorded it or found outcomes under it.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection, Select, cast, delete, exists, func, select

from nixmill.core.history import Keep, runs_to_prune
from nixmill.core.project import pull_request_ref
from nixmill.core.pull_request import PullState
from nixmill.core.run_event import Verdict
from nixmill.edge.database import tables, tables_forge
from nixmill.edge.database.deletion import delete_some
from nixmill.edge.database.engine import as_table
from nixmill.edge.database.reading import crashed_runs

PAGES: Final = 2_000
"""Pages given back in one transaction."""


def doomed_runs(connection: Connection, keep: Keep, now: float) -> list[int]:
    """Return the numbers of the runs that go, the oldest first; runs that still go on are never among them.

    Of a server's runs the newest of each branch stay, and the newest good one; what `nixmill run` did is one stream. An
    open pull request is as a branch, but the runs of one that was closed only have their time.
    """
    of = tables.run.c
    killed = numbers(connection, [run.number for run in crashed_runs(connection)])
    over = select(of.number, of.started_at, of.project_id, of.ref, of.verdict)
    closed = _closed(connection)
    streams: dict[tuple[int | None, str], list[tuple[int, float]]] = defaultdict(list)
    newest_good: dict[tuple[int | None, str], int] = {}
    for number, started_at, project, ref, verdict in connection.execute(
        over.where(of.ended_at.is_not(None) | of.number.in_(killed)).order_by(of.number)
    ):
        streams[project, ref].append((number, started_at))
        if project is not None and verdict == Verdict.GOOD.value:
            newest_good[project, ref] = number
    brief = Keep(runs=0, days=keep.days)
    doomed = {
        number
        for key, stream in streams.items()
        for number in runs_to_prune(stream, brief if key in closed else keep, now)
    }
    return sorted(doomed - {number for key, number in newest_good.items() if key not in closed})


def _closed(connection: Connection) -> set[tuple[int | None, str]]:
    """Return the streams of the pull requests that are not open any more."""
    of = tables_forge.pull_request.c
    query = select(of.project, of.number).where(of.state != PullState.OPEN.value)
    return {(project, pull_request_ref(number)) for project, number in connection.execute(query)}


def attempts_of(connection: Connection, runs: Sequence[int]) -> list[int]:
    """Return the numbers of all attempts of these runs."""
    of = tables.attempt.c
    query = select(of.number).where(of.run.in_(numbers(connection, runs))).order_by(of.number)
    return list(connection.execute(query).scalars())


def doomed_evaluations(connection: Connection, runs: Sequence[int]) -> int:
    """Return how many evaluations no other run than these has to do with."""
    links = tables.run_evaluation.c
    others = links.run.not_in(numbers(connection, runs))
    used = exists().where(links.evaluation == tables.evaluation.c.id).where(others)
    return int(connection.execute(select(func.count()).select_from(tables.evaluation).where(~used)).scalar_one())


def forget_some_of_run(connection: Connection, number: int, batch: int) -> bool:
    """Delete some rows of a run and, at last, the run; say whether there is more."""
    links = tables.run_evaluation.c
    mine = select(links.evaluation).where(links.run == number)
    outcomes = (tables.outcome.c.run == number) & tables.outcome.c.evaluation.in_(mine)
    if delete_some(connection, tables.outcome, outcomes, batch):
        return True
    if delete_some(connection, tables.attempt, tables.attempt.c.run == number, batch):
        return True
    connection.execute(delete(tables.run).where(tables.run.c.number == number))
    return False


def numbers(connection: Connection, values: Iterable[int]) -> Select[int]:
    """Return a query for numbers that are handed over as one parameter: any number of them."""
    return select(cast(as_table(connection, [str(value) for value in values]).c.value, tables.NUMBER))


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
