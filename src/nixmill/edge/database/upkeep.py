"""Forgetting what is only kept for a while: audit log, messages, sessions, tokens, deliveries, pins and so on."""

import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Table, exists, func, select, update

from nixmill.edge.database import tables, tables_forge, tables_roots, tables_server
from nixmill.edge.database.database import Database
from nixmill.edge.database.deletion import delete_some
from nixmill.edge.database.outbox import ParcelState
from nixmill.edge.database.realisations import TRUSTED

BATCH: Final = 5_000
DAY_S: Final = 86_400.0
LOGS: Final = 500
"""Logs that are deleted together."""
DELIVERY_DAYS: Final = 31.0
"""How long a webhook's delivery id is remembered."""
STATUS_DAYS: Final = 90.0
"""How long it is remembered how a status was put up; one that changes later is put up anew."""


class Ages(msgspec.Struct, frozen=True, kw_only=True):
    """After how many days things go; 0: never."""

    audit: float
    parcels: float = 30.0
    """Messages that were delivered."""
    dead_letters: float = 180.0


async def tidy(database: Database, ages: Ages, now: float, *, dry_run: bool = False) -> Mapping[str, int]:
    """Delete what is older, in short transactions; return how many rows of each table went, or would go."""
    gone: dict[str, int] = {}
    for table, where in _old(ages, now):
        if dry_run:
            count = await database.read(functools.partial(_count, table=table, where=where), action="count old rows")
            gone[table.name] = gone.get(table.name, 0) + count
            continue
        work = functools.partial(delete_some, table=table, where=where, batch=BATCH)
        while count := await database.write(work, action="forget old rows"):
            gone[table.name] = gone.get(table.name, 0) + count
    return {name: count for name, count in gone.items() if count}


def _count(connection: Connection, *, table: Table, where: ColumnElement[bool]) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(where)).scalar_one())


def _old(ages: Ages, now: float) -> list[tuple[Table, ColumnElement[bool]]]:
    """Return what goes, by table."""
    at, parcel = tables_server.audit.c.at, tables_server.parcel.c
    hint, status = tables_forge.hint.c, tables_forge.status.c
    rules = [
        (tables_server.session, tables_server.session.c.expires_at <= now),
        (tables_server.token, tables_server.token.c.expires_at <= now),
        (tables_server.failure, tables_server.failure.c.expires_at <= now),
        (tables_roots.hand_pin, tables_roots.hand_pin.c.until <= now),
        (tables_roots.realisation, _unused_realisations()),
        (tables_server.delivery_seen, tables_server.delivery_seen.c.at < now - DELIVERY_DAYS * DAY_S),
        (tables_forge.hint, hint.at < now - DELIVERY_DAYS * DAY_S),
        (tables_forge.status, status.due_at.is_(None) & (status.posted_at < now - STATUS_DAYS * DAY_S)),
    ]
    for days, table, condition, instant in (
        (ages.audit, tables_server.audit, at.is_not(None), at),
        (ages.parcels, tables_server.parcel, parcel.state == ParcelState.SENT.value, parcel.ended_at),
        (ages.dead_letters, tables_server.parcel, parcel.state == ParcelState.DEAD.value, parcel.ended_at),
    ):
        if days:
            rules.append((table, condition & (instant < now - days * DAY_S)))
    return rules


def _unused_realisations() -> ColumnElement[bool]:
    """Return which realisations serve nobody: nothing is published of them, and no attempt at them is remembered.

    Those of pull requests stay, as in `nm_made`: what they found out must not be taken for a branch's.
    """
    of, upload, attempt = tables_roots.realisation.c, tables_roots.upload.c, tables.attempt.c
    used = exists().where(upload.path == of.path) | exists().where(attempt.drv_path == of.drv_path)
    return of.tier.in_(TRUSTED) & (of.begun == 0) & ~used


async def forget_logs(database: Database, before: float, delete: Callable[[Sequence[int]], Awaitable[None]]) -> int:
    """Delete the logs of attempts that began before a time, and note that they are gone; return how many there were.

    The attempts stay: what became of them is known for as long as their run.
    """
    gone = 0
    while old := await database.read(functools.partial(_with_logs, before=before), action="look for old logs"):
        await delete(old)
        await database.write(functools.partial(_without_logs, numbers=old), action="forget old logs")
        gone += len(old)
    return gone


def _with_logs(connection: Connection, before: float) -> list[int]:
    of = tables.attempt.c
    old = select(of.number).where(of.log != "", of.started_at < before, of.outcome.is_not(None))
    return list(connection.execute(old.order_by(of.number).limit(LOGS)).scalars())


def _without_logs(connection: Connection, numbers: Sequence[int]) -> None:
    of = tables.attempt
    connection.execute(update(of).where(of.c.number.in_(numbers)).values(log=""))


async def known_hook_runs(database: Database, runs: Sequence[str]) -> set[str]:
    """Return those of these runs of hooks that have a row."""
    of = tables_server.hook_run.c.id
    query = select(of).where(of.in_(runs))
    return await database.read(lambda connection: set(connection.execute(query).scalars()), action="look for hook runs")
