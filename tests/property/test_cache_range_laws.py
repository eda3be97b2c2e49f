"""A range of an object is the same slice that Python would take; conditions are those of RFC 9110."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixmill.web.cache_range import Part, condition, wanted

TAG = '"abc"'
NUMBER = st.integers(0, 30)


def model(text: str, data: bytes) -> bytes | None:
    """Return what RFC 9110 says of a well-formed range; None for one that cannot be satisfied."""
    first, last = text.removeprefix("bytes=").split("-")
    if not first:
        return data[-int(last) :] if int(last) and data else None
    if int(first) >= len(data):
        return None
    return data[int(first) : int(last) + 1 if last else None]


@given(size=NUMBER, first=NUMBER | st.none(), last=NUMBER | st.none())
def test_a_range_is_a_slice(size: int, first: int | None, last: int | None) -> None:
    data = bytes(range(size))
    text = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    part = wanted({"range": text}, size, TAG)
    no_range = (first is None and last is None) or (first is not None and last is not None and last < first)
    if no_range:
        assert part == Part(0, size)
    elif (expected := model(text, data)) is None:
        assert part is None
    else:
        assert part is not None
        assert not part.whole
        assert data[part.start : part.start + part.length] == expected


@given(text=st.text(max_size=30), size=NUMBER)
def test_nonsense_gets_the_whole_or_416_and_never_more_than_there_is(text: str, size: int) -> None:
    for header in (text, f"bytes={text}"):
        part = wanted({"range": header}, size, TAG)
        assert part is None or (part.start >= 0 and part.start + part.length <= size)


@pytest.mark.parametrize(
    "text", ["bytes=0-1,3-4", "lines=0-1", "bytes", "bytes=a-b", "bytes=--1", "bytes=1-" + "9" * 40]
)
def test_what_is_not_one_range_of_bytes_gets_the_whole(text: str) -> None:
    assert wanted({"range": text}, 10, TAG) == Part(0, 10)


@pytest.mark.parametrize(("condition_text", "whole"), [(TAG, False), ('"other"', True), ("W/" + TAG, True)])
def test_a_range_counts_only_of_the_object_it_was_begun_with(condition_text: str, whole: bool) -> None:  # noqa: FBT001 - a table
    part = wanted({"range": "bytes=2-", "if-range": condition_text}, 10, TAG)
    assert part == (Part(0, 10) if whole else Part(2, 8, whole=False))


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, 200),
        ({"if-none-match": TAG}, 304),
        ({"if-none-match": f'"x", W/{TAG}'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, 200),
        ({"if-match": TAG}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": '"x"'}, 412),
        ({"if-match": f"W/{TAG}"}, 412),
        ({"if-match": '"x"', "if-none-match": TAG}, 412),
    ],
)
def test_conditions(headers: dict[str, str], code: int) -> None:
    assert condition(headers, TAG) == code


def test_what_has_no_tag_matches_nothing() -> None:
    assert condition({"if-none-match": "*"}, "") == 200
