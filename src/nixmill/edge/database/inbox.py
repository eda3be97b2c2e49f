"""The door `Inbox`: what forges sent and nobody looked into yet.

A delivery is recorded in one short transaction, which writes of other deliveries join (`thread`). What was looked into
stays for a while (`upkeep`), so that a delivery that is sent again is recognised.
"""

import time
from collections.abc import Callable, Collection, Sequence
from enum import StrEnum
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from nixmill.core.forge import Event, Hint, HintKind
from nixmill.core.message import Parcel
from nixmill.edge.database.changes import put_parcels
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import insert_into
from nixmill.edge.database.forge_rows import key_text
from nixmill.edge.database.rows import Values, clean
from nixmill.edge.database.server_rows import json_text, kept_projects
from nixmill.edge.database.tables_forge import hint as table

_NOTHING: Final = Hint(kind=HintKind.NOTHING)
_hint: Final = msgspec.json.Decoder(Hint)


class HintState(StrEnum):
    """How a hint stands, as stored."""

    WAITING = "waiting"
    DONE = "done"
    DEAD = "dead"
    """Given up."""


class SqlInbox:
    """Implements `nixmill.doors.forge.Inbox`."""

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        """Use an opened database; `now` is when answers were made that do not say so."""
        self._database = database
        self._now = now

    async def put(self, forge: str, event: Event, at: float) -> bool:
        """See `Inbox`."""
        hints = [hint for hint in event.hints if hint.kind is not HintKind.NOTHING]
        first, *others = _rows(forge, event.delivery, hints, at)

        def record(connection: Connection) -> bool:
            new = insert_into(connection.dialect.name, table).values(first).on_conflict_do_nothing()
            if connection.execute(new.returning(table.c.id)).first() is None:
                return False
            if others:
                connection.execute(insert(table), others)
            return True

        return await self._database.write(record, action="record an event of a forge")

    async def due(self, now: float, limit: int) -> Sequence[tuple[int, str, Hint, int]]:
        """See `Inbox`."""
        of = table.c
        ripe = (of.state == HintState.WAITING.value) & (of.due_at <= now)
        query = select(of.id, of.forge, of.body, of.tries).where(ripe).order_by(of.due_at, of.id).limit(limit)
        return await self._database.read(
            lambda connection: [
                (id_, forge, _hint.decode(body), tries) for id_, forge, body, tries in connection.execute(query)
            ],
            action="look for events of forges",
        )

    async def handled(
        self, ids: Collection[int], *, fault: str = "", again_at: float | None = None, replies: Sequence[Parcel] = ()
    ) -> None:
        """See `Inbox`. What was looked into stays so; nobody is answered for a project that is gone."""
        of, now = table.c, self._now()
        waiting = of.id.in_(sorted(ids)) & (of.state == HintState.WAITING.value)
        query = update(table).where(waiting).values({**_outcome(fault, again_at), "fault": clean(fault)})

        def record(connection: Connection) -> None:
            connection.execute(query)
            _answer(connection, replies, now)

        if ids or replies:
            await self._database.write(record, action="record that events were looked into")


def _rows(forge: str, delivery: str, hints: Sequence[Hint], at: float) -> list[Values]:
    """Return the rows of a delivery: one at least."""
    state = HintState.WAITING if hints else HintState.DONE
    same = {"forge": forge, "delivery": key_text(delivery), "state": state.value, "due_at": at, "at": at}
    return [{**same, "position": at_, "body": json_text(hint)} for at_, hint in enumerate(hints or [_NOTHING])]


def _answer(connection: Connection, replies: Sequence[Parcel], now: float) -> None:
    there = kept_projects(connection, [reply.project for reply in replies if reply.project is not None])
    put_parcels(connection, [reply for reply in replies if reply.project is None or reply.project in there], now)


def _outcome(fault: str, again_at: float | None) -> dict[str, Any]:
    if again_at is not None:
        return {"due_at": again_at, "tries": table.c.tries + 1}
    if fault:
        return {"state": HintState.DEAD.value, "tries": table.c.tries + 1}
    return {"state": HintState.DONE.value}
