"""The middle of a conversation between a Nix client and a daemon: both handshakes, and messages that are passed on.

To the daemon a relay is the client, to the client it is the daemon. It claims no trust and offers no features.
What this file does not know: operations, and what may be passed on.
Source: `src/libstore/worker-protocol-connection.cc`, `daemon.cc` (Nix 2.8 to 2.36).
"""

from collections.abc import Callable
from typing import Final

from nixmill.nix import wire, worker_protocol
from nixmill.nix.wire import Parser, ProtocolError, Reader
from nixmill.nix.worker_protocol import CLIENT_MAGIC, MAJOR, NEWEST_MINOR, OLDEST_MINOR, SERVER_MAGIC, Send

MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
"""Messages passed on while one request is answered; what exceeds it is dropped, errors excepted."""
LAST: Final = wire.u64(0x616C7473)

_LAST: Final = 0x616C7473
_ERROR: Final = 0x63787470
_SHAPES: Final = {
    0x6F6C6D67: "s",  # a line
    0x53545254: "uuusfu",  # an activity starts
    0x53544F50: "u",  # an activity stops
    0x52534C54: "uuf",  # a result
}
_FEATURES_SINCE: Final = 38
_VERSION_SINCE: Final = 33
_TRUST_SINCE: Final = 35
_NOT_TRUSTED: Final = 2


def daemon_version(reader: Reader, send: Send) -> Parser[int]:
    """Begin to greet a daemon; return the newest minor version that both sides know."""
    send(wire.u64(CLIENT_MAGIC))
    if (yield from reader.u64()) != SERVER_MAGIC:
        raise ProtocolError("What answers is no Nix daemon: the first eight bytes are wrong.")
    return min(_minor((yield from reader.u64()), "daemon"), NEWEST_MINOR)


def greet_daemon(reader: Reader, send: Send, minor: int) -> Parser[str]:
    """Finish greeting a daemon in version `minor`; return its version of Nix, empty where it does not tell."""
    send(wire.u64(MAJOR << 8 | minor))
    if minor >= _FEATURES_SINCE:
        send(wire.strings(()))
        yield from reader.texts()
    send(wire.u64(0) + wire.u64(0))
    nix_version = (yield from reader.text()) if minor >= _VERSION_SINCE else ""
    if minor >= _TRUST_SINCE:
        yield from reader.u64()  # whether it trusts us is nobody else's business
    yield from worker_protocol.messages(reader, worker_protocol.ignore)
    return nix_version


def client_version(reader: Reader, send: Send, minor: int) -> Parser[int]:
    """Begin to greet a client as a daemon that speaks up to `minor`; return the version that both speak."""
    if (yield from reader.u64()) != CLIENT_MAGIC:
        raise ProtocolError("What connects is no Nix client: the first eight bytes are wrong.")
    send(wire.u64(SERVER_MAGIC) + wire.u64(MAJOR << 8 | minor))
    return min(_minor((yield from reader.u64()), "client"), minor)


def client_settings(reader: Reader, send: Send, minor: int) -> Parser[None]:
    """Agree with a client on no features, and read two obsolete settings; it can be greeted then."""
    if minor >= _FEATURES_SINCE:
        for _ in range(_bounded((yield from reader.u64()), 1024)):
            yield from reader.raw(_padded((yield from reader.u64()), 1024))
        send(wire.strings(()))
    if (yield from reader.u64()):
        yield from reader.u64()  # the processor it would like
    yield from reader.u64()


def greeting(minor: int, nix_version: str) -> bytes:
    """Return what a client is told then; `LAST` or an error must follow."""
    version = wire.string(nix_version) if minor >= _VERSION_SINCE else b""
    return version + (wire.u64(_NOT_TRUSTED) if minor >= _TRUST_SINCE else b"")


def error(sentence: str) -> bytes:
    """Return the message that ends a request with an error."""
    name = wire.string("Error")
    return wire.u64(_ERROR) + name + wire.u64(0) + name + wire.string(sentence) + wire.u64(0) + wire.u64(0)


def messages(reader: Reader, send: Send) -> Parser[bytes | None]:
    """Pass on messages until the daemon's answer follows; return the error, as bytes, where one ends the request."""
    room = MESSAGE_BYTES_MAX
    while (kind := (yield from reader.u64())) != _LAST:
        if kind == _ERROR:
            return wire.u64(_ERROR) + (yield from _error(reader))
        if kind not in _SHAPES:
            raise ProtocolError(f"A message of the kind {kind:#x} arrived, which no allowed request leads to.")
        message = wire.u64(kind) + (yield from copy(reader, _SHAPES[kind]))
        room -= len(message)
        if room >= 0:
            send(message)
    return None


def copy(reader: Reader, shape: str) -> Parser[bytes]:
    """Read values of the forms that `shape` names; return them as bytes.

    u: number, s: string, f: list of fields, m: map of strings, o: number that may be absent.
    """
    found = bytearray()
    for letter in shape:
        found += yield from _COPIERS[letter](reader)
    return bytes(found)


def _copy_number(reader: Reader) -> Parser[bytes]:
    return wire.u64((yield from reader.u64()))


def _copy_string(reader: Reader) -> Parser[bytes]:
    return wire.string((yield from reader.blob()))


def _copy_fields(reader: Reader) -> Parser[bytes]:
    count = yield from reader.count()
    found = bytearray(wire.u64(count))
    for _ in range(count):
        kind = yield from reader.u64()
        if kind > 1:
            raise ProtocolError(f"A field of the unknown type {kind} arrived.")
        found += wire.u64(kind) + (yield from _COPIERS["s" if kind else "u"](reader))
    return bytes(found)


def _copy_map(reader: Reader) -> Parser[bytes]:
    count = yield from reader.count()
    found = bytearray(wire.u64(count))
    for _ in range(2 * count):
        found += yield from _copy_string(reader)
    return bytes(found)


def _copy_optional(reader: Reader) -> Parser[bytes]:
    there = yield from reader.u64()
    return wire.u64(there) + ((yield from _copy_number(reader)) if there else b"")


_COPIERS: Final[dict[str, Callable[[Reader], Parser[bytes]]]] = {
    "u": _copy_number,
    "s": _copy_string,
    "f": _copy_fields,
    "m": _copy_map,
    "o": _copy_optional,
}


def _error(reader: Reader) -> Parser[bytes]:
    found = bytearray((yield from copy(reader, "sussu")))
    traces = yield from reader.count()
    found += wire.u64(traces)
    for _ in range(traces):
        found += yield from copy(reader, "us")
    return bytes(found)


def _minor(version: int, side: str) -> int:
    major, minor = version >> 8, version & 0xFF
    if major != MAJOR or minor < OLDEST_MINOR:
        raise ProtocolError(
            f"The {side} speaks protocol {major}.{minor}; 1.{OLDEST_MINOR} (Nix 2.4) or newer is needed."
        )
    return minor


def _bounded(number: int, limit: int) -> int:
    if number > limit:
        raise ProtocolError(f"{number} was announced where at most {limit} make sense.")
    return number


def _padded(length: int, limit: int) -> int:
    return _bounded(length, limit) + -length % 8
