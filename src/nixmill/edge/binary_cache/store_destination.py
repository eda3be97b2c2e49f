"""Publishing to a cache that is served straight from the store: nothing is copied, paths become members."""

from collections.abc import Collection, Sequence
from typing import Protocol

from nixmill.doors.cache import Contents, Pushed
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath


class Shelf(Protocol):
    """Who is a member. Members are closed under references, and rooted."""

    async def members(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Return those of `paths` that are members."""

    async def add(self, paths: Collection[StorePath]) -> None:
        """Make paths members, all at once."""


class Validity(Protocol):
    """The part of a store that is needed."""

    async def valid(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Return those of `paths` that are valid here now."""


class StoreDestination:
    """Implements `nixmill.doors.cache.Destination`."""

    def __init__(self, store: Validity, shelf: Shelf) -> None:
        """Publish paths of `store`."""
        self._store = store
        self._shelf = shelf

    async def lacks(self, paths: Collection[StorePath]) -> set[StorePath]:
        """See `Destination`: members that the store lost are lacking, too."""
        return set(paths) - await self._store.valid(await self._shelf.members(paths))

    async def push(self, infos: Sequence[PathInfo], contents: Contents) -> Pushed:
        """See `Destination`: what is valid here becomes a member."""
        del contents
        paths = [info.path for info in infos]
        there = await self._store.valid(paths)
        faults = {path: f"{path} is no longer in the store. Build it again." for path in paths if path not in there}
        good: set[StorePath] = set()
        for info in infos:
            bad = [one for one in info.references if one in faults and one != info.path]
            if info.path not in faults and bad:
                faults[info.path] = f"{info.path} refers to {bad[0]}, which could not be published."
            if info.path not in faults:
                good.add(info.path)
        await self._shelf.add(good)
        return Pushed(new=frozenset(good), faults=faults)
