"""How long a server wants to be left alone, as `Retry-After` says it: seconds or a date (RFC 9110 10.2.3)."""

from email.utils import parsedate_to_datetime


def retry_after_s(value: str, now: float) -> float | None:
    """Return the seconds that the value of a header asks for, at least 0; None where it has no meaning."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
