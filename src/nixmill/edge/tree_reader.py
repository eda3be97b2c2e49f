"""The NAR of a file or directory on disk, whole or a range of it. Symbolic links are never followed.

A small tree is read in one visit to a thread; a large one piece by piece, of which one is in memory at a time. No file
stays open between two pieces, so that whoever stops reading leaves nothing behind.
"""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from nixmill.doors import DoorError
from nixmill.nix.nar_tree import LEAVE, Archive, Directory, File, FilePart, Node, Segment, Symlink, TreeError
from nixmill.nix.store_path import StorePath

PIECE_BYTES: Final = 1024 * 1024
"""What is read, and handed on, at once."""


class DiskContents:
    """Implements `nixmill.doors.cache.Contents` over a store whose files can be read here."""

    def __init__(self, real: Callable[[StorePath], Path]) -> None:
        """Find the files of a store path where `real` says."""
        self._real = real

    def nar(self, path: StorePath) -> AsyncIterator[bytes]:
        """See `Contents`."""
        return nar(self._real(path))


async def nar(path: Path, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
    """Yield the NAR of what is at `path`, or a range of it; raise `DoorError` where it cannot be read or changes."""
    pieces = _pieces(os.fsencode(path), start, length)
    while (piece := await asyncio.to_thread(_next, pieces, path)) is not None:
        yield piece
        if len(piece) < PIECE_BYTES:
            return


def _next(pieces: Iterator[bytes], path: Path) -> bytes | None:
    try:
        return next(pieces, None)
    except (OSError, TreeError) as error:
        raise DoorError(
            f"{path} could not be read: {error}", door="store", action="read", subject=str(path), retryable=False
        ) from error


def _pieces(path: bytes, start: int, length: int | None) -> Iterator[bytes]:
    yield from chunks(archive(path).slice(start, length))


def archive(path: bytes) -> Archive[bytes]:
    """Lay out the NAR of what is at `path`; raise `OSError` or `TreeError` where that cannot be."""
    return Archive(nodes(path))


def nodes(path: bytes) -> Iterator[Node[bytes]]:
    """Yield the nodes of what is at `path`; files are named by their full paths. Blocks."""
    mode = os.lstat(path).st_mode
    if not stat.S_ISDIR(mode):
        yield _leaf(b"", path, os.lstat(path))
        return
    yield Directory()
    open_directories = [iter(_entries(path))]
    while open_directories:
        entry = next(open_directories[-1], None)
        if entry is None:
            open_directories.pop()
            yield LEAVE
        elif entry.is_dir(follow_symlinks=False):
            yield Directory(entry.name)
            open_directories.append(iter(_entries(entry.path)))
        else:
            yield _leaf(entry.name, entry.path, entry.stat(follow_symlinks=False))


def _entries(path: bytes) -> list[os.DirEntry[bytes]]:
    with os.scandir(path) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _leaf(name: bytes, path: bytes, status: os.stat_result) -> Node[bytes]:
    if stat.S_ISLNK(status.st_mode):
        return Symlink(name, os.readlink(path))  # noqa: PTH115 - a Path is made of text
    if stat.S_ISREG(status.st_mode):
        return File(name, path, status.st_size, bool(status.st_mode & stat.S_IXUSR))
    raise TreeError(f"{os.fsdecode(path)} is neither a file nor a directory nor a symbolic link.")


def chunks(segments: Iterable[Segment[bytes]]) -> Iterator[bytes]:
    """Yield the bytes of segments in pieces of `PIECE_BYTES`, of which the last alone may be shorter. Blocks."""
    waiting: list[bytes] = []
    room = PIECE_BYTES
    for segment in segments:
        for data in [segment] if isinstance(segment, bytes) else _of_file(segment, room):
            waiting.append(data)
            room -= len(data)
            while room <= 0:
                piece = b"".join(waiting)
                yield piece[:PIECE_BYTES]
                waiting = [piece[PIECE_BYTES:]]
                room = PIECE_BYTES - len(waiting[0])
    if room < PIECE_BYTES:
        yield b"".join(waiting)


def _of_file(part: FilePart[bytes], room: int) -> Iterator[bytes]:
    """Yield a part of a file, first as much as there is room for, so that no piece is copied twice."""
    at = part.start
    while at < part.end:
        data = read_at(part.source, at, min(part.end - at, room if at == part.start else PIECE_BYTES))
        at += len(data)
        yield data


def read_at(path: bytes, start: int, length: int) -> bytes:
    """Return `length` bytes of a file; raise `TreeError` where there are no longer so many. Blocks."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        data = os.pread(descriptor, length, start)
        while len(data) < length and (more := os.pread(descriptor, length - len(data), start + len(data))):
            data += more
    finally:
        os.close(descriptor)
    if len(data) < length:
        raise TreeError(f"{os.fsdecode(path)} became shorter while it was read.")
    return data
