"""How an object of a cache is sent: headers, conditions, a range of it, by the kernel where that can be.

Nothing is compressed here: archives are, and narinfos are short.
"""

import asyncio
import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

import msgspec
import structlog
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from nixmill.doors import DoorError
from nixmill.doors.serving import ServedObject, Slice
from nixmill.web import cache_range
from nixmill.web.cache_range import Part
from nixmill.web.rate_limit import keys_of

CHUNK_BYTES: Final = 1024 * 1024
"""What of a file is read at once where the kernel cannot send it."""
STEP_S: Final = 60.0
"""How long a client may take for a chunk; `nixmill.app.connection` watches what the kernel sends."""
YEAR_S: Final = 365 * 86_400
FOUND_S: Final = 3600
"""How long others may remember what was found and can change: a narinfo gets signatures, a collection deletes it."""
ZERO_COPY: Final = "http.response.zerocopysend"
ABORT: Final = "nixmill.response.abort"

log = structlog.get_logger("nixmill")


class Answer(msgspec.Struct, frozen=True):
    """An answer of one line."""

    code: int
    sentence: str
    headers: Mapping[str, str] = {}


class Transfers:
    """Counts the large answers that are under way, by address."""

    def __init__(self, most: int) -> None:
        """Allow `most` for each address."""
        self._most = most
        self._open: Counter[str] = Counter()

    @contextlib.contextmanager
    def of(self, scope: Scope) -> Iterator[bool]:
        """Count one for as long as the context lasts; yield False, and count nothing, where there are too many."""
        key = keys_of("", address_of(scope))[1]
        if self._open[key] >= self._most:
            yield False
            return
        self._open[key] += 1
        try:
            yield True
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]


def address_of(scope: Scope) -> str:
    """Return the client's address; that of everybody on a Unix socket is empty."""
    return str((scope.get("client") or ("", 0))[0])


async def send_answer(answer: Answer, scope: Scope, send: Send) -> None:
    """Send a sentence."""
    body = f"{answer.sentence}\n".encode()
    headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff", **answer.headers}
    await _start(answer.code, len(body), headers, send)
    await _finish(body, scope, send)


async def send_object(found: ServedObject, scope: Scope, receive: Receive, send: Send, *, private: bool) -> None:
    """Send what of an object the request wants."""
    content = found.content
    if isinstance(content, bytes):
        tag = found.etag or hashlib.blake2b(content, digest_size=16).hexdigest()
        part = await _begin(found, tag, scope, send, private=private)
        if part is not None:
            await _finish(content[part.start : part.start + part.length], scope, send)
    elif isinstance(content, Path):
        await _send_file(found, content, scope, receive, send, private=private)
    else:
        part = await _begin(found, found.etag, scope, send, private=private)
        if part is not None:
            await _stream(content, part, scope, receive, send)


async def _send_file(
    found: ServedObject, path: Path, scope: Scope, receive: Receive, send: Send, *, private: bool
) -> None:
    file = await asyncio.to_thread(_open, path)
    if file is None:
        await send_answer(Answer(404, "This object was deleted just now.", {"Cache-Control": "no-store"}), scope, send)
        return
    with file:
        status = os.fstat(file.fileno())
        known = msgspec.structs.replace(found, size=status.st_size)
        tag = found.etag or f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
        part = await _begin(known, tag, scope, send, private=private)
        if part is None:
            return
        if ZERO_COPY in scope.get("extensions", {}) and part.length:
            await send({"type": ZERO_COPY, "file": file, "offset": part.start, "count": part.length})
        else:
            await _stream(lambda start, length: _chunks(file, start, length), part, scope, receive, send)


def _open(path: Path) -> IO[bytes] | None:
    """Open a file, and nothing that somebody put in its place meanwhile: a link may lead anywhere."""
    with contextlib.suppress(FileNotFoundError):
        return open(path, "rb", buffering=0, opener=_opener)
    return None


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


async def _chunks(file: IO[bytes], start: int, length: int) -> AsyncIterator[bytes]:
    end = start + length
    while start < end:
        chunk = await asyncio.to_thread(os.pread, file.fileno(), min(CHUNK_BYTES, end - start), start)
        if not chunk:
            return
        start += len(chunk)
        yield chunk


async def _begin(found: ServedObject, tag: str, scope: Scope, send: Send, *, private: bool) -> Part | None:
    """Send status and headers; return the part to send, or None where the answer is complete."""
    headers = Headers(scope=scope)
    etag = f'"{tag}"' if tag else ""
    told = _told(found, etag, private=private)
    code: int = cache_range.condition(headers, etag)
    part = cache_range.wanted(headers, found.size, etag) if code == 200 and scope["method"] == "GET" else None
    if code == 304:
        await _start(304, None, told, send)
    elif code == 412:
        await _start(412, 0, told, send)
    elif scope["method"] == "HEAD":
        await _start(200, found.size, told, send)
    elif part is None:
        await _start(416, 0, {**told, "Content-Range": f"bytes */{found.size}"}, send)
    elif part.whole:
        await _start(200, part.length, told, send)
        return part
    else:
        last = part.start + part.length - 1
        await _start(206, part.length, {**told, "Content-Range": f"bytes {part.start}-{last}/{found.size}"}, send)
        return part
    await _finish(b"", scope, send)
    return None


def _told(found: ServedObject, etag: str, *, private: bool) -> dict[str, str]:
    whose = "private" if private else "public"
    age = f"max-age={YEAR_S}, immutable" if found.immutable else f"max-age={FOUND_S}"
    told = {
        "Content-Type": found.media_type,
        "Cache-Control": f"{whose}, {age}",
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
    }
    return {**told, "ETag": etag} if etag else told


async def _start(code: int, length: int | None, headers: Mapping[str, str], send: Send) -> None:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    if length is not None:
        raw.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": code, "headers": raw})


async def _finish(body: bytes, scope: Scope, send: Send) -> None:
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body, "more_body": False})


async def _stream(content: Slice, part: Part, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a part as it is read, and stop reading when the client goes away."""
    if not part.length:
        await _finish(b"", scope, send)
        return
    gone = asyncio.create_task(_disconnected(receive))
    try:
        sent = await _pump(content, part, gone, send)
        if sent == part.length:
            await _finish(b"", scope, send)
        elif not gone.done():
            log.warning("an object of a cache was shorter than announced", path=scope["path"][:200])
            await _break_off(scope, send)
    except DoorError as error:
        log.warning("an object of a cache could not be read to its end", path=scope["path"][:200], error=str(error))
        await _break_off(scope, send)
    except TimeoutError:
        await _break_off(scope, send)
    finally:
        gone.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gone


async def _pump(content: Slice, part: Part, gone: "asyncio.Task[None]", send: Send) -> int:
    sent = 0
    async for piece in content(part.start, part.length):
        if gone.done() or sent + len(piece) > part.length:
            break
        async with asyncio.timeout(STEP_S):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        sent += len(piece)
    return sent


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _break_off(scope: Scope, send: Send) -> None:
    """End the connection, so that nobody takes for whole what is not."""
    if ABORT not in scope.get("extensions", {}):
        raise ConnectionAbortedError("An answer could not be sent to its end.")
    await send({"type": ABORT})
