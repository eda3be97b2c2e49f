"""Paths made into objects of a cache: the NAR compressed, both hashed, and what it holds noted.

Whatever the store says of a path has to be true of its NAR, or the path is not published: its files were changed.
Small paths are packed many at a time in memory; large ones pass through a file piece by piece.
"""

import asyncio
import hashlib
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import msgspec

from nixmill.doors import DoorError
from nixmill.edge.binary_cache import names
from nixmill.edge.binary_cache.dump import Dump
from nixmill.nix import nar_listing
from nixmill.nix.hashes import base32
from nixmill.nix.nar_listing import Listener, Node
from nixmill.nix.narinfo import NarInfo
from nixmill.nix.path_info import PathInfo
from nixmill.nix.wire import ProtocolError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SMALL_MAX: Final = 1024 * 1024
"""Largest NAR that is packed in memory."""
FEED_BYTES: Final = 256 * 1024
"""What is gathered of a NAR that comes over a connection before a thread is woken for it."""
MANY_THREADS_FROM: Final = 64 * 1024 * 1024
"""From this size on one archive is compressed by several threads."""
THREADS: Final = min(os.cpu_count() or 1, 4)
_MODE: Final = 0o600
_Data: TypeAlias = bytes | bytearray


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A path that can be published."""

    narinfo: NarInfo
    archive: bytes | Path
    """Its bytes, or a file of them, which belongs to whoever gets this."""
    listing: bytes | None
    """As JSON; None where JSON has no words for it."""
    debug_files: tuple[tuple[str, str], ...] = ()
    """Build ids with `.debug`, and where the files are within the path."""


class Fault(msgspec.Struct, frozen=True):
    """Why a path cannot be published, as a sentence."""

    info: PathInfo
    reason: str


class _Sink(Protocol):
    def write(self, data: bytes, /) -> object: ...


class _Memory:
    """Collects an archive."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        self.data = self.data + data if self.data else data


class _Press:
    """Takes one NAR piece by piece, and writes it compressed. For one thread at a time."""

    def __init__(self, compressor: "zstd.ZstdCompressor", info: PathInfo, sink: _Sink) -> None:
        self._zstd = compressor
        self._info = info
        self._sink = sink
        self._nar = hashlib.sha256()
        self._file = hashlib.sha256()
        self._size = 0
        self._file_size = 0
        compressor.set_pledged_input_size(info.nar_size)

    def feed(self, piece: _Data) -> None:
        """Take a piece; once more comes than the store said, nothing is kept of it."""
        self._nar.update(piece)
        self._size += len(piece)
        if self._size <= self._info.nar_size:
            self._write(self._zstd.compress(piece))

    def end(self) -> NarInfo:
        """Return what there is to say of the path; raise `ValueError` where the NAR is not what the store said."""
        if self._size != self._info.nar_size or f"sha256:{self._nar.hexdigest()}" != self._info.nar_hash:
            raise ValueError(
                f"Its files are not what was registered ({self._size:,} bytes of NAR with SHA-256 "
                f"{base32(self._nar.digest())}): the store is corrupt. Type: nix store repair {self._info.path}"
            )
        self._write(self._zstd.flush())
        digest = self._file.digest()
        return NarInfo(
            info=self._info,
            url=names.archive_name(digest),
            compression="zstd",
            file_hash=f"sha256:{base32(digest)}",
            file_size=self._file_size,
        )

    def _write(self, data: bytes) -> None:
        if data:
            self._file.update(data)
            self._file_size += len(data)
            self._sink.write(data)


