"""What clients ask of a Nix daemon: every operation's number and the form of its arguments. Bytes only, no I/O.

A request is read as a whole, with a limit on every length, or not at all; framed data that follows some requests is
read by `frame_length`, piece by piece. `encode` writes what was read, so that nothing is passed on that was not parsed.
What this file does not know: which operations may be done, and what they answer (`operations`).
Source: `src/libstore/worker-protocol.hh`, `daemon.cc`, `remote-store.cc` (Nix 2.8 to 2.36); protocol 1.32 and newer.
"""

from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from nixmill.nix import wire
from nixmill.nix.wire import Parser, ProtocolError, Reader

NAME_BYTES_MAX: Final = 1024
"""Longest path, name or hash."""
TEXT_BYTES_MAX: Final = 64 * 1024
"""Longest setting, signature or description of a realisation."""
CONTENT_BYTES_MAX: Final = 16 * 1024 * 1024
"""Largest file that comes as one string."""
LIST_ITEMS_MAX: Final = 64 * 1024
REQUEST_BYTES_MAX: Final = 32 * 1024 * 1024
"""Largest request, not counting framed data."""

Value = int | str | bytes | list[str] | dict[str, str] | list[list[str]]


class Opcode(IntEnum):
    """Every operation of the protocol since 1.32, and those that older clients asked for."""

    IS_VALID_PATH = 1
    QUERY_REFERRERS = 6
    ADD_TO_STORE = 7
    ADD_TEXT_TO_STORE = 8
    BUILD_PATHS = 9
    ENSURE_PATH = 10
    ADD_TEMP_ROOT = 11
    ADD_INDIRECT_ROOT = 12
    SYNC_WITH_GC = 13
    FIND_ROOTS = 14
    QUERY_DERIVER = 18
    SET_OPTIONS = 19
    COLLECT_GARBAGE = 20
    QUERY_SUBSTITUTABLE_PATH_INFO = 21
    QUERY_DERIVATION_OUTPUTS = 22
    QUERY_ALL_VALID_PATHS = 23
    QUERY_PATH_INFO = 26
    QUERY_DERIVATION_OUTPUT_NAMES = 28
    QUERY_PATH_FROM_HASH_PART = 29
    QUERY_SUBSTITUTABLE_PATH_INFOS = 30
    QUERY_VALID_PATHS = 31
    QUERY_SUBSTITUTABLE_PATHS = 32
    QUERY_VALID_DERIVERS = 33
    OPTIMISE_STORE = 34
    VERIFY_STORE = 35
    BUILD_DERIVATION = 36
    ADD_SIGNATURES = 37
    NAR_FROM_PATH = 38
    ADD_TO_STORE_NAR = 39
    QUERY_MISSING = 40
    QUERY_DERIVATION_OUTPUT_MAP = 41
    REGISTER_DRV_OUTPUT = 42
    QUERY_REALISATION = 43
    ADD_MULTIPLE_TO_STORE = 44
    ADD_BUILD_LOG = 45
    BUILD_PATHS_WITH_RESULTS = 46
    ADD_PERM_ROOT = 47


_SHAPES: Final = {
    Opcode.IS_VALID_PATH: "n",
    Opcode.QUERY_REFERRERS: "n",
    Opcode.ADD_TO_STORE: "nnlu",
    Opcode.ADD_TEXT_TO_STORE: "ncl",
    Opcode.BUILD_PATHS: "lu",
    Opcode.ENSURE_PATH: "n",
    Opcode.ADD_TEMP_ROOT: "n",
    Opcode.ADD_INDIRECT_ROOT: "t",
    Opcode.SYNC_WITH_GC: "",
    Opcode.FIND_ROOTS: "",
    Opcode.QUERY_DERIVER: "n",
    Opcode.SET_OPTIONS: "uuuuuuuuuuuum",
    Opcode.COLLECT_GARBAGE: "uluuuuu",
    Opcode.QUERY_SUBSTITUTABLE_PATH_INFO: "n",
    Opcode.QUERY_DERIVATION_OUTPUTS: "n",
    Opcode.QUERY_ALL_VALID_PATHS: "",
    Opcode.QUERY_PATH_INFO: "n",
    Opcode.QUERY_DERIVATION_OUTPUT_NAMES: "n",
    Opcode.QUERY_PATH_FROM_HASH_PART: "n",
    Opcode.QUERY_SUBSTITUTABLE_PATH_INFOS: "m",
    Opcode.QUERY_VALID_PATHS: "lu",
    Opcode.QUERY_SUBSTITUTABLE_PATHS: "l",
    Opcode.QUERY_VALID_DERIVERS: "n",
    Opcode.OPTIMISE_STORE: "",
    Opcode.VERIFY_STORE: "uu",
    Opcode.BUILD_DERIVATION: "nqlntLmu",
    Opcode.ADD_SIGNATURES: "nL",
    Opcode.NAR_FROM_PATH: "n",
    Opcode.ADD_TO_STORE_NAR: "nnnluuuLnuu",
    Opcode.QUERY_MISSING: "l",
    Opcode.QUERY_DERIVATION_OUTPUT_MAP: "n",
    Opcode.REGISTER_DRV_OUTPUT: "t",
    Opcode.QUERY_REALISATION: "n",
    Opcode.ADD_MULTIPLE_TO_STORE: "uu",
    Opcode.ADD_BUILD_LOG: "n",
    Opcode.BUILD_PATHS_WITH_RESULTS: "lu",
    Opcode.ADD_PERM_ROOT: "nt",
}
"""n: short string, t: string, c: contents as bytes, u: number, l: list of short strings, L: list of strings,
m: map of strings, q: list of four strings each."""

