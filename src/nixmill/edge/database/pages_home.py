"""Implements the door `ProjectPages`: home, projects, branches, search."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, select

from nixmill.core.access import Sight
from nixmill.core.view.pages import AttributePage, BranchPage, HomePage, ProjectLine, ProjectPage, SearchPage
from nixmill.core.view.parts import RefLine, RunLine
from nixmill.edge.database.database import Database
from nixmill.edge.database.pages_branch import attribute_page, branch_page
from nixmill.edge.database.pages_lines import (
    PROJECT,
    newest,
    open_runs,
    project_link,
    run_lines,
    run_query,
    under_way,
)
from nixmill.edge.database.pages_projects import project_page
from nixmill.edge.database.pages_refs import default_streams, recent_runs, ref_lines
from nixmill.edge.database.pages_search import search
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.tables import run
from nixmill.edge.database.tables_server import project
from nixmill.nix.attr_path import AttrPath

RUNNING_MAX: Final = 50
"""Runs under way that the home page lists, the oldest."""
RECENT_MAX: Final = 20
RECENT_MIN: Final = 4
SQUARES_MAX: Final = 400
"""About how many newest runs the home page has in all: with many projects there are fewer of each."""


class SqlProjectPages:
    """Implements `nixmill.doors.pages.ProjectPages`."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        """Read from `database`."""
        self._database = database
        self._now = now

    async def home(self, sight: Sight) -> HomePage:
        """See `ProjectPages`."""
        return await self._database.read(lambda connection: _home(connection, sight), action="show the home page")

    async def project(self, sight: Sight, name: str) -> ProjectPage | None:
        """See `ProjectPages`."""
        return await self._database.read(
            lambda connection: project_page(connection, sight, name), action="show a project"
        )

    async def branch(self, sight: Sight, project: str, ref: str, before: int | None, limit: int) -> BranchPage | None:
        """See `ProjectPages`."""
        return await self._database.read(
            lambda connection: branch_page(connection, sight, project, ref, before, limit), action="show a branch"
        )

    async def attribute(
        self, sight: Sight, project: str, ref: str, path: AttrPath, before: int | None
    ) -> AttributePage | None:
        """See `ProjectPages`."""
        return await self._database.read(
            lambda connection: attribute_page(connection, sight, project, ref, path, before),
            action="show the history of an attribute",
        )

    async def runs(self, sight: Sight, project: int | None, before: int | None, limit: int) -> Sequence[RunLine]:
        """See `ProjectPages`."""
        query = run_query(sight) if project is None else run_query(sight).where(run.c.project_id == project)
        return await self._database.read(
            lambda connection: run_lines(connection, newest(query, before, limit)), action="list runs"
        )

    async def search(self, sight: Sight, query: str, limit: int) -> SearchPage:
        """See `ProjectPages`."""
        return await self._database.read(lambda connection: search(connection, sight, query, limit), action="search")


def _home(connection: Connection, sight: Sight) -> HomePage:
    rows = connection.execute(_projects(sight)).all()
    streams = default_streams(visible(sight))
    lines = ref_lines(connection, sight, streams)
    recent = recent_runs(connection, sight, streams, max(RECENT_MIN, min(RECENT_MAX, SQUARES_MAX // max(1, len(rows)))))
    broken = [line for line in lines.values() if line.failing_since is not None]
    going = _running(connection)
    by_project = {stream.project: line for stream, line in lines.items()}
    return HomePage(
        checklist=(),
        needs_you=(),
        broken=tuple(sorted(broken, key=lambda line: -(line.failing_since.number if line.failing_since else 0))),
        running=tuple(run_lines(connection, open_runs(sight).where(under_way()).limit(RUNNING_MAX))),
        projects=tuple(
            _project_line(row, by_project.get(row.project_key), recent, going[row.project_key]) for row in rows
        ),
    )


def _projects(sight: Sight) -> Select[Any]:
    of = project.c
    return select(*PROJECT, of.poll_fault, of.enabled).where(visible(sight)).order_by(of.name)


def _running(connection: Connection) -> Counter[int]:
    """Return how many runs of each project are under way. Counted by SQLite, every run there ever was would be read."""
    return Counter(connection.execute(select(run.c.project_id).where(under_way()).order_by(run.c.number)).scalars())


def _project_line(
    row: Row[Any], default: RefLine | None, recent: Mapping[int, Sequence[RunLine]], running: int
) -> ProjectLine:
    return ProjectLine(
        project=project_link(row),
        default=default,
        recent=tuple(recent.get(row.project_key, ())),
        running=running,
        fault=row.poll_fault,
        enabled=row.enabled,
    )
