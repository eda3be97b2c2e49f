"""Nix's evaluation errors as text: the message, where it happened, and the trace around it.

Two layouts are understood. Up to Nix 2.18 the message comes first and frames follow; since 2.19 frames come first and
the message last, after a second `error:`. Both indent continuation lines by seven spaces.
Source: `showErrorInfo` in `src/libutil/error.cc` (2.8.0, 2.34).
What this file does not know: what kind of fault a message stands for.
"""

import re
from typing import Final

import msgspec

_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_AT: Final = re.compile(r"\s+at (\S.*):(\d+):(\d+):?\s*\Z")
_FRAME: Final = re.compile(r"\s+… ")
_SECOND_ERROR: Final = re.compile(r"\s+error: ?")
_FIRST_ERROR: Final = re.compile(r"(?:error \(ignored\): )?error: ?")
_HINT: Final = re.compile(r"\s*\(.*use '--show-trace'.*\)\s*\Z")


class EvalMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One error taken apart."""

    message: str
    """Nix's own words without `error:`, unindented; may have several lines."""
    positions: tuple[str, ...] = ()
    """`file:line:column`: of the fault itself where Nix gave it, then of the frames around it, innermost first."""
    trace: str = ""
    """Everything else Nix printed: frames and excerpts, as printed."""
    frames: tuple[str, ...] = ()
    """What each frame says, innermost first, such as `while calling the 'throw' builtin`."""


def strip_ansi(text: str) -> str:
    """Return `text` without terminal sequences and control characters; newlines and tabs stay."""
    return _CONTROL.sub("", _ANSI.sub("", text)) if _CONTROL.search(text) else text


def parse(text: str) -> EvalMessage:
    """Take apart what Nix prints for an error; text in no known layout becomes the message as it is."""
    lines = strip_ansi(text).split("\n")
    lines[0] = _FIRST_ERROR.sub("", lines[0], count=1)
    start = 0
    if not lines[0].strip():
        start = next((i for i, line in enumerate(lines) if i > 0 and _SECOND_ERROR.match(line)), 0)
    end = _message_end(lines, start)
    frames_first = start > 0
    around = lines[1:start] if frames_first else lines[end:]
    own = _positions(lines[end : end + 2], frames_first=False)[:1]
    rest = _positions(around if frames_first else around[2 if own else 0 :], frames_first=frames_first)
    return EvalMessage(
        message=_message(lines[start:end]),
        positions=own + rest,
        trace="\n".join(around).strip("\n"),
        frames=_frames(around, frames_first=frames_first),
    )


def _message_end(lines: list[str], start: int) -> int:
    for i in range(start + 1, len(lines)):
        if _AT.match(lines[i]) or _FRAME.match(lines[i]):
            return i
    return len(lines)


def _message(lines: list[str]) -> str:
    first = _SECOND_ERROR.sub("", lines[0], count=1) if lines else ""
    rest = [line[7:] if line[:7].isspace() else line for line in lines[1:] if not _HINT.match(line)]
    return "\n".join([first, *rest]).strip()


def _positions(lines: list[str], *, frames_first: bool) -> tuple[str, ...]:
    found = [":".join(at.groups()) for line in lines if (at := _AT.match(line))]
    return tuple(reversed(found)) if frames_first else tuple(found)


def _frames(lines: list[str], *, frames_first: bool) -> tuple[str, ...]:
    found = [line.strip()[2:] for line in lines if _FRAME.match(line)]
    return tuple(reversed(found)) if frames_first else tuple(found)
