"""What our caches hold, as far as the queue of uploads knows it: for pins."""

from collections.abc import Collection, Mapping

from sqlalchemy import select

from nixmill.core.upload import UploadState
from nixmill.edge.database.database import Database
from nixmill.edge.database.tables_roots import upload
from nixmill.nix.store_path import StorePath

BATCH = 5_000


class SqlPublished:
    """Implements `nixmill.doors.cache.Published`."""

    def __init__(self, database: Database) -> None:
        """Use an opened database."""
        self._database = database

    async def where(self, paths: Collection[StorePath]) -> Mapping[StorePath, str]:
        """See `Published`."""
        found: dict[StorePath, str] = {}
        wanted = sorted(paths)
        for at in range(0, len(wanted), BATCH):
            query = select(upload.c.path, upload.c.cache).where(
                upload.c.path.in_(wanted[at : at + BATCH]), upload.c.state == UploadState.DONE.value
            )
            rows = await self._database.read(
                lambda connection, query=query: connection.execute(query).all(),  # type: ignore[misc]
                action="look for published paths",
            )
            found |= {StorePath(path): cache for path, cache in rows}
        return found
