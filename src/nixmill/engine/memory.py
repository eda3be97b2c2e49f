"""Failure memory of one run: what is believed without trying, and what is learnt (semantics §6).

Per derivation and project, never against a valid output, not in a merge queue, not where somebody forgave it, and no
failure of a pull request where a branch is checked.
"""

from collections.abc import Collection

from nixmill.core.access import Visibility
from nixmill.core.attempt import MEMORY_MAX_AGE_S
from nixmill.core.change import BuildClass
from nixmill.core.estimate import span
from nixmill.core.history import AttemptRow
from nixmill.core.outcome import MEANING, Outcome
from nixmill.core.trust import may_reuse
from nixmill.core.view.pages import RememberedFailure
from nixmill.core.view.parts import ProjectLink
from nixmill.doors import Clock
from nixmill.doors.server import Failures
from nixmill.engine.request import RunDoors, RunRequest
from nixmill.nix.store_path import StorePath


class Memory:
    """Asks and tells the door `Failures`; without one nothing is believed."""

    def __init__(self, request: RunRequest, doors: RunDoors) -> None:
        """Remember for the project of `request`."""
        self._failures: Failures | None = doors.failures if request.remember else None
        self._clock: Clock = doors.clock
        self._party = request.party
        self._ignores_all = request.rebuild or request.party.build_class is BuildClass.MERGE_QUEUE
        self._forgiven = request.forgive
        self._known: dict[StorePath, RememberedFailure] = {}

    async def believed(self, drv_paths: Collection[StorePath]) -> dict[StorePath, str]:
        """Return those of `drv_paths` that are known to fail, with a sentence that says from where."""
        if self._failures is None or not drv_paths:
            return {}
        now = self._clock.now()
        found = await self._failures.believed(self._party.project, tuple(drv_paths), now)
        self._known |= found
        return {path: _sentence(failure, now) for path, failure in found.items() if not self._ignored(failure)}

    async def learn(self, row: AttemptRow) -> None:
        """Take the end of an attempt."""
        if self._failures is None or row.outcome is None:
            return
        if MEANING[row.outcome].remembered:
            await self._failures.remember(self._party.project, [self._failure(row)], [])
        elif row.outcome is Outcome.SUCCEEDED and row.drv_path in self._known:
            await self._failures.remember(self._party.project, [], [row.drv_path])

    def _ignored(self, failure: RememberedFailure) -> bool:
        distrusted = not may_reuse(failure.tier, self._party.tier)
        return self._ignores_all or distrusted or failure.drv_path in self._forgiven

    def _failure(self, row: AttemptRow) -> RememberedFailure:
        at = self._clock.now()
        party = self._party
        return RememberedFailure(
            project=ProjectLink(id=party.project, name=party.name, title="", visibility=Visibility.PRIVATE),
            drv_path=row.drv_path,
            run=row.run,
            attempt=row.number,
            machine=row.machine,
            at=at,
            expires_at=at + MEMORY_MAX_AGE_S,
            message=row.message,
        )


def _sentence(failure: RememberedFailure, now: float) -> str:
    where = "here" if failure.machine == "local" else f"on {failure.machine}"
    ago = span(max(0.0, now - failure.at))
    return (
        f"failed in run {failure.run}, attempt {failure.attempt}, {where} {ago} ago, so it was not tried again: "
        f"{failure.message}"
    )
