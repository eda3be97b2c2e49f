"""The wire format of Nix's daemon: 64-bit integers, padded strings, lists. Bytes only, no I/O.

Writing is plain functions that return bytes. Reading is a `Reader` that is fed whatever arrives; its methods are
generators that yield while bytes are lacking and return the value, so that a parser of any message reads as straight
code with `yield from` and works the same whether it is fed whole or byte by byte.

What this file does not know: operations, versions, meaning. Strings are bytes on the wire; we read them as UTF-8 and
keep what is not valid as surrogate escapes, so that nothing is lost and nothing raises.
Source: `src/libutil/serialise.cc` (Nix 2.34).
"""

import struct
from collections.abc import Generator, Iterable, Mapping
from typing import Final, TypeVar

T = TypeVar("T")

Parser = Generator[None, None, T]
"""Yields each time it needs more bytes than have been fed; returns what it parsed."""

STRING_BYTES_MAX: Final = 64 * 1024 * 1024
"""Longest string believed. Derivations sent as strings stay far below; garbage read as a length does not."""
ITEMS_MAX: Final = 64 * 1024 * 1024
"""Longest list believed, in items."""

_U64: Final = struct.Struct("<Q")
_PADDING: Final = tuple(b"\0" * n for n in range(8))
_COMPACT_AT: Final = 256 * 1024


class ProtocolError(Exception):
    """The other side sent bytes that make no sense; the message says what was expected. The connection is useless."""


def u64(number: int) -> bytes:
    """Return an unsigned number below 2⁶⁴ as eight bytes; booleans are 0 and 1."""
    return _U64.pack(number)


def string(text: str | bytes) -> bytes:
    """Return a string with its length in front and zeros up to a multiple of eight bytes behind."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return _U64.pack(len(data)) + data + _PADDING[-len(data) % 8]


def strings(texts: Iterable[str]) -> bytes:
    """Return a list of strings with its number of items in front."""
    encoded = [string(text) for text in texts]
    return u64(len(encoded)) + b"".join(encoded)


def string_map(pairs: Mapping[str, str]) -> bytes:
    """Return a map of strings with its number of pairs in front."""
    return u64(len(pairs)) + b"".join(string(key) + string(value) for key, value in pairs.items())


def frame(data: bytes) -> bytes:
    """Return one frame of framed data: the length, then the bytes without padding; an empty frame ends the data."""
    return _U64.pack(len(data)) + data


END_OF_FRAMES: Final = frame(b"")


class Reader:
    """Bytes that have arrived and not yet been read. Not reusable once a parser raised `ProtocolError`."""

    def __init__(self, data: bytes = b"") -> None:
        """Start with `data`, as if it had been fed."""
        self._data = bytearray(data)
        self._at = 0

    def __len__(self) -> int:
        """Return how many bytes wait to be read."""
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """Append what arrived."""
        if self._at >= _COMPACT_AT:
            del self._data[: self._at]
            self._at = 0
        self._data += data

    def u64(self) -> Parser[int]:
        """Read a number."""
        while len(self._data) - self._at < 8:
            yield
        number: int = _U64.unpack_from(self._data, self._at)[0]
        self._at += 8
        return number

    def boolean(self) -> Parser[bool]:
        """Read a number that is 0 or 1; anything else counts as true, as Nix has it."""
        return (yield from self.u64()) != 0

    def count(self) -> Parser[int]:
        """Read the number of items of a list."""
        number = yield from self.u64()
        if number > ITEMS_MAX:
            raise ProtocolError(f"A list of {number} items was announced; at most {ITEMS_MAX} make sense.")
        return number

    def raw(self, length: int) -> Parser[bytes]:
        """Read exactly that many bytes, without padding."""
        while len(self._data) - self._at < length:
            yield
        data = bytes(memoryview(self._data)[self._at : self._at + length])
        self._at += length
        return data

    def available(self, limit: int) -> Parser[bytes]:
        """Read what is there, at least one byte and at most `limit`."""
        while len(self._data) == self._at:
            yield
        return (yield from self.raw(min(limit, len(self))))

    def blob(self) -> Parser[bytes]:
        """Read a string as bytes."""
        length = yield from self.u64()
        if length > STRING_BYTES_MAX:
            raise ProtocolError(f"A string of {length} bytes was announced; at most {STRING_BYTES_MAX} make sense.")
        data = yield from self.raw(length + -length % 8)
        if data.count(0, length) != len(data) - length:
            raise ProtocolError("A string is padded with something other than zeros.")
        return data[:length]

    def text(self) -> Parser[str]:
        """Read a string."""
        return (yield from self.blob()).decode("utf-8", "surrogateescape")

    def texts(self) -> Parser[list[str]]:
        """Read a list of strings."""
        found: list[str] = []
        for _ in range((yield from self.count())):
            found.append((yield from self.text()))  # noqa: PERF401 - a generator cannot yield inside a comprehension
        return found

    def text_map(self) -> Parser[dict[str, str]]:
        """Read a map of strings."""
        found: dict[str, str] = {}
        for _ in range((yield from self.count())):
            key = yield from self.text()
            found[key] = yield from self.text()
        return found


def parse(parser: Parser[T], reader: Reader) -> T:
    """Return what `parser` makes of all that `reader` holds; raise `ProtocolError` for too few or too many bytes."""
    try:
        next(parser)
    except StopIteration as stop:
        if len(reader):
            raise ProtocolError(f"{len(reader)} bytes follow where the message should end.") from None
        value: T = stop.value
        return value
    raise ProtocolError("The message stops in the middle.")
