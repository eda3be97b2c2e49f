"""Archives of caches unpacked as they come, and held to what their narinfo says.

Whatever comes is bounded by the narinfo: no more is read than the archive's size, no more unpacked than the NAR's, and
never more than a piece at a time, so that neither an endless body nor a bomb takes memory.
"""

import bz2
import hashlib
import lzma
import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from nixmill.nix.narinfo import NarInfo, base32

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES: Final = 256 * 1024
"""Largest piece handed on, of a compressed archive."""
XZ_MEMORY_MAX: Final = 512 * 1024 * 1024
"""What an xz archive may demand; `xz -9` takes 65 MiB."""
STREAMS_MAX: Final = 1000
STREAM_BYTES: Final = 4096
"""An archive may be so many streams (`pzstd`), and one more for so many bytes of its contents."""
_SLACK: Final = 1024 * 1024
"""An archive without an announced size may be so much larger than twice its NAR."""
_FAULTS: Final = (zstd.ZstdError, lzma.LZMAError, zlib.error, OSError, ValueError, EOFError, MemoryError)


class ArchiveError(Exception):
    """The archive is not what the narinfo says; the message ends a sentence that begins with "it delivered"."""


class UnknownCompressionError(ArchiveError):
    """The archive is compressed in a way that nixmill does not read."""


class _Stream(Protocol):
    """One compressed stream."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """Makes zlib look like the others."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)
        self._more = False

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not (self._more or self._zlib.unconsumed_tail)

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        piece = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        self._more = len(piece) == max_length
        return piece


def _xz() -> _Stream:
    return lzma.LZMADecompressor(format=lzma.FORMAT_AUTO, memlimit=XZ_MEMORY_MAX)


_STREAMS: Final[dict[str, Callable[[], _Stream]]] = {
    "zstd": zstd.ZstdDecompressor,
    "xz": _xz,
    "lzma": _xz,
    "bzip2": bz2.BZ2Decompressor,
    "gzip": _Gzip,
}


class Unpacking:
    """One archive on its way. Feed it with `pieces`, then ask `finish`; both raise `ArchiveError`."""

    def __init__(self, narinfo: NarInfo) -> None:
        """Expect what `narinfo` says; raise `UnknownCompressionError` where that cannot be read."""
        self._narinfo = narinfo
        self._make = _STREAMS.get(narinfo.compression)
        if self._make is None and narinfo.compression not in {"none", ""}:
            raise UnknownCompressionError(f"an archive compressed with {narinfo.compression[:40]!r}, which is not read")
        self._stream = self._make() if self._make else None
        self._between = False
        self._streams = 0
        self._archive = hashlib.sha256()
        self._nar = hashlib.sha256()
        self._archive_bytes = 0
        self._nar_bytes = 0
        self._archive_max = narinfo.file_size or 2 * narinfo.info.nar_size + _SLACK

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Take bytes of the archive; yield what they hold, in pieces."""
        self._archive_bytes += len(data)
        if self._archive_bytes > self._archive_max:
            raise ArchiveError(f"an archive longer than the {self._archive_max} bytes it announced")
        self._archive.update(data)
        try:
            for piece in self._unpacked(data):
                self._nar_bytes += len(piece)
                if self._nar_bytes > self._narinfo.info.nar_size:
                    raise ArchiveError(f"contents longer than the {self._narinfo.info.nar_size} bytes it announced")
                self._nar.update(piece)
                yield piece
        except _FAULTS as error:
            raise ArchiveError(f"an archive that cannot be unpacked ({error})") from error

    def finish(self) -> None:
        """Judge the whole."""
        said, info = self._narinfo, self._narinfo.info
        if not self._archive_bytes:
            raise ArchiveError("no archive at all")
        if said.file_size and self._archive_bytes != said.file_size:
            raise ArchiveError(f"{self._archive_bytes} bytes of an archive of {said.file_size}")
        if self._nar_bytes != info.nar_size or (self._stream is not None and not self._between):
            raise ArchiveError(f"{self._nar_bytes} bytes of contents of {info.nar_size}")
        if said.file_hash and _differs(said.file_hash, self._archive.hexdigest()):
            raise ArchiveError("an archive with another hash than it announced")
        if _differs(info.nar_hash, self._nar.hexdigest()):
            raise ArchiveError("contents with another hash than it announced")

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        """Unpack streams, of which several may follow each other (`pzstd`, `pixz`)."""
        if self._stream is None and data:
            yield data
        while self._stream is not None and (data or not self._stream.needs_input):
            self._between = False
            piece = self._stream.decompress(data, PIECE_BYTES)
            data = b""
            if piece:
                yield piece
            if self._stream.eof:
                data = self._stream.unused_data
                self._begin_another()

    def _begin_another(self) -> None:
        """Expect another stream; refuse so many that they cannot be there for what they hold."""
        self._streams += 1
        if self._streams > STREAMS_MAX + self._nar_bytes // STREAM_BYTES:
            raise ArchiveError(f"an archive of more than {STREAMS_MAX} streams with next to nothing in them")
        self._stream = self._make() if self._make else None
        self._between = True


def _differs(said: str, found: str) -> bool:
    return base32(said) != base32(f"sha256:{found}")