FRAMED: Final = frozenset(
    {Opcode.ADD_TO_STORE, Opcode.ADD_TO_STORE_NAR, Opcode.ADD_MULTIPLE_TO_STORE, Opcode.ADD_BUILD_LOG}
)
"""Requests that framed data follows."""

PATH_INFO_SHAPE: Final = "nnnluuuLn"
"""A path and what is known of it: deriver, hash, references, time, size, ultimate, signatures, content address."""


class Request(NamedTuple):
    """One operation and its arguments, in the protocol's order."""

    opcode: Opcode
    values: tuple[Value, ...]


def read(reader: Reader) -> Parser[Request]:
    """Read one request; raise `ProtocolError` where it is none, or longer than any client's."""
    number = yield from reader.u64()
    try:
        opcode = Opcode(number)
    except ValueError:
        raise ProtocolError(f"The operation {number} is not one of those that Nix 2.4 to 2.36 know.") from None
    return Request(opcode, (yield from values(reader, _SHAPES[opcode])))


def values(reader: Reader, shape: str) -> Parser[tuple[Value, ...]]:
    """Read values of the forms that `shape` names, one letter each."""
    found: list[Value] = []
    room = [REQUEST_BYTES_MAX]
    for letter in shape:
        found.append((yield from _READERS[letter](reader, room)))  # noqa: PERF401 - a generator cannot yield inside one
    return tuple(found)


def frame_length(reader: Reader) -> Parser[int]:
    """Read how many bytes of framed data follow; 0 says that it ends."""
    return (yield from reader.u64())


def encode(opcode: Opcode, *arguments: int | str | bytes | Sequence[str]) -> bytes:
    """Return a request as bytes. Framed data is the caller's business."""
    return wire.u64(opcode) + b"".join(map(_encoded, arguments))


def _encoded(argument: int | str | bytes | Sequence[str]) -> bytes:
    if isinstance(argument, int):
        return wire.u64(argument)
    if isinstance(argument, str | bytes):
        return wire.string(argument)
    return wire.strings(argument)


def _blob(reader: Reader, limit: int, room: list[int]) -> Parser[bytes]:
    """Read a string of at most `limit` bytes that fits into what the request has left."""
    length = yield from reader.u64()
    if length > limit or length > room[0]:
        raise ProtocolError(f"A string of {length} bytes was announced where {min(limit, room[0])} are allowed.")
    room[0] -= length + 8
    data = yield from reader.raw(length + -length % 8)
    if data.count(0, length) != len(data) - length:
        raise ProtocolError("A string is padded with something other than zeros.")
    return data[:length]


def _text(reader: Reader, limit: int, room: list[int]) -> Parser[str]:
    return (yield from _blob(reader, limit, room)).decode("utf-8", "surrogateescape")


def _count(reader: Reader) -> Parser[int]:
    number = yield from reader.u64()
    if number > LIST_ITEMS_MAX:
        raise ProtocolError(f"A list of {number} items was announced where {LIST_ITEMS_MAX} are allowed.")
    return number


def _texts(reader: Reader, limit: int, room: list[int]) -> Parser[list[str]]:
    found: list[str] = []
    for _ in range((yield from _count(reader))):
        found.append((yield from _text(reader, limit, room)))  # noqa: PERF401 - a generator cannot yield inside one
    return found


def _pairs(reader: Reader, room: list[int]) -> Parser[Value]:
    found: dict[str, str] = {}
    for _ in range((yield from _count(reader))):
        key = yield from _text(reader, TEXT_BYTES_MAX, room)
        found[key] = yield from _text(reader, CONTENT_BYTES_MAX, room)
    return found


def _quadruples(reader: Reader, room: list[int]) -> Parser[Value]:
    found: list[list[str]] = []
    for _ in range((yield from _count(reader))):
        quadruple: list[str] = []
        for _ in range(4):
            quadruple.append((yield from _text(reader, NAME_BYTES_MAX, room)))  # noqa: PERF401 - likewise
        found.append(quadruple)
    return found


def _read_number(reader: Reader, _: list[int]) -> Parser[Value]:
    return (yield from reader.u64())


def _read_name(reader: Reader, room: list[int]) -> Parser[Value]:
    return (yield from _text(reader, NAME_BYTES_MAX, room))


def _read_text(reader: Reader, room: list[int]) -> Parser[Value]:
    return (yield from _text(reader, TEXT_BYTES_MAX, room))


def _read_content(reader: Reader, room: list[int]) -> Parser[Value]:
    return (yield from _blob(reader, CONTENT_BYTES_MAX, room))


def _read_names(reader: Reader, room: list[int]) -> Parser[Value]:
    return (yield from _texts(reader, NAME_BYTES_MAX, room))


def _read_texts(reader: Reader, room: list[int]) -> Parser[Value]:
    return (yield from _texts(reader, TEXT_BYTES_MAX, room))


_READERS: Final[dict[str, Callable[[Reader, list[int]], Parser[Value]]]] = {
    "u": _read_number,
    "n": _read_name,
    "t": _read_text,
    "c": _read_content,
    "l": _read_names,
    "L": _read_texts,
    "m": _pairs,
    "q": _quadruples,
}
