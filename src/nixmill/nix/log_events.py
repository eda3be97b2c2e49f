"""What a daemon tells while it works: activities that start and stop, lines of log, messages.

Only what somebody reads becomes an event: builds, substitutions, copies, waiting for locks, post-build hooks, lines,
phases and messages. Progress counters are most of the stream and are dropped by whoever parses it.
Activity ids are unique on one connection only. Source: `src/libutil/include/nix/util/logging.hh` (Nix 2.34).
"""

import re
from enum import IntEnum
from typing import Final

import msgspec


class ActivityKind(IntEnum):
    """Nix's numbers; kinds that are not here are of no interest."""

    COPY_PATH = 100
    FILE_TRANSFER = 101
    REALISE = 102
    COPY_PATHS = 103
    BUILDS = 104
    BUILD = 105
    SUBSTITUTE = 108
    POST_BUILD_HOOK = 110
    BUILD_WAITING = 111


class ResultKind(IntEnum):
    """Nix's numbers; kinds that are not here are counters."""

    BUILD_LOG_LINE = 101
    SET_PHASE = 104
    POST_BUILD_LOG_LINE = 107


Field = int | str


class Started(msgspec.Struct, frozen=True, gc=False):
    """An activity began. `kind` may be a number that `ActivityKind` lacks."""

    id: int
    kind: int
    text: str
    fields: tuple[Field, ...]


class Stopped(msgspec.Struct, frozen=True, gc=False):
    """An activity ended."""

    id: int


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """A builder (or, with `from_hook`, a post-build hook) printed a line, given here raw and without its end."""

    id: int
    text: str
    from_hook: bool = False


class PhaseBegan(msgspec.Struct, frozen=True, gc=False):
    """A builder said that a phase begins."""

    id: int
    name: str


class Message(msgspec.Struct, frozen=True, gc=False):
    """The daemon said something for people; may hold ANSI codes and several lines."""

    text: str


LogEvent = Started | Stopped | LogLine | PhaseBegan | Message

_ANSI: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_KEPT: Final = re.compile(r"note: keeping build directory ['\"‘“]?(/[^'\"’”\n]*)")


def plain(text: str) -> str:
    """Return `text` without ANSI codes."""
    return _ANSI.sub("", text) if "\x1b" in text else text


def result(kind: int, activity: int, fields: tuple[Field, ...]) -> LogEvent | None:
    """Return the event a result message stands for; None for a counter."""
    if not fields:
        return None
    text = str(fields[0])
    match kind:
        case ResultKind.BUILD_LOG_LINE:
            return LogLine(activity, text)
        case ResultKind.POST_BUILD_LOG_LINE:
            return LogLine(activity, text, from_hook=True)
        case ResultKind.SET_PHASE:
            return PhaseBegan(activity, text)
        case _:
            return None


def kept_directory(message: str) -> str | None:
    """Return the directory of a failed build that a message says was kept."""
    found = _KEPT.search(plain(message))
    return found[1] if found else None
