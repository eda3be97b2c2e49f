"""Hashes of passwords: argon2id with the parameters of RFC 9106's second recommendation.

The one place where passwords are hashed, for the web and for `nixmill user`. A check takes some tens of
milliseconds of processor time on purpose: call it in a thread where an event loop runs.
"""

from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

_HASHER: Final = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)


def hash_password(text: str) -> str:
    """Return the hash of a password with a salt of its own, in the usual form `$argon2id$…`."""
    return _HASHER.hash(text)


def verify(hashed: str, text: str) -> bool:
    """Say whether `text` is the password; never where `hashed` is empty (somebody who signs in elsewhere) or damaged.

    An empty hash costs as much time as a real one, so that the time does not tell who has a password.
    """
    try:
        return _HASHER.verify(hashed or _nobody(), text) and bool(hashed)
    except (VerificationError, InvalidHashError):
        return False


def needs_rehash(hashed: str) -> bool:
    """Say whether a hash was made with other parameters than today's; then hash again at the next good sign-in."""
    return bool(hashed) and _HASHER.check_needs_rehash(hashed)


@cache
def _nobody() -> str:
    """Return what is compared where there is no hash."""
    return hash_password("nobody has this password")
