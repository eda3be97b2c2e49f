"""The door `Failures`: failure memory, per derivation and project."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete, select

from nixmill.core.access import Visibility
from nixmill.core.trust import Tier
from nixmill.core.view.pages import RememberedFailure
from nixmill.core.view.parts import ProjectLink
from nixmill.edge.database import tables, tables_server
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import as_table, insert_into
from nixmill.edge.database.rows import Values, clean
from nixmill.nix.store_path import StorePath

_failure = tables_server.failure
_project = tables_server.project
_run = tables.run


class SqlFailures:
    """Implements `nixmill.doors.server.Failures`."""

    def __init__(self, database: Database) -> None:
        """Use an opened database."""
        self._database = database

    async def believed(
        self, project: int, drv_paths: Sequence[StorePath], now: float
    ) -> dict[StorePath, RememberedFailure]:
        """See `Failures`."""
        return await self._database.read(
            lambda connection: _believed(connection, project, drv_paths, now), action="look for remembered failures"
        )

    async def remember(self, project: int, failures: Sequence[RememberedFailure], good: Sequence[StorePath]) -> None:
        """See `Failures`; of failures of one derivation the last one counts."""
        rows = {failure.drv_path: _values(project, failure) for failure in failures}

        def record(connection: Connection) -> None:
            if good:
                _forget(connection, project, good)
            if rows:
                new = insert_into(connection.dialect.name, _failure)
                change = {column.name: new.excluded[column.name] for column in _failure.c if not column.primary_key}
                upsert = new.on_conflict_do_update(index_elements=list(_failure.primary_key), set_=change)
                connection.execute(upsert, list(rows.values()))

        await self._database.write(record, action="remember failures")

    async def forget(self, project: int, drv_paths: Sequence[StorePath] | None) -> int:
        """See `Failures`."""
        return await self._database.write(
            lambda connection: _forget(connection, project, drv_paths), action="forget failures"
        )


def _believed(
    connection: Connection, project: int, drv_paths: Sequence[StorePath], now: float
) -> dict[StorePath, RememberedFailure]:
    wanted = as_table(connection, drv_paths)
    query = (
        select(_failure, _project.c.name, _project.c.title, _project.c.visibility, _run.c.tier)
        .select_from(wanted.join(_failure, _failure.c.drv_path == wanted.c.value))
        .join(_project, _project.c.id == _failure.c.project)
        .join(_run, _run.c.number == _failure.c.run)
        .where(_failure.c.project == project, _failure.c.expires_at > now)
    )
    return {
        StorePath(row.drv_path): RememberedFailure(
            project=ProjectLink(id=row.project, name=row.name, title=row.title, visibility=Visibility(row.visibility)),
            drv_path=StorePath(row.drv_path),
            run=row.run,
            attempt=row.attempt,
            machine=row.machine,
            at=row.at,
            expires_at=row.expires_at,
            message=row.message,
            tier=Tier(row.tier),
        )
        for row in connection.execute(query)
    }


def _values(project: int, failure: RememberedFailure) -> Values:
    return {
        "project": project,
        "drv_path": failure.drv_path,
        "run": failure.run,
        "attempt": failure.attempt,
        "machine": clean(failure.machine),
        "at": failure.at,
        "expires_at": failure.expires_at,
        "message": clean(failure.message),
    }


def _forget(connection: Connection, project: int, drv_paths: Sequence[StorePath] | None) -> int:
    query = delete(_failure).where(_failure.c.project == project)
    if drv_paths is not None:
        names = as_table(connection, drv_paths)
        query = query.where(_failure.c.drv_path.in_(select(names.c.value)))
    return connection.execute(query).rowcount
