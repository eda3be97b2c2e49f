"""Deletion and retention: a project with rows in every table can be deleted, and nothing else goes with it."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import pytest
from sqlalchemy import Boolean, Column, Connection, Double, SmallInteger, Table, func, insert, select, update

from nixmill.core.history import Keep, RunEndRow
from nixmill.core.run_event import Verdict
from nixmill.core.upload import UploadState
from nixmill.edge.database import tables, tables_roots, tables_server, upkeep
from nixmill.edge.database.database import Database
from nixmill.edge.database.deletion import GRACE_S, sweep
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.projects import SqlProjects
from tests.support.databases import database, place, postgres
from tests.support.history_rows import a_run, an_attempt, an_evaluation, an_outcome
from tests.support.server_things import NOW, accepted, now, saved_project

__all__ = ["database", "place", "postgres"]

OF_NOBODY: Final = {
    "nm_setting",
    "nm_counter",
    "nm_user",
    "nm_identity",
    "nm_session",
    "nm_hint",
    "nm_made",
    "nm_realisation",
}
"""Tables whose rows belong to no project."""
ROWS: Final = 7
"""Rows in each table for a project."""


def fill(connection: Connection, seed: int) -> int:
    """Write rows of a new project to every table; return the project's id."""
    keys: dict[str, list[dict[str, Any]]] = {}
    for table in tables.metadata.sorted_tables:
        count = 1 if table.name == "nm_project" else ROWS
        rows = [_row(table, keys, seed * 100 + n, n) for n in range(count)]
        keys[table.name] = rows
        for row in rows:
            connection.execute(insert(table).values(row))
    return int(keys["nm_project"][0]["id"])


def _row(table: Table, keys: dict[str, list[dict[str, Any]]], number: int, n: int) -> dict[str, Any]:
    row = {column.name: _value(column, number) for column in table.c}
    for key in table.foreign_key_constraints:
        there = keys.get(key.referred_table.name)
        for element in key.elements:
            # A table that names itself: the first row names none.
            row[element.parent.name] = there[n % len(there)][element.column.name] if there else None
    return row


def _value(column: Column[Any], number: int) -> object:
    match column.type:
        case Boolean():
            return False
        case Double():
            return None if column.nullable else float(number)
        case SmallInteger():
            return 1
        case _:
            return number if column.type.python_type is int else f"{column.name}{number}"


async def counts(database: Database) -> dict[str, int]:
    def look(connection: Connection) -> dict[str, int]:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in tables.metadata.sorted_tables
        }

    return await database.read(look, action="count")


async def swept(database: Database, batch: int) -> int:
    """Sweep until there is nothing left; return how many transactions it took."""
    times = 0
    while await sweep(database, batch=batch):
        times += 1
        assert times < 500
    return times


async def test_a_project_with_rows_in_every_table_can_be_deleted(database: Database) -> None:
    await database.write(lambda connection: fill(connection, 1), action="fill")
    kept = await counts(database)
    assert all(kept.values()), "the test fills every table"
    doomed = await database.write(lambda connection: fill(connection, 2), action="fill")
    await SqlProjects(database, now).delete_project(doomed)
    assert await swept(database, 3) > len(kept)
    after = await counts(database)
    of_nobody = dict.fromkeys(OF_NOBODY, 2 * ROWS)
    assert after == {**kept, **of_nobody, "nm_audit": 2 * ROWS}
    await _mentions_nowhere(database, doomed)
    assert await SqlHistory(database, now).check() == []


async def _mentions_nowhere(database: Database, project: int) -> None:
    def look(connection: Connection) -> None:
        for table in tables.metadata.sorted_tables:
            for name in {"project", "project_id"} & set(table.c.keys()):
                if table.c[name].foreign_keys:
                    query = select(func.count()).select_from(table).where(table.c[name] == project)
                    assert connection.execute(query).scalar_one() == 0, table.name

    await database.read(look, action="look")


async def test_what_a_deleted_project_published_stays_known_and_nothing_more_is_published(database: Database) -> None:
    doomed = await database.write(lambda connection: fill(connection, 1), action="fill")
    of = tables_roots.upload
    some = of.c.path.in_([f"path{100 + n}" for n in range(ROWS - 2)])
    done = update(of).where(some).values(state=UploadState.DONE.value)
    await database.write(lambda connection: connection.execute(done).rowcount, action="publish")
    await SqlProjects(database, now).delete_project(doomed)
    await swept(database, 2)
    left = select(of.c.state, of.c.project)
    rows = await database.read(lambda connection: connection.execute(left).all(), action="look")
    assert [tuple(row) for row in rows] == [("done", None)] * (ROWS - 2)


