"""Writes rows to the history in order, many at once, and tells only what is on disk.

Whoever records may go on at once; what must be announced is handed over as `then` and called after the commit
(semantics §4, "anything that matters is in the database before it is announced").
Where history cannot be written, a run on a person's machine goes on without it, saying so once; one of a server
waits until it can.
"""

import asyncio
from collections.abc import Callable, Sequence

from nixmill.core.history import Row
from nixmill.doors import DoorError, History
from nixmill.engine.insist import insist

Then = Callable[[], None]
_Item = tuple[Sequence[Row], Then | None]


class Recorder:
    """The one writer of a run. Use as a task: `run()` until `close()`."""

    def __init__(self, history: History, notice: Callable[[str], None], *, insist: bool = False) -> None:
        """Write to `history`; say troubles through `notice`. With `insist`, nothing goes on unrecorded."""
        self._insist = insist
        self._history = history
        self._notice = notice
        self._queue: asyncio.Queue[_Item | None] = asyncio.Queue()
        self._broken = False

    def put(self, *rows: Row, then: Then | None = None) -> None:
        """Record `rows` soon, all in one transaction; call `then` once they are durable."""
        self._queue.put_nowait((rows, then))

    async def write_now(self, *rows: Row) -> None:
        """Record `rows`, all put before them having been written."""
        await self._write([(rows, None)])

    async def flush(self) -> None:
        """Return once everything put so far is written."""
        written = asyncio.Event()
        self.put(then=written.set)
        await written.wait()

    def close(self) -> None:
        """Let `run` end after everything put so far."""
        self._queue.put_nowait(None)

    async def run(self) -> None:
        """Write until closed. Items that queue up while one transaction is written share the next."""
        while True:
            items = [await self._queue.get()]
            while not self._queue.empty():
                items.append(self._queue.get_nowait())
            await self._write([item for item in items if item is not None])
            if None in items:
                return

    async def _write(self, items: Sequence[_Item]) -> None:
        rows = [row for item, _ in items for row in item]
        if rows and not self._broken:
            await self._record(rows)
        for _, then in items:
            if then is not None:
                then()

    async def _record(self, rows: Sequence[Row]) -> None:
        if self._insist:
            await insist(lambda: self._history.record(rows), lambda error: self._say(error, "waits for it"))
            return
        try:
            await self._history.record(rows)
        except DoorError as error:
            self._broken = True
            self._say(error, "goes on without history")

    def _say(self, error: DoorError, what: str) -> None:
        self._notice(f"{error} This run {what}.")
