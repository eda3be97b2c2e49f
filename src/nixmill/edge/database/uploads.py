"""The door `Uploads`: what is to be published, who built what. Runs record both with their outcomes (`writing`)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, bindparam, case, func, or_, select, update
from sqlalchemy import Row as SqlRow

from nixmill.core.trust import Tier, is_untrusted
from nixmill.core.upload import Made, Upload, UploadState
from nixmill.edge.database import tables
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import as_table, insert_into
from nixmill.edge.database.rows import Values, clean
from nixmill.edge.database.server_rows import kept_projects
from nixmill.edge.database.tables_roots import made as made_table
from nixmill.edge.database.tables_roots import upload as upload_table
from nixmill.nix.store_path import StorePath

BATCH: Final = 5_000
"""Rows of one statement."""
RECHECK_S: Final = 24 * 3600.0
"""Age from which a finished upload that is asked for anew is looked at again: the cache may have deleted the path."""
FAULT_MAX: Final = 4_000
"""Characters of a fault that are kept."""
_TIERS: Final = tuple(Tier)
_GIVEN_UP: Final = (UploadState.REFUSED.value, UploadState.FAILED.value)


def record_uploads(connection: Connection, rows: Sequence[Upload]) -> None:
    """Record what is to be published, in the open transaction.

    What was given up or refused waits again; what waits or is done stays as it is, unless it was done long ago.
    """
    kept = kept_projects(connection, {row.project for row in rows}) if rows else set()
    values = {(row.cache, row.path): _upload_values(row, kept) for row in rows}
    new = insert_into(connection.dialect.name, upload_table)
    of, wanted = upload_table.c, new.excluded
    given_up = or_(*(of.state == state for state in _GIVEN_UP))  # IN cannot be sent for many rows at once
    stale = (of.state == UploadState.DONE.value) & (of.done_at < wanted.at - RECHECK_S)
    change: dict[str, Any] = {column.name: wanted[column.name] for column in of if not column.primary_key}
    change["done_at"] = case((stale, of.done_at), else_=None)  # what was done once stays a member where it is served
    upsert = new.on_conflict_do_update(
        index_elements=list(upload_table.primary_key), set_=change, where=given_up | stale
    )
    _in_batches(connection, upsert, [values[key] for key in sorted(values)])


def record_made(connection: Connection, rows: Sequence[Made]) -> None:
    """Record who built paths, in the open transaction; of two builds of a path the newer one stands.

    What nobody has to vouch for has a row only where it takes the place of one that somebody had to: most paths are
    built by branches alone. What was built from something that somebody has to vouch for is no better than that.
    """
    newest: dict[StorePath, Made] = {}
    for row in _lowered(connection, rows):
        if row.path not in newest or row.at >= newest[row.path].at:
            newest[row.path] = row
    ordered = [row for _, row in sorted(newest.items())]
    of = made_table.c
    new = insert_into(connection.dialect.name, made_table)
    change = {name: new.excluded[name] for name in ("tier", "run", "attempt", "at")}
    upsert = new.on_conflict_do_update(index_elements=[of.path], set_=change, where=new.excluded["at"] >= of["at"])
    _in_batches(connection, upsert, [_made_values(row) for row in ordered if is_untrusted(row.tier)])
    standing = update(made_table).where(of.path == bindparam("key_path"), of["at"] <= bindparam("key_at"))
    trusted = [_made_values(row) for row in ordered if not is_untrusted(row.tier)]
    _in_batches(connection, standing, [{**row, "key_path": row.pop("path"), "key_at": row["at"]} for row in trusted])


def _lowered(connection: Connection, rows: Sequence[Made]) -> list[Made]:
    """Return rows in the order in which they were made, each under the weakest tier that its build rests on."""
    read = {path for row in rows if not is_untrusted(row.tier) for path in row.inputs}
    if not read:
        return list(rows)
    of = made_table.c
    known = select(of.path, of.tier).where(of.path.in_(select(as_table(connection, read).c.value)))
    weak = {path: Tier(tier) for path, tier in connection.execute(known) if is_untrusted(Tier(tier))}
    lowered = []
    for row in sorted(rows, key=lambda row: row.at):
        weakest = min((row.tier, *(weak[path] for path in row.inputs if path in weak)), key=_TIERS.index)
        lowered.append(msgspec.structs.replace(row, tier=weakest))
        weak |= {row.path: weakest} if is_untrusted(weakest) else {}
    return lowered


def _made_values(row: Made) -> Values:
    return {"path": row.path, "tier": row.tier.value, "run": row.run, "attempt": row.attempt, "at": row.at}


class SqlUploads:
    """Implements `nixmill.doors.cache.Uploads`."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        """Use an opened database; `now` is when what is tried again is due."""
        self._database = database
        self._now = now

    async def due(
        self, cache: str, now: float, limit: int, state: UploadState = UploadState.WAITING
    ) -> Sequence[Upload]:
        """See `Uploads`."""
        of = upload_table.c
        ripe = (of.cache == cache) & (of.state == state.value) & (of.due_at <= now)
        query = select(upload_table).where(ripe).order_by(of.due_at, of.at, of.path).limit(limit)
        return await self._database.read(
            lambda connection: [_upload_of(row) for row in connection.execute(query)], action="look for uploads"
        )

    async def save(self, uploads: Sequence[Upload]) -> None:
        """See `Uploads`. What was asked for by another run meanwhile keeps that run; rows that are gone stay gone."""
        of = upload_table.c
        query = update(upload_table).where(of.cache == bindparam("key_cache"), of.path == bindparam("key_path"))
        rows = [_standing(one) for one in sorted(uploads, key=lambda one: (one.cache, one.path))]
        if rows:
            await self._database.write(
                lambda connection: _in_batches(connection, query, rows), action="record how uploads stand"
            )

    async def made(self, paths: Collection[StorePath]) -> Mapping[StorePath, Made]:
        """See `Uploads`."""

        def look(connection: Connection) -> dict[StorePath, Made]:
            wanted, of, attempt = as_table(connection, paths), made_table.c, tables.attempt.c
            query = select(made_table, attempt.drv_path).select_from(
                wanted.join(made_table, of.path == wanted.c.value).outerjoin(
                    tables.attempt, attempt.number == of.attempt
                )
            )
            return {StorePath(row.path): _made_of(row) for row in connection.execute(query)}

        return await self._database.read(look, action="look up who built paths") if paths else {}

    async def vouch(self, made: Sequence[Made]) -> None:
        """See `Uploads`."""
        now = self._now()
        dated = [msgspec.structs.replace(one, at=now) for one in made]
        if dated:
            await self._database.write(lambda connection: record_made(connection, dated), action="vouch for paths")

    async def again(self, cache: str, paths: Collection[StorePath] | None) -> int:
        """See `Uploads`; tries are counted anew."""
        of = upload_table.c
        values = {"state": UploadState.WAITING.value, "tries": 0, "due_at": self._now(), "fault": "", "done_at": None}

        def revive(connection: Connection) -> int:
            query = update(upload_table).where(of.cache == cache, of.state.in_(_GIVEN_UP)).values(values)
            if paths is not None:
                query = query.where(of.path.in_(select(as_table(connection, paths).c.value)))
            return connection.execute(query).rowcount

        return await self._database.write(revive, action="try uploads again")

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        """See `Uploads`."""
        of = upload_table.c
        query = select(of.cache, of.state, func.count()).group_by(of.cache, of.state)

        def count(connection: Connection) -> dict[str, dict[str, int]]:
            found: dict[str, dict[str, int]] = {}
            for cache, state, number in connection.execute(query):
                found.setdefault(cache, {})[state] = number
            return found

        return await self._database.read(count, action="count uploads")


def _in_batches(connection: Connection, statement: Any, rows: Sequence[Values]) -> None:  # noqa: ANN401 - of either dialect
    for at in range(0, len(rows), BATCH):
        connection.execute(statement, rows[at : at + BATCH])


def _upload_values(row: Upload, projects: Collection[int]) -> Values:
    return {
        "cache": row.cache,
        "path": row.path,
        "project": row.project if row.project in projects else None,
        "run": row.run,
        "at": row.at,
        "state": row.state.value,
        "tries": row.tries,
        "due_at": row.due_at,
        "fault": clean(row.fault[:FAULT_MAX]),
        "done_at": row.done_at,
    }


def _standing(row: Upload) -> Values:
    values = _upload_values(row, ())
    fixed = {"key_cache": values.pop("cache"), "key_path": values.pop("path")}
    for column in ("project", "run", "at"):
        del values[column]
    return fixed | values


def _upload_of(row: SqlRow[Any]) -> Upload:
    return Upload(
        cache=row.cache,
        path=StorePath(row.path),
        project=row.project or 0,
        run=row.run,
        state=UploadState(row.state),
        tries=row.tries,
        due_at=row.due_at,
        fault=row.fault,
        at=row.at,
        done_at=row.done_at,
    )


def _made_of(row: SqlRow[Any]) -> Made:
    drv_path = StorePath(row.drv_path) if row.drv_path else None
    return Made(
        path=StorePath(row.path),
        tier=Tier(row.tier),
        run=row.run,
        attempt=row.attempt,
        at=row.at,
        drv_path=drv_path,
    )
