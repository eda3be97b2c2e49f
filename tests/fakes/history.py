"""The doors `History` and `Archive` in memory, for tests of whatever stands on them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import median

import msgspec

from nixmill.core.history import (
    AttemptRow,
    AttributeRow,
    DifferenceRow,
    EvaluationPartRow,
    EvaluationRow,
    Keep,
    PastBuild,
    Pruned,
    Row,
    RunEndRow,
    RunRow,
    runs_to_prune,
)
from nixmill.core.outcome import MEANING, Outcome
from nixmill.core.pin import Pin
from nixmill.core.realised import Realised
from nixmill.core.run_event import Work
from nixmill.core.upload import Made, Upload
from nixmill.doors import DoorError
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath

RECENT = 5


class FakeHistory:
    """Keeps rows in dictionaries. `alive` says which processes still run, `now` what time it is."""

    def __init__(
        self, *, alive: Callable[[int], bool] = lambda _process: True, now: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._alive = alive
        self._now = now
        self._last_run = 0
        self._next_attempt = 1
        self.run_rows: dict[int, RunRow] = {}
        self.attempt_rows: dict[int, AttemptRow] = {}
        self.evaluation_rows: dict[str, EvaluationRow] = {}
        self.outcome_rows: dict[tuple[str, int, AttrPath], AttributeRow] = {}
        self.part_rows: list[EvaluationPartRow] = []
        self.difference_rows: dict[tuple[int, AttrPath], DifferenceRow] = {}
        self.duty_rows: list[Pin | Upload | Made | Realised] = []

    async def start_run(self, row: RunRow) -> int:
        self._last_run += 1
        self.run_rows[self._last_run] = msgspec.structs.replace(row, number=self._last_run)
        return self._last_run

    async def record(self, rows: Sequence[Row]) -> None:
        for row in rows:
            run = row.number if isinstance(row, RunEndRow) else row.run
            if run not in self.run_rows:
                raise DoorError(f"There is no run {run}.", door="history", action="record", retryable=False)
        for row in rows:
            self._record(row)

    def _record(self, row: Row) -> None:
        match row:
            case RunEndRow(number=number, ended_at=ended_at, verdict=verdict, sentence=sentence):
                self.run_rows[number] = msgspec.structs.replace(
                    self.run_rows[number], ended_at=ended_at, verdict=verdict, sentence=sentence
                )
            case EvaluationRow():
                self.evaluation_rows[row.key] = msgspec.structs.replace(row, outcomes={}, in_parts=False)
            case AttributeRow():
                self.outcome_rows[row.evaluation, row.run, row.path] = row
            case AttemptRow():
                self.attempt_rows[row.number] = row
            case DifferenceRow():
                self.difference_rows[row.run, row.path] = row
            case EvaluationPartRow():
                self.part_rows.append(row)
            case Pin() | Upload() | Made() | Realised():
                self.duty_rows.append(row)

    async def past_builds(
        self, drv_paths: Collection[StorePath], names: Collection[str]
    ) -> tuple[Mapping[StorePath, PastBuild], Mapping[str, float]]:
        past = {drv_path: self._past(drv_path) for drv_path in drv_paths}
        medians = {name: self._seconds(name) for name in names}
        return (
            {drv_path: each for drv_path, each in past.items() if each is not None},
            {name: median(seconds) for name, seconds in medians.items() if seconds},
        )

    def _past(self, drv_path: StorePath) -> PastBuild | None:
        past: PastBuild | None = None
        failed: int | None = None
        for number, row in sorted(self.attempt_rows.items()):
            if row.drv_path != drv_path or row.outcome is None:
                continue
            if row.outcome is Outcome.SUCCEEDED:
                failed = None
            elif MEANING[row.outcome].remembered:
                failed = row.run
            past = PastBuild(
                drv_path=drv_path,
                last_outcome=row.outcome,
                last_run=row.run,
                last_attempt=number,
                last_at=row.started_at + row.seconds,
                failed_in_run=failed,
            )
        return past

    def _seconds(self, name: str) -> list[float]:
        return [
            row.seconds
            for _, row in sorted(self.attempt_rows.items())
            if row.name == name and row.outcome is Outcome.SUCCEEDED and row.work is Work.BUILD
        ][-RECENT:]

    async def evaluation(self, key: str) -> EvaluationRow | None:
        row = self.evaluation_rows.get(key)
        if row is None:
            return None
        outcomes = {
            path: (each.outcome, run) for (of, run, path), each in sorted(self.outcome_rows.items()) if of == key
        }
        run = row.run if row.run in self.run_rows else 0
        return msgspec.structs.replace(row, outcomes=outcomes, run=run)

    async def next_attempts(self, count: int) -> int:
        first = self._next_attempt
        self._next_attempt += count
        return first

    async def run(self, number: int | None) -> tuple[RunRow, Sequence[AttemptRow]] | None:
        wanted = max(self.run_rows, default=0) if number is None else number
        if wanted not in self.run_rows:
            return None
        return self.run_rows[wanted], [row for _, row in sorted(self.attempt_rows.items()) if row.run == wanted]

    async def runs(self, limit: int, before: int | None = None) -> Sequence[RunRow]:
        numbers = sorted((n for n in self.run_rows if before is None or n < before), reverse=True)
        return [self.run_rows[number] for number in numbers[:limit]]

    async def attributes(self, run: int) -> Sequence[AttributeRow]:
        rows = [row for row in self.outcome_rows.values() if row.run == run]
        return sorted(rows, key=lambda row: (row.path, row.evaluation))

    async def crashed_runs(self) -> Sequence[RunRow]:
        return [row for row in self.run_rows.values() if row.ended_at is None and not self._alive(row.process)]

    async def prune(self, keep: Keep, *, dry_run: bool = False) -> Pruned:
        killed = {row.number for row in await self.crashed_runs()}
        over = [(row.number, row.started_at) for row in self.run_rows.values() if row.ended_at or row.number in killed]
        doomed = runs_to_prune(over, keep, self._now())
        attempts = [number for number, row in sorted(self.attempt_rows.items()) if row.run in doomed]
        evaluations = [key for key in self._keys() if not self._users(key) - set(doomed)]
        if not dry_run:
            self._forget(doomed, attempts, evaluations)
        return Pruned(runs=tuple(doomed), attempts=tuple(attempts), evaluations=len(evaluations))

    def _keys(self) -> list[str]:
        return sorted({*self.evaluation_rows, *(key for key, _, _ in self.outcome_rows)})

    def _users(self, key: str) -> set[int]:
        recorded = {self.evaluation_rows[key].run} if key in self.evaluation_rows else set()
        return (recorded | {run for of, run, _ in self.outcome_rows if of == key}) & self.run_rows.keys()

    def _forget(self, runs: Collection[int], attempts: Collection[int], evaluations: Collection[str]) -> None:
        for run in runs:
            del self.run_rows[run]
        for attempt in attempts:
            del self.attempt_rows[attempt]
        self.outcome_rows = {key: row for key, row in self.outcome_rows.items() if row.run not in runs}
        for evaluation in evaluations:
            self.evaluation_rows.pop(evaluation, None)

    async def recent_evaluations(self, checkout: str, limit: int) -> Sequence[EvaluationRow]:
        rows = [row for row in self.evaluation_rows.values() if self.run_rows[row.run].checkout == checkout]
        return rows[::-1][:limit]

    async def check(self) -> Sequence[str]:
        return []
