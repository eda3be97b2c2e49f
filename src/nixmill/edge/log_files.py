"""Logs of attempts as files: the door `Logs`.

One file an attempt, at a path made of its number and nothing else (`00/12/345.zst` is attempt 12,345), in frames (see
`zstd_frames`). One thread writes all of them: `write` only puts a line aside. What is aside is bounded; where the
disk cannot follow, lines are left out, and the log says so where they are missing.
What this file does not know: what a line means, and who may read it.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Final

from nixmill.doors import DoorError, NotAllowedError
from nixmill.edge.private_files import create_file, make_directory
from nixmill.edge.zstd_frames import FRAME_BYTES, FrameCompressor, FrameError, text_range

LINGER_S: Final = 0.5
"""Seconds a line may wait for more lines before it is written."""

ASIDE_MAX: Final = 64 * 1024 * 1024
"""Bytes of all logs together that may wait for the disk."""

_PAST: Final = {"read": "read", "delete": "deleted"}


class LogFiles:
    """Implements `nixmill.doors.Logs` in a directory. Close it to stop its thread."""

    def __init__(self, directory: Path, *, linger_s: float = LINGER_S, aside_max: int = ASIDE_MAX) -> None:
        """Keep logs below `directory`, which is made with the first of them."""
        self._directory = directory
        self._open: dict[int, LogFile] = {}
        self._writer = _Writer(linger_s, aside_max)

    def open(self, attempt: int) -> "LogFile":
        """See `Logs`."""
        path = self._path(attempt)
        if attempt in self._open or path.exists():
            raise _error(f"Attempt {attempt} has a log already; logs are never overwritten.", "open", path)
        self._open[attempt] = LogFile(path, self._writer, lambda: self._open.pop(attempt))
        return self._open[attempt]

    def location(self, attempt: int) -> str:
        """See `Logs`."""
        return str(self._path(attempt))

    async def read(self, attempt: int, offset: int = 0, limit: int | None = None) -> AsyncIterator[bytes]:
        """See `Logs`."""
        if (growing := self._open.get(attempt)) is not None:
            await growing.flush()
        texts = _texts(self._path(attempt), offset, limit)
        while text := await asyncio.to_thread(next, texts, b""):
            yield text

    async def delete(self, attempts: Iterable[int]) -> None:
        """Delete logs; those that are not there are none the worse for it. Raises `DoorError`."""
        paths = [self._path(attempt) for attempt in attempts]
        await asyncio.to_thread(_delete, paths)

    async def close(self) -> None:
        """Write what is aside, then stop the thread. Logs still open are closed as they are."""
        try:
            for log in list(self._open.values()):
                await log.close()
        finally:
            await self._writer.stop()

    def _path(self, attempt: int) -> Path:
        rest, last = divmod(attempt, 1000)
        first, middle = divmod(rest, 100)
        return self._directory / f"{first:02}" / f"{middle:02}" / f"{last:03}.zst"


class LogFile:
    """Implements `nixmill.doors.LogSink`. `_aside` is shared with the writer's thread, under the writer's lock."""

    def __init__(self, path: Path, writer: "_Writer", closed: Callable[[], object]) -> None:
        """Leave the making of the file to the first line."""
        self._path = path
        self._writer = writer
        self._closed: Callable[[], object] | None = closed
        self._descriptor = -1
        self._good_size = 0
        self._trouble: Exception | None = None
        self.aside: list[bytes] = []
        self.aside_bytes = 0
        self.left_out = 0

    def write(self, line: str) -> None:
        """See `LogSink`."""
        if self._closed is None:
            raise RuntimeError(f"A line was written to the log {self._path} after it was closed.")
        self._writer.put(self, _encoded(line))

    async def flush(self) -> None:
        """Return once all lines so far were given to the system."""
        await self._writer.do(self, close=False)

    async def close(self) -> None:
        """See `LogSink`. May be called twice."""
        if self._closed is None:
            return
        forget, self._closed = self._closed, None
        await self._writer.do(self, close=True)
        forget()
        if self._trouble is not None:
            why = getattr(self._trouble, "strerror", None) or self._trouble
            sentence = f"The log {self._path} is incomplete: {why}. Look at the disk."
            raise _error(sentence, "write", self._path) from self._trouble

    def append(self, frames: bytes) -> None:
        """Append to the file, made where it is missing; called by the writer's thread only.

        After the first trouble nothing more is written: a gap in the middle would look like the whole.
        """
        if self._trouble is not None:
            return
        try:
            if self._descriptor < 0:
                make_directory(self._path.parent)
                self._descriptor = create_file(self._path)
            _write_all(self._descriptor, frames)
            self._good_size += len(frames)
        except Exception as error:  # noqa: BLE001 - `close` tells it
            self._trouble = error
            if self._descriptor >= 0:
                with suppress(OSError):  # a torn last frame is tolerated by readers
                    os.ftruncate(self._descriptor, self._good_size)

    def close_file(self) -> None:
        """Close the file; called by the writer's thread only."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _Writer:
    """The thread that compresses and writes. Starts with the first line."""

    def __init__(self, linger_s: float, aside_max: int) -> None:
        self._linger_s = linger_s
        self._aside_max = aside_max
        self._changed = threading.Condition()
        self._dirty: dict[LogFile, None] = {}
        self._asked: list[tuple[LogFile, bool, Future[None]]] = []
        self._aside_bytes = 0
        self._hurry = False
        self._stopping = False
        self._thread: threading.Thread | None = None

    def put(self, log: LogFile, line: bytes) -> None:
        """Put a line aside; wake the thread only where it is due."""
        with self._changed:
            if self._aside_bytes + len(line) > self._aside_max:
                log.left_out += 1
                return
            first = not self._dirty
            if log.left_out:
                gap = _gap(log.left_out)
                log.left_out = 0
                self._add(log, gap)
            self._add(log, line)
            self._start()
            if log.aside_bytes >= FRAME_BYTES or self._aside_bytes > self._aside_max // 2:
                self._hurry = True
            if first or self._hurry:
                self._changed.notify()

    def _add(self, log: LogFile, line: bytes) -> None:
        log.aside.append(line)
        log.aside_bytes += len(line)
        self._aside_bytes += len(line)
        self._dirty[log] = None

    async def do(self, log: LogFile, *, close: bool) -> None:
        """Return once what is aside was written, and the file closed where that is asked for."""
        future: Future[None] = Future()
        with self._changed:
            self._asked.append((log, close, future))
            self._start()
            self._changed.notify()
        await asyncio.wrap_future(future)

    async def stop(self) -> None:
        """Write everything and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _start(self) -> None:
        if self._thread is None:
            # A daemon thread: a program that ends without closing must not hang.
            self._thread = threading.Thread(target=self._run, name="nixmill-logs", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        compressor = FrameCompressor()
        while not self._stopping or self._dirty or self._asked:
            with self._changed:
                self._wait()
                asked, self._asked = self._asked, []
                dirty, self._dirty = self._dirty, {}
                self._hurry = False
            for log, _, _ in asked:
                dirty.setdefault(log)
            for log in dirty:
                self._write(log, compressor)
            for log, close, future in asked:
                if close:
                    log.close_file()
                if future.set_running_or_notify_cancel():
                    future.set_result(None)

    def _wait(self) -> None:
        """Wait until something is asked for, a frame is full, or the first line has lingered."""
        self._changed.wait_for(lambda: self._dirty or self._asked or self._stopping)
        self._changed.wait_for(lambda: self._hurry or self._asked or self._stopping, self._linger_s)

    def _write(self, log: LogFile, compressor: FrameCompressor) -> None:
        with self._changed:
            lines, log.aside = log.aside, []
            taken, log.aside_bytes = log.aside_bytes, 0
            if log.left_out:
                lines.append(_gap(log.left_out))
                log.left_out = 0
        if lines:
            log.append(compressor.frames(b"".join(lines)))
        with self._changed:
            self._aside_bytes -= taken


def _encoded(line: str) -> bytes:
    """Return a line as bytes, those that never were text included, whatever stands for them in `line`."""
    try:
        return (line + "\n").encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return (line + "\n").encode("utf-8", "replace")


def _gap(lines: int) -> bytes:
    return f"[nixmill: {lines:,} lines are missing here, because the disk could not follow]\n".encode()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _texts(path: Path, offset: int, limit: int | None) -> Iterator[bytes]:
    """Yield the text of a log; nothing where there is none."""
    try:
        with path.open("rb", buffering=0) as file:
            yield from text_range(file, offset, limit)
    except FileNotFoundError:
        return
    except FrameError as error:
        raise _error(f"The log {path} is damaged: {error}. What comes before was read.", "read", path) from error
    except OSError as error:
        raise _outside("read", path, error) from error


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _outside("delete", path, error) from error


def _outside(action: str, path: Path, error: OSError) -> DoorError:
    sentence = f"The log {path} cannot be {_PAST[action]}: {error.strerror or error}."
    if isinstance(error, PermissionError):
        return NotAllowedError(sentence, door="logs", action=action, subject=str(path), retryable=False)
    return _error(sentence, action, path)


def _error(sentence: str, action: str, path: Path) -> DoorError:
    return DoorError(sentence, door="logs", action=action, subject=str(path), retryable=False)
