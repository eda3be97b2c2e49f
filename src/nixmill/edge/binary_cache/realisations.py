"""Realisations in a cache of ours: published after the paths that they name, deleted after them."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, Protocol

from nixmill.doors.cache import Contents, Destination, Objects, Pushed
from nixmill.edge.binary_cache.names import REALISATIONS, narinfo_name
from nixmill.nix.path_info import PathInfo
from nixmill.nix.realisation import SIZE_MAX, Realisation, RealisationError, parse
from nixmill.nix.store_path import StorePath

_ANY_STORE: Final = "/nix/store"
"""Realisations hold base names; which directory these are of does not matter here."""

RealisationsOf = Callable[[Collection[StorePath]], Awaitable[Sequence[Realisation]]]
"""Returns those that came out as some paths, and those that these rest on, as far as the cache may have them."""


class Stocked(Destination, Protocol):
    """A destination that stores realisations."""

    async def put_realisations(self, realisations: Sequence[Realisation]) -> None:
        """Publish what derivations came out as."""


class WithRealisations:
    """Implements `nixmill.doors.cache.Destination` and `TakesRealisations`."""

    def __init__(self, cache: Destination, stock: Stocked, realisations_of: RealisationsOf) -> None:
        """Publish paths to `cache`, and their realisations to `stock`, which is the same without what wraps it."""
        self._cache = cache
        self._stock = stock
        self._realisations_of = realisations_of

    async def lacks(self, paths: Collection[StorePath]) -> set[StorePath]:
        """See `Destination`."""
        return await self._cache.lacks(paths)

    async def push(self, infos: Sequence[PathInfo], contents: Contents) -> Pushed:
        """See `Destination`."""
        return await self._cache.push(infos, contents)

    async def realise(self, paths: Collection[StorePath]) -> None:
        """See `TakesRealisations`."""
        await self._stock.put_realisations(await self._realisations_of(paths))


async def sweep_realisations(objects: Objects, before: float) -> int:
    """Delete realisations from before a time whose path is not published any more; return the bytes that were freed."""
    doomed: dict[str, int] = {}
    async for page in objects.names(REALISATIONS):
        for found in page:
            if found.modified_at <= before and await _is_dead(objects, found.name):
                doomed[found.name] = found.size
    await objects.delete(list(doomed))
    return sum(doomed.values())


async def _is_dead(objects: Objects, name: str) -> bool:
    """Say whether a realisation names no published path; one that cannot be read stays."""
    text = b"".join([piece async for piece in objects.read(name, 0, SIZE_MAX)])
    try:
        path = parse(text, _ANY_STORE).out_path
    except RealisationError:
        return False
    return await objects.size(narinfo_name(path)) is None
