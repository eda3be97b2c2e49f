"""Laws of log files: a range is a slice of the whole, wherever frames begin; a torn file reads as a beginning."""

import io

from hypothesis import given, settings
from hypothesis import strategies as st

from nixmill.edge.zstd_frames import FRAME_BYTES, FrameCompressor, text_range

COMPRESSOR = FrameCompressor()
CHUNKS = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda piece, times: piece * times, st.binary(min_size=1, max_size=7), st.integers(0, FRAME_BYTES // 2)
        ),
    ),
    max_size=6,
)


def _file(chunks: list[bytes]) -> bytes:
    return b"".join(COMPRESSOR.frames(chunk) for chunk in chunks)


def _read(data: bytes, offset: int = 0, limit: int | None = None) -> bytes:
    return b"".join(text_range(io.BytesIO(data), offset, limit))


@settings(deadline=None)
@given(CHUNKS)
def test_what_is_written_is_read(chunks: list[bytes]) -> None:
    assert _read(_file(chunks)) == b"".join(chunks)


@settings(deadline=None)
@given(CHUNKS, st.data())
def test_a_range_is_a_slice_of_the_whole(chunks: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(chunks)
    offset = data.draw(st.integers(0, len(whole) + 10))
    limit = data.draw(st.none() | st.integers(0, len(whole) + 10))
    end = None if limit is None else offset + limit
    assert _read(_file(chunks), offset, limit) == whole[offset:end]


@settings(deadline=None)
@given(CHUNKS, st.data())
def test_a_torn_file_reads_as_a_beginning_of_the_whole(chunks: list[bytes], data: st.DataObject) -> None:
    file = _file(chunks)
    cut = data.draw(st.integers(0, len(file)))
    read = _read(file[:cut])
    assert b"".join(chunks).startswith(read)
    assert cut < len(file) or read == b"".join(chunks)
