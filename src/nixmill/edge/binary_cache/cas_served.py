"""A cache by content as it is served over HTTP: archives are made as they are sent, ranges of them too."""

import asyncio
import re
from functools import partial
from typing import Final

from nixmill.doors.serving import CacheInfo, Served, ServedObject
from nixmill.edge.binary_cache import cas_roots
from nixmill.edge.binary_cache.cas_objects import BLOBS, DIRECTORIES, LISTS, ROOTS
from nixmill.edge.binary_cache.cas_reader import CasReader
from nixmill.edge.binary_cache.cas_roots import Root
from nixmill.edge.binary_cache.names import LISTING, NARINFO, TOMBSTONES
from nixmill.edge.binary_cache.objects_served import ARCHIVE_TYPE, archive_tag, small
from nixmill.nix.castore import FileNode
from nixmill.nix.nar_listing import Listener, to_json
from nixmill.nix.nar_tree import Archive

LISTED_MAX: Final = 4 * 1024**3
NODES_MAX: Final = 400_000
"""Bytes of an archive, and segments, beyond which there is no listing."""
_ZEROS: Final = bytes(1024 * 1024)
_URL: Final = re.compile(rb"^URL: (nar/[0-9a-z-]+\.nar)$", re.MULTILINE)
_INNER: Final = (BLOBS, LISTS, DIRECTORIES, ROOTS, TOMBSTONES)


class CasServed:
    """Implements `nixmill.doors.serving.Served`."""

    def __init__(self, reader: CasReader, others: Served) -> None:
        """Make archives from `reader`; what else is asked for is among `others`, the objects of the same cache."""
        self._reader = reader
        self._others = others

    @property
    def info(self) -> CacheInfo:
        """See `Served`."""
        return self._others.info

    async def open(self, name: str) -> ServedObject | None:
        """See `Served`. What archives are made of is not served: a tree is not to be found by the content of a file."""
        if name.endswith(LISTING):
            return await self._listing(name)
        key = cas_roots.key_of_archive(name)
        if not key:
            return None if name.startswith(_INNER) else await self._others.open(name)
        root = await self._root(key)
        if root is None:
            return None
        return ServedObject(
            size=(await self._reader.layout(root.node)).size,
            media_type=ARCHIVE_TYPE,
            content=partial(self._reader.read, root.node),
            etag=archive_tag(name),
            immutable=True,
        )

    async def _root(self, key: str) -> Root | None:
        try:
            return await self._reader.root(key)
        except ValueError:  # no object has such a name
            return None

    async def _listing(self, name: str) -> ServedObject | None:
        """Return what the archive of a path holds; no file is read for it."""
        told = await self._others.open(name.removesuffix(LISTING) + NARINFO)
        if told is None or not isinstance(told.content, bytes):
            return None
        found = _URL.search(told.content)
        root = await self._root(cas_roots.key_of_archive(found[1].decode())) if found else None
        if root is None:
            return None
        text = await asyncio.to_thread(_listed, await self._reader.layout(root.node))
        return small(name, text) if text is not None else None


def _listed(layout: Archive[FileNode]) -> bytes | None:
    """Return the listing of an archive, read as archives are, with zeros where files are."""
    if layout.size > LISTED_MAX or len(layout.segments) > NODES_MAX:
        return None
    listener = Listener()
    for segment in layout.segments:
        if isinstance(segment, bytes):
            listener.feed(segment)
        else:
            for at in range(segment.start, segment.end, len(_ZEROS)):
                listener.feed(_ZEROS[: segment.end - at])
    return None if listener.root is None else to_json(listener.root)
