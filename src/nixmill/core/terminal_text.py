"""Text for a terminal: hostile text made harmless, widths, and quantities in words.

Logs, messages and names come from strangers (semantics §11). `sanitise` is the border at which they become fit for a
terminal: of all escape sequences only colours stay, and a line stays a line.
What this file does not know: where text is shown, and in which of our own colours (`nixmill.cli.render.paint`).
Source: ECMA-48 (control sequences), the xterm control sequences reference, UAX #11 (widths).
"""

import re
import unicodedata
from functools import lru_cache
from typing import Final

LINE_LIMIT: Final = 2000
"""Visible characters a line of log may have; longer ones are data, such as minified code, not for reading."""
CUT_MARK: Final = " ... [line cut]"
RESET: Final = "\x1b[0m"
TAB_WIDTH: Final = 8

_ESCAPE: Final = re.compile(
    r"(?:\x1b\[|\x9b)(?P<args>[0-?]*[ -/]*)(?P<final>[@-~])"  # control sequences: colours, cursor, modes
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # strings: titles, links, sixels
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*"  # a control sequence without its end
    r"|\x1b[ -/]*[0-~]?"  # everything else that an escape can start, down to a lone one
)
SGR: Final = re.compile(r"\x1b\[[0-9;]*m")
# Colours and emphasis; neither blinking (5, 6) nor hidden text (8), which has no business in a log.
_CALM_SGR: Final = re.compile(
    r"(?:(?:0*(?:[0-479]|2[1-9]|[34][0-79]|9[0-7]|10[0-7])|[34]8;5;\d{1,3}|[34]8;2;\d{1,3};\d{1,3};\d{1,3})?(?:;|\Z))*"
)
_SGR_LENGTH_MAX: Final = 64
_RESET_SGR: Final = re.compile(r"\x1b\[0*m")
_TO_COLUMN_ONE: Final = frozenset({"", "0", "1"})
# C0, DEL and C1 controls but tab, carriage return and escape; what reorders text; what cannot be encoded.
_CONTROLS: Final = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_LINE_ENDS: Final = re.compile(r"[\n\x85\u2028\u2029]")
_SURROGATES: Final = re.compile(r"[\ud800-\udfff]")
_FAILED_BUILD: Final = re.compile(
    r"\A(?:builder (?:for '[^']*' )?failed with (?=exit code)|building of '[^']*' (?:from \.drv file )?)"
)
_DERIVATION: Final = re.compile(r"/nix/store/[0-9a-z]{32}-([0-9A-Za-z+._?=-]{1,211})\.drv(?:[!^](?:\*|[\w,]+))?")


def sanitise(text: str, *, colour: bool = True, limit: int = LINE_LIMIT, show_controls: bool = False) -> str:
    """Return one line that is safe on a terminal, at most `limit` (20 or more) visible characters and colours.

    Colours are kept (and reset at the end) where `colour`; every other escape sequence and control goes. A carriage
    return leaves the last state of the line, as a terminal would; tabs become spaces, line ends a space. Other control
    characters go, or are drawn (`⟨U+0007⟩`) where `show_controls`.
    """
    if text.isprintable() and len(text) <= limit:
        return text
    text = _LINE_ENDS.sub(" ", text)
    text = _ESCAPE.sub(_keep_colour if colour else _keep_nothing, text)
    text = _SURROGATES.sub("\ufffd", _CONTROLS.sub(_drawn if show_controls else "", text))
    text = _last_state(text)
    if "\t" in text:
        text = _expand_tabs(text)
    return _closed(_capped(text, limit))


def brief(text: str) -> str:
    """Return what Nix says of a failed build without what push the reason out of sight: paths, and the name again."""
    return _FAILED_BUILD.sub("", _DERIVATION.sub(r"\1", text))


def sanitise_lines(text: str, *, colour: bool = True, limit: int = LINE_LIMIT) -> list[str]:
    """Return the lines of a longer text, each one sanitised."""
    return [sanitise(line, colour=colour, limit=limit) for line in text.replace("\r\n", "\n").split("\n")]


def strip_ansi(text: str) -> str:
    """Return `text` without any escape sequence; nothing else is changed."""
    return _ESCAPE.sub("", text)


def _keep_colour(found: re.Match[str]) -> str:
    args = found["args"]
    if found["final"] == "m" and found[0][0] == "\x1b" and len(args) <= _SGR_LENGTH_MAX and _CALM_SGR.fullmatch(args):
        return found[0]
    return _keep_nothing(found)


def _keep_nothing(found: re.Match[str]) -> str:
    """Drop an escape sequence; going to column 1 is what a carriage return does, and is kept as one."""
    return "\r" if found["final"] == "G" and found["args"] in _TO_COLUMN_ONE else ""


def _drawn(found: re.Match[str]) -> str:
    """Return a control character as something to look at; fonts lack the pictures that Unicode has for some."""
    return f"\u27e8U+{ord(found[0]):04X}\u27e9"


def _last_state(text: str) -> str:
    if "\r" not in text:
        return text
    states = (state for state in reversed(text.split("\r")) if SGR.sub("", state))
    return next(states, "")


