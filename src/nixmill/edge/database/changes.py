"""The door `Changes`: runs that the server was asked for. A change is a row of `nm_run`."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, case, func, insert, select, update

from nixmill.core.change import Change, ChangeState, Progress
from nixmill.core.hook import HookRun
from nixmill.core.message import Parcel
from nixmill.core.run_event import Verdict
from nixmill.edge.database import tables, tables_server
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import insert_into
from nixmill.edge.database.rows import clean
from nixmill.edge.database.server_rows import change_of, change_values, live_project, stored

OnAccept = Callable[[Connection, Sequence[int]], None]
"""Called with the numbers of changes whose work begins, in the transaction that says so, on a database thread."""

_run = tables.run


def nothing_more(_connection: Connection, _numbers: Sequence[int]) -> None:
    """Do nothing when changes are accepted."""


def insert_changes(connection: Connection, changes: Sequence[Change], now: float, on_accept: OnAccept) -> list[int]:
    """Record changes and what `on_accept` adds; return their numbers. `InputError`: a project is gone.

    Of one that waits for approval no work begins: `on_accept` does not hear of it.
    """
    names = {project: live_project(connection, project) for project in {change.project for change in changes}}
    numbers = []
    for change in changes:
        new = insert(_run).values(change_values(change, names[change.project], now)).returning(_run.c.number)
        numbers.append(int(connection.execute(new).scalar_one()))
    begun = [number for number, change in zip(numbers, changes, strict=True) if change.state is not ChangeState.HELD]
    if begun:
        on_accept(connection, begun)
    return numbers


def end_held(connection: Connection, which: ColumnElement[bool], sentence: str, now: float) -> list[int]:
    """End changes that wait for approval, as cancelled; return their numbers."""
    of = _run.c
    values = {
        "state": ChangeState.DONE.value,
        "verdict": Verdict.CANCELLED.value,
        "sentence": clean(sentence),
        "ended_at": now,
        "cancel_asked": True,
    }
    held = (of.state == ChangeState.HELD.value) & of.verdict.is_(None)
    query = update(_run).where(which & held).values(values).returning(of.number)
    return list(connection.execute(query).scalars())


class SqlChanges:
    """Implements `nixmill.doors.server.Changes`."""

    def __init__(self, database: Database, now: Callable[[], float], on_accept: OnAccept = nothing_more) -> None:
        """Use an opened database; `on_accept` starts the work in the same transaction."""
        self._database = database
        self._now = now
        self._on_accept = on_accept

    async def accept(self, changes: Sequence[Change]) -> list[int]:
        """See `Changes`."""
        now = self._now()
        return await self._database.write(
            lambda connection: insert_changes(connection, changes, now, self._on_accept), action="accept changes"
        )

    async def change(self, number: int) -> Change | None:
        """See `Changes`."""
        query = select(_run).where(_run.c.number == number, _run.c.state != "")

        def look(connection: Connection) -> Change | None:
            row = connection.execute(query).one_or_none()
            return None if row is None else change_of(row)

        return await self._database.read(look, action="look for a change")

    async def open_changes(self) -> Sequence[Change]:
        """See `Changes`."""
        query = select(_run).where(_run.c.ended_at.is_(None), _run.c.state != "").order_by(_run.c.number)
        return await self._database.read(
            lambda connection: [change_of(row) for row in connection.execute(query)], action="list open changes"
        )

    async def progress(self, progress: Progress) -> None:
        """See `Changes`."""
        now = self._now()
        values = _progress_values(progress, now)
        query = update(_run).where(_run.c.number == progress.number).values(values)

        def record(connection: Connection) -> None:
            connection.execute(query)

        if values:
            await self._database.write(record, action="record progress")

    async def stop(self, number: int, superseded_by: int | None = None) -> bool:
        """See `Changes`."""
        now = self._now()
        why = f": run {superseded_by} is newer" if superseded_by else ""

        def record(connection: Connection) -> bool:
            open_ = (_run.c.number == number) & _run.c.verdict.is_(None) & (_run.c.state != "")
            values = {"cancel_asked": True, "superseded_by": func.coalesce(_run.c.superseded_by, superseded_by)}
            stopped = connection.execute(update(_run).where(open_).values(values)).rowcount == 1
            ended = end_held(connection, _run.c.number == number, f"Cancelled before it began{why}.", now)
            if ended:
                self._on_accept(connection, ended)
            return stopped

        return await self._database.write(record, action="cancel a run")

    async def ended(self, number: int, parcels: Sequence[Parcel], hooks: Sequence[HookRun]) -> None:
        """See `Changes`. A run that was deleted meanwhile has no consequences."""
        now = self._now()

        def record(connection: Connection) -> None:
            if connection.execute(select(_run.c.number).where(_run.c.number == number)).scalar() is None:
                return
            new_hook = insert_into(connection.dialect.name, tables_server.hook_run).on_conflict_do_nothing()
            put_parcels(connection, parcels, now)
            if hooks:
                connection.execute(new_hook, [stored(msgspec.structs.asdict(hook)) for hook in hooks])

        await self._database.write(record, action="record the end of a run")


def _progress_values(progress: Progress, now: float) -> dict[str, Any]:
    """Return the columns that change. What has a verdict is done, whatever comes late."""
    known = {field: value for field, value in msgspec.structs.asdict(progress).items() if value is not None}
    del known["number"]
    values = stored(known)
    if progress.verdict is not None:
        values["state"] = ChangeState.DONE.value
        values["ended_at"] = func.coalesce(_run.c.ended_at, progress.ended_at or now)
    elif progress.state is not None:
        values["state"] = case((_run.c.verdict.is_(None), progress.state.value), else_=_run.c.state)
    return values


def put_parcels(connection: Connection, parcels: Sequence[Parcel], now: float) -> None:
    """Put messages into the outbox; those whose key is there stay as they are."""
    if parcels:
        new = insert_into(connection.dialect.name, tables_server.parcel).on_conflict_do_nothing()
        connection.execute(new, [_parcel_values(parcel, now) for parcel in parcels])


def _parcel_values(parcel: Parcel, now: float) -> dict[str, Any]:
    values = stored(msgspec.structs.asdict(parcel))
    del values["id"]
    values["created_at"] = parcel.created_at or now
    return {**values, "due_at": values["created_at"]}
