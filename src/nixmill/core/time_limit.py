"""Until when something is to hold, as people write it: `30d`, `12h`, `2027-01-31`. Pure: `now` is given."""

import datetime as dt
import re
from typing import Final

from nixmill.core.errors import InputError

_LENGTH: Final = re.compile(r"([1-9][0-9]{0,4})\s*([hdwy])")
_SECONDS: Final = {"h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0, "y": 365 * 86_400.0}
_YEARS_MAX: Final = 100


def until(text: str, now: float) -> float | None:
    """Return the instant, in seconds since 1970; None for an empty text: without an end.

    A date means its end in UTC. Raises `InputError` for what is neither, is past, or is more than a century away.
    """
    said = text.strip().lower()
    if not said:
        return None
    at = _instant(said, now)
    if at is None:
        raise InputError(f"{text[:40]!r} is no time.", "Write 12h, 30d, 8w, 1y, or a date such as 2027-01-31.")
    if not now < at < now + _YEARS_MAX * _SECONDS["y"]:
        when = "past" if at <= now else "more than a century away"
        raise InputError(f"{text[:40]!r} is {when}.", "Leave it out to keep something until it is unpinned.")
    return at


def _instant(said: str, now: float) -> float | None:
    if (length := _LENGTH.fullmatch(said)) is not None:
        return now + int(length[1]) * _SECONDS[length[2]]
    try:
        day = dt.date.fromisoformat(said)
        end = dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    return end.timestamp()
