"""Keeps a collector from deleting what somebody is about to refer to.

Both are in this process: no two servers write to the same cache.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator


class Claims:
    """Names of objects that are in use by those who publish."""

    def __init__(self) -> None:
        """Nothing is claimed."""
        self._held: Counter[str] = Counter()
        self._used: set[str] | None = None
        self._doomed: frozenset[str] = frozenset()
        self._changed = asyncio.Condition()

    @contextlib.asynccontextmanager
    async def holding(self, names: Collection[str]) -> AsyncIterator[None]:
        """Keep `names` from being deleted; wait first until none of them is just being deleted."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._doomed.isdisjoint(names))
            self._held.update(names)
            if self._used is not None:
                self._used.update(names)
        try:
            yield
        finally:
            self._held.subtract(names)
            self._held = +self._held

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Remember from here on what is claimed, for `dooming`; raises `RuntimeError` where somebody else does."""
        if self._used is not None:
            raise RuntimeError("two collectors are at the same cache")
        self._used = set(self._held)
        try:
            yield
        finally:
            self._used = None

    @contextlib.asynccontextmanager
    async def dooming(self, names: Iterable[str]) -> AsyncIterator[frozenset[str]]:
        """Lend those of `names` that nobody has claimed since `watching` began; nobody can until this ends."""
        self._doomed = frozenset(names) - (self._used or set())
        try:
            yield self._doomed
        finally:
            self._doomed = frozenset()
            async with self._changed:
                self._changed.notify_all()
