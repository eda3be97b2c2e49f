"""Pins as pages list them: a page at a time, by branch, attribute and generation; and how many there are."""

import base64
import binascii
from collections.abc import Collection
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Integer, Row, Select, and_, cast, exists, func, or_, select

from nixmill.core.access import Sight
from nixmill.core.errors import InputError
from nixmill.core.pin import RootPolicy
from nixmill.core.view.roots import BranchRoots, PinLine
from nixmill.edge.database.pages_lines import PROJECT, project_link
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.pages_wanted import contains, named
from nixmill.edge.database.rows import path_of
from nixmill.edge.database.tables import run
from nixmill.edge.database.tables_roots import pin
from nixmill.edge.database.tables_server import project
from nixmill.nix.store_path import StorePath

PINS_MAX: Final = 50
"""Pins on a page."""
BRANCHES_MAX: Final = 50
_POLICIES: Final = {policy.value: policy for policy in RootPolicy}
_outputs: Final = msgspec.json.Decoder(dict[str, StorePath])


_Text = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00]*\Z")]
"""Anything that a database takes."""


class Place(NamedTuple):
    """Where a page of pins ends: the last pin on it."""

    ref: _Text
    path: _Text
    """As it is stored."""
    order: Annotated[int, msgspec.Meta(ge=0, le=2**62)]

    def shown(self) -> str:
        """Return it for an address."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")


def place(text: str) -> Place:
    """Return what `Place.shown` wrote; raise `InputError` for anything else."""
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=Place, strict=True)
    except (msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise InputError("This is no page of a list.", "Begin with the first one.") from error


def pins_of(
    connection: Connection, project_id: int, ref: str, find: str, after: Place | None
) -> tuple[list[PinLine], str]:
    """Return a page of the pins of a project, and what comes after it; empty where nothing does."""
    of = pin.c
    ids = select(of.id).where(of.project == project_id).order_by(of.ref, of.path, of.order.desc()).limit(PINS_MAX + 1)
    if ref:
        ids = ids.where(of.ref == ref)
    if find:
        ids = ids.where(or_(named(connection, of.path, find), contains(connection, of.outputs, find)))
    if after is not None:
        ids = ids.where(_behind(after))
    rows = connection.execute(_lines([row.id for row in connection.execute(ids)])).all()
    shown = rows[:PINS_MAX]
    last = Place(shown[-1].ref, shown[-1].path, shown[-1].order).shown() if len(rows) > PINS_MAX else ""
    return [_line(row) for row in shown], last


def newest_pins(connection: Connection, sight: Sight, limit: int) -> list[PinLine]:
    """Return the newest pins that have roots here."""
    of = pin.c
    joined = pin.join(project, project.c.id == of.project)
    ids = select(of.id).select_from(joined).where(visible(sight), of.held == "").order_by(of.id.desc()).limit(limit)
    return [_line(row) for row in connection.execute(_lines([row.id for row in connection.execute(ids)]))]


def branches_of(connection: Connection, project_id: int) -> tuple[list[BranchRoots], int]:
    """Return how many pins each branch has, and how many more branches there are."""
    of = pin.c
    counted = select(of.ref, *totals()).where(of.project == project_id).group_by(of.ref).order_by(of.ref)
    rows = connection.execute(counted).all()
    shown = [BranchRoots(ref=row.ref, pins=row.pins, held=row.held, gone=row.gone) for row in rows[:BRANCHES_MAX]]
    return shown, len(rows) - len(shown)


def totals() -> tuple[ColumnElement[int], ...]:
    """Return columns that count pins: all, those in caches only, those that are gone."""
    return (
        func.count().label("pins"),
        func.sum(cast(pin.c.held != "", Integer)).label("held"),
        func.sum(cast(pin.c.gone_at.is_not(None), Integer)).label("gone"),
    )


def _behind(after: Place) -> ColumnElement[bool]:
    of = pin.c
    same = and_(of.ref == after.ref, of.path == after.path, of.order < after.order)
    later = and_(of.ref == after.ref, of.path > after.path)
    return and_(of.ref >= after.ref, or_(of.ref > after.ref, later, same))


def _lines(ids: Collection[int]) -> Select[Any]:
    """Return the question for pins, with their place among the generations of their attribute."""
    of, other = pin.c, pin.alias().c
    alike = (other.project == of.project) & (other.ref == of.ref) & (other.path == of.path)
    newer = select(func.count()).where(alike, other.order > of.order).correlate(pin).scalar_subquery()
    count = select(func.count()).where(alike).correlate(pin).scalar_subquery()
    known = exists().where(run.c.number == of.run, run.c.project_id == of.project).correlate(pin)
    return (
        select(pin, *PROJECT, newer.label("newer"), count.label("generations"), known.label("known"))
        .select_from(pin.join(project, project.c.id == of.project))
        .where(of.id.in_(ids))
        .order_by(of.ref, of.path, of.order.desc())
    )


def _line(row: Row[Any]) -> PinLine:
    return PinLine(
        id=row.id,
        project=project_link(row),
        ref=row.ref,
        path=path_of(row.path),
        drv_path=StorePath(row.drv_path),
        outputs=_outputs.decode(row.outputs),
        generation=row.newer + 1,
        generations=row.generations,
        keep=row.keep,
        run=row.run,
        run_known=bool(row.known),
        since=row.at,
        policy=_POLICIES[row.policy],
        held=row.held,
        gone_since=row.gone_at,
    )
