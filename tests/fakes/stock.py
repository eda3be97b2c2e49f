"""The door Stock in memory: entries by hash part, each with what is wrong with it."""

from collections.abc import AsyncIterator, Sequence

import msgspec

from nixmill.doors import DoorError
from nixmill.doors.cache import Entry
from nixmill.nix.narinfo import NarInfo
from nixmill.nix.path_info import PathInfo
from nixmill.nix.signature import SecretKey
from nixmill.nix.store_path import StorePath, hash_part


class FakeStock:
    """A cache. `calls` notes what was changed, in order; `failure` is raised by every call while it is set."""

    def __init__(self) -> None:
        self.shelf: dict[str, Entry] = {}
        self.faults: dict[StorePath, list[str] | DoorError] = {}
        self.unsigned: set[StorePath] = set()
        self.calls: list[tuple[str, object]] = []
        self.garbage = 0
        """Bytes that the next sweep frees."""
        self.failure: DoorError | None = None

    def publish(
        self,
        path: StorePath,
        at: float,
        references: Sequence[StorePath] = (),
        *,
        size: int = 100,
        deriver: StorePath | None = None,
        key: SecretKey | None = None,
    ) -> StorePath:
        """Put a path on the shelf, signed by a key where there is one."""
        info = PathInfo(
            path=path, deriver=deriver, nar_hash="sha256:" + "0" * 64, nar_size=size, references=tuple(references)
        )
        if key is not None:
            info = msgspec.structs.replace(info, signatures=(key.sign(info),))
        narinfo = NarInfo(info=info, url=f"nar/{hash_part(path)}.nar")
        self.shelf[hash_part(path)] = Entry(narinfo=narinfo, size=size, published_at=at)
        return path

    def paths(self) -> set[StorePath]:
        """Return what is on the shelf."""
        return {entry.narinfo.info.path for entry in self.shelf.values()}

    async def entries(self) -> AsyncIterator[Sequence[Entry]]:
        self._troubled()
        known = list(self.shelf.values())
        for at in range(0, len(known), 2):
            yield known[at : at + 2]

    async def entry(self, hash_part: str) -> Entry | None:
        self._troubled()
        return self.shelf.get(hash_part)

    async def verify(self, entry: Entry) -> Sequence[str]:
        self._troubled()
        found = self.faults.get(entry.narinfo.info.path, [])
        if isinstance(found, DoorError):
            raise found
        return found

    async def remove(self, entries: Sequence[Entry]) -> None:
        self._troubled()
        self.calls.append(("remove", [entry.narinfo.info.path for entry in entries]))
        for entry in entries:
            self.shelf.pop(hash_part(entry.narinfo.info.path), None)

    async def sweep(self, grace_s: float, now: float) -> int:
        self._troubled()
        self.calls.append(("sweep", grace_s))
        freed, self.garbage = self.garbage, 0
        return freed

    async def sign(self, entry: Entry) -> bool:
        self._troubled()
        path = entry.narinfo.info.path
        new = path in self.unsigned
        self.unsigned.discard(path)
        return new

    def _troubled(self) -> None:
        if self.failure is not None:
            raise self.failure
