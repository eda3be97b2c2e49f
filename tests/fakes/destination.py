"""The door Destination in memory, with scripted trouble. It refuses what would break closure order."""

import asyncio
from collections.abc import Collection, Sequence

from nixmill.doors import DoorError
from nixmill.doors.cache import Contents, Pushed
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath


class FakeDestination:
    """A cache. Everything a test may look at is a plain attribute."""

    def __init__(self, *held: StorePath) -> None:
        self.held = set(held)
        self.order: list[StorePath] = []
        """What was published, in order."""
        self.asked: list[set[StorePath]] = []
        self.pushes: list[int] = []
        """How many paths each push was about."""
        self.faults: dict[StorePath, str] = {}
        """Paths that cannot be published, and why."""
        self.silent: set[StorePath] = set()
        """Paths that a push says nothing of."""
        self.failure: Exception | None = None
        """Raised by every push while it is set."""
        self.gate: asyncio.Event | None = None
        """A push waits until it is set."""

    async def lacks(self, paths: Collection[StorePath]) -> set[StorePath]:
        self.asked.append(set(paths))
        return set(paths) - self.held

    async def push(self, infos: Sequence[PathInfo], contents: Contents) -> Pushed:
        self.pushes.append(len(infos))
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        new: set[StorePath] = set()
        known: set[StorePath] = set()
        faults: dict[StorePath, str] = {}
        for info in infos:
            await asyncio.sleep(0)  # a process may be killed between any two
            others = set(info.references) - {info.path}
            if info.path in self.faults or others & faults.keys():
                faults[info.path] = self.faults.get(info.path, "What it refers to could not be published.")
            elif info.path in self.held:
                known.add(info.path)
            elif info.path not in self.silent:
                self.enter(info)
                new.add(info.path)
        return Pushed(new=frozenset(new), known=frozenset(known), faults=faults, sent_bytes=100 * len(new))

    def enter(self, info: PathInfo) -> None:
        lacking = set(info.references) - {info.path} - self.held - self.elsewhere
        assert not lacking, f"{info.path} was published before {sorted(lacking)}"
        self.held.add(info.path)
        self.order.append(info.path)

    elsewhere: frozenset[StorePath] = frozenset()
    """What clients get from others."""


class NoContents:
    """The door Contents for destinations that read nothing."""

    async def nar(self, path: StorePath):  # type: ignore[no-untyped-def]  # noqa: ANN201 - an async generator that always raises
        raise DoorError(f"{path} is not there.", door="contents", action="read", retryable=False)
        yield b""