class Packer:
    """Packs at one level of zstd. Files of large archives are made in `scratch`, a directory that exists by then."""

    def __init__(self, level: int, scratch: Path) -> None:
        """Keep no threads: whoever calls decides where the work is done."""
        self._level = level
        self.scratch = scratch

    def pack_small(self, items: Iterable[tuple[PathInfo, Path]]) -> list[Packed | Fault]:
        """Pack paths that stand on this machine, in memory. Blocks."""
        compressor = self._compressor()
        done: list[Packed | Fault] = []
        for info, place in items:
            sink = _Memory()
            packed = _pack(_Press(compressor, info, sink), info, place)
            if isinstance(packed, Fault):
                compressor = self._compressor()  # the one before may be in the middle of a frame
                done.append(packed)
            else:
                done.append(_packed(packed[0], sink.data, packed[1]))
        return done

    def pack_large(self, info: PathInfo, place: Path) -> Packed | Fault:
        """Pack a path that stands on this machine, into a file. Blocks; raises `OSError` where that cannot be made."""
        file = self._file()
        with file.open("wb") as sink:
            packed = _pack(_Press(self._compressor(info.nar_size), info, sink), info, place)
        if isinstance(packed, Fault):
            file.unlink()
            return packed
        return _packed(packed[0], file, packed[1])

    async def pack_stream(self, info: PathInfo, pieces: AsyncIterator[bytes]) -> Packed | Fault:
        """Pack a path whose NAR comes from elsewhere, into a file."""
        file = self._file()
        packed: Packed | Fault | None = None
        try:
            with file.open("wb") as sink:
                packed = await self._stream(info, pieces, sink, file)
            return packed
        finally:
            if not isinstance(packed, Packed):
                file.unlink(missing_ok=True)

    async def _stream(self, info: PathInfo, pieces: AsyncIterator[bytes], sink: _Sink, file: Path) -> Packed | Fault:
        press = _Press(self._compressor(info.nar_size), info, sink)
        listener = Listener()
        try:
            async for piece in _gathered(pieces):
                await asyncio.to_thread(_feed, press, listener, piece)
            narinfo = await asyncio.to_thread(press.end)
        except (ValueError, ProtocolError, DoorError) as error:
            return Fault(info, str(error))
        if listener.root is None:
            return Fault(info, "Its NAR ends in the middle.")
        return _packed(narinfo, file, listener.root)

    def _compressor(self, size: int = 0) -> "zstd.ZstdCompressor":
        parameter = zstd.CompressionParameter
        options: dict[int, int] = {parameter.compression_level: self._level, parameter.checksum_flag: 1}
        if size >= MANY_THREADS_FROM and THREADS > 1:
            options[parameter.nb_workers] = THREADS
        return zstd.ZstdCompressor(options=options)

    def _file(self) -> Path:
        """Make a file that nobody else has."""
        file = self.scratch / f"pack-{secrets.token_hex(12)}"
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE))
        return file


def discard(packed: Sequence[Packed | Fault]) -> None:
    """Delete files of archives that nobody took over. Blocks."""
    for one in packed:
        if isinstance(one, Packed) and isinstance(one.archive, Path):
            one.archive.unlink(missing_ok=True)


def _pack(press: _Press, info: PathInfo, place: Path) -> tuple[NarInfo, Node] | Fault:
    dump = Dump(os.fsencode(place))
    try:
        for piece in dump.pieces():
            press.feed(piece)
    except OSError as error:
        return Fault(info, f"It could not be read from the store: {error.strerror or error}.")
    try:
        narinfo = press.end()
    except ValueError as error:
        return Fault(info, str(error))
    assert dump.root is not None  # noqa: S101 - all pieces were taken
    return narinfo, dump.root


def _packed(narinfo: NarInfo, archive: bytes | Path, root: Node) -> Packed:
    return Packed(
        narinfo=narinfo,
        archive=archive,
        listing=nar_listing.to_json(root),
        debug_files=tuple(nar_listing.debug_files(root)),
    )


def _feed(press: _Press, listener: Listener, piece: bytes) -> None:
    press.feed(piece)
    listener.feed(piece)


async def _gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    buffer = bytearray()
    async for piece in pieces:
        buffer += piece
        if len(buffer) >= FEED_BYTES:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)
