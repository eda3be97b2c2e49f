"""One lock for each cache: pushes share it, who deletes or replaces holds it alone.

A push asks the cache what it lacks and relies on the answer until the last narinfo stands. Were something deleted in
between, a narinfo would appear whose references are gone.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol


class Across(Protocol):
    """Locks a cache against other processes."""

    def __call__(self, cache: str, *, alone: bool) -> AbstractAsyncContextManager[None]:
        """Return what holds the lock of a cache for as long as it is entered."""


class CacheLocks:
    """The locks of all caches, by name. Who waits to be alone comes before those who come later to share."""

    def __init__(self, across: Across | None = None) -> None:
        """Lock within this process, and by `across` against others."""
        self._across = across or _nothing
        self._by_name: defaultdict[str, _Lock] = defaultdict(_Lock)

    @contextlib.asynccontextmanager
    async def sharing(self, cache: str) -> AsyncIterator[None]:
        """Hold a cache's lock together with others who share it: for a push, from its first question to its end."""
        async with self._by_name[cache].sharing(), self._across(cache, alone=False):
            yield

    @contextlib.asynccontextmanager
    async def alone(self, cache: str) -> AsyncIterator[None]:
        """Hold a cache's lock alone."""
        async with self._by_name[cache].alone(), self._across(cache, alone=True):
            yield


class _Lock:
    """A lock for many who share it, or for one alone. Cancelling whoever waits leaves it as it was."""

    def __init__(self) -> None:
        self._entrance = asyncio.Lock()
        """Whoever wants to be alone stays in it, which keeps those who come later out."""
        self._sharers = 0
        self._empty = asyncio.Event()
        self._empty.set()

    @contextlib.asynccontextmanager
    async def sharing(self) -> AsyncIterator[None]:
        async with self._entrance:
            self._sharers += 1
            self._empty.clear()
        try:
            yield
        finally:
            self._sharers -= 1
            if not self._sharers:
                self._empty.set()

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._entrance:
            await self._empty.wait()
            yield


@contextlib.asynccontextmanager
async def _nothing(cache: str, *, alone: bool) -> AsyncIterator[None]:
    del cache, alone
    yield
