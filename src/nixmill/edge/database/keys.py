"""The door `Keys`: sessions and API tokens, both known by the hash of their secret."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy import Row as SqlRow

from nixmill.core.access import Scope
from nixmill.core.account import SESSION_S, ApiToken, Session
from nixmill.edge.database import tables_server
from nixmill.edge.database.database import Database
from nixmill.edge.database.server_rows import json_text, stored, texts

NOTE_EVERY_S: Final = 60.0
"""That a key was used is written down at most this often."""

_session = tables_server.session
_token = tables_server.token


class SqlKeys:
    """Implements `nixmill.doors.server.Keys`."""

    def __init__(self, database: Database) -> None:
        """Use an opened database."""
        self._database = database

    async def open_session(self, session: Session) -> None:
        """See `Keys`."""
        query = insert(_session).values(stored(msgspec.structs.asdict(session)))

        def record(connection: Connection) -> None:
            connection.execute(query)

        await self._database.write(record, action="open a session")

    async def session(self, token_hash: str, now: float) -> Session | None:
        """See `Keys`. Being used makes it last longer."""
        of = _session.c
        query = select(_session).where(of.token_hash == token_hash, of.expires_at > now)
        found = await self._database.read(
            lambda connection: _one_session(connection.execute(query).one_or_none()), action="look for a session"
        )
        if found is None or now - found.seen_at < NOTE_EVERY_S:
            return found
        times = {"seen_at": now, "expires_at": now + SESSION_S}
        longer = update(_session).where(of.token_hash == token_hash, of.seen_at < now).values(times)

        def note(connection: Connection) -> None:
            connection.execute(longer)

        await self._database.write(note, action="note the use of a session")
        return msgspec.structs.replace(found, **times)

    async def sessions(self, user: int, *, end: Sequence[str] = (), end_all: bool = False) -> Sequence[Session]:
        """See `Keys`; the newest first."""
        of = _session.c
        query = select(_session).where(of.user == user).order_by(of.seen_at.desc())
        doomed = delete(_session).where(of.user == user)
        if not end_all:
            doomed = doomed.where(of.token_hash.in_(list(end)))

        def listed(connection: Connection) -> list[Session]:
            if end_all or end:
                connection.execute(doomed)
            return [_session_of(row) for row in connection.execute(query)]

        ask = self._database.write if end_all or end else self._database.read
        return await ask(listed, action="list or end sessions")

    async def save_token(self, token: ApiToken) -> ApiToken:
        """See `Keys`."""
        values = {**stored(msgspec.structs.asdict(token)), "scopes": json_text(token.scopes)}
        del values["id"]
        query = insert(_token).values(values).returning(_token.c.id)
        number = await self._database.write(
            lambda connection: int(connection.execute(query).scalar_one()), action="save a token"
        )
        return msgspec.structs.replace(token, id=number)

    async def token(self, token_hash: str, now: float) -> ApiToken | None:
        """See `Keys`; its use is noted at most once a minute."""
        of = _token.c
        query = select(_token).where(of.token_hash == token_hash, of.expires_at > now)
        found = await self._database.read(
            lambda connection: _one_token(connection.execute(query).one_or_none()), action="look for a token"
        )
        if found is None or (found.used_at is not None and now - found.used_at < NOTE_EVERY_S):
            return found
        used = update(_token).where(of.id == found.id).values(used_at=now)

        def note(connection: Connection) -> None:
            connection.execute(used)

        await self._database.write(note, action="note the use of a token")
        return msgspec.structs.replace(found, used_at=now)

    async def tokens(self, user: int, *, revoke: Sequence[int] = ()) -> Sequence[ApiToken]:
        """See `Keys`; by name."""
        of = _token.c
        query = select(_token).where(of.user == user).order_by(of.name, of.id)
        doomed = delete(_token).where(of.user == user, of.id.in_(list(revoke)))

        def listed(connection: Connection) -> list[ApiToken]:
            if revoke:
                connection.execute(doomed)
            return [_token_of(row) for row in connection.execute(query)]

        ask = self._database.write if revoke else self._database.read
        return await ask(listed, action="list or revoke tokens")


def _session_of(row: SqlRow[Any]) -> Session:
    columns = row._mapping  # noqa: SLF001 - the public name for it, for all its underscore
    return Session(**{field: columns[field] for field in Session.__struct_fields__})


def _one_session(row: SqlRow[Any] | None) -> Session | None:
    return None if row is None else _session_of(row)


def _token_of(row: SqlRow[Any]) -> ApiToken:
    columns = row._mapping  # noqa: SLF001 - as above
    values = {field: columns[field] for field in ApiToken.__struct_fields__}
    return ApiToken(**{**values, "scopes": tuple(msgspec.convert(scope, Scope) for scope in texts(row.scopes))})


def _one_token(row: SqlRow[Any] | None) -> ApiToken | None:
    return None if row is None else _token_of(row)
