"""Sign-ins elsewhere that are under way: kept here, not in the browser, bounded, and good for one use."""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec

from nixmill.core.account import Identity

LIFE_S: Final = 10 * 60.0
"""How long somebody may take at the other side."""
MOST: Final = 5_000
T = TypeVar("T")


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody was sent to a provider."""

    provider: str
    nonce: str
    verifier: str
    """Of PKCE: the provider saw only its hash."""
    then: str
    """Where they are sent afterwards, a path of this site."""
    user: int | None
    """Who was signed in and wants the identity added to their account."""


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A proven identity that waits for its owner's word to be added to an account."""

    identity: Identity
    user: int
    label: str
    """What the provider calls them."""


class Kept(Generic[T]):
    """Things under random keys, each taken out once."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Begin empty."""
        self._now = monotonic
        self._things: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def keep(self, thing: T) -> str:
        """Keep a thing; return its key. The oldest make room."""
        key = secrets.token_urlsafe(32)
        self._things[key] = (self._now() + LIFE_S, thing)
        while len(self._things) > MOST:
            self._things.popitem(last=False)
        return key

    def take(self, key: str) -> T | None:
        """Take a thing out; None where it is not there, or too old."""
        until, thing = self._things.pop(key, (0.0, None))
        return thing if thing is not None and self._now() < until else None


class Flows:
    """What is under way."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Begin with nothing."""
        self.away: Kept[Flow] = Kept(monotonic)
        self.pending: Kept[Pending] = Kept(monotonic)
