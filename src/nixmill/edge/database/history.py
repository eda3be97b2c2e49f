"""The doors `History` and `Archive` over the database.

Nothing here touches the disk: each method hands a function to the threads of the database.
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
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.deletion import BATCH, forget_unused_evaluations
from nixmill.nix.store_path import StorePath


@contextlib.asynccontextmanager
async def open_history(file: Path, *, now: Callable[[], float] = time.time) -> AsyncIterator["SqlHistory"]:
    """Open the history in `file`, an SQLite database that is made or migrated where needed.

    One thread reads and writes. Raises `DoorError` where it cannot be opened: no permission, disk full, damaged,
    written by a newer nixmill, an SQLite that is too old.
    """
    async with open_database(file, readers=0) as database:
        yield SqlHistory(database, now)


class SqlHistory:
    """Implements `nixmill.doors.History` and `nixmill.doors.Archive`."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        """Use an opened database; `now` is what ages are measured by."""
        self._now = now
        self._database = database

    async def start_run(self, row: RunRow) -> int:
        """See `History`."""
        return await self._database.write(lambda connection: writing.start_run(connection, row), action="start a run")

    async def record(self, rows: Sequence[Row]) -> None:
        """See `History`."""
        await self._database.write(lambda connection: writing.record(connection, rows), action="record")

    async def past_builds(
        self, drv_paths: Collection[StorePath], names: Collection[str]
    ) -> tuple[Mapping[StorePath, PastBuild], Mapping[str, float]]:
        """See `History`."""

        def look(connection: Connection) -> tuple[dict[StorePath, PastBuild], dict[str, float]]:
            return reading.past(connection, drv_paths), reading.medians(connection, names)

        return await self._database.read(look, action="look for past builds")

    async def evaluation(self, key: str) -> EvaluationRow | None:
        """See `History`."""
        return await self._database.read(
            lambda connection: reading.evaluation(connection, key), action="look for an evaluation"
        )

    async def next_attempts(self, count: int) -> int:
        """See `History`."""
        return await self._database.write(
            lambda connection: writing.next_attempts(connection, count), action="number attempts"
        )

    async def run(self, number: int | None) -> tuple[RunRow, Sequence[AttemptRow]] | None:
        """See `History`."""
        return await self._database.read(
            lambda connection: reading.run_and_attempts(connection, number), action="look for a run"
        )

    async def runs(self, limit: int, before: int | None = None) -> Sequence[RunRow]:
        """See `Archive`."""
        return await self._database.read(lambda connection: reading.runs(connection, limit, before), action="list runs")

    async def attributes(self, run: int) -> Sequence[AttributeRow]:
        """See `Archive`."""
        return await self._database.read(lambda connection: reading.attributes(connection, run), action="list outcomes")

    async def recent_evaluations(self, checkout: str, limit: int) -> Sequence[EvaluationRow]:
        """See `Archive`."""
        look = functools.partial(reading.recent_evaluations, checkout=checkout, limit=limit)
        return await self._database.read(look, action="look for evaluations")

    async def crashed_runs(self) -> Sequence[RunRow]:
        """See `Archive`."""
        return await self._database.read(reading.crashed_runs, action="look for killed runs")

    async def prune(self, keep: Keep, *, dry_run: bool = False) -> Pruned:
        """See `Archive`."""
        runs, attempts, evaluations = await self._database.read(
            functools.partial(_doomed, keep=keep, now=self._now()), action="plan a pruning"
        )
        if not dry_run:
            for run in runs:
                await self._until_done(functools.partial(retention.forget_some_of_run, number=run, batch=BATCH))
            await self._until_done(functools.partial(forget_unused_evaluations, batch=BATCH))
            await self._until_done(retention.give_space_back)
        return Pruned(runs=tuple(runs), attempts=tuple(attempts), evaluations=evaluations)

    async def _until_done(self, work: Callable[[Connection], object]) -> None:
        while await self._database.write(work, action="forget old runs"):
            pass

    async def check(self) -> Sequence[str]:
        """See `Archive`."""
        return await self._database.read(retention.integrity, action="check")


def _doomed(connection: Connection, *, keep: Keep, now: float) -> tuple[list[int], list[int], int]:
    runs = retention.doomed_runs(connection, keep, now)
    return runs, retention.attempts_of(connection, runs), retention.doomed_evaluations(connection, runs)
