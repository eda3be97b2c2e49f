"""When a disk will be full, from what it held before. A straight line through the samples of the last two weeks."""

from collections.abc import Sequence
from typing import Final

import msgspec

from nixmill.core.view.pages import Forecast

WINDOW_S: Final = 14 * 86_400.0
SHORTEST_S: Final = 3 * 3600.0
"""Samples closer together than this say nothing about days."""
FAR_DAYS: Final = 3650.0


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """How much was used."""

    place: str
    at: float
    used: int


def forecast(place: str, path: str, used: int, free: int, samples: Sequence[Sample]) -> Forecast:
    """Return how a place stands; `full_in_days` is None where it does not grow, or where nobody can tell yet."""
    rate = _per_second(samples)
    days = free / (rate * 86_400.0) if rate > 0 else None
    return Forecast(
        place=place,
        path=path,
        used_bytes=used,
        free_bytes=free,
        per_day_bytes=rate * 86_400.0,
        full_in_days=days if days is not None and days < FAR_DAYS else None,
    )


def _per_second(samples: Sequence[Sample]) -> float:
    """Return the slope by least squares; 0 where there are too few samples."""
    recent = [one for one in samples if one.at >= samples[-1].at - WINDOW_S] if samples else []
    if len(recent) < 2 or recent[-1].at - recent[0].at < SHORTEST_S:
        return 0.0
    at = sum(one.at for one in recent) / len(recent)
    used = sum(one.used for one in recent) / len(recent)
    above = sum((one.at - at) * (one.used - used) for one in recent)
    below = sum((one.at - at) ** 2 for one in recent)
    return above / below if below else 0.0
