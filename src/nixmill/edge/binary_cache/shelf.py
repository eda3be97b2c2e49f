"""What stands in a cache of ours, and how it is taken away.

A narinfo that is deleted leaves a tombstone, an object that names what it named, so that archives stay for those who
are reading them: for a while from then on, and not from when they were made.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final

import msgspec

from nixmill.doors.cache import Entry, StoredObject
from nixmill.edge.binary_cache import names
from nixmill.edge.binary_cache.batches import Batches
from nixmill.edge.binary_cache.claims import Claims
from nixmill.nix import narinfo
from nixmill.nix.narinfo import NarInfo, NarInfoError
from nixmill.nix.store_path import StorePath

AT_ONCE: Final = 256
"""Narinfos that are read at a time."""
TOGETHER_BYTES: Final = 64 * 1024 * 1024
"""What these may have together, also where somebody fills a cache with large ones."""
DELETED: Final = 1000
_INDEX = msgspec.json.Decoder(dict[str, str])
_TOMBSTONE = msgspec.json.Decoder(list[str])


class Shelf:
    """Lists, unpublishes and sweeps."""

    def __init__(self, objects: Batches, claims: Claims, store_dir: str) -> None:
        """Look after `objects`."""
        self._objects = objects
        self._claims = claims
        self._store_dir = store_dir

    async def entries(self) -> AsyncIterator[Sequence[Entry]]:
        """Yield what is published, many at a time. Sizes are those of a listing that was made at the start."""
        there = {found.name: found async for page in self._objects.names() for found in page}
        wanted = [name for name in there if is_narinfo(name)]
        for some in _together(wanted, there):
            found = await self._narinfos(some)
            yield [entry_of(found[name], there) for name in some if name in found]

    async def entry(self, hash_part: str) -> Entry | None:
        """Return what is published of a path."""
        there = {found.name: found async for page in self._objects.names(hash_part) for found in page}
        name = hash_part + names.NARINFO
        found = (await self._narinfos([name])).get(name) if name in there else None
        if found is None:
            return None
        there |= {one.name: one async for page in self._objects.names(found.url) for one in page}
        return entry_of(found, there)

    async def text(self, name: str) -> bytes:
        """Return a small object; no more of it than a narinfo may have."""
        return b"".join([chunk async for chunk in self._objects.read(name, 0, narinfo.SIZE_MAX)])

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Delete narinfos, referrers first, after a tombstone for what they named."""
        if not entries:
            return
        buried = sorted({name for entry in entries for name in entry.objects})
        text = msgspec.json.encode(buried)
        await self._objects.put(names.TOMBSTONES + sha256(text).hexdigest(), text, replace=True)
        for layer in referrers_first([entry.narinfo for entry in entries]):
            await self._objects.delete([names.narinfo_name(path) for path in layer])

    async def sweep(self, grace_s: float, now: float) -> int:
        """Delete what no narinfo has named for `grace_s`; return the bytes that were freed."""
        with self._claims.watching():
            there = {found.name: found async for page in self._objects.names() for found in page}
            named = await self._named(there)
            buried = await self._buried(there)
            old = now - grace_s
            doomed = [
                found
                for name, found in there.items()
                if is_swept(name) and name not in named and max(found.modified_at, buried.get(name, 0.0)) <= old
            ]
            freed = await self._delete(doomed)
            await self._sweep_indices(there, {found.name for found in doomed})
            tombs = [f for f in there.values() if f.name.startswith(names.TOMBSTONES) and f.modified_at <= old]
            await self._objects.delete([found.name for found in tombs])
        return freed

    async def _delete(self, doomed: Sequence[StoredObject]) -> int:
        freed = 0
        for at in range(0, len(doomed), DELETED):
            some = {found.name: found.size for found in doomed[at : at + DELETED]}
            async with self._claims.dooming(some) as free:
                await self._objects.delete(free)
            freed += sum(some[name] for name in free)
        return freed

    async def _sweep_indices(self, there: Mapping[str, StoredObject], doomed: Collection[str]) -> None:
        """Delete indices of debug information whose archive is gone."""
        if not doomed:
            return
        gone = [name for name in there if name.startswith(names.DEBUG_INFO)]
        for at in range(0, len(gone), AT_ONCE):
            some = gone[at : at + AT_ONCE]
            texts = await asyncio.gather(*map(self.text, some))
            await self._objects.delete([n for n, text in zip(some, texts, strict=True) if _archive_of(text) in doomed])

    async def _named(self, there: Mapping[str, StoredObject]) -> set[str]:
        """Return what the narinfos name; what stands in one that cannot be read counts by its own name."""
        named = set()
        wanted = [name for name in there if is_narinfo(name)]
        for some in _together(wanted, there):
            named |= {found.url for found in (await self._narinfos(some)).values()}
        return named | {name.removesuffix(names.NARINFO) + names.LISTING for name in wanted}

    async def _buried(self, there: Mapping[str, StoredObject]) -> dict[str, float]:
        """Return when objects lost their narinfos, as far as tombstones know."""
        buried: dict[str, float] = {}
        for name, found in there.items():
            if name.startswith(names.TOMBSTONES):
                text = b"".join([chunk async for chunk in self._objects.read(name)])
                for one in _tombstone(text):
                    buried[one] = max(buried.get(one, 0.0), found.modified_at)
        return buried

    async def _narinfos(self, wanted: Sequence[str]) -> dict[str, NarInfo]:
        """Read narinfos; those that are gone, or are none, are left out."""
        texts = await asyncio.gather(*map(self.text, wanted))
        found = {}
        for name, text in zip(wanted, texts, strict=True):
            try:
                found[name] = parsed(name, text, self._store_dir)
            except NarInfoError:
                continue
        return found


