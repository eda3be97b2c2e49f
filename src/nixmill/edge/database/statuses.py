"""The door `Statuses`: how statuses should stand on forges, and how they do.

A row is a status; what is newer replaces what is older in one statement, so that of two that write at the same time
the newer one stays, whoever comes last.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, case, func, null, select, update
from sqlalchemy import Row as SqlRow

from nixmill.core.posting import Posting, PostOutcome
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import insert_into
from nixmill.edge.database.forge_rows import key_text
from nixmill.edge.database.rows import Values, clean
from nixmill.edge.database.server_rows import json_text, kept_projects
from nixmill.edge.database.tables_forge import status as table

STUCK_TRIES: Final = 5
STUCK_MAX: Final = 500
"""Statuses that are counted."""
_posting: Final = msgspec.json.Decoder(Posting)


class SqlStatuses:
    """Implements `nixmill.doors.forge.Statuses`."""

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        """Use an opened database; `now` is since when a status waits."""
        self._database = database
        self._now = now

    async def want(self, postings: Sequence[Posting]) -> None:
        """See `Statuses`. A project that is gone has none; one that waits already does not wait longer for it."""
        rows = [_values(posting, self._now()) for posting in postings]
        # In one order, so that two that write the same ones do not wait for each other.
        rows.sort(key=lambda row: (row["project"], row["commit"], row["context"], row["generation"]))

        def record(connection: Connection) -> None:
            there = kept_projects(connection, {row["project"] for row in rows})
            wanted = [row for row in rows if row["project"] in there]
            if wanted:
                _upsert(connection, wanted)

        if rows:
            await self._database.write(record, action="record statuses")

    async def of_commit(self, project: int, commit: str) -> Sequence[Posting]:
        """See `Statuses`; by context."""
        of = table.c
        query = select(table).where(of.project == project, of.commit == key_text(commit)).order_by(of.context)
        return await self._database.read(
            lambda connection: [_posting_of(row) for row in connection.execute(query)], action="look for statuses"
        )

    async def due(self, now: float, limit: int) -> Sequence[Posting]:
        """See `Statuses`."""
        of = table.c
        query = select(table).where(of.due_at <= now).order_by(of.due_at, of.project, of.commit, of.context)
        return await self._database.read(
            lambda connection: [_posting_of(row) for row in connection.execute(query.limit(limit))],
            action="look for statuses to post",
        )

    async def posted(self, outcome: PostOutcome) -> None:
        """See `Statuses`."""
        query = update(table).where(_key(outcome) & _concerns(outcome)).values(_outcome(outcome))

        def record(connection: Connection) -> None:
            connection.execute(query)

        await self._database.write(record, action="record that a status was posted")

    async def again(self, since: float) -> None:
        """See `Statuses`."""
        of, now = table.c, self._now()
        given_up = of.gave_up.is_(True) & (of.posted_at >= since)

        def record(connection: Connection) -> None:
            connection.execute(update(table).where(given_up).values(due_at=now, tries=0, gave_up=False))

        await self._database.write(record, action="let statuses be posted again")

    async def stuck(self) -> Sequence[tuple[str, str, int]]:
        """See `Statuses`."""
        of = table.c
        refused = of.gave_up.is_(True) | (of.due_at.is_not(None) & (of.tries >= STUCK_TRIES))

        def look(connection: Connection) -> Counter[tuple[str, str]]:
            rows = connection.execute(select(of.body, of.fault).where(refused).limit(STUCK_MAX))
            return Counter((_posting.decode(body).forge, fault) for body, fault in rows)

        found = await self._database.read(look, action="look for statuses that are refused")
        return [(forge, fault, count) for (forge, fault), count in found.most_common()]


def _values(posting: Posting, now: float) -> Values:
    return {
        "project": posting.project,
        "commit": key_text(posting.commit),
        "context": key_text(posting.context),
        "body": json_text(posting),
        "generation": posting.generation,
        "due_at": now,
    }


def _upsert(connection: Connection, rows: Sequence[Values]) -> None:
    new = insert_into(connection.dialect.name, table)
    change = {
        "body": new.excluded.body,
        "generation": new.excluded.generation,
        "due_at": func.coalesce(table.c.due_at, new.excluded.due_at),
        "tries": 0,
        "fault": "",
        "gave_up": False,
    }
    newer = new.excluded.generation > table.c.generation
    connection.execute(
        new.on_conflict_do_update(index_elements=list(table.primary_key), set_=change, where=newer), list(rows)
    )


def _posting_of(row: SqlRow[Any]) -> Posting:
    """Return a status; what only the database knows of it takes the place of what somebody said."""
    told = _posting.decode(row.body)
    return msgspec.structs.replace(told, generation=row.generation, external_id=row.external_id, tries=row.tries)


def _key(outcome: PostOutcome) -> ColumnElement[bool]:
    of = table.c
    commit, context = key_text(outcome.commit), key_text(outcome.context)
    return (of.project == outcome.project) & (of.commit == commit) & (of.context == context)


def _concerns(outcome: PostOutcome) -> ColumnElement[bool]:
    """Say whether a try says something: one that failed only where nothing newer is wanted by now."""
    of = table.c
    return (of.generation <= outcome.generation) & of.due_at.is_not(None) if outcome.fault else of.generation >= 0


def _outcome(outcome: PostOutcome) -> dict[str, Any]:
    of = table.c
    fault = clean(outcome.fault)
    if not fault:
        stands = of.generation <= outcome.generation
        return {
            "posted_generation": outcome.generation,
            "external_id": clean(outcome.external_id) or of.external_id,
            "posted_at": outcome.at,
            "due_at": case((stands, null()), else_=func.coalesce(of.due_at, outcome.at)),
            "tries": 0,
            "fault": "",
            "gave_up": False,
        }
    if outcome.again_at is not None:
        return {"due_at": outcome.again_at, "tries": of.tries + 1, "fault": fault}
    return {"due_at": null(), "posted_at": outcome.at, "gave_up": True, "tries": of.tries + 1, "fault": fault}
