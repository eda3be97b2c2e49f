"""The log of one hook's run: a private file of bounded size that begins with the first output and ends with the last.

Where there is too much, what is left out is the middle, and the log says how much that is.
"""

import os
from pathlib import Path
from typing import Final

from nixmill.edge.private_files import create_file, make_directory

LOG_BYTES: Final = 16 * 1024 * 1024
"""Largest log, without the line that tells of a gap."""
TAIL_BYTES: Final = 64 * 1024
"""How much of the end is kept of a log that is too large; at most half of it."""


class HookLog:
    """A log that is being written. Created with its final mode; never overwrites one that is there."""

    def __init__(self, path: Path, most: int = LOG_BYTES) -> None:
        """Create the file; raise `OSError` where that fails."""
        make_directory(path.parent)
        self._descriptor = create_file(path)
        self._tail_max = min(TAIL_BYTES, most // 2)
        self._room = most - self._tail_max
        self._tail = bytearray()
        self._left_out = 0
        self.trouble: OSError | None = None
        """Why the log is incomplete."""

    def write(self, data: bytes) -> None:
        """Take output; what does not fit is dropped from the middle."""
        head, rest = data[: self._room], data[self._room :]
        self._room -= len(head)
        self._append(head)
        self._tail += rest
        if (excess := len(self._tail) - self._tail_max) > 0:
            del self._tail[:excess]
            self._left_out += excess

    def close(self) -> None:
        """Write the end. May be called twice."""
        if self._descriptor < 0:
            return
        if self._left_out:
            self._append(f"\n[nixmill: {self._left_out:,} bytes of output are left out here]\n".encode())
        self._append(bytes(self._tail))
        os.close(self._descriptor)
        self._descriptor = -1

    def _append(self, data: bytes) -> None:
        """Write all; after a trouble nothing more, so that there is no gap that looks like none."""
        view = memoryview(data)
        try:
            while view and self.trouble is None:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self.trouble = error


def read_piece(path: Path, offset: int, limit: int) -> bytes:
    """Return a piece of a log; nothing where there is no log or no more of it."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, offset))
            return file.read(max(0, limit))
    except FileNotFoundError:
        return b""
