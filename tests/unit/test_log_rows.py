"""Windows of a log are its lines, wherever they begin and however the log arrives."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from nixmill.web.log_rows import LINE_BYTES, Line, LogReader, Window
from tests.fakes.logs import FakeLogs

T = TypeVar("T")
texts = st.lists(
    st.text(st.characters(blacklist_characters="\n", blacklist_categories=["Cs"]), max_size=60), max_size=80
)


def run(work: Coroutine[None, None, T]) -> T:
    return asyncio.run(work)


def logs_of(lines: list[str]) -> FakeLogs:
    logs = FakeLogs()
    sink = logs.open(1)
    for line in lines:
        sink.write(line)
    return logs


def shown(window: Window) -> list[Line]:
    return [line for group in window.groups for line in group.lines]


@given(texts, st.integers(1, 100), st.integers(1, 100))
def test_a_window_is_the_lines_that_were_asked_for(lines: list[str], first: int, count: int) -> None:
    window = run(LogReader(logs_of(lines)).window(1, first, count))
    begin = max(min(first, len(lines)), 1) - 1
    assert [line.text for line in shown(window)] == lines[begin : begin + count]
    assert [line.number for line in shown(window)] == list(range(begin + 1, begin + 1 + len(shown(window))))
    assert window.total == len(lines)


@given(texts, st.integers(1, 100))
def test_without_a_first_line_it_is_the_tail(lines: list[str], count: int) -> None:
    window = run(LogReader(logs_of(lines)).window(1, count=count))
    assert [line.text for line in shown(window)] == lines[-count:]
    assert window.at_end
    assert window.end == window.size == sum(len(line.encode()) + 1 for line in lines)


@given(texts)
def test_reading_goes_on_at_the_end_of_any_line(lines: list[str]) -> None:
    async def check() -> None:
        reader = LogReader(logs_of(lines))
        whole = [line async for line in reader.lines(1, 0, 1)]
        assert [line.text for line in whole] == lines
        for at, line in enumerate(whole):
            assert await reader.line_at(1, line.end) == line.number + 1
            rest = [later async for later in reader.lines(1, line.end, line.number + 1)]
            assert rest == whole[at + 1 :]

    run(check())


def test_an_index_goes_on_where_it_ended_and_old_ones_are_forgotten() -> None:
    async def check() -> None:
        logs = FakeLogs()
        sinks = [logs.open(attempt) for attempt in range(3)]
        reader = LogReader(logs, kept_max=2)
        for sink in sinks:
            sink.write("one")
        first = await reader.index(0)
        sinks[0].write("two")
        assert await reader.index(0) is first
        assert first.lines == 2
        await reader.index(1)
        await reader.index(2)
        assert await reader.index(0) is not first

    run(check())


def test_a_line_without_end_takes_bounded_memory_and_its_offset_is_right() -> None:
    async def check() -> None:
        reader = LogReader(logs_of(["x" * 500_000, "a" * 300_000 + "\rlast", "short"]))
        lines = [line async for line in reader.lines(1, 0, 1)]
        assert len(lines[0].text) <= LINE_BYTES + 1000
        assert lines[1].text.endswith("last")
        assert [line.end for line in lines] == [500_001, 800_007, 800_013]

    run(check())


def test_two_who_ask_at_once_count_lines_once() -> None:
    async def check() -> None:
        reader = LogReader(logs_of(["x"] * 5000))
        first, second = await asyncio.gather(reader.index(1), reader.index(1))
        assert first is second
        assert first.lines == 5000

    run(check())


def test_a_log_that_was_deleted_meanwhile_has_no_lines() -> None:
    async def check() -> None:
        logs = logs_of(["one"])
        reader = LogReader(logs)
        assert (await reader.window(1)).total == 1
        await logs.delete([1])
        window = await reader.window(1)
        assert (window.total, window.first, window.last) == (0, 0, 0)

    run(check())
