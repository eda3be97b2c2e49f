"""Rows of a log: a window of lines out of any log, in bounded memory.

What is asked for first reads the log once from end to end (about a second for 64 MiB) to know its lines; the index
(`nixmill.core.log_index`) of the logs that were asked for last is kept, and goes on where it ended when a log has
grown. A window then reads from the nearest mark on.
What this file does not know: who may read a log, and how a page looks around the rows.
"""

import asyncio
import html
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Final, NamedTuple

from nixmill.core.ansi_html import line_html
from nixmill.core.log_index import LogIndex, Phase
from nixmill.doors import Logs

TAIL_LINES: Final = 2_000
"""Lines of a page that is not asked for anything else: the last ones."""
ALL_LINES: Final = 30_000
WINDOW_CHARS: Final = 2 * 1024 * 1024
"""Lines of a page at most, as HTML (a hostile line is many times longer than its text); with `all` twice as much."""
LINE_BYTES: Final = 64 * 1024
"""Bytes kept of a line; a row shows fewer."""
TURN_LINES: Final = 8
KEPT_MAX: Final = 64
"""Indexes that are kept, at most about 200 KiB each."""


class Line(NamedTuple):
    """A line of a log."""

    number: int
    """Counted from 1."""
    text: str
    end: int
    """Offset of the byte after it."""
    html: str = ""
    """As it is shown, where that is known."""


class Group(NamedTuple):
    """Lines of a window that belong to the same phase."""

    phase: Phase | None
    lines: Sequence[Line]


class Window(NamedTuple):
    """What a page shows of a log."""

    groups: Sequence[Group]
    first: int
    """Number of the first line; 0 where there is none."""
    last: int
    total: int
    """Lines of the whole log."""
    size: int
    """Bytes of the whole log."""
    end: int
    """Offset at which the line after the last one begins: from where live lines follow."""
    phases: Sequence[Phase]
    error: int | None
    """The line with the error that matters, in this window or not."""

    @property
    def at_end(self) -> bool:
        """Say whether the last line of the log is here."""
        return self.last == self.total


