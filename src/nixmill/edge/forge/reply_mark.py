"""What tells an answer of ours again, so that it is given once."""

import hashlib


def mark_of(key: str) -> str:
    """Return a comment in Markdown that nobody sees; equal for equal keys."""
    return f"<!-- nixmill {hashlib.sha256(key.encode()).hexdigest()[:32]} -->"
