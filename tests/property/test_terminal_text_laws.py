"""Laws of making text harmless, for any text."""

import re

import pyte
from hypothesis import given
from hypothesis import strategies as st

from nixmill.core.terminal_text import SGR, pad, sanitise, strip_ansi, truncate, truncate_start, width

_ESCAPES = [
    "\x1b",
    "\x1b[",
    "\x1b]",
    "\x1b[31m",
    "\x1b[0m",
    "\x1b[8m",
    "\x1b[2J",
    "\x1b[G",
    "\x07",
    "\x9b",
    "\x9c",
    "\x1b\\",
]
_PARTS = [
    "m",
    "[31m",
    "0;",
    "::set-output",
    "x" * 30,
    "\r",
    "\n",
    "\t",
    "\b",
    "漢",
    "e\u0301",
    "\u202e",
    "\udc80",
    "👩\u200d👧",
]
NASTY = st.sampled_from([*_ESCAPES, *_PARTS])
TEXT = st.lists(NASTY | st.text(max_size=5), max_size=30).map("".join)
LIMIT = st.integers(min_value=20, max_value=80)


@given(TEXT, st.booleans(), LIMIT)
def test_no_escape_but_colours_is_left(text: str, colour: bool, limit: int) -> None:  # noqa: FBT001 (hypothesis gives it)
    bare = SGR.sub("", sanitise(text, colour=colour, limit=limit))
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]", bare)


@given(TEXT, st.booleans(), LIMIT)
def test_sanitising_twice_changes_nothing_more(text: str, colour: bool, limit: int) -> None:  # noqa: FBT001
    once = sanitise(text, colour=colour, limit=limit)
    assert sanitise(once, colour=colour, limit=limit) == once


@given(TEXT, LIMIT)
def test_a_line_never_exceeds_its_limit(text: str, limit: int) -> None:
    assert len(strip_ansi(sanitise(text, limit=limit))) <= limit


@given(TEXT)
def test_colours_are_reset_and_the_cursor_stays_on_its_line(text: str) -> None:
    screen = pyte.Screen(4000, 3)
    pyte.Stream(screen).feed(sanitise(text))
    assert screen.cursor.y == 0
    assert screen.cursor.attrs == screen.default_char


@given(TEXT, st.integers(min_value=0, max_value=50))
def test_truncated_text_fits_and_padded_text_fills(text: str, columns: int) -> None:
    harmless = sanitise(text)
    assert width(truncate(harmless, columns)) <= columns
    assert width(pad(harmless, columns)) == columns
    assert width(truncate_start(sanitise(text, colour=False), columns)) <= columns


@given(st.text(alphabet=st.characters(codec="ascii", categories=["L", "N", "P"]), max_size=60))
def test_plain_text_is_left_alone(text: str) -> None:
    assert sanitise(text) == text