class LogReader:
    """Reads windows of logs; one for a site."""

    def __init__(self, logs: Logs, kept_max: int = KEPT_MAX) -> None:
        """Begin without indexes."""
        self._logs = logs
        self._kept_max = kept_max
        self._indexes: OrderedDict[int, tuple[LogIndex, asyncio.Lock]] = OrderedDict()

    async def index(self, attempt: int) -> LogIndex:
        """Return the index of a log, complete as of now."""
        index, lock = self._kept(attempt)
        async with lock:
            async for text in self._logs.read(attempt, index.size):
                index.feed(text)
        return index

    async def window(self, attempt: int, first: int | None = None, count: int = TAIL_LINES) -> Window:
        """Return `count` lines from line `first` on; the last ones where it is None."""
        index = await self.index(attempt)
        begin = max(index.lines - count + 1, 1) if first is None else max(min(first, index.lines), 1)
        limit = WINDOW_CHARS * 2 if count > TAIL_LINES else WINDOW_CHARS
        taken = self._taken(attempt, index, begin, count)
        lines = await (self._last(taken, limit) if first is None else self._first(taken, limit))
        return Window(
            groups=list(_grouped(lines, index)),
            first=lines[0].number if lines else 0,
            last=lines[-1].number if lines else 0,
            total=index.lines if lines else 0,  # deleted since it was counted
            size=index.whole,
            end=lines[-1].end if lines else 0,
            phases=tuple(index.phases),
            error=index.error,
        )

    async def line_at(self, attempt: int, offset: int) -> int:
        """Return the number of the line that begins at `offset`, or that has this byte."""
        at, number = (await self.index(attempt)).near_offset(offset)
        if offset > at:
            number += sum([text.count(b"\n") async for text in self._logs.read(attempt, at, offset - at)])
        return number

    async def lines(self, attempt: int, offset: int, number: int) -> AsyncGenerator[Line]:
        """Yield whole lines from `offset`, where line `number` begins; of one that is too long, its last state."""
        rest, cut = b"", 0
        async for text in self._logs.read(attempt, offset):
            *whole, last = text.split(b"\n")
            for piece in whole:
                offset += len(rest) + cut + len(piece) + 1
                yield Line(number, _decoded(rest + piece), offset)
                number, rest, cut = number + 1, b"", 0
            rest += last
            if len(rest) > LINE_BYTES:
                kept = rest[rest.rfind(b"\r") + 1 :][:LINE_BYTES]
                rest, cut = kept, cut + len(rest) - len(kept)

    def _kept(self, attempt: int) -> tuple[LogIndex, asyncio.Lock]:
        kept = self._indexes.setdefault(attempt, (LogIndex(), asyncio.Lock()))
        self._indexes.move_to_end(attempt)
        while len(self._indexes) > self._kept_max:
            self._indexes.popitem(last=False)
        return kept

    async def _taken(self, attempt: int, index: LogIndex, first: int, count: int) -> AsyncGenerator[Line]:
        """Yield `count` lines from line `first` on."""
        async with aclosing(self.lines(attempt, *index.near(first))) as lines:
            async for line in lines:
                if line.number >= first + count or line.end > index.whole:
                    return
                if line.number >= first:
                    yield line

    async def _first(self, lines: AsyncGenerator[Line], limit: int) -> list[Line]:
        """Return lines with their HTML until there is more than `limit` of it."""
        out: list[Line] = []
        room = limit
        async with aclosing(lines):
            async for line in lines:
                out.append(_shown(line))
                room -= len(out[-1].html)
                if room < 0:
                    break
                await _let_others(len(out))
        return out

    async def _last(self, lines: AsyncGenerator[Line], limit: int) -> list[Line]:
        """Return the last lines with their HTML, as many as are not much more than `limit` of it."""
        kept: deque[Line] = deque()
        size = 0
        async for line in lines:
            kept.append(line)
            size += len(line.text)
            while size > limit and len(kept) > 1:
                size -= len(kept.popleft().text)
        out: list[Line] = []
        room = limit
        while kept and room >= 0:
            out.append(_shown(kept.pop()))
            room -= len(out[-1].html)
            await _let_others(len(out))
        return out[::-1]


def _shown(line: Line) -> Line:
    return line._replace(html=line_html(line.text))


async def _let_others(done: int) -> None:
    """Let others have the processor now and then: lines of strangers can be slow to draw."""
    if done % TURN_LINES == 0:
        await asyncio.sleep(0)


def rows(lines: Sequence[Line], *, marked: range = range(0), error: int | None = None) -> str:
    """Return lines as rows; those that somebody pointed at are lit, and so is the error that matters."""
    return "".join(_row(line, "lit" * (line.number in marked), "err" * (line.number == error)) for line in lines)


def phase_block(phase: Phase, rows_: str = "") -> str:
    """Return the block of a phase with its rows."""
    name = f'<span class="n">{html.escape(phase.name)}</span> <span class="dim">line {phase.line:,}</span>'
    return f"<details open><summary>{name}</summary>\n<div data-log-rows>\n{rows_}</div>\n</details>\n"


def _row(line: Line, *states: str) -> str:
    """Return a line as a row; its number is a link to itself, which the tabulator key skips."""
    at = f"L{line.number}"
    classes = " ".join(("l", *filter(None, states)))
    number = f'<a href="#{at}" tabindex="-1">{line.number}</a>'
    return f'<div class="{classes}" id="{at}">{number}<span>{line.html or line_html(line.text)}</span></div>\n'


def _grouped(lines: Sequence[Line], index: LogIndex) -> Iterator[Group]:
    """Yield lines by phase."""
    if not lines:
        return
    starts = [phase for phase in index.phases if lines[0].number < phase.line <= lines[-1].number]
    at = 0
    phase = index.phase_at(lines[0].number)
    for following in starts:
        end = following.line - lines[0].number
        yield Group(phase, lines[at:end])
        at, phase = end, following
    yield Group(phase, lines[at:])


def _decoded(line: bytes) -> str:
    return line.decode("utf-8", "replace")