async def test_a_batch_bounds_what_one_transaction_deletes(database: Database) -> None:
    doomed = await database.write(lambda connection: fill(connection, 1), action="fill")
    await SqlProjects(database, now).delete_project(doomed)
    before = await counts(database)
    while await sweep(database, batch=2):
        after = await counts(database)
        if after["nm_project"]:
            assert sum(before.values()) - sum(after.values()) <= 2
        before = after


async def test_logs_go_before_their_rows(database: Database) -> None:
    doomed = await database.write(lambda connection: fill(connection, 1), action="fill")
    await database.write(lambda connection: fill(connection, 2), action="fill")
    await SqlProjects(database, now).delete_project(doomed)
    attempts: list[int] = []
    hooks: list[str] = []

    async def delete_logs(numbers: Sequence[int]) -> None:
        assert (await counts(database))["nm_attempt"] == 2 * ROWS - len(attempts)
        attempts.extend(numbers)

    async def delete_hook_logs(ids: Sequence[str]) -> None:
        assert (await counts(database))["nm_hook_run"] == 2 * ROWS - len(hooks)
        hooks.extend(ids)

    while await sweep(database, batch=3, delete_logs=delete_logs, delete_hook_logs=delete_hook_logs):
        pass
    assert attempts == list(range(100, 100 + ROWS))
    assert hooks == [f"id{number}" for number in range(100, 100 + ROWS)]
    assert (await counts(database))["nm_project"] == 1


async def test_a_project_waits_for_its_runs_to_end_but_not_for_ever(database: Database) -> None:
    project = await saved_project(database)
    run = await accepted(database, project)
    await SqlProjects(database, now).delete_project(project)
    assert not await sweep(database, now=now)
    assert await sweep(database, now=lambda: NOW + GRACE_S + 1)
    row = RunEndRow(number=run, ended_at=NOW, verdict=Verdict.CANCELLED, sentence="")
    other = await saved_project(database, "other")
    run = await accepted(database, other)
    await SqlProjects(database, now).delete_project(other)
    await SqlHistory(database, now).record([msgspec.structs.replace(row, number=run)])
    assert await sweep(database, now=now)


async def test_an_evaluation_that_another_project_uses_stays(database: Database) -> None:
    history, projects = SqlHistory(database, now), SqlProjects(database, now)
    one, two = await saved_project(database, "one"), await saved_project(database, "two")
    first, second = await accepted(database, one), await accepted(database, two)
    await history.record([an_evaluation(first, ("a",)), an_outcome(first, "a"), an_outcome(second, "a")])
    await history.record([an_evaluation(first, ("b",), key="own")])
    await projects.delete_project(one)
    await swept(database, 5000)
    assert await history.evaluation("own") is None
    found = await history.evaluation("key")
    assert found is not None
    assert len(found.attributes) == 1
    assert [run for _, run in found.outcomes.values()] == [second]


async def test_projects_can_be_swept_while_others_work(database: Database) -> None:
    history, projects = SqlHistory(database, now), SqlProjects(database, now)
    doomed, kept = await saved_project(database, "doomed"), await saved_project(database, "kept")
    run = await accepted(database, doomed)
    await history.record([an_evaluation(run, *((str(n),) for n in range(2000)))])
    other = await accepted(database, kept)

    async def work() -> None:
        for n in range(1, 30):
            await history.record([an_outcome(other, str(n)), an_attempt(n, other)])
            await history.record([an_evaluation(other, ("x",), key=f"k{n}")])

    await projects.delete_project(doomed)
    await asyncio.gather(work(), swept(database, 100))
    assert len(await history.attributes(other)) == 29
    assert await history.evaluation("k7") is not None
    assert await history.check() == []


async def _ended(database: Database, project: int, ref: str, days_ago: float, verdict: Verdict) -> int:
    history = SqlHistory(database, now)
    number = await accepted(database, project, ref=ref, requested_at=NOW - days_ago * 86_400)
    await history.record([an_evaluation(number, ("a",), key=str(number)), an_outcome(number, "a", key=str(number))])
    await history.record([an_attempt(number * 10, number)])
    await history.record([RunEndRow(number=number, ended_at=NOW, verdict=verdict, sentence="")])
    return number


