"""Answers that are asked for again and again, kept with their ETag in bounded space."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

BYTES_MAX: Final = 32 * 1024 * 1024
"""Of all answers together."""


class Kept(NamedTuple):
    """An answer."""

    etag: str
    headers: Mapping[str, str]
    body: bytes


class Memory:
    """The answers used last."""

    def __init__(self, limit: int = BYTES_MAX) -> None:
        """Keep at most `limit` bytes of bodies."""
        self._limit = limit
        self._size = 0
        self._kept: OrderedDict[tuple[str, str], Kept] = OrderedDict()

    def get(self, key: tuple[str, str]) -> Kept | None:
        """Return an answer."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def put(self, key: tuple[str, str], kept: Kept) -> None:
        """Keep an answer, and forget those that were not used for longest."""
        old = self._kept.pop(key, None)
        self._size += len(kept.body) - (len(old.body) if old is not None else 0)
        self._kept[key] = kept
        while self._size > self._limit:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone.body)
