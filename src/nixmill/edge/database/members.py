"""The door `Members`: roles in projects, the log of who did what, and settings that pages can change."""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, select

from nixmill.core.access import Role
from nixmill.core.account import AuditEntry, Identity, Member
from nixmill.edge.database import tables_server
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import insert_into
from nixmill.edge.database.server_rows import stored

AUDIT_TEXT_MAX: Final = 2_000
"""Characters of one text of a line of the audit log."""

_member = tables_server.member
_setting = tables_server.setting


class SqlMembers:
    """Implements `nixmill.doors.server.Members`."""

    def __init__(self, database: Database) -> None:
        """Use an opened database."""
        self._database = database

    async def members(self, project: int) -> Sequence[Member]:
        """See `Members`."""
        user = tables_server.user
        query = (
            select(_member.c.project, _member.c.user, user.c.name, _member.c.role)
            .join(user, user.c.id == _member.c.user)
            .where(_member.c.project == project)
            .order_by(user.c.folded_name)
        )

        def listed(connection: Connection) -> list[Member]:
            return [
                Member(project=number, user=who, name=name, role=msgspec.convert(role, Role))
                for number, who, name, role in connection.execute(query)
            ]

        return await self._database.read(listed, action="list members")

    async def set_member(self, project: int, user: int, role: Role | None) -> None:
        """See `Members`."""

        def record(connection: Connection) -> None:
            if role is None:
                connection.execute(delete(_member).where(_member.c.project == project, _member.c.user == user))
                return
            new = insert_into(connection.dialect.name, _member).values(project=project, user=user, role=role.value)
            upsert = new.on_conflict_do_update(index_elements=list(_member.primary_key), set_={"role": role.value})
            connection.execute(upsert)

        await self._database.write(record, action="change a member")

    async def identity(self, user: int, provider: str) -> Identity | None:
        """See `Members`. Of several the one with a login, so that its forge can be asked about it."""
        of = tables_server.identity.c
        query = select(of.provider, of.subject, of.login).where(of.user == user, of.provider == provider)
        first = query.order_by(of.login == "", of.subject).limit(1)

        def look(connection: Connection) -> Identity | None:
            row = connection.execute(first).one_or_none()
            return None if row is None else Identity(provider=row.provider, subject=row.subject, login=row.login)

        return await self._database.read(look, action="look for an identity")

    async def audit(self, entry: AuditEntry) -> None:
        """See `Members`; long texts are cut."""
        values = stored(msgspec.structs.asdict(entry))
        for name in ("who", "action", "subject", "detail", "address"):
            values[name] = values[name][:AUDIT_TEXT_MAX]

        def record(connection: Connection) -> None:
            connection.execute(insert(tables_server.audit).values(_only_living(connection, values)))

        await self._database.write(record, action="write the audit log")

    async def setting(self, name: str) -> str | None:
        """See `Members`."""
        query = select(_setting.c.value).where(_setting.c.name == name)
        return await self._database.read(
            lambda connection: connection.execute(query).scalar(), action="look for a setting"
        )

    async def save_setting(self, name: str, value: str) -> None:
        """See `Members`."""

        def record(connection: Connection) -> None:
            new = insert_into(connection.dialect.name, _setting).values(name=name, value=value)
            connection.execute(new.on_conflict_do_update(index_elements=[_setting.c.name], set_={"value": value}))

        await self._database.write(record, action="save a setting")


def _only_living(connection: Connection, values: dict[str, object]) -> dict[str, object]:
    """Return a line without user and project that are gone: what it says stays true, and it must be written."""
    living = dict(values)
    for name, table in (("user", tables_server.user), ("project", tables_server.project)):
        if values[name] is not None:
            living[name] = connection.execute(select(table.c.id).where(table.c.id == values[name])).scalar()
    return living
