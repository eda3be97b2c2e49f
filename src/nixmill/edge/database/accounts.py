"""The door `Accounts`: users, what they are known by elsewhere, and what they may."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy import Row as SqlRow
from sqlalchemy.exc import IntegrityError

from nixmill.core.access import Role, Viewer
from nixmill.core.account import Identity, User
from nixmill.core.errors import InputError
from nixmill.edge.database import tables_server
from nixmill.edge.database.database import Database
from nixmill.edge.database.rows import clean
from nixmill.edge.database.server_rows import stored

_user = tables_server.user
_identity = tables_server.identity
_session = tables_server.session


class SqlAccounts:
    """Implements `nixmill.doors.server.Accounts`."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        """Use an opened database; `now` is seconds since 1970."""
        self._database = database
        self._now = now

    async def users(self) -> Sequence[User]:
        """See `Accounts`."""
        query = select(_user).order_by(_user.c.folded_name)
        return await self._database.read(
            lambda connection: [_user_of(row) for row in connection.execute(query)], action="list users"
        )

    async def user(self, name_or_id: str | int) -> User | None:
        """See `Accounts`."""
        of = _user.c
        found = of.id == name_or_id if isinstance(name_or_id, int) else of.folded_name == name_or_id.casefold()
        return await self._database.read(
            lambda connection: _one(connection.execute(select(_user).where(found)).one_or_none()),
            action="look for a user",
        )

    async def save_user(self, user: User, identity: Identity | None = None) -> User:
        """See `Accounts`."""
        now = self._now()
        return await self._database.write(
            lambda connection: _save(connection, user, identity, now), action="save a user"
        )

    async def delete_user(self, user: int) -> None:
        """See `Accounts`."""
        query = delete(_user).where(_user.c.id == user)

        def remove(connection: Connection) -> None:
            connection.execute(query)

        await self._database.write(remove, action="delete a user")

    async def known_as(self, identity: Identity) -> User | None:
        """See `Accounts`."""
        same = (_identity.c.provider == identity.provider) & (_identity.c.subject == identity.subject)
        query = select(_user).join(_identity, _identity.c.user == _user.c.id).where(same)
        return await self._database.read(
            lambda connection: _one(connection.execute(query).one_or_none()), action="look for an identity"
        )

    async def viewer(self, user: int) -> Viewer | None:
        """See `Accounts`."""
        return await self._database.read(lambda connection: _viewer(connection, user), action="look for roles")


def _user_of(row: SqlRow[Any]) -> User:
    columns = row._mapping  # noqa: SLF001 - the public name for it, for all its underscore
    return User(**{field: columns[field] for field in User.__struct_fields__})


def _one(row: SqlRow[Any] | None) -> User | None:
    return None if row is None else _user_of(row)


def _save(connection: Connection, user: User, identity: Identity | None, now: float) -> User:
    values = stored(msgspec.structs.asdict(user))
    del values["id"]
    values["folded_name"] = user.name.casefold()
    try:
        if user.id:
            _change(connection, user, values)
            number = user.id
        else:
            values["created_at"] = user.created_at or now
            number = connection.execute(insert(_user).values(values).returning(_user.c.id)).scalar_one()
    except IntegrityError as error:
        raise InputError(f"There is a user called {user.name!r} already.", "Choose another name.") from error
    if identity is not None:
        _add(connection, number, identity)
    return _user_of(connection.execute(select(_user).where(_user.c.id == number)).one())


def _change(connection: Connection, user: User, values: dict[str, Any]) -> None:
    before = _one(connection.execute(select(_user).where(_user.c.id == user.id)).one_or_none())
    if before is None:
        raise InputError("There is no such user any more.", "Somebody deleted the account; look at the list of users.")
    del values["created_at"]
    connection.execute(update(_user).where(_user.c.id == user.id).values(values))
    if user.disabled or user.password_hash != before.password_hash:
        connection.execute(delete(_session).where(_session.c.user == user.id))


def _add(connection: Connection, user: int, identity: Identity) -> None:
    same = (_identity.c.provider == identity.provider) & (_identity.c.subject == identity.subject)
    known = connection.execute(select(_identity.c.user).where(same)).scalar()
    if known is None:
        values = {**stored(msgspec.structs.asdict(identity)), "user": user}
        connection.execute(insert(_identity).values(values))
    elif known != user:
        raise InputError(
            f"That account of {identity.provider} belongs to another user.", "Sign in as that user, or remove it there."
        )
    elif identity.login:
        connection.execute(update(_identity).where(same).values(login=clean(identity.login)))


def _viewer(connection: Connection, user: int) -> Viewer | None:
    found = _one(connection.execute(select(_user).where(_user.c.id == user)).one_or_none())
    if found is None or found.disabled:
        return None
    member, project = tables_server.member, tables_server.project
    roles = (
        select(member.c.project, member.c.role)
        .join(project, project.c.id == member.c.project)
        .where(member.c.user == user, project.c.deleted_at.is_(None))
    )
    return Viewer(
        user=found.id,
        name=found.name,
        admin=found.admin,
        roles={number: msgspec.convert(role, Role) for number, role in connection.execute(roles)},
    )
