"""What only the real database does: files, other processes, trouble, and the schema."""

# ruff: noqa: ASYNC240 - a test may wait for the disk

import asyncio
import os
import resource
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from nixmill.core.evaluation import Attribute, EvalError
from nixmill.core.history import Keep
from nixmill.doors import DoorError, NotAllowedError
from nixmill.edge.database import rows, tables, thread, writing
from nixmill.edge.database.engine import refuse_old_sqlite
from nixmill.edge.database.history import open_history
from tests.support.history_rows import a_run, an_attempt, an_evaluation, an_outcome

HERE = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.sqlite"


async def _fails_to_open(file: Path) -> DoorError:
    with pytest.raises(DoorError) as raised:
        async with open_history(file):
            pass
    assert str(file) in str(raised.value)
    return raised.value


def test_every_foreign_key_says_what_a_deletion_does() -> None:
    rules = {
        key.name: key.ondelete for table in tables.metadata.tables.values() for key in table.foreign_key_constraints
    }
    assert rules
    assert set(rules.values()) <= {"CASCADE", "SET NULL"}


def test_all_tables_have_our_prefix_and_can_be_made_on_postgresql() -> None:
    dialect: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in tables.metadata.sorted_tables:
        assert table.name.startswith("nm_")
        assert str(CreateTable(table).compile(dialect=dialect))
        assert all(str(CreateIndex(index).compile(dialect=dialect)) for index in table.indexes)


def test_every_field_of_an_attribute_and_an_error_is_stored() -> None:
    stored = {column.name for column in tables.attribute.c} | set(rows.AttributeDetails.__struct_fields__)
    assert set(Attribute.__struct_fields__) <= stored
    stored = {column.name for column in tables.evaluation_error.c} | set(rows.ErrorDetails.__struct_fields__)
    assert set(EvalError.__struct_fields__) <= stored


async def test_files_are_made_with_their_final_mode(file: Path) -> None:
    before = os.umask(0)
    try:
        async with open_history(file) as history:
            await history.start_run(a_run())
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (file.parent, *file.parent.iterdir())}
    finally:
        os.umask(before)
    assert modes.pop("state") == 0o750
    assert set(modes.values()) == {0o640}
    assert len(modes) == 3


async def test_what_was_recorded_is_there_after_opening_again(file: Path) -> None:
    async with open_history(file) as history:
        run = await history.start_run(a_run())
        await history.record([an_evaluation(run, ("a",)), an_attempt(1, run)])
    async with open_history(file) as history:
        assert await history.evaluation("key") == an_evaluation(run, ("a",))
        assert await history.next_attempts(1) == 1


async def test_a_directory_without_permission_is_told(file: Path) -> None:
    file.parent.mkdir()
    file.mkdir()
    assert isinstance(await _fails_to_open(file), NotAllowedError)


async def test_a_path_through_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    error = await _fails_to_open(tmp_path / "file" / "history.sqlite")
    assert "Not a directory" in str(error)


async def test_something_else_in_its_place_is_told(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"this is a letter to my aunt\n" * 1000)
    error = await _fails_to_open(file)
    assert "is not an SQLite database" in str(error)
    assert not error.retryable


async def test_a_damaged_database_is_told(file: Path) -> None:
    async with open_history(file) as history:
        run = await history.start_run(a_run())
        await history.record([an_evaluation(run, *((str(n),) for n in range(2000)))])
    content = bytearray(file.read_bytes())
    content[4096 * 140 : 4096 * 180] = b"\xff" * (4096 * 40)
    file.write_bytes(content)
    async with open_history(file) as history:
        assert any("damaged" in sentence for sentence in await history.check())
        with pytest.raises(DoorError, match="it is damaged"):
            await history.evaluation("key")


async def test_a_newer_schema_is_left_alone(file: Path) -> None:
    async with open_history(file):
        pass
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE nm_schema SET version_num = '9999'")
    connection.close()
    assert "written by a newer nixmill (schema 9999)" in str(await _fails_to_open(file))


async def test_a_row_of_the_future_is_told(file: Path) -> None:
    async with open_history(file) as history:
        run = await history.start_run(a_run())
        await history.record([an_outcome(run, "a")])
        with sqlite3.connect(file) as connection:
            connection.execute("UPDATE nm_outcome SET change = 'improved'")
        connection.close()
        with pytest.raises(DoorError, match="a row that this nixmill cannot read"):
            await history.attributes(run)


