"""What of a cache by content nothing needs any longer: marked from all paths, and those taken off lately."""

from collections.abc import AsyncIterator, Iterable
from typing import Final

from nixmill.doors.cache import Objects
from nixmill.edge.binary_cache import cas_objects, cas_roots
from nixmill.edge.binary_cache.cas_objects import BLOBS, DIRECTORIES, LISTS, ROOTS, directory_name, list_name
from nixmill.edge.binary_cache.cas_reader import CasReader
from nixmill.edge.binary_cache.names import NARINFO, TOMBSTONES
from nixmill.nix.castore import FileNode
from nixmill.nix.castore_chunks import CHUNK_BYTES_MAX

MARKED_TOGETHER: Final = 200
"""Paths whose trees are in memory at once."""


class CasSweep:
    """One sweep. The caller sees to it that nobody publishes meanwhile."""

    def __init__(self, objects: Objects, before: float) -> None:
        """Delete nothing that was written, or taken off, after `before`."""
        self._objects = objects
        self._reader = CasReader(objects)
        self._before = before
        self._needed: set[str] = set()
        self._directories: set[bytes] = set()

    async def run(self) -> int:
        """Delete what nothing needs; return the bytes that were freed.

        Raises `DoorError`, and deletes nothing, where a tree that is needed cannot be read: nobody knows what it holds.
        """
        stale = await self._mark()
        freed = 0
        async for name, size in self._unneeded():
            stale.append(name)
            freed += size
        for at in range(0, len(stale), 1000):
            await self._objects.delete(stale[at : at + 1000])
        return freed

    async def _mark(self) -> list[str]:
        """Note what is needed; return the tombstones that stood long enough."""
        dug, stale = await self._tombstones()
        async for objects in self._objects.names(ROOTS):
            keys = [found.name.removeprefix(ROOTS) for found in objects]
            published = await self._published(keys)
            young = {key for key, found in zip(keys, objects, strict=True) if found.modified_at >= self._before}
            live = [key for key in keys if key in published or key in young or key in dug]
            for at in range(0, len(live), MARKED_TOGETHER):
                await self._mark_trees(live[at : at + MARKED_TOGETHER])
        return stale

    async def _tombstones(self) -> tuple[set[str], list[str]]:
        dug, stale = set(), []
        async for objects in self._objects.names(TOMBSTONES):
            for found in objects:
                if found.modified_at >= self._before:
                    dug.add(found.name.removeprefix(TOMBSTONES))
                else:
                    stale.append(found.name)
        return dug, stale

    async def _published(self, keys: Iterable[str]) -> set[str]:
        """Return those of `keys` that a narinfo names; what cannot be read counts as one that does."""
        names = {key: cas_roots.hash_part_of(key) + NARINFO for key in keys}
        texts = await cas_objects.contents(self._objects, list(names.values()))
        return {
            key
            for key, text in zip(names, texts, strict=True)
            if text is not None and (key.encode() in text or b"\nURL: nar/" not in text)
        }

    async def _mark_trees(self, keys: list[str]) -> None:
        roots = [root for root in await self._reader.roots(keys) if root is not None]
        self._needed.update(map(cas_roots.root_name, keys))
        nodes = [root.node for root in roots]
        directories = await self._reader.directories(nodes, self._directories)
        self._directories |= directories.keys()
        files = [file for directory in directories.values() for file in directory.files]
        await self._mark_files([*files, *(node for node in nodes if isinstance(node, FileNode))])

    async def _mark_files(self, files: list[FileNode]) -> None:
        self._needed.update(list_name(file.digest) for file in files if file.size > CHUNK_BYTES_MAX)
        for chunks in await self._reader.chunks(files):
            self._needed.update(cas_objects.blob_name(chunk.digest) for chunk in chunks)

    async def _unneeded(self) -> AsyncIterator[tuple[str, int]]:
        self._needed.update(map(directory_name, self._directories))
        for prefix in (ROOTS, DIRECTORIES, LISTS, BLOBS):
            async for objects in self._objects.names(prefix):
                for found in objects:
                    if found.name not in self._needed and found.modified_at < self._before:
                        yield found.name, found.size
