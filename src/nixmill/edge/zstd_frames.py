"""Text as a sequence of small zstd frames: appended one by one, read from any byte on.

Each frame says how long its text is, so a reader skips to a byte without decompressing what lies before it. A file
that ends within a frame (its writer was killed) is read up to the last whole frame.
Source: RFC 8878 §3.1.1; each frame carries its content size and a checksum.
"""

import sys
from collections.abc import Iterator
from typing import BinaryIO, Final

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FRAME_BYTES: Final = 64 * 1024
"""Most text of one frame: what a reader has to decompress to get at one byte."""

FRAME_SIZE_MAX: Final = 2 * FRAME_BYTES
"""More than a frame of so much text can take on disk, whatever the text."""

CHUNK_BYTES: Final = 1024 * 1024
LEVEL: Final = 3
FrameError = zstd.ZstdError


class FrameCompressor:
    """Makes frames; keeps its tables between them. For one thread at a time."""

    def __init__(self) -> None:
        """Prepare the tables once."""
        parameter = zstd.CompressionParameter
        self._zstd = zstd.ZstdCompressor(options={parameter.compression_level: LEVEL, parameter.checksum_flag: 1})

    def frames(self, text: bytes) -> bytes:
        """Return `text` as whole frames; nothing for nothing."""
        return b"".join(self._frame(text[at : at + FRAME_BYTES]) for at in range(0, len(text), FRAME_BYTES))

    def _frame(self, text: bytes) -> bytes:
        self._zstd.set_pledged_input_size(len(text))
        return self._zstd.compress(text, mode=zstd.ZstdCompressor.FLUSH_FRAME)


def whole_frames(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield each whole frame of a file with the length of its text; stop at a torn one at the end.

    Raises `FrameError` where something that is no frame stands before the end.
    """
    rest = b""
    while chunk := file.read(CHUNK_BYTES):
        rest += chunk
        at = 0
        while (frame := _first_frame(memoryview(rest)[at:])) is not None:
            yield frame, zstd.get_frame_info(frame).decompressed_size or 0
            at += len(frame)
        rest = rest[at:]
        if len(rest) > FRAME_SIZE_MAX:
            raise FrameError(f"no frame at byte {file.tell() - len(rest):,}")


def _first_frame(data: memoryview) -> bytes | None:
    try:
        return bytes(data[: zstd.get_frame_size(data)])
    except FrameError:
        return None


def text_range(file: BinaryIO, offset: int, limit: int | None) -> Iterator[bytes]:
    """Yield the text from byte `offset` on, at most `limit` bytes; raise `FrameError` where a frame is damaged."""
    end = None if limit is None else offset + limit
    at = 0
    for frame, length in whole_frames(file):
        if end is not None and at >= end:
            return
        if at + length > offset:
            text = zstd.decompress(frame)
            yield text[max(offset - at, 0) : None if end is None else end - at]
        at += length
