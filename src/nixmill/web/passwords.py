"""Passwords at the door: checked in threads, few at a time, because each check takes much memory on purpose."""

import asyncio
import secrets
from typing import Final

import msgspec

from nixmill.core.account import PASSWORD_MAX, User
from nixmill.doors.server import Accounts
from nixmill.engine import passwords
from nixmill.web.finding import find_user

AT_ONCE: Final = 2
"""Checks at the same time, 64 MiB each."""
_GENERATED_BYTES: Final = 15


class Passwords:
    """Checks and makes hashes."""

    def __init__(self, accounts: Accounts) -> None:
        """Look into accounts."""
        self._accounts = accounts
        self._places = asyncio.Semaphore(AT_ONCE)

    async def owner(self, name: str, password: str) -> User | None:
        """Return whose name and password these are. It takes as long whether or not there is such a user."""
        user = await find_user(self._accounts, name)
        hashed = user.password_hash if user is not None else ""
        if not await self.fits(hashed, password):
            return None
        if user is not None and passwords.needs_rehash(hashed) and not user.disabled:
            await self._hash_again(user, password)
        return user

    async def fits(self, hashed: str, password: str) -> bool:
        """Say whether a password is the one that was hashed; never where `hashed` is empty."""
        async with self._places:
            return await asyncio.to_thread(passwords.verify, hashed, password[: PASSWORD_MAX + 1])

    async def hash(self, password: str) -> str:
        """Return the hash of a password."""
        async with self._places:
            return await asyncio.to_thread(passwords.hash_password, password)

    async def _hash_again(self, user: User, password: str) -> None:
        """Hash with today's parameters; as every change of a password it ends the user's other sessions."""
        await self._accounts.save_user(msgspec.structs.replace(user, password_hash=await self.hash(password)))


def generated() -> str:
    """Return a password that nobody can guess, to be shown once."""
    return secrets.token_urlsafe(_GENERATED_BYTES)
