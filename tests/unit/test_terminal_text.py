"""Hostile text is made harmless for a terminal; widths and quantities are exact."""

import pytest

from nixmill.core.terminal_text import (
    CUT_MARK,
    about,
    brief,
    colour_wanted,
    counted,
    duration,
    pad,
    pad_start,
    sanitise,
    sanitise_lines,
    size,
    strip_ansi,
    truncate,
    truncate_start,
    width,
)

RED = "\x1b[31m"
RESET = "\x1b[0m"


@pytest.mark.parametrize(
    "text",
    [
        f"{RED}red{RESET}",
        "\x1b[1;38;5;208mbright\x1b[m",
        "\x1b[48;2;1;2;3mtrue colour\x1b[0m",
        "\x1b[01;31merror\x1b[00m",
    ],
)
def test_colours_and_emphasis_are_kept(text: str) -> None:
    assert sanitise(text) == text


@pytest.mark.parametrize("text", [f"{RED}red{RESET}", "\x1b[1;38;5;208mbright\x1b[m", "\x1b[Gx\x1b[2Ky"])
def test_without_colour_nothing_of_an_escape_is_left(text: str) -> None:
    assert "\x1b" not in sanitise(text, colour=False)


def test_an_open_colour_is_reset_at_the_end() -> None:
    assert sanitise(f"{RED}red") == f"{RED}red{RESET}"


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("a\x1b[2Jb", "ab"),  # clears the screen
        ("a\x1b[10;1Hb", "ab"),  # moves the cursor
        ("a\x1b[?1049hb", "ab"),  # alternate screen
        ("a\x1b]0;title\x07b", "ab"),  # window title
        ("a\x1b]52;c;ZXZpbA==\x1b\\b", "ab"),  # clipboard
        ("a\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\b", "alinkb"),
        ("a\x1bP$q\x1b\\b", "ab"),  # device control
        ("a\x1b_apc\x1b\\b", "ab"),
        ("a\x1bcb", "ab"),  # full reset
        ("a\x1b(0b", "ab"),  # line drawing characters
        ("a\x1b7\x1b8b", "ab"),
        ("a\x9b2Jb", "ab"),  # the same as one byte
        ("a\x9d0;title\x9cb", "ab"),
        ("a\x1b[5mb\x1b[8mc", "abc"),  # blinking, hidden
        ("a\x1b[>4;1mb", "ab"),  # no colour, though it ends like one
    ],
)
def test_dangerous_escapes_go(text: str, harmless: str) -> None:
    assert sanitise(text) == harmless


@pytest.mark.parametrize("text", ["abc\x1b", "abc\x1b[", "abc\x1b[31", "abc\x1b]0;tit", "abc\x1b[1;", "abc\x9b"])
def test_half_escapes_go(text: str) -> None:
    assert sanitise(text) == "abc"


def test_what_a_removed_escape_parts_never_becomes_one() -> None:
    assert sanitise("\x1b\x1b[2J[2J") == "[2J"


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("10%\r50%\r100%", "100%"),
        ("10%\r50%\r100%\r", "100%"),
        ("loading\x1b[2K\x1b[1Gdone", "done"),
        ("windows\r", "windows"),
        ("\r\r", ""),
        (f"old\r{RED}new{RESET}\r", f"{RED}new{RESET}"),
    ],
)
def test_a_carriage_return_leaves_the_last_state(text: str, state: str) -> None:
    assert sanitise(text) == state


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("a\tb", "a       b"),
        ("12345678\tb", "12345678        b"),
        (f"{RED}a\tb{RESET}", f"{RED}a       b{RESET}"),
        ("a\x00\x07\x08\x7fb", "ab"),
        ("a\nb\x85c\u2028d", "a b c d"),
        ("a\u202eb\u2066c", "abc"),  # reorders text
        ("a\udc80b", "a\ufffdb"),  # cannot be encoded
    ],
)
def test_controls_and_tabs_become_harmless(text: str, harmless: str) -> None:
    assert sanitise(text) == harmless


def test_a_long_line_is_cut_with_a_visible_mark() -> None:
    cut = sanitise("x" * 100, limit=40)
    assert cut.endswith(CUT_MARK)
    assert len(cut) == 40


def test_colours_do_not_count_as_length() -> None:
    text = f"{RED}x{RESET}" * 40
    assert sanitise(text, limit=40) == text


