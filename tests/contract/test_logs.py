"""What every `Logs` does, on files and on the fake."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nixmill.doors import DoorError, Logs
from nixmill.edge.log_files import LogFiles
from tests.fakes.logs import FakeLogs


@pytest.fixture(params=["files", "fake"])
async def logs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Logs]:
    if request.param == "fake":
        yield FakeLogs()
    else:
        files = LogFiles(tmp_path / "logs")
        yield files
        await files.close()


async def _text(logs: Logs, attempt: int, offset: int = 0, limit: int | None = None) -> bytes:
    return b"".join([part async for part in logs.read(attempt, offset, limit)])


async def test_what_was_written_is_read(logs: Logs) -> None:
    sink = logs.open(1)
    for line in ("first", "", "\x1b[31mred\x1b[0m", "über", "raw \udcff byte"):
        sink.write(line)
    await sink.close()
    assert await _text(logs, 1) == b"first\n\n\x1b[31mred\x1b[0m\n\xc3\xbcber\nraw \xff byte\n"


async def test_a_log_that_grows_can_be_read(logs: Logs) -> None:
    sink = logs.open(5)
    sink.write("one")
    assert await _text(logs, 5) == b"one\n"
    sink.write("two")
    assert await _text(logs, 5, 4) == b"two\n"
    await sink.close()
    assert await _text(logs, 5) == b"one\ntwo\n"


async def test_an_attempt_without_a_log_reads_as_nothing(logs: Logs) -> None:
    assert await _text(logs, 77) == b""


async def test_a_log_is_never_overwritten(logs: Logs) -> None:
    sink = logs.open(1)
    sink.write("kept")
    with pytest.raises(DoorError):
        logs.open(1)
    await sink.close()
    with pytest.raises(DoorError):
        logs.open(1)
    assert await _text(logs, 1) == b"kept\n"


async def test_many_logs_do_not_mix(logs: Logs) -> None:
    sinks = {attempt: logs.open(attempt) for attempt in (1, 2, 999, 1000, 1001, 99_999, 100_000, 12_345_678)}
    for n in range(50):
        for attempt, sink in sinks.items():
            sink.write(f"{attempt}: {n}")
    for attempt, sink in sinks.items():
        await sink.close()
        assert await _text(logs, attempt) == "".join(f"{attempt}: {n}\n" for n in range(50)).encode()
    assert len({logs.location(attempt) for attempt in sinks}) == len(sinks)


@pytest.mark.parametrize(("offset", "limit"), [(0, 0), (0, 1), (3, 10), (300_000, 5), (10**9, None), (499_999, 5)])
async def test_a_range_is_a_slice_of_the_whole(logs: Logs, offset: int, limit: int | None) -> None:
    sink = logs.open(1)
    for n in range(50_000):
        sink.write(f"{n:09}")
    await sink.close()
    whole = await _text(logs, 1)
    assert len(whole) == 500_000
    assert await _text(logs, 1, offset, limit) == whole[offset:][:limit]


async def test_a_deleted_log_is_gone_and_what_was_never_there_does_not_matter(logs: Logs) -> None:
    sink = logs.open(1)
    sink.write("line")
    await sink.close()
    await logs.delete([1, 99])
    assert [chunk async for chunk in logs.read(1)] == []
