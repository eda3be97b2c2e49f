"""The database under stress: readers beside writers, other processes, lost races, and servers that go away."""

import asyncio
import contextlib
import functools
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

from nixmill.core.errors import InputError
from nixmill.doors import DoorError
from nixmill.edge.database import engine, writing
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.place import place_of
from tests.support.databases import database, place, postgres
from tests.support.history_rows import a_run, an_attempt
from tests.support.postgres import USER, Postgres, running_postgres

__all__ = ["database", "place", "postgres"]

HERE = Path(__file__).parents[2]
ENVIRONMENT = os.environ | {"PYTHONPATH": f"{HERE}/src:{HERE}"}


def put(name: str, value: str = "x") -> str:
    return f"INSERT INTO nm_setting (name, value) VALUES ('{name}', '{value}')"  # noqa: S608 - of this test


async def run_sql(database: Database, sql: str) -> None:
    def work(connection: Connection) -> None:
        connection.exec_driver_sql(sql)

    await database.write(work, action="try")


async def settings(database: Database) -> list[str]:
    def look(connection: Connection) -> list[str]:
        return list(connection.execute(text("SELECT name FROM nm_setting ORDER BY name")).scalars())

    return await database.read(look, action="look")


async def test_reads_do_not_queue_behind_a_write(database: Database) -> None:
    await run_sql(database, put("before"))
    begun, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        connection.exec_driver_sql(put("slow"))
        begun.set()
        assert go_on.wait(30)

    writing_ = asyncio.create_task(database.write(slow, action="write slowly"))
    await asyncio.to_thread(begun.wait, 30)
    assert await asyncio.gather(*(settings(database) for _ in range(10))) == [["before"]] * 10
    go_on.set()
    await writing_
    assert await settings(database) == ["before", "slow"]


async def test_a_read_sees_one_state_and_cannot_write(database: Database) -> None:
    looked, go_on = threading.Event(), threading.Event()

    def twice(connection: Connection) -> list[int]:
        count = text("SELECT count(*) FROM nm_setting")
        first = connection.execute(count).scalar_one()
        looked.set()
        assert go_on.wait(30)
        return [first, connection.execute(count).scalar_one()]

    reading = asyncio.create_task(database.read(twice, action="look twice"))
    await asyncio.to_thread(looked.wait, 30)
    await run_sql(database, put("between"))
    go_on.set()
    assert await reading == [0, 0]
    with pytest.raises(DoorError):
        await database.read(lambda connection: connection.exec_driver_sql(put("sneaky")), action="write in a read")
    assert await settings(database) == ["between"]


async def test_writers_in_two_programs_never_get_the_same_numbers(place: Path | str) -> None:
    async with open_database(place) as one, open_database(place) as other:
        both = [SqlHistory(one, lambda: 0.0), SqlHistory(other, lambda: 0.0)]
        firsts = await asyncio.gather(*(both[n % 2].next_attempts(3) for n in range(60)))
    assert sorted(firsts) == list(range(1, 181, 3))


async def test_transactions_that_lock_each_other_out_all_succeed_in_the_end(place: Path | str) -> None:
    async with open_database(place) as one, open_database(place) as other:
        for name in ("a", "b"):
            await run_sql(one, put(name, "0"))

        def add(connection: Connection, names: str) -> None:
            more = text("UPDATE nm_setting SET value = CAST(value AS INTEGER) + 1 WHERE name = :name")
            for name in names:
                connection.execute(more, {"name": name})

        calls = [
            each.write(functools.partial(add, names=names), action="add")
            for _ in range(40)
            for each, names in ((one, "ab"), (other, "ba"))
        ]
        await asyncio.gather(*calls)
        query = text("SELECT value FROM nm_setting ORDER BY name")
        found = await one.read(lambda connection: list(connection.execute(query).scalars()), action="look")
    assert found == ["80", "80"]


_TALKER = """
import asyncio, pathlib, sys
from nixmill.edge.database.database import open_database
from nixmill.edge.database.history import SqlHistory
from tests.support.history_rows import a_run, an_attempt

async def main():
    where = sys.argv[1] if "://" in sys.argv[1] else pathlib.Path(sys.argv[1])
    async with open_database(where) as database:
        history = SqlHistory(database, lambda: 0.0)
        run = await history.start_run(a_run())
        for number in range(1, 100_000, 5):
            await history.record([an_attempt(n, run) for n in range(number, number + 5)])
            print(number, flush=True)

asyncio.run(main())
"""


