"""Who somebody is at a sign-in provider, and the secrets of one sign-in."""

import secrets

import msgspec

from nixmill.core.account import Identity


class Proven(msgspec.Struct, frozen=True, kw_only=True):
    """Who somebody is at a provider; `name` and `email` are only what it calls them."""

    identity: Identity
    name: str
    email: str


def new_secret() -> str:
    """Return a nonce, or a verifier for PKCE (43 to 128 characters)."""
    return secrets.token_urlsafe(48)
