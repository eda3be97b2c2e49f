"""A cache of files by content: what equal trees share is kept once. Archives are made when they are asked for.

Beside the narinfos: `cas_objects` says which objects there are. Narinfos name an uncompressed archive.
Source of the model: castore of TVL's depot; `docs/decisions/018-content-addressed-caches.md`.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

from nixmill.doors import DoorError
from nixmill.doors.cache import Contents, Entry, Pushed, StoredObject
from nixmill.edge.binary_cache import cas_objects, cas_roots
from nixmill.edge.binary_cache.batches import Batches
from nixmill.edge.binary_cache.cache import BinaryCache
from nixmill.edge.binary_cache.cas_objects import ROOTS
from nixmill.edge.binary_cache.cas_push import CasPush
from nixmill.edge.binary_cache.cas_reader import CasReader
from nixmill.edge.binary_cache.cas_sweep import CasSweep
from nixmill.edge.binary_cache.faults import fault
from nixmill.edge.binary_cache.names import NARINFO, narinfo_name
from nixmill.edge.binary_cache.realisations import sweep_realisations
from nixmill.nix import narinfo
from nixmill.nix.narinfo import NarInfo, NarInfoError
from nixmill.nix.path_info import PathInfo
from nixmill.nix.signature import SecretKey, signed_by
from nixmill.nix.store_path import hash_part


class CasCache(BinaryCache):
    """A cache that differs from others in what it keeps of a path beside the narinfo.

    The caller sees to it that nothing is published while `remove` or `sweep` are at work.
    """

    def __init__(
        self, objects: Batches, keys: Sequence[SecretKey], *, store_dir: str, level: int = 3, priority: int = 40
    ) -> None:
        """Keep everything in `objects`; sign with each of `keys`; `level` is of zstd."""
        super().__init__(objects, keys, store_dir=store_dir, scratch=_no_scratch, level=level, priority=priority)
        self.reader = CasReader(objects)

    async def push(self, infos: Sequence[PathInfo], contents: Contents) -> Pushed:
        """See `Destination`."""
        return await CasPush(self.objects, self.signer, self._level).push(infos, contents)

    async def nar(self, narinfo_: NarInfo, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield the archive of a path, or a range of it; raise `DoorError` before any byte that ought to be another."""
        root = await self.reader.root(cas_roots.key_of_archive(narinfo_.url))
        if root is None:
            raise fault(
                f"The cache holds no tree for {narinfo_.info.path}. Publish it again.",
                action="read",
                subject=narinfo_.info.path,
            )
        async for piece in self.reader.read(root.node, start, length):
            yield piece

    async def entries(self) -> AsyncIterator[Sequence[Entry]]:
        """See `Stock`."""
        async for objects in self.objects.names(ROOTS):
            yield await self._entries(objects)

    async def entry(self, hash_part: str) -> Entry | None:
        """See `Stock`."""
        told = (await self._narinfos([hash_part]))[0]
        if told is None:
            return None
        name = cas_roots.root_name(cas_roots.key_of_archive(told.url))
        objects = [found async for some in self.objects.names(name) for found in some]
        return next(iter(await self._entries(objects)), None)

    async def verify(self, entry: Entry) -> Sequence[str]:
        """See `Stock`."""
        path = entry.narinfo.info.path
        told = (await self._narinfos([hash_part(path)]))[0]
        if told is None:
            return [f"The narinfo of {path} is gone, or is none."]
        wrong = []
        if self.signer.public and not signed_by(told.info, self.signer.public):
            wrong.append(f"The narinfo of {path} is signed by no key of this cache.")
        try:
            nar_hash, size = await self._measured(told)
        except DoorError as error:
            return [*wrong, str(error)]
        if (nar_hash, size) != (told.info.nar_hash, told.info.nar_size):
            wrong.append(f"The archive of {path} has {size} bytes and the hash {nar_hash}: it is not its own.")
        return wrong

    async def _measured(self, told: NarInfo) -> tuple[str, int]:
        sha256, size = hashlib.sha256(), 0
        async for piece in self.nar(told):
            await asyncio.to_thread(sha256.update, piece)
            size += len(piece)
        return f"sha256:{sha256.hexdigest()}", size

    async def remove(self, entries: Sequence[Entry]) -> None:
        """See `Stock`. That a path was taken off is noted first, so that `sweep` spares its tree for a while."""
        for entry in entries:
            key = cas_roots.key_of_archive(entry.narinfo.url)
            await self.objects.put(cas_roots.tombstone_name(key), entry.narinfo.info.path.encode(), replace=True)
        for entry in entries:
            await self.objects.delete([narinfo_name(entry.narinfo.info.path)])

    async def sweep(self, grace_s: float, now: float) -> int:
        """See `Stock`."""
        before = now - grace_s
        return await CasSweep(self.objects, before).run() + await sweep_realisations(self.objects, before)

    async def _entries(self, objects: Iterable[StoredObject]) -> list[Entry]:
        """Return what is published among the trees whose roots `objects` are."""
        found = {root.name.removeprefix(ROOTS): root for root in objects}
        told = await self._narinfos([cas_roots.hash_part_of(key) for key in found])
        roots = await cas_objects.contents(self.objects, [root.name for root in found.values()])
        return [
            Entry(
                narinfo=known,
                objects=(root.name,),
                size=_size(known, root.name, content),
                published_at=root.modified_at,
            )
            for (key, root), known, content in zip(found.items(), told, roots, strict=True)
            if known is not None and cas_roots.key_of_archive(known.url) == key
        ]

    async def _narinfos(self, hash_parts: Iterable[str]) -> list[NarInfo | None]:
        texts = await cas_objects.contents(self.objects, [part + NARINFO for part in hash_parts])
        return [self._parsed(text) for text in texts]

    def _parsed(self, text: bytes | None) -> NarInfo | None:
        try:
            return narinfo.parse(text.decode(), self._store_dir) if text is not None else None
        except (NarInfoError, UnicodeDecodeError):
            return None  # what is no narinfo is told by whoever verifies the cache


def _no_scratch() -> Path:
    raise NotImplementedError("nothing is packed into files")


def _size(narinfo_: NarInfo, name: str, content: bytes | None) -> int:
    """Return what deleting a path would free, as far as that is known: what publishing it added."""
    try:
        return cas_roots.decode(name, content or b"").added
    except DoorError:
        return narinfo_.info.nar_size
