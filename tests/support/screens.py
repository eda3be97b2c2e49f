"""Screens: a terminal emulator to draw on, and golden pictures of what people see.

Golden screens are text files in `tests/golden/screens`. After a wanted change: `pytest --update-screens tests/unit`,
then read the difference. `tests/conftest.py` imports `pytest_addoption` from here to make that option known.
"""

import re
from pathlib import Path

import pyte
import pytest
from pyte.screens import Char

GOLDEN = Path(__file__).parent.parent / "golden" / "screens"
CURSOR_HIDDEN = "\x1b[?25l"
ESCAPES_USED = re.compile(r"\x1b\[(?:[0-9;]*m|\?(?:2026|25|7)[hl]|\d+A|[JK])")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-screens", action="store_true", help="write golden screens anew")


def check_screen(request: pytest.FixtureRequest, name: str, lines: list[str]) -> None:
    """Compare `lines` with the golden screen `name`; with `--update-screens` write it."""
    path = GOLDEN / f"{name}.txt"
    text = "\n".join(lines) + "\n"
    if request.config.getoption("--update-screens", default=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    assert text == found, f"{path.name} differs; wanted? pytest --update-screens"


class Emulator:
    """A terminal: takes writes, remembers them, and can say what a person would see."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=100_000, ratio=0.001)
        self._stream = pyte.Stream(self.screen)
        self.writes: list[str] = []

    def write(self, text: str) -> None:
        assert not ESCAPES_USED.sub("", text).count("\x1b"), f"an escape that no renderer may use: {text!r}"
        self.writes.append(text)
        self._stream.feed(text)

    def size(self) -> tuple[int, int]:
        return self.screen.columns, self.screen.lines

    def resize(self, columns: int, rows: int) -> None:
        """Become that large as xterm does: lines are cut, not wrapped; the cursor stays with its line."""
        screen = self.screen
        at = screen.cursor.y
        drop = max(at - rows + 1, 0)
        screen.cursor.y = screen.lines - 1
        for _ in range(drop):
            screen.index()
        screen.cursor.y = at - drop
        for row in range(rows, screen.lines):
            screen.buffer.pop(row, None)
        screen.lines = min(screen.lines, rows)
        screen.resize(rows, columns)

    @property
    def rows(self) -> list[str]:
        """What is on the screen, a string for each row, without blanks at their ends."""
        return [row.rstrip() for row in self.screen.display]

    @property
    def shown(self) -> list[str]:
        """What is on the screen down to the last row that is not blank."""
        rows = self.rows
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def scrollback(self) -> list[str]:
        """What has scrolled off the screen."""
        return [self._text(line) for line in self.screen.history.top]

    @property
    def everything(self) -> list[str]:
        """Scrollback and screen."""
        return [*self.scrollback, *self.shown]

    @property
    def cursor_hidden(self) -> bool:
        return bool(self.screen.cursor.hidden)

    def _text(self, line: dict[int, Char]) -> str:
        return "".join(line[column].data for column in range(self.screen.columns)).rstrip()