def _together(wanted: Iterable[str], there: Mapping[str, StoredObject]) -> Iterator[list[str]]:
    """Yield names of objects that are read at a time: not too many, and not too much."""
    some: list[str] = []
    size = 0
    for name in wanted:
        size += min(there[name].size, narinfo.SIZE_MAX)
        if some and (len(some) == AT_ONCE or size > TOGETHER_BYTES):
            yield some
            some, size = [], min(there[name].size, narinfo.SIZE_MAX)
        some.append(name)
    if some:
        yield some


def parsed(name: str, text: bytes, store_dir: str) -> NarInfo:
    """Read the narinfo of that name; raise `NarInfoError` where it is none, or one of another path."""
    found = narinfo.parse(text.decode("utf-8", "replace"), store_dir)
    if names.narinfo_name(found.info.path) != name:
        raise NarInfoError(f"It describes {found.info.path}, which is not what it is named after.")
    if not names.is_name(found.url):
        raise NarInfoError(f"Its archive {found.url[:80]!r} is not in the cache.")
    return found


def is_narinfo(name: str) -> bool:
    """Say whether an object is a narinfo by its name."""
    return name.endswith(names.NARINFO) and "/" not in name


def is_swept(name: str) -> bool:
    """Say whether an object is worth nothing without a narinfo."""
    return name.startswith(names.ARCHIVES) or (name.endswith(names.LISTING) and "/" not in name)


def entry_of(found: NarInfo, there: Mapping[str, StoredObject]) -> Entry:
    """Return an entry; `there` has the objects that may be its own."""
    path = found.info.path
    own = [name for name in (found.url, names.listing_name(path)) if name in there]
    itself = there[names.narinfo_name(path)]
    return Entry(
        narinfo=found,
        objects=tuple(own),
        size=itself.size + sum(there[name].size for name in own),
        published_at=itself.modified_at,
    )


def referrers_first(infos: Sequence[NarInfo]) -> list[list[StorePath]]:
    """Return paths in layers, each before all that its paths refer to."""
    left = {one.info.path: {r for r in one.info.references if r != one.info.path} for one in infos}
    referrers = dict.fromkeys(left, 0)
    for references in left.values():
        for reference in references & referrers.keys():
            referrers[reference] += 1
    layer = [path for path, count in referrers.items() if not count]
    layers = []
    while layer:
        layers.append(layer)
        following = []
        for reference in (r for path in layer for r in left.pop(path) if r in referrers):
            referrers[reference] -= 1
            if not referrers[reference]:
                following.append(reference)
        layer = following
    return [*layers, list(left)] if left else layers


def _archive_of(index: bytes) -> str:
    try:
        return _INDEX.decode(index).get("archive", "").removeprefix("../")
    except msgspec.DecodeError:
        return ""


def _tombstone(text: bytes) -> list[str]:
    try:
        return _TOMBSTONE.decode(text)
    except msgspec.DecodeError:
        return []
