"""Words in the message of a commit by which its author asks that nothing be run.

    [skip ci]  [ci skip]  [no ci]              anywhere, in any case: GitHub, GitLab, Gitea and many others
    [skip nixmill]  [nixmill skip]             the same, for this server alone
    skip-checks: true                          the last trailer, in a last paragraph after two empty lines

What follows from it is decided elsewhere. Source: GitHub Docs, "Skipping workflow runs" (the trailer's two empty lines
are theirs; git-interpret-trailers(1) wants one); GitLab Docs, "Skip a pipeline".
"""

import re
from typing import Final

_MARKER: Final = re.compile(r"\[(?:skip ci|ci skip|no ci|skip nixmill|nixmill skip)\]", re.IGNORECASE | re.ASCII)
_TRAILER: Final = "skip-checks: true"
_LAST_TRAILER: Final = re.compile(r"skip-checks:[ \t]*true", re.IGNORECASE | re.ASCII)
_ANY_TRAILER: Final = re.compile(r"[A-Za-z0-9-]+[ \t]*:.*|[ \t].*")
"""Or a line that goes on with the one before."""


def skips(message: str) -> str | None:
    """Return the marker by which a whole commit message asks to be skipped, in small letters; None where none does."""
    found = _MARKER.search(message)
    if found:
        return found[0].lower()
    return _TRAILER if _has_trailer([line.rstrip() for line in message.rstrip().split("\n")]) else None


def _has_trailer(lines: list[str]) -> bool:
    """Say whether the last paragraph is one of trailers, ends with ours, and follows upon two empty lines."""
    start = next((number for number in range(len(lines), 0, -1) if not lines[number - 1]), 0)
    paragraph = lines[start:]
    return (
        bool(paragraph)
        and start > 2
        and not lines[start - 2]
        and _LAST_TRAILER.fullmatch(paragraph[-1]) is not None
        and all(_ANY_TRAILER.fullmatch(line) for line in paragraph)
    )
