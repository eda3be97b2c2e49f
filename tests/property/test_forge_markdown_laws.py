"""Laws of Markdown that is made from strangers' text."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from nixmill.core.forge_markdown import BREAK, capped, cell, code, fence, text
from nixmill.core.terminal_text import sanitise

STRANGERS = st.text(
    alphabet=st.one_of(st.sampled_from("@#!/:.[]()<>`|\\*_~$%&^-0aA\n\r\x1b\u202e\u200b "), st.characters()),
    max_size=80,
)
MENTION = re.compile(r"(?<!\\)[\[<`*_|]|[@#!$%~^:]\w|://|[0-9A-Fa-f]{7}|www\.", re.ASCII)


@given(STRANGERS)
@settings(max_examples=300, deadline=None)
def test_text_has_nothing_that_a_forge_makes_something_of(stranger: str) -> None:
    made = text(stranger)
    assert "\n" not in made and "\r" not in made and "\u202e" not in made and "\x1b" not in made
    assert not MENTION.search(re.sub(r"\\\\|&(?:lt|gt|amp);", " ", made))


@given(STRANGERS)
@settings(max_examples=300, deadline=None)
def test_a_reader_sees_what_the_stranger_wrote(stranger: str) -> None:
    seen = re.sub(r"\\(.)", r"\1", text(stranger).replace(BREAK, ""))
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        seen = seen.replace(entity, sign)
    line = sanitise(stranger.replace("\r\n", "\n"), colour=False).strip()
    assert seen == line.replace(BREAK, "")


@given(STRANGERS)
@settings(max_examples=300, deadline=None)
def test_a_code_span_ends_where_it_ends(stranger: str) -> None:
    made = code(stranger)
    if made == "(empty)":
        return
    ticks = re.match(r"`+", made)
    assert ticks is not None
    inner = made[len(ticks[0]) : -len(ticks[0])]
    assert ticks[0] not in {run[0] for run in re.finditer(r"`+", inner)}
    assert "\n" not in inner and not inner.startswith("`") and not inner.endswith("`")


@given(STRANGERS)
@settings(max_examples=300, deadline=None)
def test_no_cell_ends_early(stranger: str) -> None:
    assert not re.search(r"(?<!\\)(?:\\\\)*\|", cell(text(stranger)))
    assert not re.search(r"(?<!\\)\|", cell(code(stranger)).replace("\\|", ""))


@given(st.lists(STRANGERS, max_size=12), st.integers(min_value=0, max_value=300))
@settings(max_examples=200, deadline=None)
def test_a_fence_is_closed_by_its_last_line_alone(lines: list[str], limit: int) -> None:
    first, *inner, last = fence(lines, limit=limit).split("\n")
    assert first == last and set(first) == {"`"}
    assert not any(line.strip() == first for line in inner)
    assert sum(len(line.encode()) + 1 for line in inner if line != "[…]") <= limit


@given(st.lists(st.text(max_size=40), max_size=12), st.integers(min_value=30, max_value=200))
@settings(max_examples=200, deadline=None)
def test_blocks_never_exceed_their_room(blocks: list[str], limit: int) -> None:
    assert len(capped(blocks, limit, "There is more.").encode(errors="replace")) <= limit
