"""Threads that own connections, so that the event loop never waits for the disk or the network.

Writes that come while another transaction commits are joined in the next one (group commit): each of them sees
its own success or failure, all of them pay for one sync of the disk. Work may be run twice, after a rollback.
What this file does not know: SQL.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from nixmill.edge.database.faults import EXPECTED, Trouble, door_error, trouble
from nixmill.edge.database.link import Link
from nixmill.edge.database.place import Place

T = TypeVar("T")

GROUP_MAX: Final = 256
"""Most writes that are joined in one transaction."""


class _Job(NamedTuple):
    """Work on the connection; `future` is told how it went."""

    work: Callable[[Connection], Any]
    future: Future[Any]
    action: str
    writes: bool
    deadline: float
    """Until when (monotonic) a server that is gone is waited for."""


class Jobs:
    """What waits for a thread."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()

    async def put(self, work: Callable[[Connection], T], action: str, *, writes: bool, patience_s: float) -> T:
        """Let a thread do something and return what came of it."""
        future: Future[T] = Future()
        self._queue.put(_Job(work, future, action, writes, time.monotonic() + patience_s))
        return await asyncio.wrap_future(future)

    def end(self) -> None:
        """Make one thread end once it comes to this."""
        self._queue.put(None)

    def take(self, most: int) -> tuple[list[_Job], bool]:
        """Wait for work; return what there is, at most `most`, and whether to ask again afterwards."""
        jobs: list[_Job] = []
        try:
            while len(jobs) < most:
                job = self._queue.get(block=not jobs)
                if job is None:
                    return jobs, False
                jobs.append(job)
        except queue.Empty:
            pass
        return jobs, True


class DatabaseThread:
    """Does jobs, in the order in which they were asked for."""

    def __init__(self, jobs: Jobs, place: Place, *, reads_only: bool, name: str) -> None:
        """Start the thread; it connects with the first job."""
        self._jobs = jobs
        self._place = place
        self._most = 1 if reads_only else GROUP_MAX
        self._closing = threading.Event()
        self._link = Link(place, self._closing, reads_only=reads_only)
        # A daemon thread: a program that ends without closing must not hang. What was under way is rolled back.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Finish what was asked for, but wait no longer for a server that is gone. May be called twice."""
        self._closing.set()
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        try:
            while self._step():
                pass
        finally:
            self._link.close()

    def _step(self) -> bool:
        """Do what waits now; say whether there may be more."""
        jobs, more = self._jobs.take(self._most)
        while jobs:
            count = 1
            if jobs[0].writes:
                count = next((i for i, job in enumerate(jobs) if not job.writes), len(jobs))
            group, jobs = jobs[:count], jobs[count:]
            self._transaction([job for job in group if job.future.set_running_or_notify_cancel()])
        return more

    def _transaction(self, group: Sequence[_Job]) -> None:
        """Run a group in one transaction, then tell each job how it went.

        Where one of several fails, each is run again in a transaction of its own: the others are unaffected.
        """
        if not group:
            return
        deadline = max(job.deadline for job in group)
        try:
            results = self._link.transaction(
                lambda connection: [job.work(connection) for job in group], writes=group[0].writes, deadline=deadline
            )
        except BaseException as error:  # noqa: BLE001 - whoever asked hears it
            self._failed(group, error)
        else:
            for job, result in zip(group, results, strict=True):
                job.future.set_result(result)

    def _failed(self, group: Sequence[_Job], error: BaseException) -> None:
        gone = isinstance(error, DBAPIError) and trouble(error) is Trouble.GONE
        for job in group:
            if gone or len(group) == 1:
                job.future.set_exception(self._in_words(error, job.action))
            else:
                self._transaction([job])

    def _in_words(self, error: BaseException, action: str) -> BaseException:
        return door_error(error, place=str(self._place), action=action) if isinstance(error, EXPECTED) else error
