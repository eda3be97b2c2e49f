"""Lines of a log as HTML: hostile text made harmless, colours as classes, web addresses as links.

`nixmill.core.terminal_text.sanitise` is the border: of all escape sequences it leaves colours and emphasis, which
become the classes `a1` to `a107`, numbered as ECMA-48 and xterm number them (31: red, 91: bright red, 41: on red).
Each line begins without colour, so that a line looks the same wherever a page begins.
What this file does not know: how a colour looks (the style sheet, for light and dark), and where a row stands.
Source: ECMA-48 §8.3.117 (SGR); xterm control sequences, "Character Attributes" (256 colours).
"""

import html
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from nixmill.core.terminal_text import SGR, sanitise

HTML_LINE_LIMIT: Final = 10_000
"""Visible characters a row may have; the cut is marked."""

_URL: Final = re.compile(r"https?://[A-Za-z0-9\[][^\s<>\"'`{}|\\^\u27e8\u27e9]{0,2000}")
_NO_END: Final = ".,;:!?)]*'"
"""Characters that end the sentence around an address rather than the address."""

_PALETTE: Final = (
    (0, 0, 0),
    (205, 0, 0),
    (0, 205, 0),
    (205, 205, 0),
    (0, 0, 238),
    (205, 0, 205),
    (0, 205, 205),
    (229, 229, 229),
    (127, 127, 127),
    (255, 0, 0),
    (0, 255, 0),
    (255, 255, 0),
    (92, 92, 255),
    (255, 0, 255),
    (0, 255, 255),
    (255, 255, 255),
)
"""xterm's 16 colours: what a finer colour is nearest to."""

_CUBE: Final = (0, 95, 135, 175, 215, 255)


class Pen(NamedTuple):
    """How text is drawn; colours are numbers of the palette."""

    text: int | None = None
    ground: int | None = None
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False
    inverse: bool = False
    struck: bool = False


PLAIN: Final = Pen()

_SWITCHES: Final[dict[int, dict[str, bool]]] = {
    1: {"bold": True},
    2: {"dim": True},
    3: {"italic": True},
    4: {"underline": True},
    7: {"inverse": True},
    9: {"struck": True},
    21: {"underline": True},
    22: {"bold": False, "dim": False},
    23: {"italic": False},
    24: {"underline": False},
    27: {"inverse": False},
    29: {"struck": False},
}


def line_html(line: str) -> str:
    """Return one line of log as HTML that holds `span` and `a` elements and nothing else."""
    text = sanitise(line, limit=HTML_LINE_LIMIT, show_controls=True)
    if "\x1b" not in text:
        return _linked(text)
    out: list[str] = []
    pen = PLAIN
    for piece, codes in _pieces(text):
        if codes is None:
            out.append(_drawn(piece, pen))
        else:
            pen = after(pen, codes)
    return "".join(out)


def line_text(line: str) -> str:
    """Return the text that `line_html` shows."""
    return SGR.sub("", sanitise(line, limit=HTML_LINE_LIMIT, show_controls=True))


def _pieces(text: str) -> list[tuple[str, list[int] | None]]:
    """Split sanitised text into text and the numbers of colour sequences, without empty pieces."""
    out: list[tuple[str, list[int] | None]] = []
    at = 0
    for found in SGR.finditer(text):
        if found.start() > at:
            out.append((text[at : found.start()], None))
        out.append(("", [int(code or "0") for code in found[0][2:-1].split(";")]))
        at = found.end()
    if at < len(text):
        out.append((text[at:], None))
    return out


def after(pen: Pen, codes: Sequence[int]) -> Pen:
    """Return the pen after a colour sequence; numbers that mean nothing here change nothing."""
    at = 0
    while at < len(codes):
        code = codes[at]
        if code in (38, 48):
            colour, taken = _extended(codes[at + 1 :])
            at += taken
            pen = pen._replace(text=colour) if code == 38 else pen._replace(ground=colour)
        else:
            pen = _switched(pen, code)
        at += 1
    return pen


def _switched(pen: Pen, code: int) -> Pen:
    if code == 0:
        return PLAIN
    if code in _SWITCHES:
        return pen._replace(**_SWITCHES[code])
    if 30 <= code <= 37 or 90 <= code <= 97:
        return pen._replace(text=code - 30 if code < 90 else code - 82)
    if 40 <= code <= 47 or 100 <= code <= 107:
        return pen._replace(ground=code - 40 if code < 100 else code - 92)
    if code == 39:
        return pen._replace(text=None)
    return pen._replace(ground=None) if code == 49 else pen


def _extended(rest: Sequence[int]) -> tuple[int | None, int]:
    """Return the palette's colour that follows 38 or 48, and how many numbers said so."""
    if len(rest) >= 2 and rest[0] == 5:
        return _of_256(min(rest[1], 255)), 2
    if len(rest) >= 4 and rest[0] == 2:
        return nearest(*(min(part, 255) for part in rest[1:4])), 4
    return None, len(rest)


def _of_256(number: int) -> int:
    if number < 16:
        return number
    if number >= 232:
        level = 8 + 10 * (number - 232)
        return nearest(level, level, level)
    number -= 16
    return nearest(_CUBE[number // 36], _CUBE[number // 6 % 6], _CUBE[number % 6])


@lru_cache(maxsize=1024)
def nearest(red: int, green: int, blue: int) -> int:
    """Return the number of the palette's colour that is nearest to one with parts from 0 to 255."""

    def distance(number: int) -> int:
        r, g, b = _PALETTE[number]
        return (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2

    return min(range(len(_PALETTE)), key=distance)


def _drawn(text: str, pen: Pen) -> str:
    classes = _classes(pen)
    return f'<span class="{classes}">{_linked(text)}</span>' if classes else _linked(text)


@lru_cache(maxsize=1024)
def _classes(pen: Pen) -> str:
    text, ground = (pen.ground, pen.text) if pen.inverse else (pen.text, pen.ground)
    switches = {1: pen.bold, 2: pen.dim, 3: pen.italic, 4: pen.underline, 9: pen.struck}
    codes = [code for code, on in switches.items() if on]
    if pen.inverse and text is None and ground is None:
        codes.append(7)
    if text is not None:
        codes.append(text + (30 if text < 8 else 82))
    if ground is not None:
        codes.append(ground + (40 if ground < 8 else 92))
    return " ".join(f"a{code}" for code in codes)


def _linked(text: str) -> str:
    """Return text as HTML with its web addresses as links."""
    if "://" not in text:
        return html.escape(text)
    out: list[str] = []
    at = 0
    for found in _URL.finditer(text):
        url = found[0].rstrip(_NO_END)
        shown = html.escape(url)
        out += (html.escape(text[at : found.start()]), f'<a href="{shown}" rel="nofollow noreferrer">{shown}</a>')
        at = found.start() + len(url)
    return "".join((*out, html.escape(text[at:])))
