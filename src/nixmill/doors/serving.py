"""The doors of what is served to Nix over HTTP: a binary cache as whoever downloads from it sees it.

The rules of `nixmill.doors` hold.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import msgspec

from nixmill.nix.store_path import DEFAULT_STORE_DIR

Slice = Callable[[int, int], AsyncIterator[bytes]]
"""Yields `length` bytes from byte `start` on; raises `DoorError` where it cannot."""


class CacheInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a cache says of itself."""

    store_dir: str = DEFAULT_STORE_DIR
    priority: int = 40
    """Smaller is asked first; cache.nixos.org has 40."""
    private: bool = False
    """Whether reading needs a token."""


class ServedObject(msgspec.Struct, frozen=True, kw_only=True):
    """One object of a cache, opened."""

    size: int
    """Bytes. Of a file, what it has once it is opened counts."""
    media_type: str
    content: bytes | Path | Slice
    """The bytes themselves, a file of exactly these bytes, or how to read a part."""
    etag: str = ""
    """Letters and digits that stand for these bytes and no others; empty: made from the bytes, or from the file's
    size and times. A slice without one cannot be resumed."""
    immutable: bool = False
    """Whether the name will never stand for other bytes."""


class Served(Protocol):
    """A cache to read from."""

    @property
    def info(self) -> CacheInfo:
        """What it says of itself."""

    async def open(self, name: str) -> ServedObject | None:
        """Return an object by its name (`HASH.narinfo`, `nar/…`, `HASH.ls`, `log/NAME.drv`, `realisations/….doi`).

        None where it is not there now; no such answer is remembered. `DoorError`: it cannot be told now.
        """
