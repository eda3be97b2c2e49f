"""The door Uploads in memory. `tests/contract/test_uploads.py` holds it and the databases to the same behaviour."""

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from nixmill.core.upload import Made, Upload, UploadState
from nixmill.doors import DoorError
from nixmill.nix.store_path import StorePath

_GIVEN_UP = {UploadState.REFUSED, UploadState.FAILED}


class FakeUploads:
    """Keeps rows in dictionaries. `failure` is raised by every call while it is set."""

    def __init__(self, now: Callable[[], float], *rows: Upload | Made) -> None:
        self._now = now
        self.rows: dict[tuple[str, StorePath], Upload] = {}
        self.makers: dict[StorePath, Made] = {}
        self.failure: DoorError | None = None
        for row in rows:
            self.add(row)

    def add(self, row: Upload | Made) -> None:
        if isinstance(row, Made):
            old = self.makers.get(row.path)
            if old is None or row.at >= old.at:
                self.makers[row.path] = row
        else:
            known = self.rows.get((row.cache, row.path))
            if known is None or known.state in _GIVEN_UP:
                self.rows[row.cache, row.path] = row

    def states(self) -> list[UploadState]:
        return [row.state for row in self.rows.values()]

    async def due(
        self, cache: str, now: float, limit: int, state: UploadState = UploadState.WAITING
    ) -> Sequence[Upload]:
        self._troubled()
        ripe = [row for row in self.rows.values() if (row.cache, row.state) == (cache, state) and row.due_at <= now]
        return sorted(ripe, key=lambda row: (row.due_at, row.at, row.path))[:limit]

    async def save(self, uploads: Sequence[Upload]) -> None:
        self._troubled()
        for row in uploads:
            if (row.cache, row.path) in self.rows:
                self.rows[row.cache, row.path] = row

    async def made(self, paths: Collection[StorePath]) -> Mapping[StorePath, Made]:
        self._troubled()
        return {path: self.makers[path] for path in paths if path in self.makers}

    async def vouch(self, made: Sequence[Made]) -> None:
        self._troubled()
        for row in made:
            self.add(row)

    async def again(self, cache: str, paths: Collection[StorePath] | None) -> int:
        chosen = [
            row
            for row in self.rows.values()
            if row.cache == cache and row.state in _GIVEN_UP and (paths is None or row.path in paths)
        ]
        for row in chosen:
            waiting = msgspec.structs.replace(row, state=UploadState.WAITING, tries=0, due_at=self._now(), fault="")
            self.rows[row.cache, row.path] = waiting
        return len(chosen)

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        self._troubled()
        found: dict[str, dict[str, int]] = {}
        for row in self.rows.values():
            states = found.setdefault(row.cache, {})
            states[row.state.value] = states.get(row.state.value, 0) + 1
        return found

    def _troubled(self) -> None:
        if self.failure is not None:
            raise self.failure
