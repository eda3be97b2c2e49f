"""What only the files do: where they are, how they break, and what they cost in memory."""

# ruff: noqa: ASYNC240 - a test may wait for the disk

import asyncio
import os
import resource
import signal
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nixmill.doors import DoorError
from nixmill.edge.log_files import LogFiles
from nixmill.edge.zstd_frames import FRAME_BYTES, FrameCompressor

HERE = Path(__file__).parents[2]


@pytest.fixture
async def logs(tmp_path: Path) -> AsyncIterator[LogFiles]:
    files = LogFiles(tmp_path / "logs")
    yield files
    await files.close()


async def _text(logs: LogFiles, attempt: int, offset: int = 0, limit: int | None = None) -> bytes:
    return b"".join([part async for part in logs.read(attempt, offset, limit)])


async def _written(logs: LogFiles, attempt: int, lines: int = 3) -> bytes:
    sink = logs.open(attempt)
    for n in range(lines):
        sink.write(f"line {n}")
    await sink.close()
    return b"".join(b"line %d\n" % n for n in range(lines))


@pytest.mark.parametrize(
    ("attempt", "place"),
    [(1, "00/00/001.zst"), (12_345, "00/12/345.zst"), (99_999_999, "999/99/999.zst"), (10**10, "100000/00/000.zst")],
)
async def test_a_path_is_made_of_the_number_alone(logs: LogFiles, tmp_path: Path, attempt: int, place: str) -> None:
    await _written(logs, attempt)
    assert logs.location(attempt) == f"{tmp_path}/logs/{place}"
    assert Path(logs.location(attempt)).is_file()


async def test_the_file_appears_with_the_first_line(logs: LogFiles) -> None:
    sink = logs.open(1)
    await sink.flush()
    assert not Path(logs.location(1)).exists()
    sink.write("here")
    await sink.flush()
    assert Path(logs.location(1)).exists()
    await sink.close()


async def test_a_log_without_lines_leaves_no_file(logs: LogFiles, tmp_path: Path) -> None:
    await logs.open(1).close()
    assert not (tmp_path / "logs").exists()
    assert await _written(logs, 1) == await _text(logs, 1)


async def test_lines_reach_the_file_without_being_asked_for(tmp_path: Path) -> None:
    logs, reader = LogFiles(tmp_path, linger_s=0.01), LogFiles(tmp_path)
    sink = logs.open(1)
    sink.write("soon")
    async with asyncio.timeout(10):
        while await _text(reader, 1) != b"soon\n":  # noqa: ASYNC110 - another process could do no better
            await asyncio.sleep(0.005)
    await logs.close()


