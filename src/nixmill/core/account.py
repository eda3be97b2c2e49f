"""Accounts, sessions and tokens, as rows. Secrets are only ever kept as hashes.

What it does not know: how a password is hashed or a token is made (`nixmill.engine.passwords`, `nixmill.web`).
"""

import re
from typing import Final

import msgspec

from nixmill.core.access import Role, Scope
from nixmill.core.errors import InputError

USER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}")
PASSWORD_MIN: Final = 8
PASSWORD_MAX: Final = 1024
SESSION_S: Final = 14 * 86_400.0
"""A session ends this long after it was last used."""
TOKEN_DAYS_MAX: Final = 366
TOKEN_PREFIX: Final = "nm_"  # noqa: S105 - says what a token is, opens nothing


class User(msgspec.Struct, frozen=True, kw_only=True):
    """An account."""

    id: int = 0
    name: str
    email: str = ""
    admin: bool = False
    disabled: bool = False
    password_hash: str = ""
    """argon2id; empty for somebody who only signs in elsewhere."""
    created_at: float = 0.0


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who somebody is at a sign-in provider."""

    provider: str
    """Name in the settings, of a provider or a forge."""
    subject: str
    """Never changes."""
    login: str = ""
    """What they were called there when they signed in last; forges are asked about people by it."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A browser that is signed in. The cookie holds a random token, the database its hash."""

    token_hash: str
    user: int
    csrf: str
    created_at: float
    seen_at: float
    expires_at: float
    agent: str = ""
    address: str = ""


class ApiToken(msgspec.Struct, frozen=True, kw_only=True):
    """A key for programs, shown once and kept as a hash."""

    id: int = 0
    user: int
    name: str
    token_hash: str
    scopes: tuple[Scope, ...]
    project: int | None = None
    """Limits it to one project."""
    created_at: float
    expires_at: float
    used_at: float | None = None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A role in a project."""

    project: int
    user: int
    name: str
    role: Role


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Something that somebody did. Never holds a secret."""

    at: float
    user: int | None
    who: str
    action: str
    subject: str
    project: int | None = None
    detail: str = ""
    address: str = ""


def check_user_name(name: str) -> str:
    """Return a name; raise `InputError` where it cannot be one."""
    if not USER_NAME.fullmatch(name):
        raise InputError(
            f"{name!r} cannot be the name of a user.",
            "Begin with a letter or digit; letters, digits and . _ - + @ may follow; at most 64 of them.",
        )
    return name


def check_password(password: str) -> str:
    """Return a password; raise `InputError`, without the password, where it is too short or too long."""
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise InputError(f"A password has {PASSWORD_MIN} to {PASSWORD_MAX} characters.", "Choose another one.")
    return password
