"""How often something may be tried: in memory, bounded, forgotten when the server restarts."""

import ipaddress
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Final

WINDOW_S: Final = 15 * 60.0
KEYS_MAX: Final = 20_000
"""Keys that are remembered; beyond them those untouched for longest are forgotten."""


class RateLimit:
    """Counts tries by key in a sliding window.

    A try counts from the moment it begins, so that many at once are no way round; a good one is taken back.
    """

    def __init__(self, tries: int, monotonic: Callable[[], float], window_s: float = WINDOW_S) -> None:
        """Allow `tries` in `window_s` seconds."""
        self._tries = tries
        self._now = monotonic
        self._window = window_s
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def take(self, keys: Sequence[str]) -> float:
        """Count a try under each key; where one has had too many, count nothing and return the seconds to wait."""
        now = self._now()
        wait = max((self._wait(key, now) for key in keys), default=0.0)
        if wait <= 0:
            for key in keys:
                self._seen.setdefault(key, deque()).append(now)
                self._seen.move_to_end(key)
        while len(self._seen) > KEYS_MAX:
            self._seen.popitem(last=False)
        return max(wait, 0.0)

    def give_back(self, keys: Sequence[str]) -> None:
        """Take back the newest try under each key: it was a good one."""
        for key in keys:
            seen = self._seen.get(key)
            if seen:
                seen.pop()
            if not seen:
                self._seen.pop(key, None)

    def _wait(self, key: str, now: float) -> float:
        seen = self._seen.get(key, deque())
        while seen and seen[0] <= now - self._window:
            seen.popleft()
        return seen[-self._tries] + self._window - now if len(seen) >= self._tries else 0.0


def keys_of(name: str, address: str) -> tuple[str, str]:
    """Return under which keys a sign-in counts: the account, and the address (of IPv6 its network of 64 bits)."""
    return f"account {name.casefold()[:64]}", f"address {_network(address)}"


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        # A proxy that takes both kinds on one socket names IPv4 so: in one network they would all share their tries.
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
