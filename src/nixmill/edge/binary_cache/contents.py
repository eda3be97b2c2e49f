"""What store paths hold: read from their files where the store is on this machine, else asked of its daemon."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from nixmill.edge.binary_cache.dump import Dump
from nixmill.edge.binary_cache.faults import fault
from nixmill.edge.daemon import errors
from nixmill.edge.daemon.copying import Passing
from nixmill.edge.daemon.store import DaemonStore
from nixmill.nix import operations
from nixmill.nix.store_path import StorePath


class StoreContents:
    """The door Contents over one store."""

    def __init__(self, store: DaemonStore) -> None:
        """Read from `store`."""
        self._store = store

    def location(self, path: StorePath) -> Path | None:
        """Return where the files of a path are; None where they are not on this machine."""
        return Path(path) if self._store.local else None

    def nar(self, path: StorePath) -> AsyncIterator[bytes]:
        """Yield the NAR of a valid path; raise `DoorError` where it is not there."""
        return self._from_files(path) if self._store.local else self._from_daemon(path)

    async def _from_files(self, path: StorePath) -> AsyncIterator[bytes]:
        pieces = Dump(path.encode()).pieces()
        try:
            while piece := await asyncio.to_thread(next, pieces, b""):
                yield bytes(piece)
        except OSError as error:
            raise fault(
                f"{path} could not be read from the store: {error.strerror or error}. If it is corrupt, type: "
                f"nix store repair {path}",
                action="read",
                subject=path,
            ) from error

    async def _from_daemon(self, path: StorePath) -> AsyncIterator[bytes]:
        with errors.explained(f"read {path} from", self._store.name):
            async with self._store.queries.use(self._store.query_options) as connection:
                passing = Passing(connection)
                answer = connection.submit(operations.nar_from_path(path, passing.put))
                answer.add_done_callback(passing.finish)
                async for chunk in passing.chunks():
                    yield chunk
                await answer
