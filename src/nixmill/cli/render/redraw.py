"""Lines that stay and, below them on a terminal, a few lines that are drawn anew: for what a server tells of a run.

Fewer tricks than `live`, which follows events: here whole frames come once a second. In a pipe only lines that stay are
written, and now and then the last line of the frame, so that silence means something.
"""

from collections.abc import Callable, Sequence
from typing import Final

from nixmill.cli.render.sink import Sink

HEARTBEAT_S: Final = 60.0
Size = Callable[[], tuple[int, int]]
"""Returns the terminal's columns and rows now."""
_BEGIN: Final = "\x1b[?2026h\x1b[?25l"
_END: Final = "\x1b[?2026l"
_WRAP_OFF: Final = "\x1b[?7l"
_WRAP_ON: Final = "\x1b[?7h"
_TO_SCREEN_END: Final = "\x1b[J"
_SHOW_CURSOR: Final = "\x1b[?25h"


class Redraw:
    """Shows frames."""

    def __init__(self, sink: Sink, size: Size, *, live: bool) -> None:
        """Write to `sink`; `live`: it is a terminal that understands cursor movement."""
        self._sink, self._size, self._live = sink, size, live
        self._drawn = 0
        self._wrote_at = float("-inf")

    @property
    def columns(self) -> int:
        """How wide a line may be."""
        return self._size()[0]

    @property
    def rows(self) -> int:
        """How many rows a frame may take: a third of the terminal, but one at least."""
        return max(self._size()[1] // 3, 1)

    def show(self, stays: Sequence[str], frame: Sequence[str], now: float) -> None:
        """Write lines that stay, then the frame."""
        if not self._live:
            self._plain(stays, frame, now)
            return
        lines = "".join(f"{line}\r\n" for line in stays)
        drawn = _WRAP_OFF + "\r\n".join(frame) + _TO_SCREEN_END + _WRAP_ON if frame else ""
        self._sink.write(_BEGIN + self._home() + lines + drawn + ("" if frame else _SHOW_CURSOR) + _END)
        self._drawn = len(frame)

    def close(self) -> None:
        """Take the frame off and show the cursor."""
        if self._live and self._drawn:
            self.show((), (), 0.0)

    def _home(self) -> str:
        """Return what goes to the frame's first row and empties it. A frame's lines never wrap: one is one row."""
        above = self._drawn - 1
        return (f"\r\x1b[{above}A" if above > 0 else "\r") + _TO_SCREEN_END

    def _plain(self, stays: Sequence[str], frame: Sequence[str], now: float) -> None:
        heartbeat = frame[-1:] if not stays and now - self._wrote_at >= HEARTBEAT_S else []
        lines = [*stays, *heartbeat]
        if lines:
            self._wrote_at = now
            self._sink.write("".join(f"{line.rstrip()}\n" for line in lines))
