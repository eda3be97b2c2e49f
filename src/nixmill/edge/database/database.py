"""The database: one thread that writes, a few that read, over a file of SQLite or a server of PostgreSQL.

Everything else in this folder hands functions to it that work on a connection in an open transaction.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from nixmill.edge.database.faults import EXPECTED, Trouble, door_error, trouble
from nixmill.edge.database.link import RECONNECT_S
from nixmill.edge.database.place import Place, place_of
from nixmill.edge.database.thread import DatabaseThread, Jobs

T = TypeVar("T")

PATIENCE_S: Final = 60.0
"""How long calls wait for a PostgreSQL that is gone, before they fail."""
OPEN_PATIENCE_S: Final = 10.0
"""How long opening waits for it: a wrong address should be told soon."""
READERS: Final = 2


class Database:
    """An opened database. Made by `open_database`."""

    def __init__(self, place: Place, *, readers: int = READERS, patience_s: float = PATIENCE_S) -> None:
        """Begin without threads. Without readers the writer reads too."""
        self._place = place
        self._patience_s = patience_s
        self._readers_wanted = readers
        self._writes = Jobs()
        self._reads = Jobs() if readers else self._writes
        self._readers: list[DatabaseThread] = []
        self._writer: DatabaseThread | None = None
        self._opening: asyncio.Task[None] | None = None
        self._gave_up = threading.Event()
        self._closed = False

    def __str__(self) -> str:
        """Return where it is, without a password."""
        return str(self._place)

    async def open(self) -> None:
        """Make and migrate it where needed, and start writing; raise `DoorError` where it cannot be opened."""
        self._opening = asyncio.create_task(asyncio.to_thread(self._prepare))
        await asyncio.shield(self._opening)
        self._writer = DatabaseThread(self._writes, self._place, reads_only=False, name="nixmill-history")

    async def read(self, work: Callable[[Connection], T], *, action: str) -> T:
        """Run `work` in a transaction that only reads and sees one state of the database."""
        self._refuse_closed(action)
        if len(self._readers) < self._readers_wanted:
            self._readers.append(
                DatabaseThread(self._reads, self._place, reads_only=True, name="nixmill-history-reader")
            )
        return await self._reads.put(work, action, writes=False, patience_s=self._patience_s)

    async def write(self, work: Callable[[Connection], T], *, action: str) -> T:
        """Run `work` in a transaction that is durable when this returns. It may be run again after a rollback."""
        self._refuse_closed(action)
        return await self._writes.put(work, action, writes=True, patience_s=self._patience_s)

    async def close(self) -> None:
        """Finish what was asked for, then let all connections go. May be called twice."""
        self._closed = True
        self._gave_up.set()
        if self._opening is not None:
            await asyncio.wait([self._opening])
        for _ in self._readers:
            self._reads.end()
        if self._writer is not None:
            self._writes.end()
            await self._writer.close()
        for thread in self._readers:
            await thread.close()
        self._readers, self._writer = [], None

    def _refuse_closed(self, action: str) -> None:
        if self._closed:
            raise RuntimeError(f"The database was asked to {action} after it was closed.")

    def _prepare(self) -> None:
        deadline = time.monotonic() + min(self._patience_s, OPEN_PATIENCE_S)
        while True:
            try:
                self._place.prepare()
            except EXPECTED as error:
                gone = isinstance(error, DBAPIError) and trouble(error) is Trouble.GONE
                if not gone or time.monotonic() > deadline or self._gave_up.wait(RECONNECT_S):
                    raise door_error(error, place=str(self._place), action="open") from error
            else:
                return


@contextlib.asynccontextmanager
async def open_database(
    where: Path | str, *, password: str = "", readers: int = READERS, patience_s: float = PATIENCE_S
) -> AsyncIterator[Database]:
    """Open the database at a path (SQLite) or a `postgresql://` URL, made and migrated where needed.

    Raises `InputError` where the URL is none, `DoorError` where it cannot be opened: no permission, disk full, damaged,
    written by a newer nixmill, too old a server. `patience_s` is how long a call waits for a server that is gone.
    """
    database = Database(place_of(where, password), readers=readers, patience_s=patience_s)
    try:
        await database.open()
        yield database
    finally:
        await database.close()
