"""Remembers what was published to a cache that cannot be asked, so that whole closures are not handed over each time.

What is remembered is believed for a day: the cache may delete what it holds.
"""

from collections.abc import Collection, Sequence

from nixmill.doors.cache import Contents, Destination, Pushed
from nixmill.edge.binary_cache.store_destination import Shelf
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath


class Remembered:
    """Implements `nixmill.doors.cache.Destination`."""

    def __init__(self, destination: Destination, shelf: Shelf) -> None:
        """Publish to `destination`; what it got is on `shelf`."""
        self._destination = destination
        self._shelf = shelf

    async def lacks(self, paths: Collection[StorePath]) -> set[StorePath]:
        """See `Destination`."""
        return await self._destination.lacks(paths) - await self._shelf.members(paths)

    async def push(self, infos: Sequence[PathInfo], contents: Contents) -> Pushed:
        """See `Destination`."""
        pushed = await self._destination.push(infos, contents)
        await self._shelf.add(pushed.new | pushed.known)
        return pushed
