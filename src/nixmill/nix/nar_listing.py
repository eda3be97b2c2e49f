"""What a NAR holds and where in it: listings (`HASH.ls`), read out of a NAR and written as JSON.

Source: `src/libutil/nar-accessor.cc` (Nix 2.8 to 2.34); version 1 of the listing.
"""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

import msgspec

from nixmill.nix import nar
from nixmill.nix.wire import Parser, ProtocolError, Reader

VERSION: Final = 1
DEBUG_INFO: Final = ("lib", "debug", ".build-id")
"""Where nixpkgs keeps separate debug information, by build id."""
_FIRST: Final = re.compile(r"[0-9a-f]{2}\Z")
_REST: Final = re.compile(r"[0-9a-f]{38}\.debug\Z")
_CHUNK: Final = 256 * 1024


class FileNode(msgspec.Struct, frozen=True, tag="regular", tag_field="type", omit_defaults=True):
    """A file; its contents begin at byte `offset` of the NAR."""

    size: int = msgspec.field()
    offset: int = msgspec.field(name="narOffset")
    executable: bool = False


class SymlinkNode(msgspec.Struct, frozen=True, tag="symlink", tag_field="type"):
    """A symbolic link."""

    target: str


class DirectoryNode(msgspec.Struct, frozen=True, tag="directory", tag_field="type"):
    """A directory. Names that are not UTF-8 have surrogate escapes."""

    entries: "dict[str, Node]"


Node: TypeAlias = FileNode | SymlinkNode | DirectoryNode


class Listing(msgspec.Struct, frozen=True):
    """A file of that kind."""

    version: int
    root: Node


_LISTING: Final = msgspec.json.Decoder(Listing)


def to_json(root: Node) -> bytes | None:
    """Return a listing; None where names are not UTF-8 or directories too deep: JSON has no words for these."""
    try:
        return msgspec.json.encode(Listing(VERSION, root))
    except (UnicodeEncodeError, RecursionError):
        return None


def same(text: bytes, root: Node) -> bool:
    """Say whether a listing in JSON is that of `root`."""
    try:
        return _LISTING.decode(text).root == root
    except (msgspec.DecodeError, RecursionError):
        return False


def debug_files(root: Node) -> Iterator[tuple[str, str]]:
    """Yield files of debug information: the build id with `.debug`, and where the file is within the path."""
    inside: Node | None = root
    for name in DEBUG_INFO:
        inside = inside.entries.get(name) if isinstance(inside, DirectoryNode) else None
    if not isinstance(inside, DirectoryNode):
        return
    for first, directory in inside.entries.items():
        if _FIRST.match(first) and isinstance(directory, DirectoryNode):
            for rest, node in directory.entries.items():
                if _REST.match(rest) and isinstance(node, FileNode):
                    yield first + rest, "/".join((*DEBUG_INFO, first, rest))


class Listener:
    """Reads what a NAR holds as it passes by."""

    def __init__(self) -> None:
        """Expect the first byte."""
        self.root: Node | None = None
        """All of it, once the NAR has ended."""
        self._reader = Reader()
        self._fed = 0
        self._parser = self._node_tree()
        next(self._parser)

    def feed(self, data: bytes) -> None:
        """Take what comes next; raise `ProtocolError` where it is no NAR, or more than one."""
        self._fed += len(data)
        self._reader.feed(data)
        if self.root is None:
            for _ in self._parser:  # ends where it wants more, or where the NAR ends
                break
        if self.root is not None and len(self._reader):
            raise ProtocolError("No NAR: bytes follow where it should end.")

    def _node_tree(self) -> Parser[None]:
        yield from self._expect(nar.MAGIC)
        top: dict[str, Node] = {}
        levels = [top]
        name = ""
        while True:
            node = yield from self._node()
            levels[-1][name] = node
            if isinstance(node, DirectoryNode):
                levels.append(node.entries)
            elif len(levels) > 1:
                yield from self._expect(b")")
            while len(levels) > 1 and (entered := (yield from self._entry())) is None:
                levels.pop()
                if len(levels) > 1:
                    yield from self._expect(b")")
            if len(levels) == 1:
                self.root = top[""]
                return
            name = entered or ""

    def _node(self) -> Parser[Node]:
        yield from self._expect(b"(")
        yield from self._expect(b"type")
        match (yield from self._token()):
            case b"regular":
                return (yield from self._file())
            case b"symlink":
                yield from self._expect(b"target")
                target = yield from self._token()
                yield from self._expect(b")")
                return SymlinkNode(target.decode("utf-8", "surrogateescape"))
            case b"directory":
                return DirectoryNode({})
            case kind:
                raise ProtocolError(f"No NAR: {kind[:40]!r} is not a type of node.")

    def _file(self) -> Parser[Node]:
        word = yield from self._token()
        executable = word == b"executable"
        if executable:
            yield from self._expect(b"")
            word = yield from self._token()
        size = offset = 0
        if word == b"contents":
            size = yield from self._reader.u64()
            offset = self._fed - len(self._reader)
            left = size + -size % 8
            while left:
                left -= len((yield from self._reader.available(min(left, _CHUNK))))
            word = yield from self._token()
        _same(word, b")")
        return FileNode(size, offset, executable)

    def _entry(self) -> Parser[str | None]:
        """Pass the start of a directory's next entry and return its name; None at the directory's end."""
        word = yield from self._token()
        if word != b"entry":
            _same(word, b")")
            return None
        yield from self._expect(b"(")
        yield from self._expect(b"name")
        name = yield from self._token()
        yield from self._expect(b"node")
        return name.decode("utf-8", "surrogateescape")

    def _token(self) -> Parser[bytes]:
        length = yield from self._reader.u64()
        if length > nar.TOKEN_BYTES_MAX:
            raise ProtocolError(f"No NAR: a word of {length} bytes was announced.")
        data = yield from self._reader.raw(length + -length % 8)
        return data[:length]

    def _expect(self, word: bytes) -> Parser[None]:
        _same((yield from self._token()), word)


def _same(found: bytes, expected: bytes) -> None:
    if found != expected:
        raise ProtocolError(f"No NAR: {found[:40]!r} where {expected!r} was expected.")
