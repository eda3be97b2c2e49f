"""Estimates: how long builds take, from what they took before; always shown as "about".

What it decides: which earlier builds are alike (`stem`), and how long a run may take. What it does not know:
where durations are kept (`nixmill.core.history`).
"""

import statistics
from collections.abc import Collection
from typing import Final

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0

KNOWN_SHARE_MIN: Final = 0.5
"""Below this share of builds with a history, nothing is said about the whole: a wrong number is worse than none."""


def stem(name: str) -> str:
    """Return a derivation's name without its version, `hello` for `hello-2.12`: what builds are compared by.

    The rule of nix-output-monitor: trailing digits, dots and dashes go, unless nothing would be left.
    """
    return name.rstrip(".0123456789-") or name


def median(seconds: Collection[float]) -> float | None:
    """Return the median duration; None where there is none."""
    return statistics.median(seconds) if seconds else None


def run_s(*, longest_chain_s: float, work_s: float, capacity: float, known: int, total: int) -> float | None:
    """Estimate the seconds until all builds are done; None where too little is known.

    `work_s` is the sum over the `known` of `total` builds; `capacity` how many run at once, weighted by speed.
    """
    if total == 0:
        return 0.0
    if known < KNOWN_SHARE_MIN * total or capacity <= 0:
        return None
    return max(longest_chain_s, work_s * total / known / capacity)


def span(seconds: float) -> str:
    """Return a duration in words as people say it: `12 s`, `4 min`, `2 h 5 min`."""
    if round(seconds) < MINUTE_S:
        return f"{max(0, round(seconds))} s"
    minutes = round(seconds / MINUTE_S)
    if minutes * MINUTE_S < HOUR_S:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"
