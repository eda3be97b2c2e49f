"""Which attempts' logs the readers of a cache may see: those of projects whose results the cache takes."""

from collections.abc import Callable, Collection, Mapping

from sqlalchemy import Connection, func, select

from nixmill.core.access import Visibility
from nixmill.core.run_event import Work
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import as_table
from nixmill.edge.database.tables import attempt, run
from nixmill.edge.database.tables_server import project
from nixmill.nix.store_path import StorePath

TakesProject = Callable[[str, Visibility], bool]
"""Says of a project, by name and by who may see it, whether its results enter the cache."""


class SqlPublishedLogs:
    """The logs of one cache."""

    def __init__(self, database: Database, store_dir: str, takes: TakesProject) -> None:
        """Use an opened database."""
        self._database = database
        self._store_dir = store_dir
        self._takes = takes

    async def newest(self, base_name: str) -> int | None:
        """Return the newest build that ended of the derivation with this base name, where it may be seen."""
        return next(iter((await self.newest_of([StorePath(f"{self._store_dir}/{base_name}")])).values()), None)

    async def newest_of(self, drv_paths: Collection[StorePath]) -> Mapping[StorePath, int]:
        """Return the newest build that ended of each of these derivations, where it may be seen."""

        def look(connection: Connection) -> dict[StorePath, int]:
            of = attempt.c
            newest = func.max(of.number).label("newest")
            query = (
                select(of.drv_path, project.c.name, project.c.visibility, newest)
                .join_from(attempt, run, run.c.number == of.run)
                .join(project, project.c.id == run.c.project_id)
                .where(of.drv_path.in_(select(as_table(connection, drv_paths).c.value)))
                .where(of.outcome.is_not(None), of.work == Work.BUILD.value, project.c.deleted_at.is_(None))
                .group_by(of.drv_path, project.c.id)
            )
            rows = sorted(connection.execute(query), key=lambda row: int(row.newest))
            return {
                StorePath(row.drv_path): int(row.newest)
                for row in rows
                if self._takes(row.name, Visibility(row.visibility))
            }

        return await self._database.read(look, action="look for logs") if drv_paths else {}