def _expand_tabs(text: str) -> str:
    out: list[str] = []
    column = 0
    for part in re.split(r"(\t)", text):
        piece = " " * (TAB_WIDTH - column % TAB_WIDTH) if part == "\t" else part
        out.append(piece)
        column += width(piece)
    return "".join(out)


def _capped(text: str, limit: int) -> str:
    if len(text) <= limit or len(SGR.sub("", text)) <= limit:
        return text
    room = limit - len(CUT_MARK)
    out: list[str] = []
    for piece, is_text in _pieces(text):
        if not is_text:
            out.append(piece)
        elif len(piece) <= room:
            out.append(piece)
            room -= len(piece)
        else:
            out.append(piece[:room])
            break
    return _closed("".join(out)) + CUT_MARK


def _closed(text: str) -> str:
    """Return `text` with its colours ended."""
    codes = SGR.findall(text)
    return text + RESET if codes and not _RESET_SGR.fullmatch(codes[-1]) else text


def _pieces(text: str) -> list[tuple[str, bool]]:
    """Split sanitised text into (piece, whether it is text rather than a colour)."""
    out: list[tuple[str, bool]] = []
    at = 0
    for found in SGR.finditer(text):
        if found.start() > at:
            out.append((text[at : found.start()], True))
        out.append((found[0], False))
        at = found.end()
    if at < len(text):
        out.append((text[at:], True))
    return out


@lru_cache(maxsize=4096)
def _char_width(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me", "Cf", "Cc"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def width(text: str) -> int:
    """Return how many columns sanitised text takes; colours take none."""
    if "\x1b" in text:
        text = SGR.sub("", text)
    return len(text) if text.isascii() else sum(map(_char_width, text))


def truncate(text: str, columns: int, ellipsis: str = "…") -> str:
    """Return sanitised text cut at its end to at most `columns`; the cut is marked, colours are reset."""
    if len(text) <= columns and text.isascii():
        return text
    if width(text) <= columns:
        return text
    room = columns - width(ellipsis)
    if room < 0:
        return _fitting(ellipsis, columns)
    out: list[str] = []
    for piece, is_text in _pieces(text):
        kept = _fitting(piece, room) if is_text else piece
        out.append(kept)
        if is_text:
            room -= width(kept)
            if len(kept) < len(piece):
                break
    return _closed("".join(out) + ellipsis)


def truncate_start(text: str, columns: int, ellipsis: str = "…") -> str:
    """Return uncoloured text cut at its start to at most `columns`: the end of an attribute's name tells more."""
    if width(text) <= columns:
        return text
    room = columns - width(ellipsis)
    if room < 0:
        return _fitting(ellipsis, columns)
    return ellipsis + _fitting(text[::-1], room)[::-1]


def _fitting(text: str, columns: int) -> str:
    """Return the longest beginning of uncoloured text that fits."""
    if text.isascii():
        return text[: max(columns, 0)]
    used = 0
    for at, char in enumerate(text):
        used += _char_width(char)
        if used > columns:
            return text[:at]
    return text


def pad(text: str, columns: int, ellipsis: str = "…") -> str:
    """Return sanitised text as exactly `columns` columns: truncated or filled with spaces."""
    text = truncate(text, columns, ellipsis)
    return text + " " * (columns - width(text))


def pad_start(text: str, columns: int, ellipsis: str = "…") -> str:
    """Return sanitised text as exactly `columns` columns, filled on its left."""
    text = truncate(text, columns, ellipsis)
    return " " * (columns - width(text)) + text


def duration(seconds: float) -> str:
    """Return a measured time, such as `0.8 s`, `48 s`, `4 min 12 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days} d {h} h"
    if hours:
        return f"{hours} h {m} min"
    return f"{minutes} min {s} s" if minutes else f"{s} s"


def about(seconds: float) -> str:
    """Return an estimate, no more exact than it is: `about 40 s`, `about 4 min`, `about 2 h 10 min`."""
    if seconds < 10:
        return f"about {max(round(seconds), 1)} s"
    if seconds < 57.5:
        return f"about {round(seconds / 5) * 5} s"
    minutes = max(round(seconds / 60), 1)
    if minutes < 60:
        return f"about {minutes} min"
    if minutes >= 48 * 60:
        return f"about {round(minutes / 1440)} d"
    hours, rest = divmod(round(minutes / 10) * 10, 60)
    return f"about {hours} h {rest} min" if rest else f"about {hours} h"


def size(count: int) -> str:
    """Return bytes for people, such as `640 B`, `12.3 MiB`."""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1023.95:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def number(count: int) -> str:
    """Return a count with its thousands apart, such as `1,204`."""
    return f"{count:,}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun, such as `1 attribute`, `1,204 attributes`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def colour_wanted(choice: str, *, no_color: str, term: str, is_terminal: bool) -> bool:
    """Say whether to colour. `choice` is `auto`, `always` or `never`; a non-empty NO_COLOR wins over all."""
    if no_color or choice == "never":
        return False
    return choice == "always" or (is_terminal and term not in {"dumb", ""})
