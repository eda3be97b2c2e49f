"""The live renderer: lines that stay scroll by, a small region below them is drawn anew ten times a second.

Each frame is one write between the marks of a synchronized update (DEC private mode 2026), so that nothing flickers;
never the alternate screen, so that history stays in the scrollback. Lines of the region never wrap: they are cut, and
wrapping is off while they are written. Source: xterm control sequences; the specification of synchronized output.
"""

from collections.abc import Callable
from typing import Final

from nixmill.cli.render.paint import Paint
from nixmill.cli.render.region import region, rows_allowed
from nixmill.cli.render.sink import Sink
from nixmill.cli.render.state import RunState
from nixmill.cli.render.story import Story
from nixmill.core.run_event import RunEvent
from nixmill.core.terminal_text import width

FRAME_S: Final = 0.095
"""Ten frames a second, with room for a timer that comes a little early."""
SETTLE_S: Final = 2.0
"""How long the region keeps its height after it needs less, so that it does not jump."""
_BEGIN: Final = "\x1b[?2026h\x1b[?25l"
_END: Final = "\x1b[?2026l"
_WRAP_OFF: Final = "\x1b[?7l"
_WRAP_ON: Final = "\x1b[?7h"
_TO_LINE_END: Final = "\x1b[K"
_TO_SCREEN_END: Final = "\x1b[J"
_SHOW_CURSOR: Final = "\x1b[?25h"

Size = Callable[[], tuple[int, int]]
"""Returns the terminal's columns and rows now."""


class LiveRenderer:
    """Shows a run on a terminal that understands cursor movement. See `Renderer` for its methods."""

    def __init__(self, sink: Sink, paint: Paint, size: Size, now: float, *, reflows: bool = True) -> None:
        """Draw at the cursor of `sink`. `reflows`: this terminal wraps lines anew when it becomes narrower."""
        self._sink = sink
        self._paint = paint
        self._size = size
        self._now = now
        self._reflows = reflows
        self._state = RunState()
        self._story = Story(self._state, paint)
        self._columns = size()[0]
        self._pending: list[str] = []
        self._drawn: list[str] = []
        """The lines of the region that stand on the screen; the cursor is at the end of the last."""
        self._needed_at = now
        """When the region last needed the height it has."""
        self._last_frame = float("-inf")
        self._suspended = False
        self._closed = False
        self._cursor_hidden = False

    def handle(self, event: RunEvent) -> None:
        """Take in an event; it is shown at the next `tick`."""
        ended = self._state.apply(event, self._now)
        self._pending += self._story.tell(event, ended, self._columns)

    def tick(self, now: float) -> None:
        """Draw a frame where one is due."""
        self._now = now
        if not self._suspended and not self._closed and now - self._last_frame >= FRAME_S:
            self._last_frame = now
            self._frame()

    def suspend(self) -> None:
        """Take the region off the screen and show the cursor; what happens is kept until `resume`."""
        if not self._suspended:
            self._suspended = True
            self._clear()

    def resume(self) -> None:
        """Draw again, from where the cursor is now."""
        if self._suspended and not self._closed:
            self._suspended = False
            self._frame()

    def close(self) -> None:
        """Write what is pending, take the region off, show the cursor."""
        if self._closed:
            return
        self._closed = True
        self._pending += self._story.rest(self._columns)
        self._clear()

    def _frame(self) -> None:
        columns, rows = self._size()
        lines, self._pending = [*self._pending, *self._story.rest(columns)], []
        wanted = region(self._state, self._paint, self._now, columns, rows_allowed(rows))
        wanted = self._settled_height(wanted, len(lines), rows_allowed(rows))
        resized = columns != self._columns
        if not lines and not resized and wanted == self._drawn:
            return
        start = self._start(columns, erase=bool(lines) or resized)
        self._columns, self._drawn, self._cursor_hidden = columns, wanted, True
        self._sink.write(_BEGIN + start + _permanent(lines) + _region(wanted) + _END)

    def _clear(self) -> None:
        lines, self._pending = self._pending, []
        if not (lines or self._drawn or self._cursor_hidden):
            return
        start = self._start(self._size()[0], erase=True)
        self._drawn, self._cursor_hidden = [], False
        self._sink.write(_BEGIN + start + _permanent(lines) + _SHOW_CURSOR + _END)

    def _settled_height(self, wanted: list[str], scrolled: int, allowed: int) -> list[str]:
        """Return the region with blank rows on top where it needs less than it had a moment ago.

        Lines that stay take such rows up first, so that the screen does not move up and down.
        """
        had = len(self._drawn)
        if not wanted or len(wanted) >= had:
            self._needed_at = self._now
            return wanted
        if self._now - self._needed_at > SETTLE_S:
            self._needed_at = self._now
            return wanted
        height = min(max(had - scrolled, len(wanted)), allowed)
        return [""] * (height - len(wanted)) + wanted

    def _start(self, columns: int, *, erase: bool) -> str:
        """Return what goes to the region's first row on a screen that is `columns` wide, and empties it if asked to.

        Emptied first where lines are to stay: afterwards, a line that just fills the width would lose its last
        character. Emptied after a resize: a terminal remembers which rows it wrapped, and would join them again.
        """
        above = self._rows_above(columns)
        return (f"\r\x1b[{above}A" if above else "\r") + (_TO_SCREEN_END if erase else "")

    def _rows_above(self, columns: int) -> int:
        if not self._drawn:
            return 0
        if columns >= self._columns or not self._reflows:
            return len(self._drawn) - 1
        return sum(max(-(-width(line) // columns), 1) for line in self._drawn) - 1


def _permanent(lines: list[str]) -> str:
    return "".join(f"{line}\r\n" for line in lines)


def _region(lines: list[str]) -> str:
    drawn = f"{_TO_LINE_END}\r\n".join(lines)
    return f"{_WRAP_OFF}{drawn}{_TO_SCREEN_END}{_WRAP_ON}"
