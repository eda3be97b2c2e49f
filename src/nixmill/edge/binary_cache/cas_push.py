"""Publishing into a cache by content. Paths are stored in groups, flushed once; narinfos come last.

A push that is broken off leaves blobs that nothing refers to; the next one finds them and goes on.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from nixmill.doors import DoorError
from nixmill.doors.cache import Contents, Pushed
from nixmill.edge.binary_cache import cas_objects, cas_roots
from nixmill.edge.binary_cache.batches import Batches, Layer, by_depth
from nixmill.edge.binary_cache.cas_ingest import Ingest, IngestError
from nixmill.edge.binary_cache.cas_objects import directory_name, packed
from nixmill.edge.binary_cache.cas_roots import Root
from nixmill.edge.binary_cache.names import narinfo_name
from nixmill.edge.binary_cache.signer import Signer
from nixmill.nix import narinfo
from nixmill.nix.castore import CastoreError
from nixmill.nix.castore_tree import DirectoryUpload
from nixmill.nix.narinfo import NarInfo
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

GROUP_BYTES: Final = 16 * 1024 * 1024
GROUP_PATHS: Final = 256
"""Paths, or uncompressed bytes of them, that are stored together."""


class CasPush:
    """One push. The caller sees to it that nothing is swept meanwhile."""

    def __init__(self, objects: Batches, signer: Signer, level: int) -> None:
        """Publish into `objects`; `level` is of zstd."""
        self._objects = objects
        self._signer = signer
        self._level = level
        self._there: set[str] = set()  # objects known to be there for as long as this push lasts
        self._waiting = _Group()
        self._new: set[StorePath] = set()
        self._known: set[StorePath] = set()
        self._faults: dict[StorePath, str] = {}
        self._sent = 0

    async def push(self, infos: Sequence[PathInfo], contents: Contents) -> Pushed:
        """See `Destination.push`."""
        names = [narinfo_name(info.path) for info in infos]
        absent = await cas_objects.absent(self._objects, names)
        self._known = {info.path for info, name in zip(infos, names, strict=True) if name not in absent}
        for info in infos:
            if info.path not in self._known:
                await self._publish(info, contents)
            if self._waiting.size >= GROUP_BYTES or len(self._waiting.infos) >= GROUP_PATHS:
                await self._store()
        await self._store()
        return Pushed(
            new=frozenset(self._new), known=frozenset(self._known), faults=self._faults, sent_bytes=self._sent
        )

    async def _publish(self, info: PathInfo, contents: Contents) -> None:
        """Take one path apart and have it wait; note why where that cannot be."""
        missing = next((path for path in info.references if path in self._faults), None)
        if missing is not None:
            self._faults[info.path] = f"It refers to {missing}, which could not be published."
            return
        try:
            await self._ingest(info, contents)
        except IngestError as error:
            self._faults[info.path] = str(error)

    async def _ingest(self, info: PathInfo, contents: Contents) -> None:
        ingest = Ingest(info)
        added = size = 0
        async for piece in _pieces(info, contents):
            await asyncio.to_thread(ingest.add, piece)
            size += len(piece)
            if sum(map(len, ingest.blobs.values())) >= GROUP_BYTES:
                blobs = await self._packed(ingest.blobs)
                added += sum(map(len, blobs.values()))
                ingest.blobs.clear()
                await self._put([list(blobs.items())])
        node = await asyncio.to_thread(ingest.root)
        directories = {directory_name(digest): data for digest, data in ingest.directories.items()}
        _judge(info, ingest)
        blobs = await self._packed(ingest.blobs)
        trees = {**await self._lacking(ingest.lists), **await self._packed(directories)}
        added += sum(map(len, blobs.values())) + sum(map(len, trees.values()))
        self._waiting.add(info, size, blobs, trees, Root(node, added))

    async def _packed(self, objects: dict[str, bytes]) -> dict[str, bytes]:
        """Return what is not there yet, as it is kept; from now on it counts as there."""
        lacking = await self._lacking(objects)
        return await asyncio.to_thread(packed, lacking, self._level)

    async def _lacking(self, objects: dict[str, bytes]) -> dict[str, bytes]:
        unknown = [name for name in objects if name not in self._there]
        absent = await cas_objects.absent(self._objects, unknown) if unknown else set[str]()
        self._there.update(unknown)
        return {name: objects[name] for name in unknown if name in absent}

    async def _store(self) -> None:
        group, self._waiting = self._waiting, _Group()
        if not group.infos:
            return
        roots = [(cas_roots.root_name(cas_roots.key(info)), cas_roots.encode(root)) for info, root in group.roots]
        layers = [list(group.blobs.items()), list(group.trees.items()), roots]
        infos = {info.path: info for info in group.infos}
        narinfos = by_depth(group.infos)
        told = await self._put([*layers, *([self._narinfo(infos[path]) for path in paths] for paths in narinfos)])
        await self._freshen([root for root, new in zip(roots, told[len(layers) - 1], strict=True) if not new])
        for paths, answers in zip(narinfos, told[len(layers) :], strict=True):
            for path, new in zip(paths, answers, strict=True):
                (self._new if new else self._known).add(path)

    async def _freshen(self, roots: Layer) -> None:
        """Write roots again that were there from an earlier time: the age of a root is that of what is published."""
        for name, content in roots:
            await self._objects.put(name, content, replace=True)

    async def _put(self, layers: Sequence[Layer]) -> Sequence[Sequence[bool]]:
        told = await self._objects.put_all(layers)
        for layer, answers in zip(layers, told, strict=True):
            stored = [content for (_, content), new in zip(layer, answers, strict=True) if new]
            self._sent += sum(len(content) for content in stored if isinstance(content, bytes))
        return told

    def _narinfo(self, info: PathInfo) -> tuple[str, bytes]:
        told = NarInfo(
            info=self._signer.signed(info),
            url=cas_roots.archive_name(info),
            file_hash=narinfo.base32(info.nar_hash),
            file_size=info.nar_size,
        )
        return narinfo_name(info.path), narinfo.write(told).encode()


class _Group:
    """Paths that were taken apart and wait to be stored."""

    def __init__(self) -> None:
        self.infos: list[PathInfo] = []
        self.size = 0
        self.blobs: dict[str, bytes] = {}
        self.trees: dict[str, bytes] = {}
        self.roots: list[tuple[PathInfo, Root]] = []

    def add(self, info: PathInfo, size: int, blobs: dict[str, bytes], trees: dict[str, bytes], root: Root) -> None:
        self.infos.append(info)
        self.size += size
        self.blobs |= blobs
        self.trees |= trees
        self.roots.append((info, root))


async def _pieces(info: PathInfo, contents: Contents) -> AsyncIterator[bytes]:
    """Yield the NAR of a path. That it cannot be had is the trouble of this path, and not of the cache."""
    try:
        async for piece in contents.nar(info.path):
            yield piece
    except DoorError as error:
        raise IngestError(str(error)) from error


def _judge(info: PathInfo, ingest: Ingest) -> None:
    """Hold what was taken apart to the rules of an upload: a tree, whole, its leaves first."""
    upload = DirectoryUpload()
    try:
        for data in ingest.directories.values():
            upload.add(data)
        upload.root(ingest.root())
    except CastoreError as error:
        raise IngestError(f"The tree of {info.path} breaks a rule of castore: {error}") from error
