"""Accounts, keys, members, settings and the audit log, on both databases."""

import msgspec
import pytest
from sqlalchemy import Connection, text

from nixmill.core.access import Role, Scope, Viewer
from nixmill.core.account import SESSION_S, ApiToken, AuditEntry, Identity, Member, Session, User
from nixmill.core.errors import InputError
from nixmill.edge.database.accounts import SqlAccounts
from nixmill.edge.database.database import Database
from nixmill.edge.database.keys import SqlKeys
from nixmill.edge.database.members import AUDIT_TEXT_MAX, SqlMembers
from nixmill.edge.database.projects import SqlProjects
from tests.support.databases import database, place, postgres
from tests.support.server_things import NOW, now, saved_project

__all__ = ["database", "place", "postgres"]


async def a_user(database: Database, name: str = "ada") -> User:
    return await SqlAccounts(database, now).save_user(User(name=name, password_hash="h"))  # noqa: S106 - no password


def a_session(user: int, token_hash: str = "t", seen_at: float = NOW) -> Session:  # noqa: S107 - no password
    return Session(
        token_hash=token_hash, user=user, csrf="c", created_at=NOW, seen_at=seen_at, expires_at=seen_at + SESSION_S
    )


def a_token(user: int, name: str = "ci") -> ApiToken:
    scopes = (Scope.READ, Scope.RUN)
    return ApiToken(
        user=user, name=name, token_hash=f"hash of {name}", scopes=scopes, created_at=NOW, expires_at=NOW + 100
    )


async def test_a_user_is_found_by_name_in_any_case_and_by_number(database: Database) -> None:
    accounts = SqlAccounts(database, now)
    ada = await a_user(database, "Ada")
    assert (ada.created_at, await accounts.user("aDA"), await accounts.user(ada.id)) == (NOW, ada, ada)
    assert await accounts.user("bob") is None
    assert await accounts.user(99) is None
    bob = await a_user(database, "Bob")
    assert await accounts.users() == [ada, bob]


async def test_a_name_that_differs_in_case_only_is_taken(database: Database) -> None:
    accounts = SqlAccounts(database, now)
    await a_user(database, "Ada")
    bob = await a_user(database, "bob")
    for user in (User(name="ADA"), msgspec.structs.replace(bob, name="ada")):
        with pytest.raises(InputError, match="already"):
            await accounts.save_user(user)
    assert [user.name for user in await accounts.users()] == ["Ada", "bob"]


@pytest.mark.parametrize(
    ("fields", "ends"),
    [({"disabled": True}, True), ({"password_hash": "other"}, True), ({"email": "ada@example.org"}, False)],
)
async def test_sessions_end_with_the_password_and_the_account(
    database: Database, fields: dict[str, object], *, ends: bool
) -> None:
    accounts, keys, ada = SqlAccounts(database, now), SqlKeys(database), await a_user(database)
    await keys.open_session(a_session(ada.id))
    await accounts.save_user(msgspec.structs.replace(ada, **fields))
    assert (await keys.session("t", NOW) is None) == ends


async def test_identities_belong_to_one_user(database: Database) -> None:
    accounts, ada, bob = SqlAccounts(database, now), await a_user(database, "ada"), await a_user(database, "bob")
    identity = Identity(provider="oidc", subject="1")
    assert await accounts.known_as(identity) is None
    for _ in range(2):
        await accounts.save_user(ada, identity)
    assert await accounts.known_as(identity) == ada
    with pytest.raises(InputError, match="belongs to another user"):
        await accounts.save_user(bob, identity)
    eve = await accounts.save_user(User(name="eve"), Identity(provider="oidc", subject="2"))
    assert await accounts.known_as(Identity(provider="oidc", subject="2")) == eve


async def test_a_deleted_user_leaves_the_audit_log_behind(database: Database) -> None:
    accounts, keys, members = SqlAccounts(database, now), SqlKeys(database), SqlMembers(database)
    ada, project = await a_user(database), await saved_project(database)
    await keys.open_session(a_session(ada.id))
    await keys.save_token(a_token(ada.id))
    await members.set_member(project, ada.id, Role.OWNER)
    entry = AuditEntry(at=NOW, user=ada.id, who="ada", action="do", subject="it", project=project)
    await members.audit(entry)
    await accounts.delete_user(ada.id)
    await members.audit(entry)
    with pytest.raises(InputError, match="no such user"):
        await accounts.save_user(ada)
    assert await members.members(project) == []
    assert await keys.session("t", NOW) is None
    assert await keys.tokens(ada.id) == []
    query = text('SELECT "user", who, project FROM nm_audit')
    rows = await database.read(lambda connection: [tuple(row) for row in connection.execute(query)], action="look")
    assert rows == [(None, "ada", project)] * 2


