"""The door `History` where there is none: a run whose history cannot be opened goes on and remembers nothing."""

from collections.abc import Collection, Mapping, Sequence

from nixmill.core.history import AttemptRow, EvaluationRow, PastBuild, Row, RunRow
from nixmill.nix.store_path import StorePath


class NoHistory:
    """Knows nothing, keeps nothing; attempts are numbered from 1."""

    def __init__(self) -> None:
        """Begin."""
        self._next_attempt = 1

    async def start_run(self, row: RunRow) -> int:
        """See `History`; the run has no number."""
        del row
        return 0

    async def record(self, rows: Sequence[Row]) -> None:
        """See `History`; nothing is kept."""

    async def past_builds(
        self, drv_paths: Collection[StorePath], names: Collection[str]
    ) -> tuple[Mapping[StorePath, PastBuild], Mapping[str, float]]:
        """See `History`; nothing is known."""
        del drv_paths, names
        return {}, {}

    async def evaluation(self, key: str) -> EvaluationRow | None:
        """See `History`; nothing is known."""
        del key
        return None

    async def next_attempts(self, count: int) -> int:
        """See `History`; unique in this run only."""
        first, self._next_attempt = self._next_attempt, self._next_attempt + count
        return first

    async def run(self, number: int | None) -> tuple[RunRow, Sequence[AttemptRow]] | None:
        """See `History`; nothing is known."""
        del number
        return None
