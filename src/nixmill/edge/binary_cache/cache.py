"""A binary cache of our own: a place to publish to, and a stock to look after.

Implements the doors `Destination` and `Stock` over any `Batches`. One process at a time writes to a cache.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from nixmill.doors.cache import Contents, Entry, Pushed
from nixmill.edge.binary_cache import names
from nixmill.edge.binary_cache.batches import Batches
from nixmill.edge.binary_cache.claims import Claims
from nixmill.edge.binary_cache.faults import explained, fault
from nixmill.edge.binary_cache.pack import Packer
from nixmill.edge.binary_cache.push import Push
from nixmill.edge.binary_cache.realisations import sweep_realisations
from nixmill.edge.binary_cache.shelf import Shelf, parsed
from nixmill.edge.binary_cache.signer import Signer
from nixmill.edge.binary_cache.verify import verify
from nixmill.nix import narinfo
from nixmill.nix.narinfo import NarInfoError
from nixmill.nix.path_info import PathInfo
from nixmill.nix.realisation import Realisation, write
from nixmill.nix.signature import SecretKey
from nixmill.nix.store_path import StorePath

ASKED: Final = 64
"""Paths that are looked for at a time."""
_THREADS: Final = os.cpu_count() or 1


class BinaryCache:
    """One cache. `scratch` makes a directory for archives under way: on the disk of the cache, if it has one."""

    def __init__(
        self,
        objects: Batches,
        keys: Sequence[SecretKey],
        *,
        store_dir: str,
        scratch: Callable[[], Path],
        level: int = 3,
        priority: int = 40,
    ) -> None:
        """Sign with each of `keys`; compress at `level` of zstd."""
        self.objects = objects
        self.signer = Signer(keys)
        self._store_dir = store_dir
        self._priority = priority
        self._claims = Claims()
        self._level = level
        self._scratch = scratch
        self._shelf = Shelf(objects, self._claims, store_dir)
        self._threads = ThreadPoolExecutor(_THREADS, "pack")

    async def prepare(self) -> None:
        """Write what clients are told of the cache; raise `DoorError` where it is one of another store directory."""
        text = f"StoreDir: {self._store_dir}\nWantMassQuery: 1\nPriority: {self._priority}\n".encode()
        there = await self._shelf.text(names.CACHE_INFO)
        said = [line.partition(b": ")[2].strip() for line in there.splitlines() if line.startswith(b"StoreDir: ")]
        if said and said[0] != self._store_dir.encode():
            raise fault(
                f"The cache holds paths of {said[0].decode(errors='replace')}; those of {self._store_dir} cannot be "
                "published there. Name another directory, bucket or prefix.",
                action="open",
                subject=names.CACHE_INFO,
            )
        if there != text:
            await self.objects.put(names.CACHE_INFO, text, replace=True)

    async def close(self) -> None:
        """Let the threads go once they have done what they are at."""
        await asyncio.to_thread(self._threads.shutdown)

    async def lacks(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Return those of `paths` that the cache does not hold, asked of it now; all where it cannot be asked."""
        wanted = list(paths)
        lacking: set[StorePath] = set()
        for at in range(0, len(wanted), ASKED):
            some = wanted[at : at + ASKED]
            sizes = await asyncio.gather(*(self.objects.size(names.narinfo_name(path)) for path in some))
            lacking |= {path for path, size in zip(some, sizes, strict=True) if size is None}
        return lacking

    async def push(self, infos: Sequence[PathInfo], contents: Contents) -> Pushed:
        """Publish paths, of which each comes after what it refers to; what they refer to beside them is there.

        A narinfo never appears before what it refers to. Broken off at any point, a second push goes on.
        """
        lacking = await self.lacks([info.path for info in infos])
        wanted = [info for info in infos if info.path in lacking]
        if not wanted:
            return Pushed(known=frozenset(info.path for info in infos))
        with explained("make a directory for", names.CACHE_INFO):
            scratch = await asyncio.to_thread(self._scratch)
        push = Push(self.objects, Packer(self._level, scratch), self._claims, self._threads, contents)
        pushed = await push.run(wanted, self.signer.signed)
        known = pushed.known | {info.path for info in infos if info.path not in lacking}
        return msgspec.structs.replace(pushed, known=known)

    async def put_log(self, drv_path: StorePath, text: bytes) -> bool:
        """Publish the log of a build, as `nix log` reads it; say whether there was none."""
        return await self.objects.put(names.log_name(drv_path), text)

    async def put_realisations(self, realisations: Sequence[Realisation]) -> None:
        """Publish what derivations came out as, signed with all keys; what was published of them before is replaced."""
        for at in range(0, len(realisations), ASKED):
            signed = [self.signer.realised(one) for one in realisations[at : at + ASKED]]
            puts = (self.objects.put(names.realisation_name(one.id), write(one), replace=True) for one in signed)
            await asyncio.gather(*puts)

    def entries(self) -> AsyncIterator[Sequence[Entry]]:
        """Yield everything that is published, many at a time; what is no narinfo is told by `verify`, not here."""
        return self._shelf.entries()

    async def entry(self, hash_part: str) -> Entry | None:
        """Return what is published of a path."""
        return await self._shelf.entry(hash_part)

    async def verify(self, entry: Entry) -> Sequence[str]:
        """Return what is wrong with an entry, in sentences. Reads its narinfo anew, and all of its archive."""
        path = entry.narinfo.info.path
        name = names.narinfo_name(path)
        text = await self._shelf.text(name)
        if not text:
            return [f"{path} is no longer in the cache."]
        try:
            found = parsed(name, text, self._store_dir)
        except NarInfoError as error:
            return [f"The narinfo of {path}, {name}, cannot be read: {error}"]
        return await verify(self.objects, found, self.signer.public)

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Unpublish paths: narinfos go at once, referrers first, and archives with `sweep`."""
        await self._shelf.remove(entries)

    async def sweep(self, grace_s: float, now: float) -> int:
        """Delete objects that no narinfo has named for `grace_s`; return the bytes that were freed."""
        return await self._shelf.sweep(grace_s, now) + await sweep_realisations(self.objects, now - grace_s)

    async def sign(self, entry: Entry) -> bool:
        """Sign an entry with the keys of today where it is not; say whether anything was to be done."""
        name = names.narinfo_name(entry.narinfo.info.path)
        text = await self._shelf.text(name)
        if not text:
            return False
        try:
            found = parsed(name, text, self._store_dir)
        except NarInfoError as error:
            raise fault(
                f"{name} cannot be signed: {error} Unpublish the path, then publish it again.",
                action="sign",
                subject=name,
            ) from error
        signed = self.signer.signed(found.info)
        if signed == found.info:
            return False
        content = narinfo.write(msgspec.structs.replace(found, info=signed)).encode()
        await self.objects.put(name, content, replace=True)
        return True
