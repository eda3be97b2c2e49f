"""What is kept because of pull requests and of runs that go on, as pages list it."""

from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Select, and_, func, or_, select

from nixmill.config.roots import RootSettings
from nixmill.core.change import ChangeState
from nixmill.core.pull_request import PullState
from nixmill.core.view.roots import LeaseLine
from nixmill.edge.database.pages_lines import PROJECT, project_link
from nixmill.edge.database.tables import run
from nixmill.edge.database.tables_forge import pull_request
from nixmill.edge.database.tables_server import project

LEASES_MAX: Final = 50
"""Pull requests on a page."""
_DAY_S: Final = 86_400.0
_counts: Final = msgspec.json.Decoder(dict[str, int])


class LeasePages:
    """Reads by the rules of `[roots]`."""

    def __init__(self, settings: RootSettings, now: Callable[[], float]) -> None:
        """Keep the rules."""
        self._settings = settings
        self._now = now

    def of_project(self, connection: Connection, project_id: int) -> tuple[list[LeaseLine], int]:
        """Return the pull requests whose results are kept, and how many more there are."""
        kept = self._kept().where(pull_request.c.project == project_id)
        rows = connection.execute(kept.order_by(pull_request.c.number.desc()).limit(LEASES_MAX)).all()
        more = 0
        if len(rows) == LEASES_MAX:
            more = connection.execute(select(func.count()).select_from(kept.subquery())).scalar_one() - LEASES_MAX
        return [self._line(connection, row) for row in rows], more

    def counts(self, connection: Connection, projects: Collection[int]) -> dict[int, int]:
        """Count the pull requests whose results are kept, by project."""
        kept = self._kept().where(pull_request.c.project.in_(projects)).subquery()
        counted = select(kept.c.project_key, func.count().label("total")).group_by(kept.c.project_key)
        return {row.project_key: row.total for row in connection.execute(counted)}

    def _kept(self) -> Select[Any]:
        """Return the question for pull requests with runs, open or closed not long ago."""
        of, settings, now = pull_request.c, self._settings, self._now()
        mine = and_(run.c.project_id == of.project, run.c.pull_request == of.number)
        ended = select(func.max(run.c.ended_at)).where(mine).correlate(pull_request).scalar_subquery()
        some = select(func.max(run.c.number)).where(mine).correlate(pull_request).scalar_subquery()
        still_open = and_(
            of.state == PullState.OPEN.value,
            some.is_not(None),
            or_(ended.is_(None), ended > now - settings.pull_request_open_days * _DAY_S),
        )
        closed = and_(
            of.state != PullState.OPEN.value,
            some.is_not(None),
            of.updated_at > now - settings.pull_request_days * _DAY_S,
        )
        joined = pull_request.join(project, project.c.id == of.project)
        columns = (of.number, of.title, of.state, of.updated_at, *PROJECT, ended.label("ended_at"))
        return select(*columns).select_from(joined).where(or_(still_open, closed))

    def _line(self, connection: Connection, row: Row[Any]) -> LeaseLine:
        is_open = row.state == PullState.OPEN.value
        mine = (run.c.project_id == row.project_key) & (run.c.pull_request == row.number)
        newest = select(run.c.number, run.c.counts).where(mine).order_by(run.c.number.desc())
        runs = connection.execute(newest.limit(self._settings.pull_request_runs)).all()
        return LeaseLine(
            project=project_link(row),
            number=row.number,
            title=row.title,
            open=is_open,
            runs=tuple(each.number for each in runs),
            attributes=sum(_counts.decode(each.counts).get("all", 0) for each in runs),
            until=self._until(row.ended_at if is_open else row.updated_at, is_open=is_open),
        )

    def _until(self, since: float | None, *, is_open: bool) -> float | None:
        days = self._settings.pull_request_open_days if is_open else self._settings.pull_request_days
        return None if since is None else since + days * _DAY_S


def running(connection: Connection, projects: Collection[int]) -> dict[int, int]:
    """Count the runs that go on, by project; those that wait for approval keep nothing."""
    going = (run.c.project_id.in_(projects)) & run.c.ended_at.is_(None) & (run.c.state != ChangeState.HELD.value)
    counted = select(run.c.project_id, func.count().label("total")).where(going).group_by(run.c.project_id)
    return {row.project_id: row.total for row in connection.execute(counted)}
