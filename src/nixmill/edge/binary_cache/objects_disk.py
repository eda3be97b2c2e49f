"""Objects of a cache as files of a directory.

A file is written under a name in `.scratch`, flushed, and then moved to its own name, which fails where there is one:
it appears whole or not at all and never changes. A batch is flushed once, by syncfs(2) where it is large; directories
are flushed before anything is moved that refers into them. What a killed server left in `.scratch` is deleted by
`DiskObjects.tidy`.
"""

import asyncio
import contextlib
import ctypes
import errno
import io
import itertools
import os
import secrets
import shutil
import stat
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from nixmill.doors.cache import StoredObject
from nixmill.edge.binary_cache.batches import Content, Layer
from nixmill.edge.binary_cache.faults import explained
from nixmill.edge.binary_cache.names import check_name, is_name

CHUNK_BYTES: Final = 256 * 1024
LISTED: Final = 1000
"""Objects told of at a time."""
ALONE_MAX: Final = 8
"""Most files that are flushed one by one. More of them are cheaper to flush with all else on that file system."""
ABANDONED_S: Final = 24 * 3600.0
"""Age from which a file in `.scratch` belongs to nobody."""
_HERE: Final = -100
"""AT_FDCWD, which says nothing to whole paths."""
_NO_REPLACE: Final = 1
"""RENAME_NOREPLACE of renameat2(2)."""
_SCRATCH: Final = ".scratch"
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class _Modes(NamedTuple):
    file: int
    directory: int


_PUBLIC: Final = _Modes(0o644, 0o755)
_PRIVATE: Final = _Modes(0o640, 0o750)


class DiskObjects:
    """A directory. `private`: nobody but owner and group may read it. Made with all above it when first written to."""

    def __init__(self, directory: Path, *, private: bool = False) -> None:
        """Touch nothing yet."""
        self.directory = directory
        self.scratch = directory / _SCRATCH
        """Files in here that `put` is given are taken over; any others are copied."""
        self._modes = _PRIVATE if private else _PUBLIC
        self._made: set[Path] = set()
        self._prefix = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._numbers = itertools.count()

    def location(self, name: str) -> Path:
        """Return where the file of an object is, or would be."""
        return self.directory / check_name(name)

    async def size(self, name: str) -> int | None:
        """Return the bytes of an object; None where there is none."""
        place = self.location(name)
        with explained("look into", str(self.directory)):
            return await asyncio.to_thread(_size, place)

    async def read(self, name: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield (a part of) an object; nothing where there is none."""
        place = self.location(name)
        with explained("read from", str(self.directory)):
            file, chunk = await asyncio.to_thread(_begin, place, start, length)
            with file or contextlib.nullcontext():
                left = length
                while chunk:
                    yield chunk
                    left = None if left is None else left - len(chunk)
                    chunk = await asyncio.to_thread(file.read, _wanted(left)) if file else b""

    async def put(self, name: str, content: Content, *, replace: bool = False) -> bool:
        """Store an object, durable on return; False where there was one, which stays unless `replace`."""
        place = self.location(name)
        with explained("write to", str(self.directory)):
            if replace:
                return await asyncio.to_thread(self._replace, place, content)
            return (await asyncio.to_thread(self._put_all, [[(place, content)]]))[0][0]

    async def put_all(self, layers: Sequence[Layer]) -> Sequence[Sequence[bool]]:
        """Store objects, all durable on return, in the order of their layers; see `Batches`."""
        places = [[(self.location(name), content) for name, content in layer] for layer in layers]
        with explained("write to", str(self.directory)):
            return await asyncio.to_thread(self._put_all, places)

    async def delete(self, names: Collection[str]) -> None:
        """Delete objects; those that are not there are none the worse for it."""
        places = [self.location(name) for name in names]
        with explained("delete from", str(self.directory)):
            await asyncio.to_thread(_delete, places)

    async def names(self, prefix: str = "") -> AsyncIterator[Sequence[StoredObject]]:
        """Yield all objects whose names begin so, many at a time, in no order."""
        found = _walk(self.directory, prefix)
        with explained("list", str(self.directory)):
            while some := await asyncio.to_thread(lambda: list(itertools.islice(found, LISTED))):
                yield some

    async def tidy(self) -> None:
        """Delete what was left half-written a day ago or earlier."""
        with explained("tidy", str(self.directory)):
            await asyncio.to_thread(_tidy, self.scratch, time.time() - ABANDONED_S)

    def make_scratch(self) -> Path:
        """Make the directory for what is being written, and return it."""
        self._make(self.scratch)
        return self.scratch

    def _put_all(self, layers: Sequence[Sequence[tuple[Path, Content]]]) -> list[list[bool]]:
        """Write everything that is not there, flush it, then let it appear layer by layer."""
        written = [[self._written(place, content) for place, content in layer] for layer in layers]
        try:
            new = [file for layer in written for file in layer if file is not None]
            self._flush(new)
            return self._appear(
                [list(zip(layer, files, strict=True)) for layer, files in zip(layers, written, strict=True)]
            )
        finally:
            _discard(file for layer in written for file in layer)

    def _written(self, place: Path, content: Content) -> Path | None:
        """Return a file of this content, not flushed yet; None where the object stands."""
        if os.path.lexists(place):
            return None
        return self._write(content)

    def _write(self, content: Content) -> Path:
        if isinstance(content, Path) and content.parent == self.scratch:
            content.chmod(self._modes.file)
            return content
        new = self.make_scratch() / f"{self._prefix}-{next(self._numbers)}"
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, self._modes.file)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            os.fchmod(descriptor, self._modes.file)  # the umask may have taken away what is meant to be readable
            if isinstance(content, Path):
                with content.open("rb") as source:
                    shutil.copyfileobj(source, file, CHUNK_BYTES)
            else:
                _write_whole(descriptor, content)
        return new

    def _flush(self, files: Sequence[Path]) -> None:
        if len(files) > ALONE_MAX:
            _sync_file_system(self.directory)
        else:
            for file in files:
                _sync(file)

    def _appear(self, layers: Sequence[Sequence[tuple[tuple[Path, Content], Path | None]]]) -> list[list[bool]]:
        """Give files their names. Before another directory's turn comes, those before it are flushed."""
        answers = []
        changed: set[Path] = set()
        for layer in layers:
            parents = {place.parent for (place, _), _ in layer}
            if not changed <= parents:
                _sync_all(changed)
                changed = set()
            answers.append([file is not None and self._appear_as(file, place) for (place, _), file in layer])
            changed |= parents
        _sync_all(changed)
        return answers

    def _appear_as(self, file: Path, place: Path) -> bool:
        self._make(place.parent)
        try:
            _move(file, place)
        except FileExistsError:
            return False
        return True

    def _replace(self, place: Path, content: Content) -> bool:
        new = self._write(content)
        _sync(new)
        self._make(place.parent)
        there = os.path.lexists(place)
        new.replace(place)
        _sync(place.parent)
        return not there

    def _make(self, directory: Path) -> None:
        """Make a directory and what is missing above it, with the modes of this cache."""
        if directory in self._made:
            return
        missing = list(itertools.takewhile(lambda path: not path.is_dir(), (directory, *directory.parents)))
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=self._modes.directory)
                path.chmod(self._modes.directory)  # as for files; only what was made here is changed
                _sync(path.parent)
        self._made.add(directory)


