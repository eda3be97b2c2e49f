"""Implements the door `RootPages`: what is kept, by project, branch, hand and pull request."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, func, or_, select

from nixmill.config.roots import RootSettings
from nixmill.core.access import Sight
from nixmill.core.outcome import Outcome
from nixmill.core.pin import HandPin
from nixmill.core.view.roots import (
    HandPinLine,
    PinLine,
    ProjectRoots,
    ProjectRootsPage,
    ServerRootsPage,
    UploadLine,
)
from nixmill.doors.pages_roots import GoodResult, RootsWanted
from nixmill.edge.database.database import Database
from nixmill.edge.database.pages_leases import LeasePages, running
from nixmill.edge.database.pages_lines import PROJECT, project_link
from nixmill.edge.database.pages_pins import branches_of, newest_pins, pins_of, place, totals
from nixmill.edge.database.pages_projects import find_project
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.pages_uploads import upload_counts, upload_lines
from nixmill.edge.database.pages_wanted import contains, named
from nixmill.edge.database.rows import attribute_of, path_of, path_text
from nixmill.edge.database.tables import attribute, outcome, run, run_evaluation
from nixmill.edge.database.tables_roots import hand_pin, pin
from nixmill.edge.database.tables_server import project
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath

HAND_MAX: Final = 50
"""Pins by hand on a page."""
PROJECTS_MAX: Final = 100
"""Projects on a page."""
RUNS_LOOKED_AT: Final = 500
"""Newest runs of a branch in which a good result is looked for."""


class SqlRootPages:
    """Implements `nixmill.doors.pages_roots.RootPages`."""

    def __init__(self, database: Database, now: Callable[[], float], settings: RootSettings) -> None:
        """Read from `database`; how long pull requests are kept stands in `settings`."""
        self._database = database
        self._leases = LeasePages(settings, now)

    async def project(self, sight: Sight, name: str, wanted: RootsWanted) -> ProjectRootsPage | None:
        """See `RootPages`."""
        after = place(wanted.after) if wanted.after else None

        def read(connection: Connection) -> ProjectRootsPage | None:
            row = find_project(connection, sight, name)
            if row is None:
                return None
            pins, more = pins_of(connection, row.id, wanted.ref, wanted.find, after)
            branches, branches_more = branches_of(connection, row.id)
            hand, hand_after = _hand(connection, hand_pin.c.project == row.id, wanted)
            pulls, pulls_more = self._leases.of_project(connection, row.id)
            return ProjectRootsPage(
                project=project_link(row),
                ref=wanted.ref,
                find=wanted.find,
                branches=tuple(branches),
                branches_more=branches_more,
                pins=tuple(pins),
                after=more,
                hand=tuple(hand),
                hand_after=hand_after,
                pull_requests=tuple(pulls),
                pull_requests_more=pulls_more,
                running=running(connection, [row.id]).get(row.id, 0),
            )

        return await self._database.read(read, action="show what is kept for a project")

    async def server(self, sight: Sight, wanted: RootsWanted) -> ServerRootsPage:
        """See `RootPages`."""

        def read(connection: Connection) -> ServerRootsPage:
            projects, after = self._projects(connection, sight, wanted)
            all_seeing = sight.everything and sight.only is None
            of_server = hand_pin.c.project.is_(None)
            hand, hand_after = _hand(connection, of_server, wanted) if all_seeing else ([], None)
            return ServerRootsPage(
                find=wanted.find, projects=tuple(projects), after=after, hand=tuple(hand), hand_after=hand_after
            )

        return await self._database.read(read, action="show what is kept")

    async def newest(self, sight: Sight, limit: int) -> Sequence[PinLine]:
        """See `RootPages`."""
        return await self._database.read(
            lambda connection: newest_pins(connection, sight, limit), action="list the newest pins"
        )

    async def good(self, project: int, ref: str, path: AttrPath) -> GoodResult | None:
        """See `RootPages`."""
        return await self._database.read(
            lambda connection: _good(connection, project, ref, path_text(path)), action="look for a good result"
        )

    async def pinned(self, project: int | None, what: StorePath | AttrPath, ref: str = "") -> Sequence[HandPin]:
        """See `RootPages`."""
        of = hand_pin.c
        mine = of.project.is_(None) if project is None else of.project == project
        meant = of.store_path == what if isinstance(what, str) else of.attribute == path_text(what)
        query = select(hand_pin).where(mine, meant).order_by(of.id)
        wanted = query.where(of.ref == ref) if ref else query
        return await self._database.read(
            lambda connection: [_hand_pin(row) for row in connection.execute(wanted)], action="look for pins by hand"
        )

    async def uploads(self, sight: Sight, cache: str, limit: int) -> tuple[Mapping[str, int], Sequence[UploadLine]]:
        """See `RootPages`."""
        return await self._database.read(
            lambda connection: (
                upload_counts(connection, sight, cache),
                upload_lines(connection, sight, cache, limit) if limit else (),
            ),
            action="list uploads",
        )

    def _projects(self, connection: Connection, sight: Sight, wanted: RootsWanted) -> tuple[list[ProjectRoots], str]:
        query = select(project.c.name, *PROJECT).where(visible(sight)).order_by(project.c.name).limit(PROJECTS_MAX + 1)
        if wanted.find:
            query = query.where(contains(connection, project.c.name, wanted.find))
        rows = connection.execute(query.where(project.c.name > wanted.after) if wanted.after else query).all()
        shown = rows[:PROJECTS_MAX]
        ids = [row.project_key for row in shown]
        pins, hand = _pin_counts(connection, ids), _hand_counts(connection, ids)
        pulls, going = self._leases.counts(connection, ids), running(connection, ids)
        lines = [
            ProjectRoots(
                project=project_link(row),
                **pins.get(row.project_key, {"pins": 0, "held": 0, "gone": 0}),
                hand=hand.get(row.project_key, 0),
                pull_requests=pulls.get(row.project_key, 0),
                running=going.get(row.project_key, 0),
            )
            for row in shown
        ]
        return lines, shown[-1].name if len(rows) > PROJECTS_MAX else ""


def _pin_counts(connection: Connection, projects: Collection[int]) -> dict[int, dict[str, int]]:
    of = pin.c
    counted = select(of.project, *totals()).where(of.project.in_(projects)).group_by(of.project)
    return {row.project: {"pins": row.pins, "held": row.held, "gone": row.gone} for row in connection.execute(counted)}


def _hand_counts(connection: Connection, projects: Collection[int]) -> dict[int, int]:
    of = hand_pin.c
    counted = select(of.project, func.count().label("total")).where(of.project.in_(projects)).group_by(of.project)
    return {row.project: row.total for row in connection.execute(counted)}


def _hand(
    connection: Connection, mine: ColumnElement[bool], wanted: RootsWanted
) -> tuple[list[HandPinLine], int | None]:
    """Return a page of pins by hand, the newest first, and from where on the next one is."""
    of = hand_pin.c
    joined = hand_pin.outerjoin(project, project.c.id == of.project)
    query = select(hand_pin, *PROJECT).select_from(joined).where(mine).order_by(of.id.desc()).limit(HAND_MAX + 1)
    if wanted.ref:
        query = query.where(of.ref == wanted.ref)
    if wanted.hand is not None:
        query = query.where(of.id < wanted.hand)
    if wanted.find:
        texts = (contains(connection, column, wanted.find) for column in (of.store_path, of.reason))
        query = query.where(or_(*texts, named(connection, of.attribute, wanted.find)))
    rows = connection.execute(query).all()
    shown = rows[:HAND_MAX]
    return [_hand_line(row) for row in shown], shown[-1].id if len(rows) > HAND_MAX else None


def _hand_line(row: Row[Any]) -> HandPinLine:
    return HandPinLine(
        id=row.id,
        project=project_link(row) if row.project is not None else None,
        store_path=StorePath(row.store_path),
        ref=row.ref,
        attribute=path_of(row.attribute) if row.attribute is not None else None,
        reason=row.reason,
        who=row.who,
        since=row.at,
        until=row.until,
    )


def _hand_pin(row: Row[Any]) -> HandPin:
    return HandPin(
        id=row.id,
        store_path=StorePath(row.store_path),
        project=row.project,
        ref=row.ref,
        attribute=path_of(row.attribute) if row.attribute is not None else None,
        reason=row.reason,
        user=row.user,
        who=row.who,
        at=row.at,
        until=row.until,
    )


def _good(connection: Connection, project_id: int, ref: str, path: str) -> GoodResult | None:
    """Return the result of the newest run of a branch in which an attribute was good."""
    mine = (run.c.project_id == project_id) & (run.c.ref == ref)
    newest = select(run.c.number).where(mine).order_by(run.c.number.desc()).limit(RUNS_LOOKED_AT).subquery()
    same = (outcome.c.evaluation == run_evaluation.c.evaluation) & (outcome.c.run == run_evaluation.c.run)
    of = attribute.c
    query = (
        select(run_evaluation.c.run, of.path, of.name, of.system, of.drv_path, of.details)
        .select_from(newest)
        .join(run_evaluation, run_evaluation.c.run == newest.c.number)
        .join(outcome, same)
        .join(attribute, (of.evaluation == outcome.c.evaluation) & (of.path == outcome.c.path))
        .where(outcome.c.path == path, outcome.c.outcome == Outcome.SUCCEEDED.value)
        .order_by(run_evaluation.c.run.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    found = attribute_of(row.path, row.name, row.system, row.drv_path, row.details)
    return GoodResult(run=row.run, outputs=found.outputs)
