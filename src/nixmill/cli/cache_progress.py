"""How far the verification of a cache is, in one line that is drawn anew; in a pipe, a line now and then."""

import os
import time
from typing import Final

from nixmill.cli.render import ci
from nixmill.cli.render.choose import paint_for, terminal_size
from nixmill.cli.render.redraw import Redraw
from nixmill.cli.render.sink import FileSink
from nixmill.core.terminal_text import about, number, size, truncate

_ERR: Final = 2
DRAWN_EVERY_S: Final = 0.1
GUESS_AFTER_S: Final = 2.0
"""Seconds after which a guess at what remains is worth anything."""
BAR: Final = 24


class CacheProgressLine:
    """Shows progress on standard error."""

    def __init__(self) -> None:
        """Begin now."""
        self._paint = paint_for("auto", os.environ, _ERR)
        live = os.isatty(_ERR) and os.environ.get("TERM", "") not in {"", "dumb"}
        live = live and ci.detect(os.environ) is ci.Ci.NONE
        self._redraw = Redraw(FileSink(_ERR, optional=True), lambda: terminal_size(_ERR), live=live)
        self._began = self._drawn = time.monotonic()

    def told(self, done: int, total: int, read: int) -> None:
        """Show how far it is: entries done, entries in all, bytes read."""
        now = time.monotonic()
        if now - self._drawn < DRAWN_EVERY_S:
            return
        self._drawn = now
        text = progress(done, total, read, now - self._began)
        self._redraw.show((), [truncate(text, self._redraw.columns - 1, self._paint.marks.ellipsis)], now)

    def close(self) -> None:
        """Take the line off."""
        self._redraw.close()


def progress(done: int, total: int, read: int, seconds: float) -> str:
    """Return the line."""
    full = BAR * done // max(total, 1)
    left = about(seconds * (total - done) / done) + " left" if done and seconds >= GUESS_AFTER_S else ""
    parts = [f"{number(done)} of {number(total)} paths", size(read), left]
    return f"[{'#' * full}{'.' * (BAR - full)}] " + ", ".join(filter(None, parts))
