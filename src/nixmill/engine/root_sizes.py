"""How large the closures of roots are, in one store. What is asked for a page is bounded, and known for a minute."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from nixmill.core.closure import ClosureSize, closure_sizes
from nixmill.doors import Clock, Store
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

PATHS_MAX: Final = 20_000
"""Store paths that are looked at for one page."""
PATIENCE_S: Final = 10.0
"""How long a page waits for sizes."""
KNOWN_S: Final = 60.0
KNOWN_MAX: Final = 5 * PATHS_MAX
"""Paths that are known at once."""


class RootSizes:
    """Measures closures; one page at a time, so that many who look do not ask the store all at once."""

    def __init__(self, store: Store, clock: Clock, paths_max: int = PATHS_MAX, patience_s: float = PATIENCE_S) -> None:
        """Ask `store`."""
        self._store = store
        self._clock = clock
        self._paths_max = paths_max
        self._patience_s = patience_s
        self._known: dict[StorePath, PathInfo] = {}
        self._since = 0.0
        self._one = asyncio.Lock()

    async def sizes(self, roots: Sequence[Iterable[StorePath]]) -> list[ClosureSize | None]:
        """Return the size of each root's closure, against the others of `roots`; None for what is not in the store.

        Raises `TimeoutError` where the store, or whoever else is asking it, takes too long.
        """
        async with asyncio.timeout(self._patience_s), self._one:
            self._forget()
            await self._learn({path for root in roots for path in root})
            return await asyncio.to_thread(closure_sizes, roots, self._known)

    def _forget(self) -> None:
        """Forget everything where it is old, or too much."""
        now = self._clock.monotonic()
        if now - self._since > KNOWN_S or len(self._known) > KNOWN_MAX:
            self._known, self._since = {}, now

    async def _learn(self, paths: set[StorePath]) -> None:
        """Ask for paths and what they refer to, level by level, until all is known or it is too much."""
        seen = paths
        edge = paths
        asked = 0
        while edge and asked < self._paths_max:
            missing = [path for path in edge if path not in self._known][: self._paths_max - asked]
            asked += len(missing)
            self._known |= await self._store.path_infos(missing) if missing else {}
            referred = {other for path in edge if path in self._known for other in self._known[path].references}
            edge = referred - seen
            seen = seen | edge
