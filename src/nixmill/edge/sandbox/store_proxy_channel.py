"""One side of a proxied conversation: bytes that arrive, parsed as far as they reach, and bytes that leave."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from nixmill.nix.wire import Parser, Reader

T = TypeVar("T")

READ_BYTES: Final = 64 * 1024
SEND_BYTES: Final = 64 * 1024
FAREWELL_S: Final = 2.0


class EndOfStreamError(Exception):
    """The other side went away."""


class Channel:
    """A stream in both directions. What is written leaves when its sender waits: in `drain` or `read`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Start with nothing read."""
        self.reader = Reader()
        self._from = reader
        self._to = writer
        self._unsent = bytearray()

    async def read(self, parser: Parser[T], meanwhile: Callable[[], Awaitable[None]] | None = None) -> T:
        """Return what `parser` makes of `self.reader`, feeding it; `meanwhile` is awaited before each wait.

        Raises `EndOfStreamError` where the other side goes away, and what the parser raises.
        """
        while True:
            try:
                next(parser)
            except StopIteration as stop:
                value: T = stop.value
                return value
            if meanwhile is not None:
                await meanwhile()
            self._send()
            self.reader.feed(await self._arrived())

    async def _arrived(self) -> bytes:
        try:
            data = await self._from.read(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            raise EndOfStreamError
        return data

    async def gone(self) -> None:
        """Raise `EndOfStreamError` when the other side goes away; what it says meanwhile is kept, within bounds."""
        while len(self.reader) < READ_BYTES:
            self.reader.feed(await self._arrived())
        await asyncio.Event().wait()  # it talks ahead so much that its end cannot be seen

    def write(self, data: bytes) -> None:
        """Send, buffering as needed."""
        self._unsent += data
        if len(self._unsent) > SEND_BYTES:
            self._send()

    def _send(self) -> None:
        """Hand over what was written: one system call for many small pieces."""
        if self._unsent:
            self._to.write(bytes(self._unsent))
            self._unsent.clear()

    async def drain(self) -> None:
        """Send what was written and wait until little is buffered; raise `EndOfStreamError` where nobody reads it."""
        self._send()
        try:
            await self._to.drain()
        except OSError:
            raise EndOfStreamError from None

    async def farewell(self) -> None:
        """Send what was written, and listen a moment longer: a socket that closes on unread data takes it away."""
        await self.drain()
        with contextlib.suppress(TimeoutError, OSError):  # whoever goes on talking is not heard
            self._to.write_eof()
            async with asyncio.timeout(FAREWELL_S):
                while await self._from.read(READ_BYTES):
                    pass

    async def close(self) -> None:
        """Let go of the other side, once what was written has left or cannot leave."""
        self._to.close()
        with contextlib.suppress(OSError):  # it went first
            await self._to.wait_closed()
