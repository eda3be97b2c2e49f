"""What a log's text is about, found in one pass over its bytes: line numbers, phases, the error that matters.

A log knows no lines, only bytes. The index keeps the number of the line at one place in about every 64 KiB, so that a
line is found by counting a little, and goes on where it ended when the log has grown. It takes about 200 bytes of
memory for each mark: 200 KiB for a log of 64 MiB.

The error that matters is the first line, in the last phase that has one, that looks like a compiler's, a test
runner's or make's: a build dies in its last phase, and what `configure` mentions before that is by design.
What this file does not know: where the bytes come from.
Source of the phases: `pkgs/stdenv/generic/setup.sh` of Nixpkgs (`showPhaseHeader`; before 23.11 `header`).
"""

import re
from bisect import bisect_right
from typing import Final, NamedTuple

MARK_BYTES: Final = 64 * 1024
"""Least distance of two marks."""
PHASES_MAX: Final = 200
_UNENDED_MAX: Final = 4096
"""Bytes kept of a line that has not ended: enough to know what it says."""

_OLD_HEADERS: Final = {
    b"unpacking sources": "unpackPhase",
    b"patching sources": "patchPhase",
    b"configuring": "configurePhase",
    b"building": "buildPhase",
    b"running tests": "checkPhase",
    b"installing": "installPhase",
    b"post-installation fixup": "fixupPhase",
    b"running install tests": "installCheckPhase",
}
_PHASE: Final = re.compile(
    rb"\n(?:Running phase: (?P<name>[A-Za-z0-9_.-]{1,60})[ \t\r]*"
    rb'|@nix \{[^\n]{0,100}"phase": ?"(?P<nix>[A-Za-z0-9_.-]{1,60})"[^\n]{0,100}'
    rb"|(?P<old>" + b"|".join(_OLD_HEADERS) + rb"))(?=\n)"
)
_ERROR: Final = re.compile(
    rb"(?<![A-Za-z0-9_./-])(?:"
    rb"(?:[Ff]atal )?[Ee]rror: |error\[E\d+\]|ERROR[: ]"
    rb"|FAILED(?![A-Za-z_])|FAIL[: ]|Traceback \(most recent call last\)|panicked at "
    rb"|Segmentation fault|undefined reference to|CMake Error|fatal: |Killed\n"
    rb")|(?<![A-Za-z0-9_])[A-Z][A-Za-z]{1,60}(?:Error|Exception): "
    rb"|\*\*\* \[[^\n]{1,300}\] (?:Error |Killed|Segmentation|Aborted)"
    rb"|: command not found\n|(?<=\n)not ok \d"
)

_COLOURS: Final = re.compile(rb"\x1b\[[0-9;]*[mK]")
_HINTS: Final = (
    *(b"rror: ", b"rror[E", b"ERROR", b"xception: ", b"FAIL", b"Traceback (", b"panicked at", b"Segmentation fault"),
    *(b"undefined reference", b"CMake Error", b"fatal: ", b"Killed\n", b"*** [", b"command not found", b"\nnot ok "),
)
"""Without one of these there is no error; looking for them takes a tenth of the time of the expression."""


class Phase(NamedTuple):
    """A part of a build."""

    name: str
    line: int
    """The line that announces it, counted from 1."""


class LogIndex:
    """Grows with a log: feed it the bytes from `size` on."""

    def __init__(self) -> None:
        """Begin at the first byte."""
        self.size = 0
        """Bytes seen."""
        self.lines = 0
        """Whole lines seen."""
        self.whole = 0
        """Bytes of whole lines: where the next line begins."""
        self.phases: list[Phase] = []
        self._offsets = [0]
        self._numbers = [1]
        self._unended = b""
        self._error: int | None = None
        self._error_of_phase: int | None = None

    @property
    def error(self) -> int | None:
        """The line with the error that matters; None where no line looks like one."""
        return self._error_of_phase or self._error

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        end = data.rfind(b"\n") + 1
        if end:
            text = b"\n" + self._unended + data[:end]
            self._search(text)
            self._count(data, end)
            self._unended = data[end : end + _UNENDED_MAX]
        else:
            self._unended = (self._unended + data)[:_UNENDED_MAX]
        self.size += len(data)

    def near(self, line: int) -> tuple[int, int]:
        """Return the (offset, line number) of a line's beginning at or a little before `line`."""
        at = max(bisect_right(self._numbers, line) - 1, 0)
        return self._offsets[at], self._numbers[at]

    def near_offset(self, offset: int) -> tuple[int, int]:
        """Return the (offset, line number) of a line's beginning at or a little before a byte."""
        at = max(bisect_right(self._offsets, offset) - 1, 0)
        return self._offsets[at], self._numbers[at]

    def phase_at(self, line: int) -> Phase | None:
        """Return the phase that a line belongs to."""
        at = bisect_right(self.phases, line, key=lambda phase: phase.line) - 1
        return self.phases[at] if at >= 0 else None

    def _count(self, data: bytes, end: int) -> None:
        first = data.find(b"\n") + 1
        begins = self.size + first
        if begins - self._offsets[-1] >= MARK_BYTES:
            self._offsets.append(begins)
            self._numbers.append(self.lines + 2)
        self.lines += data.count(b"\n")
        self.whole = self.size + end

    def _search(self, text: bytes) -> None:
        """Look for phases and errors in whole lines after a line feed; the first of them is line `lines` + 1."""
        if b"\x1b" in text:
            text = _COLOURS.sub(b"", text)
        at, line = 1, self.lines + 1
        for found in _PHASE.finditer(text):
            self._look(text, at, found.start() + 1, line)
            line += text.count(b"\n", at, found.start() + 1)
            at = found.start() + 1
            self._begin(found, line)
        self._look(text, at, len(text), line)

    def _look(self, text: bytes, start: int, end: int, line: int) -> None:
        if self._error_of_phase is not None or not any(text.find(hint, start, end) >= 0 for hint in _HINTS):
            return
        if found := _ERROR.search(text, start, end):
            self._error_of_phase = line + text.count(b"\n", start, found.start())

    def _begin(self, found: re.Match[bytes], line: int) -> None:
        name = found["name"] or found["nix"]
        shown = name.decode() if name else _OLD_HEADERS[found["old"]]
        if self.phases and (self.phases[-1].name == shown or len(self.phases) == PHASES_MAX):
            return
        self.phases.append(Phase(shown, line))
        self._error = self._error_of_phase or self._error
        self._error_of_phase = None
