"""`nixmill user`: accounts, in the server's database directly. For the machine's administrator; the server may run."""

import asyncio
import getpass
import os
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from nixmill.cli import ask_secret
from nixmill.cli.serve import read_settings
from nixmill.cli.standard_streams import say
from nixmill.cli.wiring import Wiring
from nixmill.core.account import AuditEntry, User, check_user_name
from nixmill.core.errors import InputError
from nixmill.engine.books import Books

T = TypeVar("T")
_NONE_KNOWN: Final = "See who there is: nixmill user list"


class Users:
    """What can be done to accounts."""

    def __init__(self, wiring: Wiring, config: str | None) -> None:
        """Work on the database that the settings decide."""
        self._wiring = wiring
        self._settings = read_settings(config)

    def create(self, name: str, *, admin: bool, email: str, password_stdin: bool, no_password: bool) -> None:
        """Create an account; the name is looked up before a password is asked for."""
        _check_choice(password_stdin=password_stdin, no_password=no_password)
        check_user_name(name)
        self._with(lambda books: _check_free(books, name))
        hashed = _hash(name, password_stdin=password_stdin, no_password=no_password)
        user = User(name=name, email=email, admin=admin, password_hash=hashed, created_at=time.time())
        self._save(user, "user created", "administrator" if admin else "")
        say(f"{name} can sign in at {self._settings.url}." if hashed else f"{name} has an account, without a password.")

    def password(self, name: str, *, password_stdin: bool, no_password: bool) -> None:
        """Give an account another password, or none; its sessions end."""
        _check_choice(password_stdin=password_stdin, no_password=no_password)
        user = self._with(lambda books: _known(books, name))
        hashed = _hash(user.name, password_stdin=password_stdin, no_password=no_password)
        self._save(
            msgspec.structs.replace(user, password_hash=hashed), "password changed", "taken away" if no_password else ""
        )
        say(f"The password of {user.name} is {'another one' if hashed else 'gone'}; all sessions have ended.")

    def switch(self, name: str, *, disabled: bool) -> None:
        """Switch an account off or on."""
        user = self._with(lambda books: _known(books, name))
        if disabled:
            self._with(lambda books: _warn_of_last_admin(books, user))
        self._save(
            msgspec.structs.replace(user, disabled=disabled), "user disabled" if disabled else "user enabled", ""
        )
        say(f"{user.name} can{'not' if disabled else ''} sign in{' any more' if disabled else ' again'}.")

    def delete(self, name: str, *, yes: bool) -> None:
        """Delete an account."""
        user = self._with(lambda books: _known(books, name))
        self._with(lambda books: _warn_of_last_admin(books, user))
        confirm(user.name, "Deleting an account cannot be undone; what the audit log says of it stays.", yes=yes)
        self._with(lambda books: _delete(books, user))
        say(f"{user.name} is deleted.")

    def list(self) -> None:
        """Print all accounts, by name."""
        for user in self._with(lambda books: books.accounts.users()):
            print(_line(user))  # noqa: T201 - the result is what is asked for

    def _save(self, user: User, action: str, detail: str) -> None:
        async def save(books: Books) -> None:
            await books.accounts.save_user(user)
            await audit(books, action, user.name, detail)

        self._with(save)

    def _with(self, work: Callable[[Books], Awaitable[T]]) -> T:
        """Do something with the database open. Questions to people stand between two such times, never within."""

        async def opened() -> T:
            async with self._wiring.open_server_books(self._settings) as books:
                return await work(books)

        return asyncio.run(opened())


async def audit(books: Books, action: str, subject: str, detail: str = "", project: int | None = None) -> None:
    """Note in the audit log who did something at this machine's command line."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        name = f"user {os.getuid()}"
    who = f"{name} at the command line"
    entry = AuditEntry(
        at=time.time(), user=None, who=who, action=action, subject=subject, project=project, detail=detail
    )
    await books.members.audit(entry)


def confirm(name: str, warning: str, *, yes: bool) -> None:
    """Have somebody at a terminal type a name, unless they said yes before; raise `InputError` where they do not."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"{warning} Nothing was changed.", "If that is what you want: --yes")
    print(f"{warning}\nType {name} if that is what you want: ", end="", file=sys.stderr, flush=True)  # noqa: T201
    if sys.stdin.readline().strip() != name:
        raise InputError("That is another name; nothing was changed.", "")


def _check_choice(*, password_stdin: bool, no_password: bool) -> None:
    if password_stdin and no_password:
        raise InputError(
            "--password-stdin and --no-password exclude each other.",
            "With --no-password somebody can only sign in by another provider.",
        )


def _hash(name: str, *, password_stdin: bool, no_password: bool) -> str:
    if no_password:
        return ""
    from nixmill.engine.passwords import hash_password  # noqa: PLC0415 - only who sets one pays for argon2

    return hash_password(ask_secret.new_password(name, from_pipe=password_stdin))


async def _check_free(books: Books, name: str) -> None:
    found = await books.accounts.user(name)
    if found is not None:
        raise InputError(
            f"There is a user {found.name} already.", f"Another password: nixmill user password {found.name}"
        )


async def _known(books: Books, name: str) -> User:
    found = await books.accounts.user(name)
    if found is None:
        raise InputError(f"There is no user {name!r}.", _NONE_KNOWN)
    return found


async def _warn_of_last_admin(books: Books, user: User) -> None:
    others = [one for one in await books.accounts.users() if one.admin and not one.disabled and one.id != user.id]
    if user.admin and not others:
        say(f"{user.name} is the last administrator. Another one: nixmill user create NAME --admin")


async def _delete(books: Books, user: User) -> None:
    await books.accounts.delete_user(user.id)
    await audit(books, "user deleted", user.name)


def _line(user: User) -> str:
    kind = "admin" if user.admin else "user"
    how = "password" if user.password_hash else "no password"
    since = datetime.fromtimestamp(user.created_at, tz=UTC).strftime("%Y-%m-%d")
    return f"{user.name:<24} {kind:<6} {'disabled' if user.disabled else how:<12} {since}  {user.email}".rstrip()