def _wanted(left: int | None) -> int:
    return CHUNK_BYTES if left is None else min(left, CHUNK_BYTES)


def _begin(place: Path, start: int, length: int | None) -> tuple[io.FileIO | None, bytes]:
    """Return the first piece of a file, and the file where there may be more of it."""
    file = open_file(place)
    if file is None:
        return None, b""
    file.seek(start)
    chunk = file.read(_wanted(length))
    if len(chunk) == CHUNK_BYTES:
        return file, chunk
    file.close()
    return None, chunk


def open_file(place: Path) -> io.FileIO | None:
    """Open the file of an object for reading; None where there is none.

    Whatever else is there was put there by others, and is none: a link may lead to our secrets, a pipe never ends.
    """
    try:
        file = io.FileIO(place, opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            return None
        raise
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    return None


def _size(place: Path) -> int | None:
    try:
        found = place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _move(file: Path, place: Path) -> None:
    """Give a file its name in one step; raise `FileExistsError` where something has it."""
    if not _LIBC.renameat2(_HERE, os.fsencode(file), _HERE, os.fsencode(place), _NO_REPLACE):
        return
    number = ctypes.get_errno()
    if number not in {errno.EINVAL, errno.ENOSYS}:
        raise OSError(number, os.strerror(number), str(place))
    os.link(file, place, follow_symlinks=False)  # a file system that cannot do that (NFS); the caller deletes the other


def _write_whole(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_all(directories: Iterable[Path]) -> None:
    for directory in directories:
        if directory.is_dir():  # nothing was moved to where it is missing
            _sync(directory)


def _sync_file_system(directory: Path) -> None:
    """Flush all that is written on the file system of a directory; errors of writing back are told (Linux 5.8)."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _LIBC.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(directory))
    finally:
        os.close(descriptor)


def _discard(files: Iterable[Path | None]) -> None:
    for file in files:
        if file is not None and os.path.lexists(file):
            file.unlink(missing_ok=True)


def _delete(places: Iterable[Path]) -> None:
    parents = set()
    for place in places:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            place.unlink()
            parents.add(place.parent)
    _sync_all(parents)


def _walk(top: Path, prefix: str) -> Iterator[StoredObject]:
    """Walk the directories whose names the prefix allows; what could be no object's name is left out."""
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            entries = list(os.scandir(top / inside))
        except FileNotFoundError:
            continue
        for entry in entries:
            name = inside + entry.name
            if entry.is_dir(follow_symlinks=False):
                directory = f"{name}/"
                if is_name(name) and (directory.startswith(prefix) or prefix.startswith(directory)):
                    waiting.append(directory)
            elif name.startswith(prefix) and is_name(name) and (there := _seen(entry)) is not None:
                yield StoredObject(name, there.st_size, there.st_mtime)


def _seen(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except FileNotFoundError:  # deleted meanwhile
        return None


def _tidy(scratch: Path, before: float) -> None:
    try:
        entries = list(os.scandir(scratch))
    except FileNotFoundError:
        return
    for entry in entries:
        there = _seen(entry)
        if there is not None and there.st_mtime < before:
            Path(entry.path).unlink(missing_ok=True)