async def test_files_and_directories_are_made_with_their_final_mode(logs: LogFiles, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        await _written(logs, 12_345)
    finally:
        os.umask(before)
    path = Path(logs.location(12_345))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    for directory in (path.parent, path.parent.parent, tmp_path / "logs"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o750


async def test_a_torn_last_frame_is_left_out(logs: LogFiles) -> None:
    text = await _written(logs, 1, lines=50_000)
    path = Path(logs.location(1))
    whole = path.read_bytes()
    for cut in (1, 2, 10, 100):
        path.write_bytes(whole[:-cut])
        read = await _text(logs, 1)
        assert text.startswith(read)
        assert len(text) - len(read) <= FRAME_BYTES


async def test_a_damaged_frame_is_told_after_what_comes_before_it(logs: LogFiles) -> None:
    text = await _written(logs, 1, lines=50_000)
    path = Path(logs.location(1))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    parts = logs.read(1)
    read = await anext(parts)
    with pytest.raises(DoorError, match="is damaged"):
        read += await _rest(parts)
    assert text.startswith(read)


async def _rest(parts: AsyncIterator[bytes]) -> bytes:
    return b"".join([part async for part in parts])


async def test_what_is_no_log_at_all_is_told(logs: LogFiles) -> None:
    path = Path(logs.location(1))
    path.parent.mkdir(parents=True)
    path.write_bytes(b"hello " * 100_000)
    with pytest.raises(DoorError, match="is damaged: no frame at byte 0"):
        await _text(logs, 1)


async def test_a_log_of_another_process_is_not_overwritten(tmp_path: Path) -> None:
    one, other = LogFiles(tmp_path), LogFiles(tmp_path)
    first, second = one.open(1), other.open(1)
    first.write("mine")
    await first.flush()
    second.write("theirs")
    with pytest.raises(DoorError, match="incomplete: File exists"):
        await second.close()
    await one.close()
    await other.close()
    assert await _text(one, 1) == b"mine\n"


async def test_trouble_is_told_when_closing_and_concerns_one_log_only(logs: LogFiles) -> None:
    await _written(logs, 2)
    (Path(logs.location(2)).parent.parent / "99").touch()
    sink = logs.open(99_001)
    sink.write("lost")
    with pytest.raises(DoorError, match="is incomplete: Not a directory"):
        await sink.close()
    assert await _written(logs, 1) == await _text(logs, 1)


async def test_a_full_disk_leaves_a_readable_log(logs: LogFiles) -> None:
    sink = logs.open(1)
    sink.write("a good start")
    await sink.flush()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        for n in range(10_000):
            sink.write(f"{n} {n * 7919 % 10_007}")
        with pytest.raises(DoorError, match="incomplete"):
            await sink.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert await _text(logs, 1) == b"a good start\n"


async def test_lines_beyond_what_may_wait_are_counted_where_they_are_missing(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path, aside_max=1000)
    sink = logs.open(1)
    sink.write("before")
    for _ in range(3):
        sink.write("x" * 2000)
    sink.write("after")
    sink.write("y" * 2000)
    await sink.close()
    gap = "[nixmill: {} lines are missing here, because the disk could not follow]"
    assert (await _text(logs, 1)).decode().splitlines() == ["before", gap.format(3), "after", gap.format(1)]
    await logs.close()


async def test_a_long_line_is_cut_into_frames(logs: LogFiles) -> None:
    sink = logs.open(1)
    sink.write("x" * (10 * FRAME_BYTES))
    await sink.close()
    assert await _text(logs, 1) == b"x" * (10 * FRAME_BYTES) + b"\n"
    assert await _text(logs, 1, 5 * FRAME_BYTES - 1, 2) == b"xx"


async def test_writing_after_closing_is_a_fault(logs: LogFiles) -> None:
    sink = logs.open(1)
    await sink.close()
    with pytest.raises(RuntimeError, match="after it was closed"):
        sink.write("late")
    await sink.close()


async def test_deleted_logs_read_as_nothing(logs: LogFiles) -> None:
    for attempt in (1, 2):
        await _written(logs, attempt)
    await logs.delete([1, 3])
    assert await _text(logs, 1) == b""
    assert await _text(logs, 2) != b""


async def test_closing_writes_what_is_still_open(tmp_path: Path) -> None:
    logs = LogFiles(tmp_path)
    logs.open(1).write("unfinished")
    await logs.close()
    assert await _text(logs, 1) == b"unfinished\n"


_WRITER = """
import asyncio, sys
from pathlib import Path
from nixmill.edge.log_files import LogFiles

async def main():
    logs = LogFiles(Path(sys.argv[1]))
    sink = logs.open(1)
    for n in range(10**9):
        sink.write(f"line {n}")
        if n % 1000 == 0:
            await sink.flush()
            print(n, flush=True)

asyncio.run(main())
"""


async def test_what_was_flushed_survives_a_kill(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-c", _WRITER, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": f"{HERE}/src:{HERE}"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    for _ in range(20):
        await process.stdout.readline()
    process.kill()
    await process.wait()
    lines = (await _text(LogFiles(tmp_path), 1)).decode().splitlines()
    assert len(lines) > 19_000
    assert lines == [f"line {n}" for n in range(len(lines))]


def test_a_frame_is_never_larger_than_readers_expect() -> None:
    assert len(FrameCompressor().frames(os.urandom(FRAME_BYTES))) < FRAME_BYTES + 1024
