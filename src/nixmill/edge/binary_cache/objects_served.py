"""A cache of objects (a directory, a bucket) as it is served over HTTP. Implements `nixmill.doors.serving.Served`."""

import hashlib
from functools import partial
from typing import Final

from nixmill.doors.cache import Objects
from nixmill.doors.serving import CacheInfo, ServedObject
from nixmill.edge.binary_cache.names import ARCHIVES, DEBUG_INFO, LISTING, LOGS, NARINFO, REALISATIONS
from nixmill.nix import narinfo

SMALL_BYTES: Final = 256 * 1024
"""What is no larger is read at once, archives excepted: a narinfo of 4,000 references."""
ARCHIVE_TYPE: Final = "application/x-nix-nar"
_OTHER_TYPE: Final = "application/octet-stream"
_JSON: Final = (DEBUG_INFO, REALISATIONS)


class ObjectsServed:
    """Serves the objects of a cache by reading them."""

    def __init__(self, objects: Objects, info: CacheInfo) -> None:
        """Serve all of `objects`; which names are asked for is decided where requests come in."""
        self._objects = objects
        self._info = info

    @property
    def info(self) -> CacheInfo:
        """See `Served`."""
        return self._info

    async def open(self, name: str) -> ServedObject | None:
        """See `Served`."""
        try:
            size = await self._objects.size(name)
        except ValueError:  # no object has such a name
            return None
        if size is None:
            return None
        if is_archive(name) or size > SMALL_BYTES:
            return ServedObject(
                size=size,
                media_type=media_type(name),
                content=partial(self._objects.read, name),
                etag=archive_tag(name),
                immutable=is_archive(name),
            )
        data = b"".join([piece async for piece in self._objects.read(name)])
        # Of what was deleted between the two questions nothing is read; empty objects there are none.
        return small(name, data) if data else None


def small(name: str, data: bytes) -> ServedObject:
    """Return an object that was read whole."""
    return ServedObject(size=len(data), media_type=media_type(name), content=data)


def is_archive(name: str) -> bool:
    """Say whether a name stands for the same bytes for ever: archives are named by their hash."""
    return name.startswith(ARCHIVES)


def archive_tag(name: str) -> str:
    """Return what stands for the bytes of an archive; empty for anything else."""
    return hashlib.blake2b(name.encode(), digest_size=16).hexdigest() if is_archive(name) else ""


def media_type(name: str) -> str:
    """Return the media type of an object."""
    if name.endswith(NARINFO):
        return narinfo.MEDIA_TYPE
    if is_archive(name):
        return ARCHIVE_TYPE
    if name.endswith(LISTING) or name.startswith(_JSON):
        return "application/json"
    return "text/plain; charset=utf-8" if name.startswith(LOGS) else _OTHER_TYPE
