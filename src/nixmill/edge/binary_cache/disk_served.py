"""A cache in a directory as it is served over HTTP: archives as files, which the kernel sends."""

import asyncio
import os
from pathlib import Path

from nixmill.doors import DoorError
from nixmill.doors.serving import CacheInfo, ServedObject
from nixmill.edge.binary_cache.objects_disk import DiskObjects, open_file
from nixmill.edge.binary_cache.objects_served import SMALL_BYTES, archive_tag, is_archive, media_type, small


class DiskServed:
    """Implements `nixmill.doors.serving.Served` over the files of a cache."""

    def __init__(self, objects: DiskObjects, info: CacheInfo) -> None:
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
            path = self._objects.location(name)
        except ValueError:  # no object has such a name
            return None
        return await asyncio.to_thread(_found, name, path)


def _found(name: str, path: Path) -> ServedObject | None:
    try:
        file = open_file(path)
        if file is None:
            return None
        with file:
            size = os.fstat(file.fileno()).st_size
            if not is_archive(name) and size <= SMALL_BYTES:
                return small(name, file.readall())
    except OSError as error:
        sentence = f"The object {name} of a cache cannot be read: {error.strerror}. Look at {path}."
        raise DoorError(sentence, door="cache", action="read", subject=name, retryable=True) from error
    return ServedObject(
        size=size, media_type=media_type(name), content=path, etag=archive_tag(name), immutable=is_archive(name)
    )
