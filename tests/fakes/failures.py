"""Failure memory in memory: the door `Failures`."""

from collections.abc import Sequence

from nixmill.core.view.pages import RememberedFailure
from nixmill.nix.store_path import StorePath


class FakeFailures:
    """Implements `nixmill.doors.server.Failures`; held to the same contract as the real one."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, StorePath], RememberedFailure] = {}

    async def believed(
        self, project: int, drv_paths: Sequence[StorePath], now: float
    ) -> dict[StorePath, RememberedFailure]:
        found = {path: self.known.get((project, path)) for path in drv_paths}
        return {path: failure for path, failure in found.items() if failure is not None and failure.expires_at > now}

    async def remember(self, project: int, failures: Sequence[RememberedFailure], good: Sequence[StorePath]) -> None:
        for failure in failures:
            self.known[project, failure.drv_path] = failure
        for path in good:
            self.known.pop((project, path), None)

    async def forget(self, project: int, drv_paths: Sequence[StorePath] | None) -> int:
        doomed = [key for key in self.known if key[0] == project and (drv_paths is None or key[1] in drv_paths)]
        for key in doomed:
            del self.known[key]
        return len(doomed)
