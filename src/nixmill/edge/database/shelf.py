"""What was published to a cache that keeps no list itself: its members, each a row of an upload.

Such are caches served straight from the store, and those that cannot be asked. Members are closed under references:
what a path needs is recorded with it, in one transaction. Those of caches served from the store are rooted
(`FactReader`); one that is asked for again after long waits like a new one, and is a member meanwhile.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from sqlalchemy import ColumnElement, Connection, select

from nixmill.core.upload import UploadState
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import as_table, insert_into
from nixmill.edge.database.tables_roots import upload
from nixmill.nix.store_path import StorePath

BATCH: Final = 5_000
"""Rows of one statement."""
_STATES: Final = (UploadState.DONE.value, UploadState.WAITING.value)


class SqlShelf:
    """The members of one cache. Implements `nixmill.edge.binary_cache.store_destination.Shelf`."""

    def __init__(
        self,
        database: Database,
        cache: str,
        store_dir: str,
        now: Callable[[], float],
        *,
        believed_s: float | None = None,
    ) -> None:
        """Use an opened database. With `believed_s` a member is one for so long after it was published."""
        self._database = database
        self._cache = cache
        self._store_dir = store_dir
        self._now = now
        self._believed_s = believed_s

    async def member(self, hash_part: str) -> StorePath | None:
        """Return the member with a hash part."""
        start = f"{self._store_dir}/{hash_part}"
        query = select(upload.c.path).where(self._is_member(), upload.c.path.between(f"{start}-", f"{start}."))
        path = await self._database.read(
            lambda connection: connection.execute(query).scalars().first(), action="look for a published path"
        )
        return None if path is None else StorePath(path)

    async def members(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Return those of `paths` that are members."""

        def look(connection: Connection) -> set[StorePath]:
            among = upload.c.path.in_(select(as_table(connection, paths).c.value))
            found = connection.execute(select(upload.c.path).where(self._is_member(), among))
            return {StorePath(path) for path in found.scalars()}

        return await self._database.read(look, action="look for published paths") if paths else set()

    async def add(self, paths: Collection[StorePath]) -> None:
        """Make paths members: with all they refer to, unless that is there."""
        now = self._now()
        done: Mapping[str, object] = {"state": UploadState.DONE.value, "fault": "", "done_at": now}
        fixed = {"cache": self._cache, "project": None, "run": 0, "at": now, "due_at": now, "tries": 0}
        rows = [{"path": path, **fixed, **done} for path in sorted(paths)]

        def write(connection: Connection) -> None:
            new = insert_into(connection.dialect.name, upload)
            upsert = new.on_conflict_do_update(index_elements=list(upload.primary_key), set_=done)
            for at in range(0, len(rows), BATCH):
                connection.execute(upsert, rows[at : at + BATCH])

        if rows:
            await self._database.write(write, action="record published paths")

    def _is_member(self) -> ColumnElement[bool]:
        """Return the condition for members: what waits was one only if it was done before."""
        of = upload.c
        if self._believed_s is not None:
            recent = of.done_at > self._now() - self._believed_s
            return (of.cache == self._cache) & (of.state == UploadState.DONE.value) & recent
        return (of.cache == self._cache) & of.state.in_(_STATES) & of.done_at.is_not(None)
