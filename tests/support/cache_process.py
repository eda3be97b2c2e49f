"""A cache in a directory, served by a process of its own that a test may kill: `python -m tests.support.cache_process`.

With a number of bytes it kills itself once it has sent so many of an archive. It prints the `Range` of each archive
that is asked for.
"""

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from nixmill.app.connection import ImpatientProtocol
from nixmill.doors.serving import CacheInfo, ServedObject
from nixmill.edge.binary_cache.disk_served import DiskServed
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.web.cache_front import CacheFront
from tests.support.cache_serving import beyond


class Dying:
    """Serves like another cache, but dies in the middle of an archive."""

    def __init__(self, served: DiskServed, after: int) -> None:
        self.served = served
        self.after = after

    @property
    def info(self) -> CacheInfo:
        return self.served.info

    async def open(self, name: str) -> ServedObject | None:
        found = await self.served.open(name)
        if found is None or not isinstance(found.content, Path):
            return found
        data = found.content.read_bytes()

        async def dying(start: int, length: int) -> AsyncIterator[bytes]:
            for at in range(start, start + length, 65_536):
                if at >= self.after:
                    os.kill(os.getpid(), signal.SIGKILL)  # the kernel still sends what it was given
                yield data[at : at + 65_536]

        return ServedObject(
            size=len(data), media_type=found.media_type, content=dying, etag=found.etag, immutable=found.immutable
        )


def main() -> None:
    """Serve on a port, from a directory, as the store of a name."""
    port, directory, store_dir, after = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    served = DiskServed(DiskObjects(directory), CacheInfo(store_dir=store_dir))
    front = CacheFront(beyond, {"main": Dying(served, after) if after else served})

    async def told(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("/nar/"):
            sys.stdout.write(Headers(scope=scope).get("range", "whole") + "\n")
            sys.stdout.flush()
        await front(scope, receive, send)

    uvicorn.Server(
        uvicorn.Config(told, port=port, http=ImpatientProtocol, lifespan="off", log_config=None, access_log=False)
    ).run()


if __name__ == "__main__":
    main()
