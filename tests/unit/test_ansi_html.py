"""Lines of a log as HTML: what is drawn, and that nothing in them becomes HTML of its own."""

import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nixmill.core.ansi_html import HTML_LINE_LIMIT, PLAIN, Pen, after, line_html, line_text, nearest

_TAG = re.compile(
    r'</span>|</a>|<span class="(?:a[0-9]{1,3}(?: |(?=")))+">'
    r'|<a href="https?://[^"<>]*" rel="nofollow noreferrer">'
)
_HOSTILE = st.sampled_from(
    [
        *(
            "<",
            ">",
            "&",
            '"',
            "'",
            "<script>",
            "</span>",
            "</a>",
            "<a href=",
            "javascript:",
            "https://x.test/",
            "http://",
        ),
        *("\x1b[31m", "\x1b[0m", "\x1b[38;5;9m", "\x1b[38;2;1;2;3;4m", "\x1b[7m", "\x1b]8;;http://e.test\x07", "\x1b["),
        *("\r", "\t", "\x00", "\x07", "\u202e", "\x9b31m", "\ud800", "\x1b[38;5", "\x1b[48;5;300m", "\u2028"),
    ]
)
LINES = st.lists(st.one_of(_HOSTILE, st.text(max_size=8)), max_size=20).map("".join)


class Balance(HTMLParser):
    """Fails where tags do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@given(LINES)
@example("https://x.test/'\"><script>")
@example("\x1b[31mhttps://x.test/<b>\x1b[0m")
def test_there_are_no_tags_but_our_own_and_the_text_is_the_sanitised_text(line: str) -> None:
    shown = line_html(line)
    bare = _TAG.sub("", shown)
    assert "<" not in bare and ">" not in bare and '"' not in bare and "'" not in bare
    assert html.unescape(bare) == line_text(line)
    parser = Balance()
    parser.feed(shown)
    parser.close()
    assert parser.open == []


@given(LINES)
def test_what_is_shown_has_no_control_characters(line: str) -> None:
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", line_html(line))


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        ("a < b & c", "a &lt; b &amp; c"),
        ("\x1b[31mred\x1b[0m not", '<span class="a31">red</span> not'),
        ("\x1b[1;4;92mx", '<span class="a1 a4 a92">x</span>'),
        ("\x1b[7mx", '<span class="a7">x</span>'),
        ("\x1b[7;31mx", '<span class="a41">x</span>'),
        ("\x1b[38;5;196mx", '<span class="a91">x</span>'),
        ("\x1b[48;2;0;0;230mx", '<span class="a44">x</span>'),
        ("\x1b[2K\x1b[1A\x1b]0;title\x07x", "x"),
        ("10%\r20%\r30%", "30%"),
        ("bell\x07 end\u202e", "bell⟨U+0007⟩ end⟨U+202E⟩"),
        ("a\tb", "a       b"),
        (
            "see https://x.test/?b=1&c=2.",
            'see <a href="https://x.test/?b=1&amp;c=2" rel="nofollow noreferrer">https://x.test/?b=1&amp;c=2</a>.',
        ),
        ("javascript://x ftp://y", "javascript://x ftp://y"),
    ],
)
def test_a_line(line: str, shown: str) -> None:
    assert line_html(line) == shown


def test_a_long_line_is_cut_and_says_so() -> None:
    shown = line_html("x" * 50_000)
    assert len(shown) == HTML_LINE_LIMIT
    assert shown.endswith("[line cut]")


def test_a_colour_ends_what_it_began() -> None:
    assert after(PLAIN, [1, 31]) == Pen(bold=True, text=1)
    assert after(after(PLAIN, [1, 31, 44]), [22, 39, 49]) == PLAIN
    assert after(Pen(bold=True, text=3), [0]) == PLAIN


def test_the_nearest_colour_is_one_of_sixteen() -> None:
    assert [nearest(*rgb) for rgb in ((0, 0, 0), (250, 5, 5), (120, 120, 120), (255, 255, 255))] == [0, 9, 8, 15]
