"""The door `Roots` in memory: `tests/contract/test_roots_door.py` holds it to what the real ones do."""

from collections.abc import Collection
from dataclasses import dataclass, field

from nixmill.doors import DoorError
from nixmill.nix.store_path import StorePath, hash_part


@dataclass
class FakeRoots:
    """Roots of one store. Everything a test may look at is a plain attribute."""

    links: dict[str, StorePath] = field(default_factory=dict)
    """What stands, by hash part."""
    refuses: dict[StorePath, str] = field(default_factory=dict)
    """Paths that cannot be rooted, and why."""
    failure: DoorError | None = None
    """Raised by every call while it is set."""
    calls: list[tuple[str, int]] = field(default_factory=list)
    """Each call: its name, and how many paths it was about."""

    async def add(self, paths: Collection[StorePath]) -> dict[StorePath, str]:
        self._begin("add", len(paths))
        self.links |= {hash_part(path): path for path in paths if path not in self.refuses}
        return {path: self.refuses[path] for path in paths if path in self.refuses}

    async def standing(self) -> set[str]:
        self._begin("standing", 0)
        return set(self.links)

    async def remove(self, hash_parts: Collection[str]) -> None:
        self._begin("remove", len(hash_parts))
        for part in hash_parts:
            self.links.pop(part, None)

    def _begin(self, call: str, count: int) -> None:
        if self.failure is not None:
            raise self.failure
        self.calls.append((call, count))
