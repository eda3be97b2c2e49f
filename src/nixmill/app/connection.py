"""An HTTP connection that is not kept for ever by whoever does not finish, and that sends parts of files fast.

uvicorn ends connections that are idle between requests, but not one whose headers never end, nor one that never takes
its answer: a few thousand of them would take every file descriptor of the server. How long a body may take is decided
in `nixmill.web.middleware`.

A part of a file is sent by the kernel: the extension `http.response.zerocopysend` of ASGI
(https://asgi.readthedocs.io/en/latest/extensions.html#zero-copy-send). h11 is told of its length and never sees it.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Mapping
from typing import IO, Any, Final, cast

import h11
from uvicorn._types import ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.protocols.utils import is_ssl

HEADERS_S: Final = 20.0
"""How long the headers of a request may take."""
STALL_S: Final = 60.0
"""How long what was written may wait for the client to take it: a page, or 1 MiB of something large."""
PIECE_BYTES: Final = 4 * 1024 * 1024
"""What of a file is sent in one go."""
PIECE_S: Final = 240.0
"""How long that may take: 17 KiB each second, as of everything else."""
ZERO_COPY: Final = "http.response.zerocopysend"
ABORT: Final = "nixmill.response.abort"
"""Our own extension: an answer that cannot be completed is broken off, so that nobody takes it for whole."""


class ImpatientProtocol(H11Protocol):
    """Closes a connection on which no whole request came in time, or whose answer is not taken; sends files."""

    _timer: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - what uvicorn gives
        """Put the extensions between uvicorn and the application."""
        super().__init__(*arguments, **named)
        self._plain = self.app
        self.app = self._extended

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait. Every byte that the kernel does not take counts as not taken by the client."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take data; wait on where it was not the whole of a request's headers."""
        super().data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop()
        self._moves()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Begin to wait for the client."""
        super().pause_writing()
        self._stalled = self._stalled or self.loop.call_later(STALL_S, _reset, self.transport)

    def resume_writing(self) -> None:
        """Everything was taken."""
        self._moves()
        super().resume_writing()

    async def _extended(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] != "http" or self.cycle is None:
            await self._plain(scope, receive, send)
            return
        sender = _Sender(self.cycle, self.transport)
        # Over TLS the kernel cannot send: whoever answers reads the file itself.
        known: dict[str, object] = {ABORT: {}} if is_ssl(self.transport) else {ABORT: {}, ZERO_COPY: {}}
        await self._plain(cast("Scope", {**scope, "extensions": known}), receive, sender)

    def _moves(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _wait(self) -> None:
        if not self._is_asked_nothing():
            self._stop()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEADERS_S, self._give_up)

    def _is_asked_nothing(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._is_asked_nothing():
            self.transport.close()


def _reset(transport: asyncio.Transport) -> None:
    """End a connection, and what the kernel keeps for it: it would offer that to the client for minutes."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Part:
    """Stands for a part of a file in h11's bookkeeping."""

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


class _Sender:
    """Sends the messages of one answer: those of uvicorn as they are, files, and the end of what cannot be ended."""

    def __init__(self, cycle: RequestResponseCycle, transport: asyncio.Transport) -> None:
        self._cycle = cycle
        self._transport = transport

    async def __call__(self, message: ASGISendEvent) -> None:
        fields = cast("Mapping[str, Any]", message)  # uvicorn's types know no extensions
        match fields["type"]:
            case "http.response.zerocopysend":
                await self._send_file(fields["file"], fields.get("offset"), fields.get("count"))
                if not fields.get("more_body", False):
                    await self._cycle.send({"type": "http.response.body", "body": b"", "more_body": False})
            case "nixmill.response.abort":
                self._break_off()
            case _:
                await self._cycle.send(message)

    async def _send_file(self, file: IO[bytes], offset: int | None, count: int | None) -> None:
        start = file.tell() if offset is None else offset
        length = os.fstat(file.fileno()).st_size - start if count is None else count
        if self._cycle.disconnected or self._cycle.scope["method"] == "HEAD":
            return
        part: Any = _Part(length)
        for piece in self._cycle.conn.send_with_data_passthrough(h11.Data(data=part)) or ():
            if piece is part:
                await self._send_pieces(file, start, start + length)
            elif not self._cycle.disconnected:
                self._transport.write(piece)

    async def _send_pieces(self, file: IO[bytes], start: int, end: int) -> None:
        """Send `start` to `end`; a client that goes away, or is too slow, ends the connection and nothing else."""
        try:
            while start < end and not self._cycle.disconnected:
                length = min(PIECE_BYTES, end - start)
                async with asyncio.timeout(PIECE_S):
                    sent = await self._send_piece(file, start, length)
                start += sent
                if sent < length:
                    break  # the file has become shorter than it was announced
        except TimeoutError:
            _reset(self._transport)
        except OSError:
            pass  # the client went away
        finally:
            if start < end:
                self._break_off()

    async def _send_piece(self, file: IO[bytes], start: int, length: int) -> int:
        if self._transport.is_closing():
            raise ConnectionResetError
        if hasattr(os, "posix_fadvise"):  # reads ahead meanwhile: nobody waits for a slow disk
            os.posix_fadvise(file.fileno(), start + length, PIECE_BYTES, os.POSIX_FADV_WILLNEED)
        return await asyncio.get_running_loop().sendfile(self._transport, file, start, length)

    def _break_off(self) -> None:
        self._cycle.disconnected = True
        self._transport.abort()
