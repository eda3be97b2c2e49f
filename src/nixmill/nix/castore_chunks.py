"""Large blobs in chunks: where they are cut, and the list of a blob's chunks.

A cut depends on the bytes around it alone, so that what is inserted into a file changes the chunks around it and no
others. Candidates are found by a pattern that occurs every few hundred bytes in programs and in text; of these, one in
2¹¹ by the checksum of what stands before it is a cut. That is no rolling hash, but all of it runs in C. How to cut is
nobody's business but the writer's: a blob's name does not depend on it. Figures: `docs/decisions/018`.
"""

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from nixmill.nix.castore import DIGEST_BYTES, CastoreError, digest

CHUNK_BYTES_MIN: Final = 128 * 1024
CHUNK_BYTES_MAX: Final = 512 * 1024
"""A blob up to this size is not cut."""
_WINDOW: Final = 32
_MASK: Final = (1 << 11) - 1
_CANDIDATE: Final = re.compile(rb"[\x48-\x4b][\x80-\x8f]|\n[a-d]|\x00[\xc0-\xdf]")
_SIZE_BYTES: Final = 4
_RECORD: Final = DIGEST_BYTES + _SIZE_BYTES


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """A blob that is a part of another."""

    digest: bytes
    size: int


class Cutter:
    """Cuts one blob as its bytes come by."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._data = bytearray()

    def add(self, data: bytes) -> Iterator[bytes]:
        """Yield the chunks that are certain with `data`."""
        self._data += data
        at = 0
        while len(self._data) - at > CHUNK_BYTES_MAX:
            end = _cut(self._data, at)
            yield bytes(memoryview(self._data)[at:end])
            at = end
        if at:
            del self._data[:at]

    def rest(self) -> Iterator[bytes]:
        """Yield what is left at the end of the blob."""
        if self._data:
            yield bytes(self._data)
            self._data.clear()


def _cut(data: bytearray, at: int) -> int:
    end = at + CHUNK_BYTES_MAX
    with memoryview(data) as view:
        for match in _CANDIDATE.finditer(data, at + CHUNK_BYTES_MIN, end):
            place = match.end()
            if not zlib.crc32(view[place - _WINDOW : place]) & _MASK:
                return place
    return end


def encode(chunks: Iterable[Chunk]) -> bytes:
    """Return the list of a blob's chunks, in order, with a digest of its own in front."""
    data = b"".join(chunk.digest + chunk.size.to_bytes(_SIZE_BYTES, "little") for chunk in chunks)
    return digest(data) + data


def decode(data: bytes, size: int) -> Sequence[Chunk]:
    """Read the list of the chunks of a blob of `size` bytes; raise `CastoreError` where it is damaged or not of it."""
    own, records = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    if len(records) % _RECORD or digest(records) != own:
        raise CastoreError("The list of a blob's chunks is damaged.")
    chunks = [_chunk(records[at : at + _RECORD]) for at in range(0, len(records), _RECORD)]
    if sum(chunk.size for chunk in chunks) != size or not all(0 < chunk.size <= CHUNK_BYTES_MAX for chunk in chunks):
        raise CastoreError(f"The chunks of a blob do not make up its {size} bytes.")
    return chunks


def _chunk(record: bytes) -> Chunk:
    return Chunk(record[:DIGEST_BYTES], int.from_bytes(record[DIGEST_BYTES:], "little"))
