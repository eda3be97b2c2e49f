"""Keeps our caches: deletes what they need not hold any more, and signs what a rotation of keys left behind.

What stands in a cache is read from it, what is needed from the database, both while nobody pushes: what is decided
holds until it is done (`cache_locks`). Broken off anywhere, the next pass does the rest; paths are unpublished before
their archives go, referrers first, so that a cache is whole all the while.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final

import msgspec
from structlog.typing import FilteringBoundLogger

from nixmill.config.caches import CacheSettings
from nixmill.core.cache_collection import DAY_S, GIB, Doomed, Limits, Shelved, doomed, needed_in
from nixmill.core.errors import InputError
from nixmill.doors import Clock, DoorError
from nixmill.doors.cache import Entry, Stock
from nixmill.doors.roots import PinBook
from nixmill.engine.cache_locks import CacheLocks
from nixmill.nix.signature import PublicKey, signed_by
from nixmill.nix.store_path import StorePath, hash_part

HOUR_S: Final = 3600.0
ROUND_S: Final = HOUR_S
REMOVED_AT_ONCE: Final = 500
SIGNED_A_ROUND: Final = 20_000
"""Entries signed in a pass; the rest waits for the next one."""

Closure = Callable[[Collection[StorePath]], Awaitable[Collection[StorePath]]]
"""Returns paths and all they refer to, as far as a store knows them."""


class OwnCache(msgspec.Struct, frozen=True, kw_only=True):
    """A cache that is kept."""

    name: str
    stock: Stock
    limits: Limits = Limits()
    keys: tuple[PublicKey, ...] = ()
    """Of the keys that sign for it. What none of them signed truly is never signed anew: it may be somebody else's."""


class CacheNumbers(msgspec.Struct, kw_only=True):
    """What is known of a cache since this process started."""

    paths: int = 0
    """When it was last looked at."""
    size: int = 0
    """Bytes, likewise."""
    removed: int = 0
    """Paths, in all passes."""
    freed: int = 0
    """Bytes of archives, in all passes."""
    signed: int = 0
    faults: int = 0
    """Passes that failed."""
    looked_at: float = 0.0
    """When a pass last ended well; 0: never."""


class Collected(msgspec.Struct, frozen=True, kw_only=True):
    """What a collection did, or would do."""

    doomed: Sequence[Doomed]
    kept: int
    """Paths that stay."""
    kept_size: int
    freed: int
    """Bytes of archives that went; those of what was unpublished just now go after the grace."""


