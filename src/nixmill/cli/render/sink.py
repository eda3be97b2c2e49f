"""Where lines go: a file descriptor that is written to in one piece, whatever other programs did to it."""

import errno
import os
from typing import Final, Protocol

_GONE: Final = frozenset({errno.EPIPE, errno.EIO})


class Sink(Protocol):
    """Takes text; one call is one write as far as the system allows."""

    def write(self, text: str) -> None:
        """Write all of `text`; raise `OSError` where the other end is gone."""


class FileSink:
    """A file descriptor such as 2. Unknown characters become `?`, since a log must not die of a glyph."""

    def __init__(self, fd: int, encoding: str = "utf-8", *, optional: bool = False) -> None:
        """Write to `fd`, which stays the caller's to close.

        `optional`: a run goes on when nobody reads this any more (a closed pipe, a terminal that hung up).
        """
        self._fd = fd
        self._encoding = encoding
        self._optional = optional
        self._gone = False

    def write(self, text: str) -> None:
        """Write all of `text`; raise `OSError` where the other end is gone."""
        if self._gone:
            return
        left = memoryview(text.encode(self._encoding, "replace"))
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:
                # A program that shares the terminal (ssh does) has made it non-blocking for all of us.
                os.set_blocking(self._fd, True)
            except OSError as error:
                if not self._optional or error.errno not in _GONE:
                    raise
                self._gone = True  # there is no one left to tell
                return
