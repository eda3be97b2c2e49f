"""Nix archives as they pass by. A NAR says nothing of its length, so that only reading it tells where it ends.

What this file does not know: names and contents; nothing is unpacked, nothing is judged but the grammar.
Source: Nix manual, "Nix Archive (NAR) format".
"""

from collections.abc import Callable
from typing import Final

from nixmill.nix.wire import Parser, ProtocolError, Reader, parse

Sink = Callable[[bytes], None]

CHUNK_BYTES: Final = 256 * 1024
"""Largest piece handed on."""
TOKEN_BYTES_MAX: Final = 64 * 1024
"""Longest word, name or symlink target believed."""
MAGIC: Final = b"nix-archive-1"


def copy(reader: Reader, sink: Sink) -> Parser[None]:
    """Hand every byte of one NAR to `sink` and stop where it ends; raise `ProtocolError` where it is no NAR."""
    yield from _expect(reader, sink, MAGIC)
    depth = 0  # open directories around the node to come
    while True:
        if (yield from _node(reader, sink)) == b"directory":
            depth += 1
        elif depth:
            yield from _expect(reader, sink, b")")
        while depth and not (yield from _enters_entry(reader, sink)):
            depth -= 1
            if depth:
                yield from _expect(reader, sink, b")")
        if not depth:
            return


def regular_file(data: bytes) -> bytes:
    """Return the contents of a NAR of one regular file; raise `ProtocolError` for any other."""
    reader = Reader(data)
    return parse(_regular_file(reader), reader)


def copy_file(reader: Reader, sink: Sink) -> Parser[None]:
    """Hand the contents of a NAR of one regular, not executable file to `sink`; raise `ProtocolError` for any other."""
    for word in (MAGIC, b"(", b"type", b"regular", b"contents"):
        yield from _expect(reader, _nowhere, word)
    length = yield from reader.u64()
    yield from _pass(reader, sink, length)
    yield from reader.raw(-length % 8)
    yield from _expect(reader, _nowhere, b")")


def _regular_file(reader: Reader) -> Parser[bytes]:
    for word in (MAGIC, b"(", b"type", b"regular", b"contents"):
        yield from _expect(reader, _nowhere, word)
    contents = yield from reader.blob()
    yield from _expect(reader, _nowhere, b")")
    return contents


def _nowhere(_: bytes) -> None:
    """Drop what passes by."""


def _node(reader: Reader, sink: Sink) -> Parser[bytes]:
    """Pass a node, of a directory only its start; return its type."""
    yield from _expect(reader, sink, b"(")
    yield from _expect(reader, sink, b"type")
    kind = yield from _token(reader, sink)
    match kind:
        case b"regular":
            yield from _file(reader, sink)
        case b"symlink":
            yield from _expect(reader, sink, b"target")
            yield from _token(reader, sink)
            yield from _expect(reader, sink, b")")
        case b"directory":
            pass
        case _:
            raise ProtocolError(f"No NAR: {kind[:40]!r} is not a type of node.")
    return kind


def _file(reader: Reader, sink: Sink) -> Parser[None]:
    word = yield from _token(reader, sink)
    if word == b"executable":
        yield from _expect(reader, sink, b"")
        word = yield from _token(reader, sink)
    if word == b"contents":
        length = yield from reader.u64()
        sink(length.to_bytes(8, "little"))
        yield from _pass(reader, sink, length + -length % 8)
        word = yield from _token(reader, sink)
    _same(word, b")")


def _enters_entry(reader: Reader, sink: Sink) -> Parser[bool]:
    """Pass the start of a directory's next entry, or the directory's end; say which."""
    word = yield from _token(reader, sink)
    if word != b"entry":
        _same(word, b")")
        return False
    yield from _expect(reader, sink, b"(")
    yield from _expect(reader, sink, b"name")
    yield from _token(reader, sink)
    yield from _expect(reader, sink, b"node")
    return True


def _token(reader: Reader, sink: Sink) -> Parser[bytes]:
    length = yield from reader.u64()
    if length > TOKEN_BYTES_MAX:
        raise ProtocolError(f"No NAR: a word of {length} bytes was announced.")
    data = yield from reader.raw(length + -length % 8)
    sink(length.to_bytes(8, "little") + data)
    return data[:length]


def _expect(reader: Reader, sink: Sink, word: bytes) -> Parser[None]:
    _same((yield from _token(reader, sink)), word)


def _same(found: bytes, expected: bytes) -> None:
    if found != expected:
        raise ProtocolError(f"No NAR: {found[:40]!r} where {expected!r} was expected.")


def _pass(reader: Reader, sink: Sink, length: int) -> Parser[None]:
    left = length
    while left:
        chunk = yield from reader.available(min(left, CHUNK_BYTES))
        sink(chunk)
        left -= len(chunk)
