"""Paint: how a piece of text is drawn on this terminal. It decides colours, glyphs and their plain substitutes.

What it does not know: what is worth saying. Text from outside becomes harmless here:
in `text`, `lines`, `log_line` and `attribute`.
"""

from typing import Final, NamedTuple

import msgspec

from nixmill.core import terminal_text
from nixmill.core.status import LOOK, Status
from nixmill.core.terminal_text import RESET
from nixmill.nix.attr_path import AttrPath, show, show_name

_CODES: Final = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}


class Marks(NamedTuple):
    """Signs that are not statuses."""

    ellipsis: str
    dot: str
    sum: str
    arrow: str
    rule: str
    """Stands before every line of foreign text: no such line can begin with what a CI takes for a command."""
    bar: str
    bar_run: str
    bar_rest: str


UNICODE: Final = Marks(ellipsis="…", dot="·", sum="∑", arrow="→", rule="│", bar="━", bar_run="╍", bar_rest="─")
ASCII: Final = Marks(ellipsis="...", dot="-", sum="sum", arrow="->", rule="|", bar="=", bar_run=">", bar_rest="-")


class Paint(msgspec.Struct, frozen=True):
    """What this terminal can show."""

    colour: bool
    unicode: bool

    @property
    def marks(self) -> Marks:
        """Return the signs for this terminal."""
        return UNICODE if self.unicode else ASCII

    def style(self, text: str, style: str) -> str:
        """Return `text` (of our own making, or sanitised) in a style such as `bold red`."""
        if not self.colour or not text:
            return text
        codes = ";".join(_CODES[word] for word in style.split())
        return f"\x1b[{codes}m{text}{RESET}"

    def dim(self, text: str) -> str:
        """Return `text` as something that is there but need not be read."""
        return self.style(text, "dim")

    def bold(self, text: str) -> str:
        """Return `text` as what the eye should find first."""
        return self.style(text, "bold")

    def status(self, status: Status, text: str) -> str:
        """Return `text` in the colour of a status."""
        return self.style(text, LOOK[status].colour)

    def glyph(self, status: Status) -> str:
        """Return the sign of a status in its colour."""
        look = LOOK[status]
        return self.style(look.glyph if self.unicode else look.ascii, look.colour)

    def text(self, text: str, limit: int = terminal_text.LINE_LIMIT) -> str:
        """Return text from outside as one harmless, uncoloured line."""
        return self._encodable(terminal_text.sanitise(text, colour=False, limit=limit))

    def log_line(self, text: str) -> str:
        """Return a line of a builder's log, harmless, with its own colours where colours are wanted."""
        return self._encodable(terminal_text.sanitise(text, colour=self.colour))

    def lines(self, text: str) -> list[str]:
        """Return the lines of a message from outside, harmless and uncoloured."""
        return [self._encodable(line) for line in terminal_text.sanitise_lines(text, colour=False)]

    def _encodable(self, text: str) -> str:
        return text if self.unicode or text.isascii() else text.encode("ascii", "replace").decode("ascii")

    def plain_attribute(self, path: AttrPath, columns: int = 200) -> str:
        """Return an attribute's name, cut at its start where it is too long."""
        return terminal_text.truncate_start(self.text(show(path)) or "(root)", columns, self.marks.ellipsis)

    def attribute(self, path: AttrPath, columns: int = 200, style: str = "bold") -> str:
        """Return an attribute's name with the part that repeats dimmed: `checks.x86_64-linux.` before the last name."""
        whole = self.plain_attribute(path, columns)
        last = self.text(show_name(path[-1])) if path else whole
        if not self.colour or not whole.endswith(last):
            return whole
        return self.dim(whole[: len(whole) - len(last)]) + self.style(last, style)

    def fit(self, text: str, columns: int) -> str:
        """Return a line cut to `columns`."""
        return terminal_text.truncate(text, columns, self.marks.ellipsis)

    def pad(self, text: str, columns: int) -> str:
        """Return text as exactly `columns` columns, filled on its right."""
        return terminal_text.pad(text, columns, self.marks.ellipsis)
