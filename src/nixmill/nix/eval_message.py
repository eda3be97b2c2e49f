"""Nix's evaluation errors as text: the message, where it happened, and the frames around it.

Two layouts are understood. Up to Nix 2.18 the message comes first and frames follow, innermost first; since 2.19
frames come first, outermost first, and the message last, after a second `error:`. Continuation lines are indented by
seven spaces.
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


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One step of the evaluation that led to the fault."""

    text: str
    """What was being done, such as `while calling the 'throw' builtin`; empty for the place of the fault itself."""
    position: str = ""
    """`file:line:column`; empty where Nix gave none."""
    block: str = ""
    """The frame as Nix printed it, with its excerpt of the source."""


class EvalMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One error taken apart."""

    message: str
    """Nix's own words without `error:`, unindented; may have several lines."""
    frames: tuple[Frame, ...] = ()
    """Innermost first; the first has no text where Nix says where the fault itself lies."""


def strip_ansi(text: str) -> str:
    """Return `text` without terminal sequences and control characters; newlines and tabs stay."""
    return _CONTROL.sub("", _ANSI.sub("", text)) if _CONTROL.search(text) else text


def parse(text: str) -> EvalMessage:
    """Take apart what Nix prints for an error; text in no known layout becomes the message as it is."""
    lines = [line for line in strip_ansi(text).split("\n") if not _HINT.match(line)]
    lines[0] = _FIRST_ERROR.sub("", lines[0], count=1)
    start = 0
    if not lines[0].strip():
        start = next((i for i, line in enumerate(lines) if i > 0 and _SECOND_ERROR.match(line)), 0)
    end = next((i for i in range(start + 1, len(lines)) if _begins_frame(lines[i])), len(lines))
    before = _frames(lines[1:start]) if start else []
    return EvalMessage(message=_message(lines[start:end]), frames=(*_frames(lines[end:]), *reversed(before)))


def _begins_frame(line: str) -> bool:
    return bool(_FRAME.match(line) or _AT.match(line))


def _message(lines: list[str]) -> str:
    first = _SECOND_ERROR.sub("", lines[0], count=1)
    rest = [line[7:] if line[:7].isspace() else line for line in lines[1:]]
    return "\n".join([first, *rest]).strip()


def _frames(lines: list[str]) -> list[Frame]:
    blocks: list[list[str]] = []
    for line in lines:
        if _FRAME.match(line) or not blocks:
            blocks.append([line])
        else:
            blocks[-1].append(line)
    return [_frame(block) for block in blocks if "".join(block).strip()]


def _frame(block: list[str]) -> Frame:
    text = block[0].strip()[2:] if _FRAME.match(block[0]) else ""
    at = next((found for line in block if (found := _AT.match(line))), None)
    printed = "\n".join(block).strip("\n")
    return Frame(text=text, position=":".join(at.groups()) if at else "", block=printed)
