"""What a NAR holds, node by node, as its bytes pass by. Strict: there is one NAR for each tree.

Source: Nix manual, "Nix Archive (NAR) format".
"""

from collections.abc import Callable
from typing import Final

from nixmill.nix.nar_tree import LEAVE, Directory, File, Node, Symlink, is_name
from nixmill.nix.wire import Parser, ProtocolError, Reader

CONTENT_BYTES: Final = 1024 * 1024
"""Largest piece of a file handed on."""
TOKEN_BYTES_MAX: Final = 64 * 1024
_PADDING: Final = tuple(b"\0" * n for n in range(8))

Found = Node[None] | bytes
"""A node, or bytes of the file that came last."""


def read(reader: Reader, found: Callable[[Found], None]) -> Parser[None]:
    """Hand on every node of one NAR and the contents of its files; raise `ProtocolError` where it is no NAR.

    Ends where the NAR does. A file's bytes come after its node, and all of them before the next node.
    """
    yield from _expect(reader, b"nix-archive-1")
    newest: list[bytes] = []  # of each open directory, the entry that came last
    name = b""
    while True:
        if (yield from _node(reader, name, found)):
            newest.append(b"")
        elif newest:
            yield from _expect(reader, b")")
        while newest and (entry := (yield from _entry(reader, newest[-1]))) is None:
            found(LEAVE)
            newest.pop()
            if newest:
                yield from _expect(reader, b")")
        if not newest:
            return
        name = newest[-1] = entry or b""


def _node(reader: Reader, name: bytes, found: Callable[[Found], None]) -> Parser[bool]:
    """Read a node, of a directory only its start; say whether it is one."""
    yield from _expect(reader, b"(")
    yield from _expect(reader, b"type")
    kind = yield from _token(reader)
    match kind:
        case b"directory":
            found(Directory(name))
            return True
        case b"regular":
            yield from _file(reader, name, found)
        case b"symlink":
            yield from _expect(reader, b"target")
            found(Symlink(name, (yield from _token(reader))))
            yield from _expect(reader, b")")
        case _:
            raise ProtocolError(f"No NAR: {kind[:40]!r} is not a type of node.")
    return False


def _file(reader: Reader, name: bytes, found: Callable[[Found], None]) -> Parser[None]:
    word = yield from _token(reader)
    executable = word == b"executable"
    if executable:
        yield from _expect(reader, b"")
        word = yield from _token(reader)
    _same(word, b"contents")
    size = left = yield from reader.u64()
    found(File(name, None, size, executable))
    while left:
        data = yield from reader.available(min(left, CONTENT_BYTES))
        found(data)
        left -= len(data)
    yield from _padding(reader, size)
    yield from _expect(reader, b")")


def _entry(reader: Reader, before: bytes) -> Parser[bytes | None]:
    """Read the start of a directory's next entry; return its name, None at the directory's end."""
    word = yield from _token(reader)
    if word != b"entry":
        _same(word, b")")
        return None
    yield from _expect(reader, b"(")
    yield from _expect(reader, b"name")
    name = yield from _token(reader)
    if not is_name(name):
        raise ProtocolError(f"No NAR: {name[:200]!r} is no name of a file.")
    if name <= before:
        raise ProtocolError(f"No NAR: {name[:200]!r} comes after {before[:200]!r}, out of order.")
    yield from _expect(reader, b"node")
    return name


def _token(reader: Reader) -> Parser[bytes]:
    length = yield from reader.u64()
    if length > TOKEN_BYTES_MAX:
        raise ProtocolError(f"No NAR: a word of {length} bytes was announced.")
    data = yield from reader.raw(length)
    yield from _padding(reader, length)
    return data


def _padding(reader: Reader, length: int) -> Parser[None]:
    if length % 8 and (yield from reader.raw(-length % 8)) != _PADDING[-length % 8]:
        raise ProtocolError("No NAR: something is padded with something other than zeros.")


def _expect(reader: Reader, word: bytes) -> Parser[None]:
    _same((yield from _token(reader)), word)


def _same(found: bytes, expected: bytes) -> None:
    if found != expected:
        raise ProtocolError(f"No NAR: {found[:40]!r} where {expected!r} was expected.")
