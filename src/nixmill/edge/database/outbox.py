"""The door `Outbox`: rules, messages on their way out, and hooks that are to run."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Connection, select, update
from sqlalchemy import Row as SqlRow

from nixmill.core.hook import HookRun, HookState
from nixmill.core.message import Delivered, Parcel, Rule
from nixmill.edge.database import tables_server
from nixmill.edge.database.database import Database
from nixmill.edge.database.rows import clean
from nixmill.edge.database.server_rows import Named, make_the_rows, parcel_of, rule_of, stored, texts

_parcel = tables_server.parcel
_hook_run = tables_server.hook_run


class ParcelState(StrEnum):
    """How a message stands, as stored."""

    WAITING = "waiting"
    SENT = "sent"
    DEAD = "dead"
    """Given up: a dead letter."""


class SqlOutbox:
    """Implements `nixmill.doors.server.Outbox`."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        """Use an opened database; `now` is seconds since 1970."""
        self._database = database
        self._now = now

    async def rules(self, project: int) -> Sequence[Rule]:
        """See `Outbox`."""
        return await self._database.read(lambda connection: _rules(connection, project), action="list rules")

    async def save_rules(self, project: int, rules: Sequence[Rule]) -> Sequence[Rule]:
        """See `Outbox`."""

        def save(connection: Connection) -> Sequence[Rule]:
            rows = [Named(rule.id, rule.name, _rule_values(rule)) for rule in rules]
            make_the_rows(connection, tables_server.rule, project, rows, "rule")
            return _rules(connection, project)

        return await self._database.write(save, action="save rules")

    async def due(self, now: float, limit: int) -> Sequence[Parcel]:
        """See `Outbox`."""
        of = _parcel.c
        ripe = (of.state == ParcelState.WAITING.value) & (of.due_at <= now)
        query = select(_parcel).where(ripe).order_by(of.due_at, of.id).limit(limit)
        return await self._database.read(
            lambda connection: [parcel_of(row) for row in connection.execute(query)], action="look for messages"
        )

    async def delivered(self, outcome: Delivered) -> None:
        """See `Outbox`. What was sent stays sent."""
        query = (
            update(_parcel)
            .where(_parcel.c.id == outcome.id, _parcel.c.state == ParcelState.WAITING.value)
            .values({**_outcome(outcome), "tries": _parcel.c.tries + 1, "fault": clean(outcome.fault)})
        )

        def record(connection: Connection) -> None:
            connection.execute(query)

        await self._database.write(record, action="record a delivery")

    async def replay(self, parcel: int) -> bool:
        """See `Outbox`; its tries are counted anew."""
        dead = (_parcel.c.id == parcel) & (_parcel.c.state == ParcelState.DEAD.value)
        values = {"state": ParcelState.WAITING.value, "due_at": self._now(), "tries": 0, "ended_at": None}
        query = update(_parcel).where(dead).values(values)
        return await self._database.write(
            lambda connection: connection.execute(query).rowcount == 1, action="send a dead letter again"
        )

    async def hook_runs(self, *, save: HookRun | None = None, waiting: bool = True) -> Sequence[HookRun]:
        """See `Outbox`; the oldest first."""
        of = _hook_run.c
        state = HookState.WAITING if waiting else HookState.RUNNING
        query = select(_hook_run).where(of.state == state.value).order_by(of.created_at, of.id)

        def listed(connection: Connection) -> list[HookRun]:
            if save is not None:
                connection.execute(_hook_update(save))
            return [_hook_run_of(row) for row in connection.execute(query)]

        ask = self._database.read if save is None else self._database.write
        return await ask(listed, action="look for hooks")


def _rules(connection: Connection, project: int) -> list[Rule]:
    query = select(tables_server.rule).where(tables_server.rule.c.project == project)
    return sorted((rule_of(row) for row in connection.execute(query)), key=lambda rule: rule.name)


def _rule_values(rule: Rule) -> dict[str, Any]:
    values = stored(msgspec.structs.asdict(rule))
    del values["id"], values["project"]
    return values


def _outcome(outcome: Delivered) -> dict[str, Any]:
    if not outcome.fault:
        return {"state": ParcelState.SENT.value, "ended_at": outcome.at}
    if outcome.again_at is not None:
        return {"due_at": outcome.again_at}
    return {"state": ParcelState.DEAD.value, "ended_at": outcome.at}


def _hook_update(run: HookRun) -> Any:  # noqa: ANN401 - SQLAlchemy's own type says nothing more
    values = stored(msgspec.structs.asdict(run))
    for fixed in ("id", "run", "project", "attribute", "created_at"):
        del values[fixed]
    return update(_hook_run).where(_hook_run.c.id == run.id).values(values)


def _hook_run_of(row: SqlRow[Any]) -> HookRun:
    columns = row._mapping  # noqa: SLF001 - the public name for it, for all its underscore
    values = {field: columns[field] for field in HookRun.__struct_fields__}
    return HookRun(**{**values, "command": texts(row.command), "state": msgspec.convert(row.state, HookState)})
