"""The door `Projects`: projects, the names they once had, and their jobsets."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, delete, insert, select, update
from sqlalchemy import Row as SqlRow
from sqlalchemy.exc import IntegrityError

from nixmill.core.errors import InputError
from nixmill.core.project import Jobset, Project
from nixmill.edge.database import tables, tables_server
from nixmill.edge.database.changes import end_held
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import insert_into
from nixmill.edge.database.server_rows import Named, jobset_of, make_the_rows, project_of, stored

_project = tables_server.project
_former = tables_server.project_name


class SqlProjects:
    """Implements `nixmill.doors.server.Projects`."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        """Use an opened database; `now` is seconds since 1970."""
        self._database = database
        self._now = now

    async def projects(self) -> Sequence[Project]:
        """See `Projects`."""
        return await self._database.read(_projects, action="list projects")

    async def project(self, name: str) -> Project | None:
        """See `Projects`."""
        return await self._database.read(lambda connection: _find(connection, name), action="look for a project")

    async def save_project(self, project: Project) -> Project:
        """See `Projects`."""
        now = self._now()
        return await self._database.write(lambda connection: _save(connection, project, now), action="save a project")

    async def delete_project(self, project: int) -> None:
        """See `Projects`."""
        now = self._now()
        await self._database.write(lambda connection: _vanish(connection, project, now), action="delete a project")

    async def jobsets(self, project: int) -> Sequence[Jobset]:
        """See `Projects`."""
        return await self._database.read(lambda connection: _jobsets(connection, project), action="list jobsets")

    async def save_jobsets(self, project: int, jobsets: Sequence[Jobset]) -> Sequence[Jobset]:
        """See `Projects`."""

        def save(connection: Connection) -> Sequence[Jobset]:
            rows = [Named(jobset.id, jobset.name, _jobset_values(jobset)) for jobset in jobsets]
            make_the_rows(connection, tables_server.jobset, project, rows, "jobset")
            return _jobsets(connection, project)

        return await self._database.write(save, action="save jobsets")


def _live() -> Select[Any]:
    return select(_project).where(_project.c.deleted_at.is_(None))


def _projects(connection: Connection) -> list[Project]:
    found = [project_of(row) for row in connection.execute(_live())]
    return sorted(found, key=lambda project: (project.name.casefold(), project.name))


def _find(connection: Connection, name: str) -> Project | None:
    row = connection.execute(_live().where(_project.c.name == name)).one_or_none()
    if row is None:
        once = _live().join(_former, _former.c.project == _project.c.id).where(_former.c.name == name)
        row = connection.execute(once).one_or_none()
    return None if row is None else project_of(row)


def _save(connection: Connection, project: Project, now: float) -> Project:
    values = stored(msgspec.structs.asdict(project))
    del values["id"]
    connection.execute(delete(_former).where(_former.c.name == project.name))
    try:
        if project.id:
            _change(connection, project, values)
            number = project.id
        else:
            values["created_at"] = project.created_at or now
            number = connection.execute(insert(_project).values(values).returning(_project.c.id)).scalar_one()
    except IntegrityError as error:
        raise _taken(project, error) from error
    return project_of(connection.execute(_live().where(_project.c.id == number)).one())


def _taken(project: Project, error: IntegrityError) -> InputError:
    """Return what is wrong: the constraint that was broken is named by either database."""
    if "repository" in str(error.orig):
        return InputError(
            f"Another project has the repository {project.repository!r} of {project.forge} already.",
            "Use that project, or take its repository away first.",
        )
    return InputError(f"There is a project called {project.name!r} already.", "Choose another name.")


def _change(connection: Connection, project: Project, values: dict[str, Any]) -> None:
    before = _before(connection, project.id)
    del values["created_at"]
    connection.execute(update(_project).where(_project.c.id == project.id).values(values))
    if before.name != project.name:
        new = insert_into(connection.dialect.name, _former).values(name=before.name, project=project.id)
        change = {"project": project.id}
        connection.execute(new.on_conflict_do_update(index_elements=[_former.c.name], set_=change))


def _before(connection: Connection, project: int) -> SqlRow[Any]:
    row = connection.execute(_live().where(_project.c.id == project)).one_or_none()
    if row is None:
        raise InputError("There is no such project any more.", "Somebody deleted it; look at the list of projects.")
    return row


def _vanish(connection: Connection, project: int, now: float) -> None:
    """Hide a project, give its names free, and cancel what goes on. `deletion.sweep` does the rest."""
    # No name that people give begins like this.
    values = {"deleted_at": now, "name": f"#{project}", "enabled": False}
    connection.execute(update(_project).where(_project.c.id == project, _project.c.deleted_at.is_(None)).values(values))
    connection.execute(delete(_former).where(_former.c.project == project))
    of = tables.run.c
    # Nobody works on what waits for approval, so that nobody would cancel it.
    end_held(connection, of.project_id == project, "Cancelled: the project was deleted.", now)
    running = update(tables.run).where(of.project_id == project, of.ended_at.is_(None))
    connection.execute(running.values(cancel_asked=True))


def _jobset_values(jobset: Jobset) -> dict[str, Any]:
    values = stored(msgspec.structs.asdict(jobset))
    del values["id"], values["project"]
    return values


def _jobsets(connection: Connection, project: int) -> list[Jobset]:
    query = select(tables_server.jobset).where(tables_server.jobset.c.project == project)
    return sorted((jobset_of(row) for row in connection.execute(query)), key=lambda jobset: jobset.name)