class CacheKeeper:
    """The keeper of all caches that are ours."""

    def __init__(
        self,
        caches: Collection[OwnCache],
        pins: PinBook,
        closure: Closure,
        locks: CacheLocks,
        clock: Clock,
        log: FilteringBoundLogger,
    ) -> None:
        """Keep these caches; what waits to be published is needed with its closure."""
        self.caches = {cache.name: cache for cache in caches}
        self.numbers = {cache.name: CacheNumbers() for cache in caches}
        self._pins = pins
        self._closure = closure
        self._locks = locks
        self._clock = clock
        self._log = log
        self._signed: set[str] = set()
        """Caches in which everything has today's signatures: keys change only while the server is down."""

    def pushed(self, name: str, paths: int, size: int) -> None:
        """Hear that paths were new to a cache, so that its numbers are right until it is looked at again."""
        if name in self.numbers:
            self.numbers[name].paths += paths
            self.numbers[name].size += size

    async def run(self) -> None:
        """Look at all caches every hour, for ever; at those that keep everything once a day."""
        while True:
            await self.look()
            await self._clock.sleep(ROUND_S)

    async def look(self) -> None:
        """Look at all caches once; what fails in one hinders no other."""
        for name, cache in self.caches.items():
            numbers = self.numbers[name]
            if not cache.limits.any() and self._clock.now() - numbers.looked_at < DAY_S:
                continue  # only leavings of pushes that were broken off can be deleted there
            try:
                if len(cache.keys) > 1 and name not in self._signed:
                    await self.sign(name, SIGNED_A_ROUND)
                await self.collect(name)
            except DoorError as error:
                numbers.faults += 1
                self._log.warning("a cache could not be looked after", cache=name, reason=str(error))
            else:
                numbers.looked_at = self._clock.now()

    async def collect(self, name: str, *, dry_run: bool = False) -> Collected:
        """Delete what a cache need not hold; with `dry_run` only say what that is."""
        cache = self.own(name)
        if dry_run:
            return await self._collected(cache, dry_run=True)
        async with self._locks.alone(name):
            return await self._collected(cache, dry_run=False)

    async def sign(self, name: str, limit: int | None = None) -> int:
        """Have all keys sign what one of them signed, at most `limit` entries; return how many it were.

        So a new key has signed everything before the old one goes.
        """
        cache, done = self.own(name), 0
        async with self._locks.alone(name):
            async for entries in cache.stock.entries():
                for entry in entries:
                    if signed_by(entry.narinfo.info, cache.keys):
                        done += await cache.stock.sign(entry)
                    if done == limit:
                        self._count_signed(name, done)
                        return done
        self._signed.add(name)
        self._count_signed(name, done)
        return done

    def own(self, name: str) -> OwnCache:
        """Return a cache that is ours; raise `InputError` where there is none of that name."""
        if (cache := self.caches.get(name)) is not None:
            return cache
        known = ", ".join(self.caches) or "none"
        raise InputError(
            f"{name!r} is no cache whose contents we keep (there are: {known}).", "See: nixmill cache list"
        )

    async def _collected(self, cache: OwnCache, *, dry_run: bool) -> Collected:
        shelf = [_shelved(entry) async for entries in cache.stock.entries() for entry in entries]
        needed, now = await self._needed(cache), self._clock.now()
        gone = await asyncio.to_thread(doomed, shelf, needed, cache.limits, now)
        freed = 0 if dry_run else await self._remove(cache, gone)
        result = Collected(
            doomed=gone,
            kept=len(shelf) - len(gone),
            kept_size=sum(one.size for one in shelf) - sum(one.size for one in gone),
            freed=freed,
        )
        if not dry_run:
            self._count(cache.name, result)
        return result

    async def _remove(self, cache: OwnCache, gone: Sequence[Doomed]) -> int:
        """Unpublish paths, a few hundred at a time; then delete what no narinfo has named for long."""
        for start in range(0, len(gone), REMOVED_AT_ONCE):
            some = [await cache.stock.entry(hash_part(one.path)) for one in gone[start : start + REMOVED_AT_ONCE]]
            await cache.stock.remove([entry for entry in some if entry is not None])
        return await cache.stock.sweep(cache.limits.grace_s, self._clock.now())

    async def _needed(self, cache: OwnCache) -> set[StorePath]:
        if not cache.limits.any():
            return set()
        now = self._clock.now()
        facts = await self._pins.facts(now)
        waiting = await self._closure(facts.uploads.get(cache.name, ()))
        return needed_in(facts, cache.name, now) | set(waiting)

    def _count(self, name: str, result: Collected) -> None:
        numbers, removed = self.numbers[name], len(result.doomed)
        numbers.paths, numbers.size = result.kept, result.kept_size
        numbers.removed += removed
        numbers.freed += result.freed
        if removed or result.freed:
            self._log.info("a cache was collected", cache=name, removed=removed, left=result.kept, freed=result.freed)

    def _count_signed(self, name: str, count: int) -> None:
        self.numbers[name].signed += count
        if count:
            self._log.info("a cache was signed again", cache=name, entries=count)


def limits_of(settings: CacheSettings) -> Limits:
    """Return how much a cache keeps as its settings say."""
    return Limits(
        age_s=settings.max_days * DAY_S,
        paths=settings.max_paths,
        size=int(settings.max_gib * GIB),
        grace_s=settings.grace_hours * HOUR_S,
    )


def _shelved(entry: Entry) -> Shelved:
    info = entry.narinfo.info
    return Shelved(path=info.path, references=info.references, size=entry.size, published_at=entry.published_at)
