"""The conversation with a Nix daemon: handshake, and the messages that precede every answer. Bytes only, no I/O.

One connection is one worker process is one operation at a time. Requests may be written ahead; answers come in order.
After any `RemoteError` or `ProtocolError` the connection is useless: close it, a new one costs milliseconds.
What this file does not know: which operations there are (`operations`), and sockets (`edge.daemon`).
Source: `src/libstore/worker-protocol*.{hh,cc}`, `daemon.cc` (Nix 2.8 to 2.35).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic, TypeVar

import msgspec

from nixmill.nix import log_events, wire
from nixmill.nix.log_events import Field, LogEvent
from nixmill.nix.wire import Parser, ProtocolError, Reader

T = TypeVar("T")

CLIENT_MAGIC: Final = 0x6E697863
SERVER_MAGIC: Final = 0x6478696F
MAJOR: Final = 1
OLDEST_MINOR: Final = 32
"""Nix 2.4. Older daemons answer errors as text and lack what we need."""
NEWEST_MINOR: Final = 38
_FEATURES_SINCE: Final = 38
_VERSION_SINCE: Final = 33
_TRUST_SINCE: Final = 35

_INTERESTING: Final = frozenset(log_events.ActivityKind) - {
    log_events.ActivityKind.BUILDS,
    log_events.ActivityKind.REALISE,
    log_events.ActivityKind.COPY_PATHS,
}


class _Kind(IntEnum):
    """What a message is: four letters each, as Nix chose them."""

    LAST = 0x616C7473
    NEXT = 0x6F6C6D67
    ERROR = 0x63787470
    START = 0x53545254
    STOP = 0x53544F50
    RESULT = 0x52534C54


Listener = Callable[[LogEvent], None]
Send = Callable[[bytes], None]


class RemoteError(Exception):
    """The daemon could not do what was asked; the message is its own, without ANSI codes."""

    def __init__(self, message: str, level: int = 0) -> None:
        """Keep the daemon's verbosity level of the error (0 is an error)."""
        super().__init__(message)
        self.level = level


class UnsupportedError(Exception):
    """The daemon is too old for this; the message says which operation, and what it speaks."""


class DaemonFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the handshake told."""

    minor: int
    """The protocol spoken is 1.`minor`."""
    nix_version: str = ""
    """Empty before Nix 2.7."""
    trusted: bool | None = None
    """Whether we are a trusted user; None where the daemon does not say (before Nix 2.15)."""
    features: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Operation(Generic[T]):
    """A request and how to read its answer, which follows the messages."""

    name: str
    request: bytes
    answer: Callable[[Reader], Parser[T]]
    since: int = OLDEST_MINOR

    def check(self, facts: DaemonFacts) -> None:
        """Raise `UnsupportedError` where this daemon would not understand; it would close the connection."""
        if facts.minor < self.since:
            raise UnsupportedError(
                f"The daemon (Nix {facts.nix_version or 'before 2.7'}, protocol 1.{facts.minor}) does not know the "
                f"operation {self.name}, which came with protocol 1.{self.since}. Use a newer Nix there."
            )


def ignore(_: LogEvent) -> None:
    """Listen to nothing."""


def handshake(reader: Reader, send: Send, newest_minor: int = NEWEST_MINOR) -> Parser[DaemonFacts]:
    """Open the conversation; raise `UnsupportedError` where the daemon is too old.

    Waits for the daemon's version before it tells its own, because old daemons decide on the number a client sends.
    """
    send(wire.u64(CLIENT_MAGIC))
    if (yield from reader.u64()) != SERVER_MAGIC:
        raise ProtocolError("What answers is no Nix daemon: the first eight bytes are wrong.")
    minor = min(_minor((yield from reader.u64())), newest_minor)
    send(wire.u64(MAJOR << 8 | minor))
    if minor >= _FEATURES_SINCE:
        send(wire.strings(()))
        yield from reader.texts()  # what the daemon offers; we offer nothing, so nothing is in use
    send(wire.u64(0) + wire.u64(0))  # no CPU affinity, no reserved space: both obsolete
    nix_version = (yield from reader.text()) if minor >= _VERSION_SINCE else ""
    trust = (yield from reader.u64()) if minor >= _TRUST_SINCE else 0
    yield from messages(reader, ignore)
    return DaemonFacts(minor=minor, nix_version=nix_version, trusted={1: True, 2: False}.get(trust))


def _minor(version: int) -> int:
    major, minor = version >> 8, version & 0xFF
    if major != MAJOR or minor < OLDEST_MINOR:
        raise UnsupportedError(
            f"The daemon speaks protocol {major}.{minor}; nixmill needs 1.{OLDEST_MINOR} (Nix 2.4) or newer."
        )
    return minor


def conclude(operation: Operation[T], reader: Reader, listen: Listener) -> Parser[T]:
    """Read everything that answers one operation; raise `RemoteError` where it failed."""
    yield from messages(reader, listen)
    return (yield from operation.answer(reader))


def conclude_all(operations: Sequence[Operation[T]], reader: Reader, listen: Listener) -> Parser[list[T]]:
    """Read the answers to operations whose requests were written one after the other."""
    found: list[T] = []
    for operation in operations:
        found.append((yield from conclude(operation, reader, listen)))  # noqa: PERF401 - cannot yield in one
    return found


def messages(reader: Reader, listen: Listener) -> Parser[None]:
    """Tell `listen` the events until the daemon says that its answer follows; raise `RemoteError` for an error."""
    while True:
        kind = yield from reader.u64()
        match kind:
            case _Kind.LAST:
                return
            case _Kind.NEXT:
                listen(log_events.Message((yield from reader.text())))
            case _Kind.RESULT:
                yield from _result(reader, listen)
            case _Kind.START:
                yield from _started(reader, listen)
            case _Kind.STOP:
                listen(log_events.Stopped((yield from reader.u64())))
            case _Kind.ERROR:
                raise (yield from _error(reader))
            case _:
                raise ProtocolError(f"A message of the unknown kind {kind:#x} arrived.")


def _started(reader: Reader, listen: Listener) -> Parser[None]:
    activity = yield from reader.u64()
    yield from reader.u64()  # level
    kind = yield from reader.u64()
    text = yield from reader.text()
    fields = yield from _fields(reader)
    yield from reader.u64()  # parent
    if kind in _INTERESTING:
        listen(log_events.Started(activity, kind, log_events.plain(text), fields))


def _result(reader: Reader, listen: Listener) -> Parser[None]:
    activity = yield from reader.u64()
    kind = yield from reader.u64()
    fields = yield from _fields(reader)
    event = log_events.result(kind, activity, fields)
    if event is not None:
        listen(event)


def _fields(reader: Reader) -> Parser[tuple[Field, ...]]:
    found: list[Field] = []
    for _ in range((yield from reader.count())):
        kind = yield from reader.u64()
        if kind > 1:
            raise ProtocolError(f"A field of the unknown type {kind} arrived.")
        found.append((yield from reader.text()) if kind else (yield from reader.u64()))
    return tuple(found)


def _error(reader: Reader) -> Parser[RemoteError]:
    yield from reader.text()  # always "Error"
    level = yield from reader.u64()
    yield from reader.text()  # a name nobody uses
    message = yield from reader.text()
    yield from _no_position(reader)
    traces = []
    for _ in range((yield from reader.count())):
        yield from _no_position(reader)
        traces.append((yield from reader.text()))
    return RemoteError(log_events.plain(_joined(message, traces)), level)


def _joined(message: str, traces: Sequence[str]) -> str:
    return "\n".join((message, *(f"… {trace}" for trace in traces)))


def _no_position(reader: Reader) -> Parser[None]:
    if (yield from reader.u64()):
        raise ProtocolError("An error with a position arrived; no daemon sends one.")
