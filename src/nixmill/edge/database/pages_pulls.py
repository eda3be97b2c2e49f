"""Implements the door `PullPages`: pull requests, and what waits for approval."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, Select, exists, func, select

from nixmill.core.access import Sight
from nixmill.core.change import ChangeState
from nixmill.core.pull_request import PullState
from nixmill.core.trust import Tier
from nixmill.core.view.parts import RunLine
from nixmill.core.view.pulls import ApprovalsPage, PullLine, PullPage, PullsPage
from nixmill.edge.database.database import Database
from nixmill.edge.database.forge_rows import pull_of
from nixmill.edge.database.pages_lines import PROJECT, newest, project_link, run_lines, run_query, runs_by_number
from nixmill.edge.database.pages_projects import find_project
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.pull_requests import approvals_of
from nixmill.edge.database.tables import run
from nixmill.edge.database.tables_forge import pull_request
from nixmill.edge.database.tables_server import project

PULLS_MAX: Final = 50
"""Pull requests on a page of a list."""
RUNS_MAX: Final = 50
WAITING_MAX: Final = 100
"""Pull requests that wait for approval that are listed, the longest waiting."""


class SqlPullPages:
    """Implements `nixmill.doors.forge.PullPages`."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        """Read from `database`."""
        self._database = database
        self._now = now

    async def pulls(self, sight: Sight, project: str, *, closed: bool, before: int | None) -> PullsPage | None:
        """See `PullPages`."""
        return await self._database.read(
            lambda connection: _pulls(connection, sight, project, before, closed=closed), action="list pull requests"
        )

    async def pull(self, sight: Sight, project: str, number: int) -> PullPage | None:
        """See `PullPages`."""
        return await self._database.read(
            lambda connection: _pull(connection, sight, project, number), action="show a pull request"
        )

    async def waiting(self, sight: Sight) -> ApprovalsPage:
        """See `PullPages`; at most `WAITING_MAX`."""
        return await self._database.read(
            lambda connection: _waiting(connection, sight), action="list what waits for approval"
        )


def _mine() -> ColumnElement[bool]:
    """Return the condition for runs of the pull request of a row."""
    return (run.c.project_id == pull_request.c.project) & (run.c.pull_request == pull_request.c.number)


def _waits() -> ColumnElement[bool]:
    """Return the condition for runs that wait for the approval of what is the head now."""
    is_head = run.c.commit == pull_request.c.head_commit
    return is_head & run.c.ended_at.is_(None) & (run.c.state == ChangeState.HELD.value) & ~run.c.cancel_asked


def _query() -> Select[Any]:
    latest = select(func.max(run.c.number)).where(_mine()).correlate(pull_request).scalar_subquery()
    held = (pull_request.c.state == PullState.OPEN.value) & exists().where(_mine(), _waits()).correlate(pull_request)
    joined = pull_request.join(project, project.c.id == pull_request.c.project)
    return select(pull_request, *PROJECT, latest.label("latest"), held.label("held")).select_from(joined)


def _lines(connection: Connection, sight: Sight, query: Select[Any]) -> list[PullLine]:
    rows = connection.execute(query).all()
    runs = runs_by_number(connection, sight, [row.latest for row in rows if row.latest is not None])
    return [_line(row, runs.get(row.latest)) for row in rows]


def _line(row: Row[Any], latest: RunLine | None) -> PullLine:
    pull = pull_of(row)
    return PullLine(
        project=project_link(row),
        number=pull.number,
        title=pull.title,
        author=pull.author.login,
        url=pull.url,
        state=pull.state,
        draft=pull.draft,
        labels=pull.labels,
        head_ref=pull.head_ref,
        head_commit=pull.head_commit,
        base_ref=pull.base_ref,
        tier=msgspec.convert(row.tier, Tier),
        updated_at=pull.updated_at,
        latest=latest,
        held=bool(row.held),
    )


def _pulls(connection: Connection, sight: Sight, name: str, before: int | None, *, closed: bool) -> PullsPage | None:
    row = find_project(connection, sight, name)
    if row is None:
        return None
    of = pull_request.c
    states = [state.value for state in PullState if (state is not PullState.OPEN) == closed]
    query = _query().where(of.project == row.id, of.state.in_(states)).order_by(of.number.desc()).limit(PULLS_MAX + 1)
    lines = _lines(connection, sight, query if before is None else query.where(of.number < before))
    shown = lines[:PULLS_MAX]
    older = shown[-1].number if len(lines) > PULLS_MAX else None
    return PullsPage(project=project_link(row), closed=closed, pulls=tuple(shown), older=older)


def _pull(connection: Connection, sight: Sight, name: str, number: int) -> PullPage | None:
    row = find_project(connection, sight, name)
    if row is None:
        return None
    of = pull_request.c
    found = _lines(connection, sight, _query().where(of.project == row.id, of.number == number))
    if not found:
        return None
    mine = (run.c.project_id == row.id) & (run.c.pull_request == number)
    runs = run_lines(connection, newest(run_query(sight).where(mine), None, RUNS_MAX))
    return PullPage(pull=found[0], runs=tuple(runs), approvals=tuple(approvals_of(connection, row.id, number)))


def _waiting(connection: Connection, sight: Sight) -> ApprovalsPage:
    of = pull_request.c
    since = func.min(run.c.requested_at).label("since")
    joined = run.join(pull_request, _mine()).join(project, project.c.id == of.project)
    waiting = (
        select(of.project, of.number, since)
        .select_from(joined)
        .where(_waits(), of.state == PullState.OPEN.value, visible(sight))
        .group_by(of.project, of.number)
        .order_by(since, of.project, of.number)
        .limit(WAITING_MAX)
    )
    keys = [(row.project, row.number) for row in connection.execute(waiting)]
    return ApprovalsPage(pulls=tuple(_in_order(connection, sight, keys)))


def _in_order(connection: Connection, sight: Sight, keys: Sequence[tuple[int, int]]) -> list[PullLine]:
    of = pull_request.c
    wanted: dict[int, list[int]] = {}
    for project_id, number in keys:
        wanted.setdefault(project_id, []).append(number)
    lines = {
        (line.project.id, line.number): line
        for project_id, numbers in wanted.items()
        for line in _lines(connection, sight, _query().where(of.project == project_id, of.number.in_(numbers)))
    }
    return [lines[key] for key in keys if key in lines]