def test_a_message_keeps_its_lines() -> None:
    assert sanitise_lines("one\r\ntwo\x1b[2J\n\nthree") == ["one", "two", "", "three"]


def test_strip_ansi_removes_escapes_and_nothing_else() -> None:
    assert strip_ansi(f"{RED}a\tb{RESET}\r\x1b]0;t\x07c") == "a\tb\rc"


@pytest.mark.parametrize(
    ("text", "columns"),
    [("abc", 3), ("漢字", 4), ("e\u0301", 1), (f"{RED}ab{RESET}", 2), ("✔ ✖ ⊘ ▶ ⏸ ↓ ∅ ⚠ ∑", 17), ("", 0)],
)
def test_width_counts_columns(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize(
    ("text", "columns", "cut"),
    [
        ("hello", 5, "hello"),
        ("hello", 4, "hel…"),
        ("漢字漢字", 5, "漢字…"),
        ("漢字漢字", 4, "漢…"),
        (f"{RED}hello{RESET}", 3, f"{RED}he…{RESET}"),
        ("hello", 1, "…"),
        ("hello", 0, ""),
    ],
)
def test_truncating_keeps_the_beginning_in_columns(text: str, columns: int, cut: str) -> None:
    assert truncate(text, columns) == cut


def test_truncating_a_name_keeps_its_end() -> None:
    assert truncate_start("checks.x86_64-linux.hello", 10) == "…nux.hello"


def test_padding_fills_columns_rather_than_characters() -> None:
    assert pad("漢", 4) == "漢  "
    assert pad_start("漢", 4) == "  漢"
    assert pad("hello", 3) == "he…"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0.0 s"),
        (0.84, "0.8 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (252, "4 min 12 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (86_400 * 3 + 4 * 3600, "3 d 4 h"),
    ],
)
def test_durations_read_like_speech(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "about 1 s"),
        (43, "about 45 s"),
        (58, "about 1 min"),
        (252, "about 4 min"),
        (7500, "about 2 h"),
        (7800, "about 2 h 10 min"),
        (400_000, "about 5 d"),
    ],
)
def test_estimates_are_no_more_exact_than_they_are(seconds: float, words: str) -> None:
    assert about(seconds) == words


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (1023, "1023 B"), (12_897_485, "12.3 MiB"), (1_048_550, "1.0 MiB"), (5 << 40, "5.0 TiB")],
)
def test_sizes_have_one_decimal(count: int, words: str) -> None:
    assert size(count) == words


def test_counts_agree_with_their_noun() -> None:
    assert counted(1, "attribute") == "1 attribute"
    assert counted(1204, "attribute") == "1,204 attributes"
    assert counted(2, "try", "tries") == "2 tries"


@pytest.mark.parametrize(
    ("choice", "no_color", "term", "is_terminal", "coloured"),
    [
        ("auto", "", "xterm-256color", True, True),
        ("auto", "", "xterm-256color", False, False),
        ("auto", "", "dumb", True, False),
        ("auto", "", "", True, False),
        ("always", "", "dumb", False, True),
        ("never", "", "xterm", True, False),
        ("auto", "1", "xterm", True, False),
        ("always", "1", "xterm", True, False),
    ],
)
def test_no_color_wins_then_the_choice_then_the_terminal(
    choice: str, no_color: str, term: str, *, is_terminal: bool, coloured: bool
) -> None:
    assert colour_wanted(choice, no_color=no_color, term=term, is_terminal=is_terminal) is coloured


DRV = "/nix/store/36vb5bmx6p7ks5gsnmmixiq6ws1mplvy-dam-1.0.drv"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"builder for '{DRV}' failed with exit code 2", "exit code 2"),
        (f"building of '{DRV}!*' from .drv file timed out after 5 seconds", "timed out after 5 seconds"),
        (
            f"hash mismatch in fixed-output derivation '{DRV}':\n got",
            "hash mismatch in fixed-output derivation 'dam-1.0':\n got",
        ),
        ("builder failed with a bang", "builder failed with a bang"),
        ("reading /nix/store/x-y.drv", "reading /nix/store/x-y.drv"),
    ],
)
def test_what_nix_says_in_brief(said: str, shown: str) -> None:
    assert brief(said) == shown
