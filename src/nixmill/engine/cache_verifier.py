"""Verifies what stands in a cache of ours, and repairs it.

What is bad is made valid in the store again (`cache_restore`). Then, while nobody pushes, all of it is recorded to be
published, taken out of the cache, and its archives are deleted at once: one with the same name would be taken for good.
Broken off before, the next verification finds it again; broken off later, the queue publishes it. What nobody has any
more stays as it is: perhaps it is not the entry that is wrong, but the keys in the settings.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import Final, Protocol

import msgspec

from nixmill.core.upload import Upload
from nixmill.doors import Clock, DoorError
from nixmill.doors.cache import Entry, Uploads
from nixmill.engine.cache_keeper import CacheKeeper, OwnCache
from nixmill.engine.cache_locks import CacheLocks
from nixmill.engine.task_group import innermost
from nixmill.nix.narinfo import NarInfo
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath, hash_part

AT_ONCE: Final = 4
"""Entries read at the same time."""
NOT_HERE: Final = "It is not in the cache."
_LOST: Final = "Nobody has it any more: neither the store nor a substituter, nor can it be built. It stays as it is."

Elsewhere = Callable[[str, Collection[StorePath]], Awaitable[Collection[StorePath]]]
"""Returns which paths a cache need not hold, since clients have them from elsewhere (`upstream-keys`)."""
Record = Callable[[Sequence[Upload]], Awaitable[None]]
"""Records uploads, as `History.record` does; those that are there already may stay as they are."""
Told = Callable[[int, int, int], None]
"""Hears how far a verification is: entries done, entries in all, bytes read."""


class Restore(Protocol):
    """Makes a path valid in our store."""

    async def __call__(self, path: StorePath, deriver: StorePath | None, /) -> str:
        """Return how, as the end of a sentence; nothing where it cannot be. Raises `DoorError`."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """A path of a cache that is not as it should be."""

    path: StorePath
    faults: Sequence[str]
    """What is wrong, in sentences."""
    repair: str = ""
    """What became of it, in a sentence; empty where nothing was tried."""
    mended: bool = False
    """Whether it will be published again."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification found."""

    looked: int
    """Entries."""
    size: int
    """Their bytes."""
    troubles: Sequence[Trouble]


class CacheVerifier:
    """Verifies caches that a keeper keeps."""

    def __init__(
        self,
        keeper: CacheKeeper,
        uploads: Uploads,
        record: Record,
        restore: Restore,
        elsewhere: Elsewhere,
        locks: CacheLocks,
        clock: Clock,
    ) -> None:
        """Publish again by this queue what `restore` makes valid."""
        self._keeper = keeper
        self._uploads = uploads
        self._record = record
        self._restore = restore
        self._elsewhere = elsewhere
        self._locks = locks
        self._clock = clock

    async def verify(
        self, name: str, paths: Collection[StorePath] = (), *, repair: bool = False, told: Told = lambda *_: None
    ) -> Verified:
        """Read a whole cache, or these paths, and say what is wrong; with `repair` also mend it."""
        cache = self._keeper.own(name)
        look = _Look(cache, told)
        await (look.at(paths) if paths else look.at_all())
        await look.at_references(self._elsewhere)
        if repair:
            troubles = [await self._restored(found) for found in look.found]
            await self._replace(cache, [one for one in look.found if one.path in _mended(troubles)])
        else:
            troubles = [Trouble(path=found.path, faults=found.faults) for found in look.found]
        return Verified(looked=look.done, size=look.size, troubles=troubles)

    async def _restored(self, found: "_Found") -> Trouble:
        """Make a path valid in the store, if anybody has it."""
        deriver = found.entry.narinfo.info.deriver if found.entry is not None else None
        try:
            how = await self._restore(found.path, deriver)
        except DoorError as error:
            return Trouble(path=found.path, faults=found.faults, repair=f"It could not be restored: {error}")
        if not how:
            return Trouble(path=found.path, faults=found.faults, repair=_LOST)
        return Trouble(path=found.path, faults=found.faults, repair=f"It {how}, and is published again.", mended=True)

    async def _replace(self, cache: OwnCache, found: "Sequence[_Found]") -> None:
        """Take bad entries out, and have their paths published again, asked for before or not."""
        if not found:
            return
        now = self._clock.now()
        uploads = [Upload(cache=cache.name, path=one.path, project=0, run=0, due_at=now, at=now) for one in found]
        async with self._locks.alone(cache.name):
            await self._record(uploads)
            await self._uploads.save(uploads)
            await cache.stock.remove([one.entry or _unreadable(one.path) for one in found])
            await cache.stock.sweep(0.0, self._clock.now())


