"""A log as it grows, as server-sent events that resume by offset (HTML Standard, "Server-sent events").

Each event's id is the offset after its lines, so that a browser that comes back goes on exactly there. The stream
ends with the attempt. What this file does not know: what a page does with the lines.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Container, Iterator, Sequence
from contextlib import aclosing
from typing import Final

from nixmill.core.log_index import Phase
from nixmill.doors import Clock
from nixmill.engine.live import Live, log_topic
from nixmill.web.log_rows import Line, LogReader, phase_block, rows

HEARTBEAT_S: Final = 15.0
"""A silent stream says so this often: proxies close what says nothing, and who is gone is noticed."""
STREAM_S: Final = 600.0
"""How long a stream lasts at most: who comes back is asked anew what they may see."""
GATHER_S: Final = 0.1
"""Least time between two looks at the log, so that a flood of lines costs a few events and not one a line."""
REST: Final = 3
"""After a look, this many times as long as it took is rested: a long log costs a follower a quarter of a processor."""
EVENT_LINES: Final = 500
EVENT_CHARS: Final = 128 * 1024
"""An event has no more lines, and ends after so many characters."""


class Follower:
    """Follows one log for one browser."""

    def __init__(self, reader: LogReader, attempt: int, *, as_html: bool) -> None:
        """Begin at the beginning; `seek` goes elsewhere."""
        self._reader = reader
        self._attempt = attempt
        self._as_html = as_html
        self._offset = 0
        self._number = 1

    async def seek(self, offset: int) -> None:
        """Go on at a byte, at most the end of the log."""
        index = await self._reader.index(self._attempt)
        self._offset = max(min(offset, index.whole), 0)
        self._number = await self._reader.line_at(self._attempt, self._offset)

    async def events(
        self, live: Live, clock: Clock, running: Callable[[], Awaitable[str | None]]
    ) -> AsyncGenerator[str]:
        """Yield events until the attempt has ended, or for `STREAM_S`: then who follows comes back where it was.

        `running` returns None while it goes on, else how it ended. It is asked at first, when the log is said to have
        ended, and at every heartbeat; a log that may no longer be seen counts as ended.
        """
        until = clock.monotonic() + STREAM_S
        with live.listen(log_topic(self._attempt)) as listener:
            yield "retry: 2000\n\n"
            ended = await running()
            while clock.monotonic() < until:
                begun = clock.monotonic()
                async for event in self._news():
                    yield event
                took = clock.monotonic() - begun
                if ended is not None:
                    yield f"event: ended\ndata: {json.dumps({'status': ended})}\n\n"
                    return
                if not await listener.changed(HEARTBEAT_S):
                    yield ": still here\n\n"
                    ended = await running()
                elif listener.ended:
                    ended = await running() or "ended"
                else:
                    await clock.sleep(max(GATHER_S, REST * took))

    async def _news(self) -> AsyncGenerator[str]:
        """Yield what was written since, in events that are not too long."""
        gathered: list[Line] = []
        chars = 0
        async with aclosing(self._reader.lines(self._attempt, self._offset, self._number)) as lines:
            async for line in lines:
                gathered.append(line)
                chars += len(line.text)
                if len(gathered) == EVENT_LINES or chars > EVENT_CHARS:
                    for event in await self._told(gathered):
                        yield event
                    gathered, chars = [], 0
        for event in await self._told(gathered):
            yield event

    async def _told(self, lines: Sequence[Line]) -> list[str]:
        if not lines:
            return []
        self._offset, self._number = lines[-1].end, lines[-1].number + 1
        if not self._as_html:
            return [_event(lines, {"text": "".join(f"{line.text}\n" for line in lines)})]
        index = await self._reader.index(self._attempt)
        starts = {phase.line: phase for phase in index.phases}
        return [_event(part, _html(part, starts.get(part[0].number))) for part in _apart(lines, starts)]


def _html(lines: Sequence[Line], begun: Phase | None) -> dict[str, str]:
    """Return rows, with the block of the phase that begins with them."""
    return {"html": rows(lines)} | ({"phase": phase_block(begun)} if begun is not None else {})


def _apart(lines: Sequence[Line], starts: Container[int]) -> Iterator[Sequence[Line]]:
    """Yield lines in parts, of which a new one begins with each phase."""
    at = 0
    for end, line in enumerate(lines):
        if line.number in starts and end > at:
            yield lines[at:end]
            at = end
    yield lines[at:]


def _event(lines: Sequence[Line], data: dict[str, str]) -> str:
    """Return an event; JSON has no line ends, so its data is one line."""
    return f"id: {lines[-1].end}\nevent: lines\ndata: {json.dumps(data)}\n\n"
