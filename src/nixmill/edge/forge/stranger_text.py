"""Text of forges, made fit to be kept."""

from typing import Final

from nixmill.core.forge import TEXT_MAX

COMMENT_MAX: Final = 64 * 1024
"""Bytes of a comment that are looked at."""


def kept(text: str, limit: int = TEXT_MAX) -> str:
    """Return at most `limit` characters of a stranger's text, without NUL, which no database column takes."""
    return text.replace("\0", "")[:limit]


def kept_comment(text: str) -> str:
    """Return as much of a stranger's comment as fits into `COMMENT_MAX` bytes of UTF-8, without NUL."""
    return text.replace("\0", "").encode(errors="replace")[:COMMENT_MAX].decode(errors="ignore")


def kept_commit(text: str) -> str:
    """Return the commit that a push names; empty for the zeros that stand for a ref that is gone."""
    return kept(text, 64) if text.strip("0") else ""
