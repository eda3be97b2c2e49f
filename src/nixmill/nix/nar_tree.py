"""The NAR of a tree as literal bytes and parts of files, so that it can be sent, or a range of it, without being made.

A tree is given as its nodes in the order of the archive: depth first, names in byte order, `LEAVE` after the last entry
of each directory. Files are named by whatever reads them (`Source`): a path, a digest.
Source: Nix manual, "Nix Archive (NAR) format"; `src/libutil/archive.cc` (Nix 2.34).
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Final, Generic, Literal, TypeVar

import msgspec

Source = TypeVar("Source")

NAME_BYTES_MAX: Final = 4096
"""Longest name believed."""


class TreeError(ValueError):
    """The nodes are no tree in the order of an archive; the message says why."""


class Directory(msgspec.Struct, frozen=True, gc=False):
    """A directory; its entries follow, then `LEAVE`. The root's name is empty, whatever kind of node it is."""

    name: bytes = b""


class File(msgspec.Struct, Generic[Source], frozen=True):
    """A regular file of `size` bytes."""

    name: bytes
    source: Source
    size: int
    executable: bool = False


class Symlink(msgspec.Struct, frozen=True, gc=False):
    """A symbolic link."""

    name: bytes
    target: bytes


class Leave(Enum):
    """The end of a directory."""

    LEAVE = "leave"


LEAVE: Final = Leave.LEAVE
Node = Directory | File[Source] | Symlink | Literal[Leave.LEAVE]


class FilePart(msgspec.Struct, Generic[Source], frozen=True):
    """Bytes `start` to `end` of a file; never empty."""

    source: Source
    start: int
    end: int


Segment = bytes | FilePart[Source]


def _word(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data + b"\0" * (-len(data) % 8)


def _words(*words: bytes) -> bytes:
    return b"".join(map(_word, words))


_MAGIC: Final = _words(b"nix-archive-1")
_ENTRY: Final = _words(b"entry", b"(", b"name")
_NODE: Final = _words(b"node")
_CLOSE: Final = _words(b")")
_CLOSE_ENTRY: Final = _CLOSE * 2
_DIRECTORY: Final = _words(b"(", b"type", b"directory")
_SYMLINK: Final = _words(b"(", b"type", b"symlink", b"target")
_FILE: Final = {
    False: _words(b"(", b"type", b"regular", b"contents"),
    True: _words(b"(", b"type", b"regular", b"executable", b"", b"contents"),
}


class Archive(Generic[Source]):
    """A NAR: its segments and where each ends."""

    def __init__(self, nodes: Iterable[Node[Source]]) -> None:
        """Lay out a tree; raise `TreeError` where it is none."""
        self.segments: list[Segment[Source]] = []
        self._ends: list[int] = []
        self.size = 0
        """Bytes of the whole archive."""
        for segment in segments(nodes):
            self.size += length_of(segment)
            self.segments.append(segment)
            self._ends.append(self.size)

    def slice(self, start: int = 0, length: int | None = None) -> Iterator[Segment[Source]]:
        """Yield `length` bytes from `start` on, to the end where None; what lies beyond the end is not there."""
        end = self.size if length is None else min(self.size, start + length)
        at = bisect_right(self._ends, start)
        while at < len(self.segments) and start < end:
            segment, first = self.segments[at], self._ends[at] - length_of(self.segments[at])
            yield _cut(segment, start - first, min(end, self._ends[at]) - first)
            start = self._ends[at]
            at += 1


def segments(nodes: Iterable[Node[Source]]) -> Iterator[Segment[Source]]:
    """Yield the archive of a tree in order, as few segments as there can be; raise `TreeError` where it is no tree."""
    literal = [_MAGIC]
    for node, close in _placed(nodes):
        match node:
            case Directory():
                literal.append(_DIRECTORY)
            case Symlink(target=target):
                literal += (_SYMLINK, _word(target), close)
            case File(size=size):
                literal += (_FILE[node.executable], size.to_bytes(8, "little"))
                if size:
                    yield b"".join(literal)
                    yield FilePart(node.source, 0, size)
                    literal = [b"\0" * (-size % 8)]
                literal.append(close)
            case bytes():
                literal.append(node)
            case _:
                literal.append(close)
    yield b"".join(literal)


def _placed(nodes: Iterable[Node[Source]]) -> Iterator[tuple[Node[Source] | bytes, bytes]]:
    """Yield each node with what closes it, an entry's name before it; judge names and the order."""
    newest: list[bytes | None] = []  # of each open directory, the entry that came last
    ended = False
    for node in nodes:
        if ended:
            raise TreeError("Something comes after the end of the tree.")
        if isinstance(node, Leave):
            if not newest:
                raise TreeError("A directory ends where none is open.")
            newest.pop()
        elif newest:
            newest[-1] = _in_order(newest[-1], node.name)
            yield _ENTRY + _word(node.name) + _NODE, b""
        yield node, _CLOSE_ENTRY if newest else _CLOSE
        if isinstance(node, Directory):
            newest.append(None)
        ended = not newest
    if not ended:
        raise TreeError("The tree breaks off.")


def _in_order(before: bytes | None, name: bytes) -> bytes:
    if not is_name(name):
        raise TreeError(f"{name[:200]!r} is no name of a file.")
    if before is not None and name <= before:
        raise TreeError(f"{name[:200]!r} comes after {before[:200]!r}; names are in byte order, each once.")
    return name


def is_name(name: bytes) -> bool:
    """Say whether a directory's entry may be called so."""
    return 0 < len(name) <= NAME_BYTES_MAX and name not in {b".", b".."} and b"/" not in name and b"\0" not in name


def length_of(segment: Segment[Source]) -> int:
    """Return the bytes of a segment."""
    return len(segment) if isinstance(segment, bytes) else segment.end - segment.start


def _cut(segment: Segment[Source], start: int, end: int) -> Segment[Source]:
    match segment:
        case bytes():
            return segment[start:end]
        case FilePart():
            return FilePart(segment.source, segment.start + start, segment.start + end)