def _mended(troubles: Sequence[Trouble]) -> set[StorePath]:
    return {trouble.path for trouble in troubles if trouble.mended}


def _unreadable(path: StorePath) -> Entry:
    """Return an entry for a path whose narinfo is missing, or is none: removing it removes whatever is there."""
    info = PathInfo(path=path, deriver=None, nar_hash="", nar_size=0, references=())
    return Entry(narinfo=NarInfo(info=info, url=""), size=0, published_at=0.0)


class _Found(msgspec.Struct, frozen=True):
    path: StorePath
    faults: Sequence[str]
    entry: Entry | None


class _Look:
    """One verification of a cache: what was seen, and what was wrong with it."""

    def __init__(self, cache: OwnCache, told: Told) -> None:
        self.found: list[_Found] = []
        self.done = 0
        self.size = 0
        self._name = cache.name
        self._stock = cache.stock
        self._told = told
        self._total = 0
        self._seen: set[StorePath] = set()
        self._referred: dict[StorePath, StorePath] = {}
        """What entries refer to, with one that does."""

    async def at_all(self) -> None:
        """Look at all entries: once to count them, once to read them."""
        async for entries in self._stock.entries():
            self._total += len(entries)
        async for entries in self._stock.entries():
            await self._read(entries)

    async def at(self, paths: Collection[StorePath]) -> None:
        """Look at some paths."""
        self._total = len(paths)
        for path in dict.fromkeys(paths):
            entry = await self._stock.entry(hash_part(path))
            if entry is None:
                self._seen.add(path)
                self.found.append(_Found(path, [NOT_HERE], None))
            else:
                await self._read([entry])

    async def at_references(self, elsewhere: Elsewhere) -> None:
        """Look whether everything that entries refer to is here, or need not be."""
        unseen = [path for path in self._referred if path not in self._seen]
        excused = set(await elsewhere(self._name, unseen)) if unseen else set()
        for path in unseen:
            if path not in excused and await self._stock.entry(hash_part(path)) is None:
                fault = f"It is not in the cache, and {self._referred[path]} refers to it."
                self.found.append(_Found(path, [fault], None))

    async def _read(self, entries: Sequence[Entry]) -> None:
        """Read some entries, a few at a time."""
        todo = iter(entries)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(AT_ONCE, len(entries))):
                    group.create_task(self._reader(todo))
        except ExceptionGroup as error:
            raise innermost(error) from error

    async def _reader(self, todo: Iterator[Entry]) -> None:
        for entry in todo:
            faults = await self._faults(entry)
            path = entry.narinfo.info.path
            if faults and await self._stock.entry(hash_part(path)) is not None:  # it was not collected meanwhile
                self.found.append(_Found(path, faults, entry))
            self._seen.add(path)
            self._referred.update(dict.fromkeys(entry.narinfo.info.references, path))
            self.done += 1
            self.size += entry.size
            self._told(self.done, max(self.done, self._total), self.size)

    async def _faults(self, entry: Entry) -> Sequence[str]:
        """Return what is wrong with an entry; one that cannot be read now says nothing of the others."""
        try:
            return await self._stock.verify(entry)
        except DoorError as error:
            if error.retryable:
                raise
            return [str(error)]
