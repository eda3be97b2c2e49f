"""Markdown for forges out of strangers' text."""

import re

import pytest

from nixmill.core.forge_markdown import BREAK, capped, code, fence, link, row, text


def plain(markdown: str) -> str:
    """Return what a reader sees."""
    return markdown.replace(BREAK, "").replace("\\", "").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


@pytest.mark.parametrize(
    "stranger",
    [
        "@everyone", "see #12", "!7", "octo/hello@0badc0de", "GH-12", "JIRA-7", "[x](https://evil.example)", "![x](y)",
        "<img src=x onerror=alert(1)>", "https://evil.example/x", "www.evil.example", "ann@example.org", ":tada:",
        "/close", "~label", "%milestone", "&epic", "$12", "^alert#1", "*a* _b_ `c` ~~d~~", "- [ ] x", "1. x", "> x",
        "| a | b |", "# heading", "---", "0123456789abcdef0123456789abcdef01234567", "&lt;b&gt;", "[vulnerability:1]",
        '%"a b"', "3) x", "====",
    ],
)  # fmt: skip
def test_a_strangers_text_is_only_text(stranger: str) -> None:
    made = text(stranger)
    assert plain(made) == stranger
    assert not re.search(r"[@#!$%~^]\w|:\w|://|\bwww\.|^\\?/\w|[0-9a-f]{7}|\b[A-Z]+\\?-[0-9]", made)


@pytest.mark.parametrize(
    ("stranger", "expected"),
    [
        ("a", "`a`"),
        ("a`b", "``a`b``"),
        ("`a`", "`` `a` ``"),
        ("```", "```` ``` ````"),
        (" ", "(empty)"),
        ("", "(empty)"),
    ],
)
def test_a_code_span_holds_any_text(stranger: str, expected: str) -> None:
    assert code(stranger) == expected


def test_a_line_stays_a_line() -> None:
    assert text("a\nb\r\nc") == "a b c"
    assert code("a\u202eb\x1b[31mc\x00") == "`abc`"


def test_a_bar_does_not_end_a_cell() -> None:
    assert row(code("a|b"), text("c|d"), "e") == r"| `a\|b` | c\|d | e |"


def test_long_text_is_cut_where_one_can_see_it() -> None:
    assert code("x" * 400, limit=5) == "`xxxx…`"
    assert len(text("x" * 100_000)) == 300


def test_a_fence_is_longer_than_what_is_in_it() -> None:
    assert fence(["```", "rm -rf", "````"]) == "`````\n```\nrm -rf\n````\n`````"


def test_of_a_long_log_the_end_is_kept() -> None:
    assert fence([f"line {number}" for number in range(1000)], limit=20) == "```\n[…]\nline 998\nline 999\n```"


def test_a_link_cannot_be_left() -> None:
    assert link("x", "https://ci.example.org/a b>)c") == "[x](<https://ci.example.org/a%20b%3E%29c>)"


def test_blocks_are_left_out_whole() -> None:
    assert capped(["a", "", "b" * 50, "c"], 40, "More.") == "a\n\nMore."
    assert capped(["a", "b"], 40, "More.") == "a\n\nb"
