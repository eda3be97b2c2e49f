"""NARs of trees of files: written piece by piece, and what is where in them noted on the way.

Names are bytes and in byte order; a tree may be as deep as the file system lets it. Source: Nix manual, "Nix Archive
(NAR) format"; for listings `src/libutil/nar-accessor.cc` (Nix 2.8 to 2.34).
"""

import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

from nixmill.nix import nar
from nixmill.nix.nar_listing import DirectoryNode, FileNode, Node, SymlinkNode
from nixmill.nix.wire import string

PIECE_BYTES: Final = 256 * 1024
"""From this size on a piece is handed on."""
READ_BYTES: Final = 1024 * 1024
_PADDING: Final = tuple(bytes(-length % 8) for length in range(8))
_START: Final = string(nar.MAGIC)
_OPEN: Final = string("(") + string("type")
_CLOSE: Final = string(")")
_DIRECTORY: Final = _OPEN + string("directory")
_ENTRY: Final = string("entry") + string("(") + string("name")
_NODE: Final = string("node")
_REGULAR: Final = _OPEN + string("regular") + string("contents")
_EXECUTABLE: Final = _OPEN + string("regular") + string("executable") + string("") + string("contents")
_SYMLINK: Final = _OPEN + string("symlink") + string("target")
_OPEN_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


class _Level(NamedTuple):
    """A directory whose entries are being written."""

    path: bytes
    names: Iterator[os.DirEntry[bytes]]
    entries: dict[str, Node]


class Dump:
    """The NAR of one tree; for one thread, and one pass."""

    def __init__(self, path: bytes) -> None:
        """Read nothing yet."""
        self._path = path
        self._piece = bytearray()
        self._sent = 0
        self.root: Node | None = None
        """What was written, once all of it is."""

    def pieces(self) -> Iterator[bytearray]:
        """Yield the NAR; raise `OSError` where the tree cannot be read, or holds what no NAR can."""
        self._piece += _START
        found = os.lstat(self._path)
        if not stat.S_ISDIR(found.st_mode):
            leaf: dict[str, Node] = {}
            yield from self._leaf(self._path, "", leaf, link=stat.S_ISLNK(found.st_mode))
            self.root = leaf[""]
        else:
            self.root = DirectoryNode({})
            yield from self._tree(self.root.entries)
        yield self._piece

    def _tree(self, entries: dict[str, Node]) -> Iterator[bytearray]:
        """Write a directory and all below it, without recursion."""
        self._piece += _DIRECTORY
        levels = [_Level(self._path, _sorted(self._path), entries)]
        while levels:
            level = levels[-1]
            entry = next(level.names, None)
            if entry is None:
                levels.pop()
                self._piece += _CLOSE + _CLOSE if levels else _CLOSE
                continue
            self._piece += _ENTRY + string(entry.name) + _NODE
            name = os.fsdecode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                node = level.entries[name] = DirectoryNode({})
                self._piece += _DIRECTORY
                levels.append(_Level(entry.path, _sorted(entry.path), node.entries))
            else:
                yield from self._leaf(entry.path, name, level.entries, link=entry.is_symlink())
                self._piece += _CLOSE

    def _leaf(self, path: bytes, name: str, entries: dict[str, Node], *, link: bool) -> Iterator[bytearray]:
        if link:
            target = os.readlink(path)  # noqa: PTH115 - a path in bytes
            entries[name] = SymlinkNode(os.fsdecode(target))
            self._piece += _SYMLINK + string(target)
        else:
            yield from self._file(path, name, entries)
        self._piece += _CLOSE

    def _file(self, path: bytes, name: str, entries: dict[str, Node]) -> Iterator[bytearray]:
        # Opening a pipe or a device may wait or act, so that what is opened does neither.
        descriptor = os.open(path, _OPEN_FLAGS | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{os.fsdecode(path)} is neither file, directory nor symbolic link")
            executable = bool(found.st_mode & stat.S_IXUSR)
            length = found.st_size
            self._piece += (_EXECUTABLE if executable else _REGULAR) + length.to_bytes(8, "little")
            entries[name] = FileNode(length, self._sent + len(self._piece), executable)
            yield from self._contents(descriptor, path, length)
        finally:
            os.close(descriptor)
        self._piece += _PADDING[length % 8]

    def _contents(self, descriptor: int, path: bytes, length: int) -> Iterator[bytearray]:
        left = length
        while left:
            data = os.read(descriptor, min(left, READ_BYTES))
            if not data:
                raise OSError(f"{os.fsdecode(path)} became shorter while it was read")
            left -= len(data)
            self._piece += data
            if len(self._piece) >= PIECE_BYTES:
                yield self._take()

    def _take(self) -> bytearray:
        piece, self._piece = self._piece, bytearray()
        self._sent += len(piece)
        return piece


def _sorted(path: bytes) -> Iterator[os.DirEntry[bytes]]:
    with os.scandir(path) as entries:
        return iter(sorted(entries, key=_name))


def _name(entry: os.DirEntry[bytes]) -> bytes:
    return entry.name
