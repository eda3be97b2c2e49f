"""One thread that owns the connection, so that the event loop never waits for the disk.

Writes that come while another transaction commits are joined in the next one (group commit): each of them sees
its own success or failure, all of them pay for one sync of the disk. Work may be run twice, after a rollback.
What this file does not know: SQL.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection

from nixmill.edge.database.engine import READ_ONLY, open_connection
from nixmill.edge.database.faults import EXPECTED, door_error

T = TypeVar("T")

GROUP_MAX: Final = 256
"""Most writes that are joined in one transaction."""


class _Job(NamedTuple):
    """Work on the connection; `future` is told how it went."""

    work: Callable[[Connection], Any]
    future: Future[Any]
    action: str
    writes: bool


class DatabaseThread:
    """Runs functions on the connection, in the order in which they were asked for."""

    def __init__(self, file: Path) -> None:
        """Start the thread; call `opened` next."""
        self._file = file
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._opened: Future[None] = Future()
        self._opened.set_running_or_notify_cancel()  # whoever stops waiting must not disturb the thread
        self._closed = False
        # A daemon thread: a program that ends without closing must not hang. SQLite rolls back what was under way.
        self._thread = threading.Thread(target=self._run, name="nixmill-history", daemon=True)
        self._thread.start()

    async def opened(self) -> None:
        """Return once the database is open; raise `DoorError` where it cannot be opened."""
        await asyncio.wrap_future(self._opened)

    async def read(self, work: Callable[[Connection], T], *, action: str) -> T:
        """Run `work` in a transaction that only reads."""
        return await self._do(work, action, writes=False)

    async def write(self, work: Callable[[Connection], T], *, action: str) -> T:
        """Run `work` in a transaction that is durable when this returns."""
        return await self._do(work, action, writes=True)

    async def close(self) -> None:
        """Finish what was asked for, then close the connection. May be called twice."""
        self._closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join)

    async def _do(self, work: Callable[[Connection], T], action: str, *, writes: bool) -> T:
        if self._closed:
            raise RuntimeError(f"The history was asked to {action} after it was closed.")
        future: Future[T] = Future()
        self._jobs.put(_Job(work, future, action, writes))
        return await asyncio.wrap_future(future)

    def _run(self) -> None:
        try:
            connection = open_connection(self._file)
        except EXPECTED as error:
            self._opened.set_exception(door_error(error, file=self._file, action="open"))
            return
        except BaseException as error:  # noqa: BLE001 - handed to whoever opens
            self._opened.set_exception(error)
            return
        self._opened.set_result(None)
        try:
            while self._step(connection):
                pass
        finally:
            connection.close()

    def _step(self, connection: Connection) -> bool:
        """Do what waits now; say whether there may be more."""
        jobs, more = self._waiting()
        while jobs:
            count = 1
            if jobs[0].writes:
                count = next((i for i, job in enumerate(jobs) if not job.writes), len(jobs))
            group, jobs = jobs[:count], jobs[count:]
            self._transaction(connection, [job for job in group if job.future.set_running_or_notify_cancel()])
        return more

    def _waiting(self) -> tuple[list[_Job], bool]:
        jobs: list[_Job] = []
        try:
            while len(jobs) < GROUP_MAX:
                job = self._jobs.get(block=not jobs)
                if job is None:
                    return jobs, False
                jobs.append(job)
        except queue.Empty:
            pass
        return jobs, True

    def _transaction(self, connection: Connection, group: Sequence[_Job]) -> None:
        """Run a group in one transaction, then tell each job how it went.

        Where one of several fails, each is run again in a transaction of its own: the others are unaffected.
        """
        if not group:
            return
        connection.execution_options(**{READ_ONLY: not group[0].writes})
        try:
            with connection.begin():
                results = [job.work(connection) for job in group]
        except Exception as error:  # noqa: BLE001 - whoever asked hears it
            if len(group) == 1:
                group[0].future.set_exception(self._in_words(error, group[0].action))
            else:
                for job in group:
                    self._transaction(connection, [job])
            return
        for job, result in zip(group, results, strict=True):
            job.future.set_result(result)

    def _in_words(self, error: Exception, action: str) -> Exception:
        return door_error(error, file=self._file, action=action) if isinstance(error, EXPECTED) else error