@contextmanager
def _small_files(limit: int) -> Iterator[None]:
    """Let no file of this process grow beyond `limit` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


async def test_a_disk_that_takes_no_more_is_told_and_harms_nothing(file: Path) -> None:
    async with open_history(file) as history:
        run = await history.start_run(a_run())
        large = an_evaluation(run, *((str(n),) for n in range(5000)))
        with _small_files(500_000), pytest.raises(DoorError, match="disk"):
            await history.record([large])
        assert await history.evaluation("key") is None
        await history.record([large])
        assert await history.evaluation("key") == large
        assert await history.check() == []


def test_an_old_sqlite_is_refused_on_new_pythons_only() -> None:
    with pytest.raises(DoorError, match=r"SQLite 3\.41\.2 is too old"):
        refuse_old_sqlite((3, 41, 2), (3, 12, 0))
    refuse_old_sqlite((3, 41, 2), (3, 11, 9))
    refuse_old_sqlite((3, 42, 0), (3, 14, 0))


async def test_calls_made_together_share_transactions(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_history(file) as history:
        run = await history.start_run(a_run())
        commits = 0
        configured = thread.DatabaseThread._transaction

        def counted(self: thread.DatabaseThread, *args: object) -> None:
            nonlocal commits
            commits += 1
            configured(self, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(thread.DatabaseThread, "_transaction", counted)
        await asyncio.gather(*(history.record([an_attempt(n, run)]) for n in range(1, 201)))
        assert commits < 20
        found = await history.run(run)
        assert found is not None
        assert len(found[1]) == 200


async def test_a_cancelled_call_does_not_disturb_others(file: Path) -> None:
    async with open_history(file) as history:
        run = await history.start_run(a_run())
        tasks = [asyncio.create_task(history.record([an_attempt(n, run)])) for n in range(1, 101)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert results[1::2] == [None] * 50
        found = await history.run(run)
        assert found is not None
        assert {row.number for row in found[1]} >= set(range(2, 101, 2))


_WRITER = """
import asyncio, sys
from pathlib import Path
from nixmill.edge.database.history import open_history
from tests.support.history_rows import a_run, an_attempt, an_evaluation

async def main():
    async with open_history(Path(sys.argv[1])) as history:
        run = await history.start_run(a_run())
        for _ in range(20):
            first = await history.next_attempts(5)
            await history.record([an_attempt(n, run) for n in range(first, first + 5)])
        await history.record([an_evaluation(run, *((str(n),) for n in range(500)), key=str(run))])

asyncio.run(main())
"""


async def _writer(file: Path, text: str = _WRITER) -> asyncio.subprocess.Process:
    environment = os.environ | {"PYTHONPATH": f"{HERE}/src:{HERE}"}
    return await asyncio.create_subprocess_exec(sys.executable, "-c", text, str(file), env=environment)


async def test_processes_that_open_and_write_at_the_same_time_lose_nothing(file: Path) -> None:
    writers = [await _writer(file) for _ in range(4)]
    assert [await writer.wait() for writer in writers] == [0] * 4
    async with open_history(file) as history:
        assert [row.number for row in await history.runs(10)] == [4, 3, 2, 1]
        numbers = []
        for run in range(1, 5):
            found = await history.run(run)
            assert found is not None
            numbers += [row.number for row in found[1]]
            assert await history.evaluation(str(run)) is not None
        assert sorted(numbers) == list(range(1, 401))
        assert await history.check() == []


_TALKER = """
import asyncio, sys
from pathlib import Path
from nixmill.edge.database.history import open_history
from tests.support.history_rows import a_run, an_attempt

async def main():
    async with open_history(Path(sys.argv[1])) as history:
        run = await history.start_run(a_run())
        for number in range(1, 100_000):
            await history.record([an_attempt(number, run)])
            print(number, flush=True)

asyncio.run(main())
"""


async def test_what_was_announced_survives_a_kill(file: Path) -> None:
    environment = os.environ | {"PYTHONPATH": f"{HERE}/src:{HERE}"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _TALKER, str(file), env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    for _ in range(50):
        await process.stdout.readline()
    process.kill()
    announced = 50 + len((await process.stdout.read()).split())
    await process.wait()
    async with open_history(file) as history:
        found = await history.run(None)
        assert found is not None
        assert [row.number for row in found[1]][:announced] == list(range(1, announced + 1))
        assert [row.number for row in await history.crashed_runs()] == [1]
        assert await history.check() == []


async def test_pruning_makes_the_file_smaller(file: Path) -> None:
    async with open_history(file, now=lambda: 1e9) as history:
        run = await history.start_run(msgspec.structs.replace(a_run(started_at=0.0), ended_at=1.0))
        await history.record([an_evaluation(run, *((str(n),) for n in range(20_000)))])
        await history.prune(Keep(runs=0, days=1))
    assert file.stat().st_size < 500_000


async def test_large_calls_are_written_in_batches_and_come_back_whole(file: Path) -> None:
    count = writing.BATCH * 2 + 1
    async with open_history(file) as history:
        run = await history.start_run(a_run())
        row = an_evaluation(run, *((str(n), "x") for n in range(count)))
        await history.record([row, *(an_outcome(run, str(n), "x") for n in range(count))])
        found = await history.evaluation("key")
        assert found is not None
        assert found.attributes == row.attributes
        assert len(found.outcomes) == count


async def test_an_opening_that_is_cancelled_leaves_no_thread(file: Path) -> None:
    async def hold() -> None:
        async with open_history(file):
            await asyncio.Event().wait()

    for turns in range(4):
        task = asyncio.create_task(hold())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert not [each.name for each in threading.enumerate() if each.name == "nixmill-history"]


async def test_asking_a_closed_history_is_a_fault(file: Path) -> None:
    async with open_history(file) as history:
        pass
    with pytest.raises(RuntimeError, match="after it was closed"):
        await history.runs(1)
