"""How long a forge wants to be left alone, read from the headers of a refusal.

Sources: GitHub's "Rate limits for the REST API" (403 or 429; `x-ratelimit-remaining: 0` with `x-ratelimit-reset`, or
`Retry-After`; a secondary limit without either: a minute), GitLab's "Rate limits" (429, `Retry-After`,
`RateLimit-Reset` in seconds since 1970), RFC 9110 10.2.3.
"""

from collections.abc import Mapping
from typing import Final

from nixmill.edge.retry_after import retry_after_s

WAIT_MAX_S: Final = 86_400.0
"""Longest time that a forge can make us wait."""
WAIT_S: Final = 60.0
"""Where a limit is reached and no time named."""
_RESETS: Final = ("x-ratelimit-reset", "ratelimit-reset")
_REMAINING: Final = ("x-ratelimit-remaining", "ratelimit-remaining")


def wait_s(status: int, headers: Mapping[str, str], said: str, now: float) -> float | None:
    """Return the seconds to wait, at least 1; None where a refusal has nothing to do with limits."""
    named = retry_after_s(headers.get("retry-after", ""), now)
    if status not in {403, 429}:
        return _bounded(named) if status in {502, 503, 504} and named is not None else None
    if named is not None:
        return _bounded(named)
    if any(headers.get(name) == "0" for name in _REMAINING) or (status == 429 and _reset(headers) is not None):
        reset = _reset(headers)
        return _bounded(WAIT_S if reset is None else reset - now)
    return WAIT_S if status == 429 or "rate limit" in said.lower() or "abuse" in said.lower() else None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 1.0), WAIT_MAX_S)


def _reset(headers: Mapping[str, str]) -> float | None:
    for name in _RESETS:
        value = headers.get(name, "")
        if value.isascii() and value.isdigit():
            return float(value[:12])
    return None
