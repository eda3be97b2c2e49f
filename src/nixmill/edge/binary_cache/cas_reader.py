"""NARs made from blobs, or ranges of them. Blocks of some megabytes are read ahead by one; each is verified whole."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from nixmill.doors.cache import Objects
from nixmill.edge.binary_cache import cas_objects, cas_roots
from nixmill.edge.binary_cache.cas_objects import blob_name, directory_name, list_name, unpacked
from nixmill.edge.binary_cache.cas_roots import Root
from nixmill.nix import castore, castore_chunks, castore_tree
from nixmill.nix.castore import CastoreError, DirectoryNode, FileNode
from nixmill.nix.castore_chunks import CHUNK_BYTES_MAX, Chunk
from nixmill.nix.nar_tree import Archive, FilePart, Segment, TreeError

BLOCK_BYTES: Final = 4 * 1024 * 1024
BLOCK_SEGMENTS: Final = 1000
"""What is read at once: whichever is reached first."""
LAYOUTS_KEPT: Final = 8
"""Layouts of archives kept for those who read on, or in ranges."""


class CasReader:
    """Reads trees. Its memory of layouts is by root, which stands for the whole tree."""

    def __init__(self, objects: Objects) -> None:
        """Read from `objects`."""
        self._objects = objects
        self._layouts: OrderedDict[castore.Node, Archive[FileNode]] = OrderedDict()

    async def root(self, key: str) -> Root | None:
        """Return the root of a path by its key; None where there is none. Raises `DoorError` where it is damaged."""
        return (await self.roots([key]))[0]

    async def roots(self, keys: Sequence[str]) -> list[Root | None]:
        """Return the roots of many paths."""
        names = [cas_roots.root_name(key) for key in keys]
        contents = await cas_objects.contents(self._objects, names)
        return [
            cas_roots.decode(name, content) if content else None for name, content in zip(names, contents, strict=True)
        ]

    async def layout(self, root: castore.Node) -> Archive[FileNode]:
        """Return how the NAR of a tree is made up; raise `DoorError` where a directory is missing or damaged."""
        layout = self._layouts.get(root)
        if layout is None:
            directories = await self.directories([root])
            layout = self._layouts[root] = await asyncio.to_thread(_laid_out, root, directories)
            if len(self._layouts) > LAYOUTS_KEPT:
                self._layouts.popitem(last=False)
        self._layouts.move_to_end(root)
        return layout

    async def directories(
        self, roots: Iterable[castore.Node], known: AbstractSet[bytes] = frozenset()
    ) -> dict[bytes, castore.Directory]:
        """Return all directories of trees by digest, level by level, each once and verified; none of `known`."""
        found: dict[bytes, castore.Directory] = {}
        wanted = {node.digest for node in roots if isinstance(node, DirectoryNode)} - known
        while wanted:
            level = [directory_name(digest) for digest in wanted]
            contents = await cas_objects.contents(self._objects, level)
            new = dict(zip(wanted, await asyncio.to_thread(_directories, level, contents), strict=True))
            found |= new
            wanted = (
                {node.digest for directory in new.values() for node in directory.directories} - found.keys() - known
            )
        return found

    async def chunks(self, files: Sequence[FileNode]) -> list[Sequence[Chunk]]:
        """Return the chunks of files; of a small one, the whole of it."""
        large = {file.digest: file.size for file in files if file.size > CHUNK_BYTES_MAX}
        names = [list_name(digest) for digest in large]
        contents = await cas_objects.contents(self._objects, names) if names else []
        lists = {
            digest: _chunks(name, size, content)
            for (digest, size), name, content in zip(large.items(), names, contents, strict=True)
        }
        return [lists.get(file.digest) or [Chunk(file.digest, file.size)] for file in files]

    async def read(self, root: castore.Node, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield the NAR of a tree, or a range of it; raise `DoorError` before any byte that ought to be another."""
        layout = await self.layout(root)
        blocks = self._blocks(layout.slice(start, length))
        ahead = asyncio.create_task(self._next(blocks))
        try:
            while (data := await ahead) is not None:
                ahead = asyncio.create_task(self._next(blocks))
                yield data
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def _next(self, blocks: AsyncIterator[list[Segment[Chunk]]]) -> bytes | None:
        block = await anext(blocks, None)
        if block is None:
            return None
        names = list(dict.fromkeys(blob_name(part.source.digest) for part in block if isinstance(part, FilePart)))
        contents = await cas_objects.contents(self._objects, names) if names else []
        return await asyncio.to_thread(_joined, block, dict(zip(names, contents, strict=True)))

    async def _blocks(self, segments: Iterable[Segment[FileNode]]) -> AsyncIterator[list[Segment[Chunk]]]:
        """Yield segments in groups that are worth a visit each, and small enough for memory."""
        block: list[Segment[Chunk]] = []
        size = 0
        for segment in segments:
            for part in [segment] if isinstance(segment, bytes) else await self._parts(segment):
                block.append(part)
                size += len(part) if isinstance(part, bytes) else part.source.size
                if size >= BLOCK_BYTES or len(block) >= BLOCK_SEGMENTS:
                    yield block
                    block, size = [], 0
        if block:
            yield block

    async def _parts(self, part: FilePart[FileNode]) -> list[FilePart[Chunk]]:
        """Return a part of a file as parts of its chunks."""
        if part.source.size <= CHUNK_BYTES_MAX:
            return [FilePart(Chunk(part.source.digest, part.source.size), part.start, part.end)]
        parts = []
        at = 0
        for chunk in (await self.chunks([part.source]))[0]:
            start, end = max(part.start, at), min(part.end, at + chunk.size)
            if start < end:
                parts.append(FilePart(chunk, start - at, end - at))
            at += chunk.size
        return parts


def _laid_out(root: castore.Node, directories: dict[bytes, castore.Directory]) -> Archive[FileNode]:
    try:
        return Archive(castore_tree.nodes(root, directories))
    except (CastoreError, TreeError) as error:
        raise cas_objects.damaged(cas_objects.DIRECTORIES, str(error).rstrip(".")) from error


def _directories(names: Sequence[str], contents: Sequence[bytes | None]) -> list[castore.Directory]:
    return [_directory(name, content) for name, content in zip(names, contents, strict=True)]


def _directory(name: str, content: bytes | None) -> castore.Directory:
    try:
        return castore.decode(unpacked(name, content))
    except CastoreError as error:
        raise cas_objects.refused(name, error) from error


def _chunks(name: str, size: int, content: bytes | None) -> Sequence[Chunk]:
    if content is None:
        raise cas_objects.damaged(name, "it is missing")
    try:
        return castore_chunks.decode(content, size)
    except CastoreError as error:
        raise cas_objects.refused(name, error) from error


def _joined(block: Sequence[Segment[Chunk]], contents: dict[str, bytes | None]) -> bytes:
    blobs = {name: unpacked(name, content) for name, content in contents.items()}
    return b"".join(part if isinstance(part, bytes) else _of_blob(part, blobs) for part in block)


def _of_blob(part: FilePart[Chunk], blobs: dict[str, bytes]) -> bytes:
    name = blob_name(part.source.digest)
    blob = blobs[name]
    if len(blob) != part.source.size:
        raise cas_objects.damaged(name, f"it holds {len(blob)} bytes where {part.source.size} were said")
    return blob[part.start : part.end]
