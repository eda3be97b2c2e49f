"""A project that may be seen, by its name; and the page about it."""

from typing import Any, Final

from sqlalchemy import Connection, Row, select

from nixmill.core.access import Role, Sight
from nixmill.core.project import Polled
from nixmill.core.view.pages import ProjectPage
from nixmill.edge.database.pages_lines import PROJECT, newest, run_lines, run_query
from nixmill.edge.database.pages_refs import ref_lines, streams_of
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.server_rows import jobset_of, project_of
from nixmill.edge.database.tables import run
from nixmill.edge.database.tables_server import jobset, project, project_name

REFS_MAX: Final = 100
"""Branches and tags that a project's page lists, those with the newest runs."""
RUNS_MAX: Final = 20


def find_project(connection: Connection, sight: Sight, name: str) -> Row[Any] | None:
    """Return a project by its name, present or former."""
    query = select(project, *PROJECT).where(visible(sight))
    now = connection.execute(query.where(project.c.name == name)).one_or_none()
    if now is not None:
        return now
    former = query.join(project_name, project_name.c.project == project.c.id).where(project_name.c.name == name)
    return connection.execute(former).one_or_none()


def project_page(connection: Connection, sight: Sight, name: str) -> ProjectPage | None:
    """Return the page of a project."""
    row = find_project(connection, sight, name)
    if row is None:
        return None
    refs = ref_lines(connection, sight, streams_of(row.id, REFS_MAX)).values()
    jobsets = connection.execute(select(jobset).where(jobset.c.project == row.id).order_by(jobset.c.name))
    newest_runs = newest(run_query(sight).where(run.c.project_id == row.id), None, RUNS_MAX)
    return ProjectPage(
        project=project_of(row),
        role=Role.STRANGER,
        polled=_polled(row),
        jobsets=tuple(jobset_of(each) for each in jobsets),
        refs=tuple(sorted(refs, key=lambda line: (-(line.latest.number if line.latest else 0), line.ref))),
        runs=tuple(run_lines(connection, newest_runs)),
    )


def _polled(row: Row[Any]) -> Polled | None:
    if row.polled_at is None:
        return None
    return Polled(at=row.polled_at, fault=row.poll_fault, default_branch=row.seen_default_branch)
