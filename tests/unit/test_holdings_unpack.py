"""Archives unpacked piece by piece, and held to what was announced."""

import bz2
import gzip
import hashlib
import lzma
import sys
from collections.abc import Callable

import pytest

from nixmill.edge.binary_cache.holdings_unpack import PIECE_BYTES, ArchiveError, UnknownCompressionError, Unpacking
from nixmill.nix.narinfo import NarInfo, base32
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

NAR = bytes(range(256)) * 5000
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "zstd": zstd.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "gzip": gzip.compress,
}


def announced(archive: bytes, compression: str, nar: bytes = NAR, *, sized: bool = True) -> NarInfo:
    return NarInfo(
        info=PathInfo(
            path=StorePath("/nix/store/00000000000000000000000000000000-x"),
            deriver=None,
            nar_hash="sha256:" + hashlib.sha256(nar).hexdigest(),
            nar_size=len(nar),
            references=(),
        ),
        url="nar/x",
        compression=compression,
        file_hash=base32("sha256:" + hashlib.sha256(archive).hexdigest()) if sized else "",
        file_size=len(archive) if sized else 0,
    )


def unpacked(narinfo: NarInfo, archive: bytes, step: int = 1 << 20) -> bytes:
    unpacking = Unpacking(narinfo)
    pieces = [p for at in range(0, len(archive), step) for p in unpacking.pieces(archive[at : at + step])]
    unpacking.finish()
    assert all(0 < len(piece) <= max(PIECE_BYTES, step) for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("step", [7, 4096, 1 << 20])
def test_what_was_packed_comes_out_however_it_is_cut(compression: str, step: int) -> None:
    nar = NAR[: step * 300]
    archive = PACKED[compression](nar)
    assert unpacked(announced(archive, compression, nar), archive, step) == nar


@pytest.mark.parametrize("compression", ["zstd", "xz", "bzip2", "gzip"])
def test_streams_may_follow_each_other(compression: str) -> None:
    archive = PACKED[compression](NAR[:70_000]) + PACKED[compression](NAR[70_000:])
    assert unpacked(announced(archive, compression), archive) == NAR


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("lost", [1, 30])
def test_an_archive_that_is_cut_short_is_none(compression: str, lost: int, *, sized: bool) -> None:
    archive = PACKED[compression](NAR)
    with pytest.raises(ArchiveError):
        unpacked(announced(archive, compression, sized=sized), archive[:-lost])


@pytest.mark.parametrize("compression", PACKED)
def test_other_contents_of_the_same_size_are_refused(compression: str) -> None:
    archive = PACKED[compression](NAR[::-1])
    with pytest.raises(ArchiveError, match="contents with another hash"):
        unpacked(announced(archive, compression), archive)


@pytest.mark.parametrize("compression", ["zstd", "xz", "bzip2", "gzip"])
def test_a_bomb_stops_where_its_contents_were_said_to_end(compression: str) -> None:
    archive = PACKED[compression](bytes(30_000_000))
    unpacking = Unpacking(announced(archive, compression, bytes(1000)))
    with pytest.raises(ArchiveError, match="contents longer than the 1000 bytes"):
        list(unpacking.pieces(archive))


def test_an_archive_of_nothing_does_not_go_on_for_ever() -> None:
    unpacking = Unpacking(announced(b"", "zstd", sized=False))
    with pytest.raises(ArchiveError, match="streams with next to nothing in them"):
        list(unpacking.pieces(zstd.compress(b"") * 2000))


def test_a_compression_that_is_not_read_is_said_to_be() -> None:
    with pytest.raises(UnknownCompressionError, match="'br', which is not read"):
        Unpacking(announced(b"", "br"))
