"""The doors `History` and `Archive` over the local database.

Nothing here touches the disk: each method hands a function to the one thread that owns the connection.
"""

import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from pathlib import Path

from sqlalchemy import Connection

from nixmill.core.history import (
    AttemptRow,
    AttributeRow,
    EvaluationRow,
    Keep,
    PastBuild,
    Pruned,
    Row,
    RunRow,
)
from nixmill.edge.database import reading, retention, writing
from nixmill.edge.database.thread import DatabaseThread
from nixmill.nix.store_path import StorePath


@contextlib.asynccontextmanager
async def open_history(file: Path, *, now: Callable[[], float] = time.time) -> AsyncIterator["SqlHistory"]:
    """Open the history in `file`, an SQLite database that is made or migrated where needed.

    Raises `DoorError` where it cannot be opened: no permission, disk full, damaged, written by a newer nixmill,
    an SQLite that is too old.
    """
    thread = DatabaseThread(file)
    try:
        await thread.opened()
        yield SqlHistory(thread, now)
    finally:
        await thread.close()


class SqlHistory:
    """Implements `nixmill.doors.History` and `nixmill.doors.Archive`."""

    def __init__(self, thread: DatabaseThread, now: Callable[[], float]) -> None:
        """Use the connection of an opened thread; `now` is what ages are measured by."""
        self._now = now
        self._thread = thread

    async def start_run(self, row: RunRow) -> int:
        """See `History`."""
        return await self._thread.write(lambda connection: writing.start_run(connection, row), action="start a run")

    async def record(self, rows: Sequence[Row]) -> None:
        """See `History`."""
        await self._thread.write(lambda connection: writing.record(connection, rows), action="record")

    async def past_builds(
        self, drv_paths: Collection[StorePath], names: Collection[str]
    ) -> tuple[Mapping[StorePath, PastBuild], Mapping[str, float]]:
        """See `History`."""

        def look(connection: Connection) -> tuple[dict[StorePath, PastBuild], dict[str, float]]:
            return reading.past(connection, drv_paths), reading.medians(connection, names)

        return await self._thread.read(look, action="look for past builds")

    async def evaluation(self, key: str) -> EvaluationRow | None:
        """See `History`."""
        return await self._thread.read(
            lambda connection: reading.evaluation(connection, key), action="look for an evaluation"
        )

    async def next_attempts(self, count: int) -> int:
        """See `History`."""
        return await self._thread.write(
            lambda connection: writing.next_attempts(connection, count), action="number attempts"
        )

    async def run(self, number: int | None) -> tuple[RunRow, Sequence[AttemptRow]] | None:
        """See `History`."""
        return await self._thread.read(
            lambda connection: reading.run_and_attempts(connection, number), action="look for a run"
        )

    async def runs(self, limit: int, before: int | None = None) -> Sequence[RunRow]:
        """See `Archive`."""
        return await self._thread.read(lambda connection: reading.runs(connection, limit, before), action="list runs")

    async def attributes(self, run: int) -> Sequence[AttributeRow]:
        """See `Archive`."""
        return await self._thread.read(lambda connection: reading.attributes(connection, run), action="list outcomes")

    async def recent_evaluations(self, checkout: str, limit: int) -> Sequence[EvaluationRow]:
        """See `Archive`."""
        look = functools.partial(reading.recent_evaluations, checkout=checkout, limit=limit)
        return await self._thread.read(look, action="look for evaluations")

    async def crashed_runs(self) -> Sequence[RunRow]:
        """See `Archive`."""
        return await self._thread.read(reading.crashed_runs, action="look for killed runs")

    async def prune(self, keep: Keep, *, dry_run: bool = False) -> Pruned:
        """See `Archive`."""
        runs, attempts, evaluations = await self._thread.read(
            functools.partial(_doomed, keep=keep, now=self._now()), action="plan a pruning"
        )
        if not dry_run:
            for run in runs:
                await self._thread.write(functools.partial(retention.forget_run, number=run), action="forget a run")
            for each in evaluations:
                work = functools.partial(retention.forget_evaluation, number=each)
                await self._thread.write(work, action="forget an evaluation")
            while await self._thread.write(retention.give_space_back, action="give space back"):
                pass
        return Pruned(runs=tuple(runs), attempts=tuple(attempts), evaluations=len(evaluations))

    async def check(self) -> Sequence[str]:
        """See `Archive`."""
        return await self._thread.read(retention.integrity, action="check")


def _doomed(connection: Connection, *, keep: Keep, now: float) -> tuple[list[int], list[int], list[int]]:
    runs = retention.doomed_runs(connection, keep, now)
    return runs, retention.attempts_of(connection, runs), retention.doomed_evaluations(connection, runs)
