"""Which part of an object a request wants: `Range` and conditions of RFC 9110, for one range of bytes.

Several ranges at once, other units and what makes no sense are answered with the whole, as the standard allows.
"""

import re
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

_RANGE: Final = re.compile(r"bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*", re.IGNORECASE)


class Part(msgspec.Struct, frozen=True):
    """Bytes from `start`, `length` of them; `whole` says that this is everything, asked for as such."""

    start: int
    length: int
    whole: bool = True


def wanted(headers: Mapping[str, str], size: int, etag: str) -> Part | None:
    """Return the part that is wanted; None where the range lies outside (416)."""
    everything = Part(0, size)
    text = headers.get("range")
    condition = headers.get("if-range")
    if text is None or (condition is not None and condition != etag):
        return everything
    found = _RANGE.fullmatch(text)
    if found is None or found[1] == found[2] == "":
        return everything
    if not found[1]:
        return _last(int(found[2]), size)
    start = int(found[1])
    end = int(found[2]) + 1 if found[2] else size
    if end <= start:
        # `5-3` is no range; `5-` of what has five bytes is one that lies outside.
        return everything if found[2] else None
    return Part(start, min(end, size) - start, whole=False) if start < size else None


def _last(count: int, size: int) -> Part | None:
    """Return the last bytes; of nothing, or nothing of something, there is no last byte."""
    length = min(count, size)
    return Part(size - length, length, whole=False) if length else None


def condition(headers: Mapping[str, str], etag: str) -> Literal[200, 304, 412]:
    """Return 304 where the client has this already, 412 where it wants only something that this is not."""
    match = headers.get("if-match")
    if match is not None and not _names(match, etag, weak=False):
        return 412
    none_match = headers.get("if-none-match")
    return 304 if none_match is not None and _names(none_match, etag, weak=True) else 200


def _names(text: str, etag: str, *, weak: bool) -> bool:
    """Say whether a list of tags (or `*`) names this one. Our tags hold no commas."""
    tags = [tag.strip() for tag in text.split(",")]
    return bool(etag) and ("*" in tags or etag in [tag.removeprefix("W/") if weak else tag for tag in tags])
