"""Closure sizes of what a run changed, before and after, as far as both are in the store."""

from collections.abc import Iterable, Sequence
from typing import Final

from nixmill.core.evaluation import Attribute
from nixmill.core.size_change import SizeChange, Sized, size_changes
from nixmill.doors import Store
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath, derivation_name

ATTRIBUTES_MAX: Final = 200
"""Changed attributes whose closures are measured."""
PATHS_MAX: Final = 100_000
"""Store paths that are looked at for one run."""


class Measure:
    """Measures closures in one store; what was asked once is known."""

    def __init__(self, store: Store) -> None:
        """Ask `store`."""
        self._store = store
        self._known: dict[StorePath, PathInfo] = {}

    async def changes(self, pairs: Sequence[tuple[Attribute | None, Attribute | None]]) -> tuple[SizeChange, ...]:
        """Return how attributes, given as (before, after), changed in version and closure; the largest first."""
        chosen = pairs[:ATTRIBUTES_MAX]
        before = [await self._sized(old) for old, _ in chosen if old is not None]
        after = [await self._sized(new) for _, new in chosen if new is not None]
        return size_changes(before, after)

    async def _sized(self, attribute: Attribute) -> Sized:
        outputs = [path for path in attribute.outputs.values() if path is not None]
        closure = await self._closure(outputs) if len(outputs) == len(attribute.outputs) else None
        return Sized(attribute.path, derivation_name(attribute.drv_path), closure)

    async def _closure(self, roots: Iterable[StorePath]) -> int | None:
        """Return the bytes of a closure; None where some of it is not here, or too much would have to be looked at."""
        seen: set[StorePath] = set()
        edge = set(roots)
        while edge:
            missing = [path for path in edge if path not in self._known]
            if len(self._known) + len(missing) > PATHS_MAX:
                return None
            self._known |= await self._store.path_infos(missing) if missing else {}
            if any(path not in self._known for path in edge):
                return None
            seen |= edge
            edge = {other for path in edge for other in self._known[path].references} - seen
        return sum(self._known[path].nar_size for path in seen)
