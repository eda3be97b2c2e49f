"""Trees by content, as TVL's castore has them: blobs and directories named by their BLAKE3.

A directory's name is the hash of its encoding, so there is one encoding only: what could have been written otherwise is
refused. A blob's name is the plain hash of its bytes. The empty blob and the empty directory share a name.
Source: `castore.proto` of TVL's depot and snix; vectors in `tests/unit/test_castore.py`.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from blake3 import blake3

from nixmill.nix.nar_tree import is_name

DIGEST_BYTES: Final = 32
SIZE_MAX: Final = 2**64 - 1
DIRECTORY_BYTES_MAX: Final = 64 * 1024 * 1024
"""Longest encoding of a directory believed: some 600,000 entries."""
_VARINT: Final = 0
_BYTES: Final = 2


class CastoreError(ValueError):
    """The bytes or values are no directory, or no node; the message says why."""


class DirectoryNode(msgspec.Struct, frozen=True):
    """A directory within another. `size` counts the entries in it and below."""

    name: bytes
    digest: bytes
    size: int


class FileNode(msgspec.Struct, frozen=True):
    """A file of `size` bytes."""

    name: bytes
    digest: bytes
    size: int
    executable: bool = False


class SymlinkNode(msgspec.Struct, frozen=True):
    """A symbolic link."""

    name: bytes
    target: bytes


Node = DirectoryNode | FileNode | SymlinkNode
"""An entry of a directory; as the root of a tree it has the empty name."""


class Directory(msgspec.Struct, frozen=True):
    """A directory: three lists, each in byte order of its names."""

    directories: tuple[DirectoryNode, ...] = ()
    files: tuple[FileNode, ...] = ()
    symlinks: tuple[SymlinkNode, ...] = ()

    def entries(self) -> list[Node]:
        """Return all entries in byte order of their names, as an archive has them."""
        return sorted((*self.directories, *self.files, *self.symlinks), key=lambda node: node.name)

    def size(self) -> int:
        """Return the number of entries, and of those below them; raise `CastoreError` where that overflows."""
        size = len(self.directories) + len(self.files) + len(self.symlinks)
        size += sum(node.size for node in self.directories)
        if size > SIZE_MAX:
            raise CastoreError("The sizes of a directory's entries are more than 64 bits hold.")
        return size


def digest(data: bytes) -> bytes:
    """Return the name of a blob, or of an encoded directory."""
    return blake3(data).digest()


def encode(directory: Directory) -> bytes:
    """Return the one encoding of a directory; raise `CastoreError` where it breaks a rule."""
    check(directory)
    return b"".join(_tagged(number, data) for number, data in _encoded(directory))


def decode(data: bytes) -> Directory:
    """Read a directory; raise `CastoreError` unless `data` is its one encoding and it keeps the rules."""
    if len(data) > DIRECTORY_BYTES_MAX:
        raise CastoreError(f"A directory of {len(data)} bytes is not believed.")
    lists: tuple[list[DirectoryNode], list[FileNode], list[SymlinkNode]] = ([], [], [])
    for number, value in _fields(data):
        match number, value:
            case 1, bytes():
                lists[0].append(_directory_node(value))
            case 2, bytes():
                lists[1].append(_file_node(value))
            case 3, bytes():
                lists[2].append(_symlink_node(value))
            case _:
                raise CastoreError(f"A directory has no field {number} of this type.")
    directory = Directory(tuple(lists[0]), tuple(lists[1]), tuple(lists[2]))
    if encode(directory) != data:
        raise CastoreError("The directory is not encoded in the one way there is.")
    return directory


def encode_root(node: Node) -> bytes:
    """Return the encoding of the root of a tree, whose name is empty; raise `CastoreError` where it breaks a rule."""
    check_root(node)
    match node:
        case DirectoryNode():
            return _tagged(1, _directory_bytes(node))
        case FileNode():
            return _tagged(2, _file_bytes(node))
        case SymlinkNode():
            return _tagged(3, _symlink_bytes(node))


def decode_root(data: bytes) -> Node:
    """Read the root of a tree; raise `CastoreError` unless `data` is its one encoding and it keeps the rules."""
    node: Node
    match list(_fields(data)):
        case [(1, bytes() as value)]:
            node = _directory_node(value)
        case [(2, bytes() as value)]:
            node = _file_node(value)
        case [(3, bytes() as value)]:
            node = _symlink_node(value)
        case _:
            raise CastoreError("The root of a tree is one node.")
    if encode_root(node) != data:
        raise CastoreError("The root is not encoded in the one way there is.")
    return node


def check(directory: Directory) -> None:
    """Raise `CastoreError` where a directory breaks a rule: names, order, duplicates, digests, targets, sizes."""
    seen: set[bytes] = set()
    for nodes in (directory.directories, directory.files, directory.symlinks):
        before = b""
        for node in nodes:
            if not is_name(node.name):
                raise CastoreError(f"{node.name[:200]!r} is no name of a file.")
            if node.name in seen:
                raise CastoreError(f"{node.name[:200]!r} is there twice.")
            if node.name < before:
                raise CastoreError(f"{node.name[:200]!r} comes after {before[:200]!r}, out of order.")
            _check_node(node)
            before = node.name
            seen.add(before)
    directory.size()


def check_root(node: Node) -> None:
    """Raise `CastoreError` where a node cannot be the root of a tree."""
    if node.name:
        raise CastoreError(f"The root of a tree has no name; this one is called {node.name[:200]!r}.")
    _check_node(node)


def _check_node(node: Node) -> None:
    if isinstance(node, SymlinkNode):
        if not node.target or b"\0" in node.target:
            raise CastoreError(f"{node.target[:200]!r} is no target of a symbolic link.")
        return
    if len(node.digest) != DIGEST_BYTES:
        raise CastoreError(f"A digest has {DIGEST_BYTES} bytes; that of {node.name[:200]!r} has {len(node.digest)}.")
    if not 0 <= node.size <= SIZE_MAX:
        raise CastoreError(f"{node.size} is no size.")


def _encoded(directory: Directory) -> Iterator[tuple[int, bytes]]:
    yield from ((1, _directory_bytes(node)) for node in directory.directories)
    yield from ((2, _file_bytes(node)) for node in directory.files)
    yield from ((3, _symlink_bytes(node)) for node in directory.symlinks)


def _directory_bytes(node: DirectoryNode) -> bytes:
    return _tagged(1, node.name) + _tagged(2, node.digest) + _number(3, node.size)


def _file_bytes(node: FileNode) -> bytes:
    return _tagged(1, node.name) + _tagged(2, node.digest) + _number(3, node.size) + _number(4, node.executable)


def _symlink_bytes(node: SymlinkNode) -> bytes:
    return _tagged(1, node.name) + _tagged(2, node.target)


def _directory_node(data: bytes) -> DirectoryNode:
    fields = dict(_fields(data))
    return DirectoryNode(_blob(fields, 1), _blob(fields, 2), _count(fields, 3))


def _file_node(data: bytes) -> FileNode:
    fields = dict(_fields(data))
    return FileNode(_blob(fields, 1), _blob(fields, 2), _count(fields, 3), bool(_count(fields, 4)))


def _symlink_node(data: bytes) -> SymlinkNode:
    fields = dict(_fields(data))
    return SymlinkNode(_blob(fields, 1), _blob(fields, 2))


def _blob(fields: dict[int, bytes | int], number: int) -> bytes:
    value = fields.get(number, b"")
    if not isinstance(value, bytes):
        raise CastoreError(f"Field {number} of a node is a number where bytes were expected.")
    return value


def _count(fields: dict[int, bytes | int], number: int) -> int:
    value = fields.get(number, 0)
    if not isinstance(value, int):
        raise CastoreError(f"Field {number} of a node is bytes where a number was expected.")
    return value


def _tagged(number: int, data: bytes) -> bytes:
    # What is empty is left out within a node; a node itself never is, as it has at least a digest or a target.
    return bytes((number << 3 | _BYTES,)) + _varint(len(data)) + data if data else b""


def _number(number: int, value: int) -> bytes:
    return bytes((number << 3 | _VARINT,)) + _varint(value) if value else b""


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield the fields of a message; raise `CastoreError` where there are none. The encoding is judged elsewhere."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        value, at = _read_varint(data, at)
        match tag & 7:
            case 0:
                yield tag >> 3, value
            case 2:
                if at + value > len(data):
                    raise CastoreError("The bytes break off within a field.")
                yield tag >> 3, data[at : at + value]
                at += value
            case other:
                raise CastoreError(f"Castore has no fields of wire type {other}.")


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise CastoreError("The bytes break off within a number, or it is too long.")
