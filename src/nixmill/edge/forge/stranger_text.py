"""Text of forges, made fit to be kept."""

from nixmill.core.forge import TEXT_MAX


def kept(text: str, limit: int = TEXT_MAX) -> str:
    """Return at most `limit` characters of a stranger's text, without NUL, which no database column takes."""
    return text.replace("\0", "")[:limit]


def kept_bytes(text: str, limit: int) -> str:
    """Return as much of a stranger's text as fits into `limit` bytes of UTF-8, without NUL."""
    return text.replace("\0", "").encode(errors="replace")[:limit].decode(errors="ignore")