async def test_what_was_announced_survives_a_kill_and_transactions_are_whole(place: Path | str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _TALKER, str(place), env=ENVIRONMENT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    for _ in range(20):
        assert await process.stdout.readline()
    process.kill()
    announced = 20 + len((await process.stdout.read()).split())
    await process.wait()
    async with open_database(place) as database:
        found = await SqlHistory(database, lambda: 0.0).run(None)
    assert found is not None
    numbers = [row.number for row in found[1]]
    assert len(numbers) % 5 == 0
    assert numbers[: announced * 5] == list(range(1, announced * 5 + 1))


_OPENER = """
import asyncio, pathlib, sys
from nixmill.edge.database.database import open_database

async def main():
    where = sys.argv[1] if "://" in sys.argv[1] else pathlib.Path(sys.argv[1])
    async with open_database(where):
        pass

asyncio.run(main())
"""


async def test_programs_that_open_a_new_database_at_the_same_time_agree(postgres: Postgres) -> None:
    name = postgres.new()
    openers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", _OPENER, postgres.url(name), env=ENVIRONMENT)
        for _ in range(3)
    ]
    assert [await opener.wait() for opener in openers] == [0, 0, 0]
    postgres.drop(name)


_HOLDER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


@contextlib.asynccontextmanager
async def held(file: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Let another process hold the lock for writing until it reads a line."""
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLDER, str(file), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    await holder.stdout.readline()
    try:
        yield holder
    finally:
        with contextlib.suppress(ProcessLookupError):
            holder.kill()
        await holder.wait()


async def test_a_write_waits_for_another_process_that_holds_the_lock(tmp_path: Path) -> None:
    async with open_database(tmp_path / "x") as database:
        async with held(tmp_path / "x") as holder:
            waiting = asyncio.create_task(run_sql(database, put("late")))
            done, _ = await asyncio.wait([waiting], timeout=2.0)
            assert not done
            assert await settings(database) == []
            assert holder.stdin is not None
            holder.stdin.write(b"\n")
            await waiting
        assert await settings(database) == ["late"]


async def test_a_lock_that_is_held_too_long_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_MS", 50)
    async with open_database(tmp_path / "x") as database, held(tmp_path / "x"):
        with pytest.raises(DoorError, match="another process kept it locked for too long") as raised:
            await run_sql(database, put("never"))
        assert raised.value.retryable


async def test_a_file_can_be_backed_up_while_it_is_written(tmp_path: Path) -> None:
    async with open_database(tmp_path / "x") as database:
        await run_sql(database, put("there"))
        with contextlib.closing(sqlite3.connect(tmp_path / "x")) as source, sqlite3.connect(tmp_path / "copy") as copy:
            source.backup(copy)
        copy.close()
    async with open_database(tmp_path / "copy") as database:
        assert await settings(database) == ["there"]


async def test_calls_wait_for_a_server_that_is_restarted() -> None:
    with running_postgres() as cluster:
        async with open_database(cluster.url(cluster.new())) as database:
            history = SqlHistory(database, lambda: 0.0)
            run = await history.start_run(a_run())
            for number, how in enumerate((signal.SIGINT, signal.SIGQUIT), 1):
                await asyncio.to_thread(cluster.stop, how)
                record = asyncio.create_task(history.record([an_attempt(number, run)]))
                look = asyncio.create_task(history.runs(9))
                done, _ = await asyncio.wait([record, look], timeout=0.5)
                assert not done
                await asyncio.to_thread(cluster.start)
                assert [row.number for row in await look] == [run]
                await record
            found = await history.run(run)
            assert found is not None
            assert [row.number for row in found[1]] == [1, 2]


async def test_work_under_way_when_the_server_restarts_is_done_once() -> None:
    with running_postgres() as cluster:
        async with open_database(cluster.url(cluster.new())) as database:
            history = SqlHistory(database, lambda: 0.0)
            runs = [asyncio.create_task(history.start_run(a_run())) for _ in range(50)]
            await asyncio.sleep(0)
            await asyncio.to_thread(cluster.stop, signal.SIGQUIT)
            more = [asyncio.create_task(history.start_run(a_run())) for _ in range(50)]
            await asyncio.to_thread(cluster.start)
            numbers = await asyncio.gather(*runs, *more)
            assert len(set(numbers)) == 100
            assert sorted(row.number for row in await history.runs(200)) == sorted(numbers)


async def test_a_commit_whose_answer_was_lost_is_not_repeated(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_database(postgres.url(postgres.new())) as database:
        history = SqlHistory(database, lambda: 0.0)
        await history.start_run(a_run())
        commit = psycopg.Connection.commit
        lost: list[object] = []

        def commit_and_lose(self: psycopg.Connection[object]) -> None:
            commit(self)
            if not lost:
                lost.append(self)
                self.close()
                raise psycopg.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(psycopg.Connection, "commit", commit_and_lose)
        assert await history.start_run(a_run()) == 2
        assert lost
        assert [row.number for row in await history.runs(9)] == [2, 1]


async def test_a_server_that_stays_away_is_told(postgres: Postgres) -> None:
    with running_postgres() as cluster:
        async with open_database(cluster.url(cluster.new()), patience_s=0.5) as database:
            await run_sql(database, put("there"))
            cluster.stop()
            with pytest.raises(DoorError, match="the PostgreSQL server does not answer") as raised:
                await run_sql(database, put("not there"))
            assert raised.value.retryable
            with pytest.raises(DoorError, match="the PostgreSQL server does not answer"):
                await settings(database)


async def test_closing_does_not_wait_for_a_server_that_is_gone() -> None:
    with running_postgres() as cluster:
        async with open_database(cluster.url(cluster.new()), patience_s=600.0) as database:
            cluster.stop()
            waiting = asyncio.create_task(run_sql(database, put("never")))
            await asyncio.sleep(0)
            async with asyncio.timeout(20):
                await database.close()
        with pytest.raises(DoorError):
            await waiting


async def _fails_to_open(where: str, password: str = "") -> DoorError:
    with pytest.raises(DoorError) as raised:
        async with open_database(where, password=password, patience_s=0.2):
            pass
    return raised.value


async def test_what_is_wrong_with_a_server_is_told_when_opening(postgres: Postgres) -> None:
    assert "has no such database" in str(await _fails_to_open(postgres.url("nowhere")))
    assert "did not let this user in" in str(await _fails_to_open(f"postgresql://nobody@/x?host={postgres.directory}"))
    assert "does not answer" in str(await _fails_to_open("postgresql://mill@/x?host=/nonexistent"))
    latin = postgres.new(encoding="LATIN1")
    assert "its encoding is LATIN1" in str(await _fails_to_open(postgres.url(latin)))
    postgres.drop(latin)


async def test_a_user_without_rights_is_told(postgres: Postgres) -> None:
    name = postgres.new()
    async with open_database(postgres.url(name)) as database:
        await run_sql(database, "DO $$ BEGIN CREATE ROLE guest LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    error = await _fails_to_open(postgres.url(name).replace(f"{USER}@", "guest@"))
    assert "this user may not do that there" in str(error)


async def test_a_password_is_used_and_never_shown() -> None:
    secret = "correct horse battery staple"  # noqa: S105 - of this test alone
    with running_postgres(secret) as cluster:
        where = cluster.url(cluster.new())
        async with open_database(where, password=secret) as database:
            await run_sql(database, put("there"))
            shown = f"{database} {place_of(where, secret)!r}"
            assert secret not in shown
            with pytest.raises(DoorError) as raised:
                await run_sql(database, "SELECT 1 / 0")
            assert secret not in str(raised.value)
        for wrong in ("", "wrong guess"):
            error = await _fails_to_open(where, wrong)
            assert "did not let this user in" in str(error)
            assert not wrong or wrong not in f"{error} {error.__cause__}"


@pytest.mark.parametrize(
    "where",
    [
        "postgresql://mill:secret@host/db",
        "mysql://host/db",
        "postgresql://host",
        "nonsense",
        "postgresql://mill:sec/ret@host:secret/db",
        "postgresql:///x?password=secret",
    ],
)
def test_an_address_that_makes_no_sense_is_told_without_its_password(where: str) -> None:
    with pytest.raises(InputError) as raised:
        place_of(where)
    assert "secret" not in f"{raised.value} {raised.value.remedy}"


async def test_large_calls_are_written_in_batches(database: Database) -> None:
    history = SqlHistory(database, lambda: 0.0)
    run = await history.start_run(a_run())
    count = writing.BATCH + 1
    await history.record([an_attempt(n, run) for n in range(1, count + 1)])
    found = await history.run(run)
    assert found is not None
    assert len(found[1]) == count