async def test_a_viewer_has_the_roles_that_were_given(database: Database) -> None:
    accounts, members, projects = SqlAccounts(database, now), SqlMembers(database), SqlProjects(database, now)
    ada = await a_user(database)
    one, two, gone = [await saved_project(database, name) for name in ("one", "two", "gone")]
    await members.set_member(one, ada.id, Role.VIEWER)
    await members.set_member(one, ada.id, Role.OWNER)
    await members.set_member(two, ada.id, Role.MEMBER)
    await members.set_member(two, ada.id, None)
    await members.set_member(gone, ada.id, Role.MEMBER)
    await projects.delete_project(gone)
    assert await accounts.viewer(ada.id) == Viewer(user=ada.id, name="ada", roles={one: Role.OWNER})
    assert await members.members(one) == [Member(project=one, user=ada.id, name="ada", role=Role.OWNER)]
    await accounts.save_user(msgspec.structs.replace(ada, disabled=True))
    assert await accounts.viewer(ada.id) is None
    assert await accounts.viewer(99) is None


async def test_a_session_lasts_longer_when_used_and_that_is_written_once_a_minute(database: Database) -> None:
    keys, ada = SqlKeys(database), await a_user(database)
    opened = a_session(ada.id)
    await keys.open_session(opened)
    assert await keys.session("t", NOW + 59) == opened
    used = await keys.session("t", NOW + 60)
    assert used == a_session(ada.id, seen_at=NOW + 60)
    assert await keys.sessions(ada.id) == [used]
    assert await keys.session("t", NOW + 60 + SESSION_S) is None
    assert await keys.session("other", NOW) is None


async def test_sessions_are_ended_by_their_user_alone(database: Database) -> None:
    keys, ada, bob = SqlKeys(database), await a_user(database, "ada"), await a_user(database, "bob")
    for user, token_hash in ((ada, "a1"), (ada, "a2"), (ada, "a3"), (bob, "b")):
        await keys.open_session(a_session(user.id, token_hash))
    left = await keys.sessions(ada.id, end=["a1", "b"])
    assert sorted(session.token_hash for session in left) == ["a2", "a3"]
    assert await keys.sessions(ada.id, end_all=True) == []
    assert len(await keys.sessions(bob.id)) == 1


async def test_tokens_expire_are_noted_and_revoked(database: Database) -> None:
    keys, ada, bob = SqlKeys(database), await a_user(database, "ada"), await a_user(database, "bob")
    saved = await keys.save_token(a_token(ada.id))
    other = await keys.save_token(a_token(bob.id, "other"))
    used = msgspec.structs.replace(saved, used_at=NOW + 1)
    assert await keys.token(saved.token_hash, NOW + 1) == used
    assert await keys.token(saved.token_hash, NOW + 2) == used
    assert await keys.token(saved.token_hash, NOW + 100) is None
    assert await keys.tokens(ada.id) == [used]
    assert await keys.tokens(ada.id, revoke=[saved.id, other.id]) == []
    assert await keys.tokens(bob.id) == [other]


async def test_settings_are_kept(database: Database) -> None:
    members = SqlMembers(database)
    assert await members.setting("motd") is None
    for value in ('"a"', '"b"'):
        await members.save_setting("motd", value)
    assert await members.setting("motd") == '"b"'


async def test_the_audit_log_takes_any_text(database: Database) -> None:
    members = SqlMembers(database)
    await members.audit(
        AuditEntry(at=NOW, user=None, who="\0", action="a", subject="\ud800" * 9, project=99, detail="x" * 10**6)
    )

    def look(connection: Connection) -> list[tuple[object, ...]]:
        return [tuple(row) for row in connection.execute(text("SELECT who, project, length(detail) FROM nm_audit"))]

    assert await database.read(look, action="look") == [("�", None, AUDIT_TEXT_MAX)]