async def test_the_newest_runs_of_each_branch_stay_and_the_last_good_one(database: Database) -> None:
    history, mill = SqlHistory(database, now), await saved_project(database, "mill")
    other = await saved_project(database, "other")
    good, bad = Verdict.GOOD, Verdict.BUILD_FAILED
    gone = [await _ended(database, mill, "refs/heads/main", 50, good)]
    stays = [await _ended(database, mill, "refs/heads/main", 49, good)]
    gone += [await _ended(database, mill, "refs/heads/main", 48, bad)]
    stays += [await _ended(database, mill, "refs/heads/main", 47, bad)]
    stays += [await _ended(database, mill, "refs/heads/old", 99, bad), await _ended(database, other, "x", 99, bad)]
    stays += [await accepted(database, mill, requested_at=NOW - 99 * 86_400)]
    local = await history.start_run(msgspec.structs.replace(a_run(started_at=0.0), ended_at=1.0))
    dry = await history.prune(Keep(runs=1, days=10), dry_run=True)
    assert (dry.runs, dry.attempts, dry.evaluations) == (tuple(gone), tuple(n * 10 for n in gone), len(gone))
    assert await history.prune(Keep(runs=1, days=10)) == dry
    assert sorted(row.number for row in await history.runs(99)) == sorted([*stays, local])
    assert await history.check() == []


async def test_a_run_with_many_outcomes_is_pruned_in_short_transactions(database: Database) -> None:
    history = SqlHistory(database, now)
    run = await history.start_run(msgspec.structs.replace(a_run(started_at=0.0), ended_at=1.0))
    await history.record([an_outcome(run, str(n)) for n in range(12_000)])
    assert (await history.prune(Keep(runs=0, days=1))).runs == (run,)
    left = await counts(database)
    assert [left[name] for name in ("nm_run", "nm_outcome", "nm_run_evaluation", "nm_evaluation")] == [0] * 4


def _dated(table: Table, number: int, **values: object) -> dict[str, object]:
    row = {column.name: _value(column, number) for column in table.c}
    row |= {element.parent.name: None for key in table.foreign_key_constraints for element in key.elements}
    return row | values


@pytest.mark.parametrize("dry_run", [True, False])
async def test_what_was_only_kept_for_a_while_goes(database: Database, *, dry_run: bool) -> None:
    of = tables_server
    old, new = NOW - 400 * 86_400, NOW - 5 * 86_400
    rows: list[tuple[Table, dict[str, object]]] = [
        (of.audit, {"at": old}),
        (of.audit, {"at": new}),
        (of.parcel, {"state": "sent", "ended_at": old}),
        (of.parcel, {"state": "sent", "ended_at": new}),
        (of.parcel, {"state": "dead", "ended_at": old}),
        (of.parcel, {"state": "dead", "ended_at": new}),
        (of.parcel, {"state": "waiting", "created_at": old}),
    ]

    def write(connection: Connection) -> None:
        for number, (table, values) in enumerate(rows, 1):
            connection.execute(insert(table).values(_dated(table, number, **values)))

    await database.write(write, action="fill")
    before = await counts(database)
    gone = await upkeep.tidy(database, upkeep.Ages(audit=365), NOW, dry_run=dry_run)
    assert gone == {"nm_audit": 1, "nm_parcel": 2}
    after = await counts(database)
    assert (after["nm_audit"], after["nm_parcel"]) == ((2, 5) if dry_run else (1, 3))
    assert before["nm_parcel"] == 5
    forever = await upkeep.tidy(database, upkeep.Ages(audit=0, parcels=0, dead_letters=0), NOW + 1e9)
    assert forever == {}


async def test_what_expired_goes(database: Database) -> None:
    await database.write(lambda connection: fill(connection, 1), action="fill")
    gone = await upkeep.tidy(database, upkeep.Ages(audit=1), 1e9)
    assert {
        name: gone.get(name) for name in ("nm_session", "nm_token", "nm_failure", "nm_delivery_seen")
    } == dict.fromkeys(("nm_session", "nm_token", "nm_failure", "nm_delivery_seen"), ROWS)
