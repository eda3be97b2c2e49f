"""Framed data, which follows requests that add to the store: read from a client, and streamed to a daemon.

What this file does not know: operations, and policy (`core.store_view`).
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from nixmill.core.store_view import RefusedError, StoreView
from nixmill.edge.sandbox.store_proxy_channel import Channel
from nixmill.edge.sandbox.store_proxy_talk import OverError
from nixmill.nix import nar, wire, worker_requests
from nixmill.nix.wire import Parser, ProtocolError, Reader

T = TypeVar("T")

PIECE_BYTES: Final = 64 * 1024
HELD_BYTES_MAX: Final = worker_requests.CONTENT_BYTES_MAX
_FIRST_FRAME_BYTES: Final = 2


class Frames:
    """The framed data that follows one request. Every byte counts towards what an evaluation may add."""

    def __init__(self, client: Channel, view: StoreView, *, present: bool) -> None:
        """Start before the first frame; `present` says whether the request has any data at all."""
        self._client = client
        self._view = view
        self._left = 0
        self._open = present
        self._inner = Reader()

    async def piece(self) -> bytes:
        """Return the next piece; empty at the end."""
        if not self._open:
            return b""
        if not self._left:
            self._left = await self._client.read(worker_requests.frame_length(self._client.reader))
            self._open = self._left > 0
            self._spend(self._left)
        if not self._open:
            return b""
        found = await self._client.read(self._client.reader.available(min(self._left, PIECE_BYTES)))
        self._left -= len(found)
        return found

    def _spend(self, count: int) -> None:
        try:
            self._view.spend(count)
        except RefusedError as refusal:
            raise OverError(str(refusal)) from None

    async def drop(self) -> None:
        """Read to the end, so that the next request can be."""
        while await self.piece():
            pass

    async def held(self) -> bytes:
        """Return everything; refuse more than fits."""
        found = bytearray()
        while piece := await self.piece():
            found += piece
            _check_held(len(found))
        return bytes(found)

    async def read(
        self, make: Callable[[Reader], Parser[T]], meanwhile: Callable[[], Awaitable[None]] | None = None
    ) -> T:
        """Return what a parser makes of the data; refuse data that stops too early or makes no sense.

        `meanwhile` is awaited before each wait and at the end.
        """
        parser = make(self._inner)
        done = False
        while not done:
            try:
                next(parser)
            except StopIteration as stop:
                value: T = stop.value
                done = True
            except ProtocolError as error:
                raise RefusedError(f"Adding to the store was refused: {error}") from None
            if meanwhile is not None:
                await meanwhile()
            if not done:
                self._inner.feed(await self._more())
        return value

    async def _more(self) -> bytes:
        piece = await self.piece()
        if not piece:
            raise RefusedError("Adding to the store was refused: the data stops in the middle.")
        return piece

    async def held_nar(self) -> bytes:
        """Return one NAR; refuse more than fits."""
        found = bytearray()

        def keep(piece: bytes) -> None:
            found.extend(piece)
            _check_held(len(found))

        await self.read(lambda reader: nar.copy(reader, keep))
        return bytes(found)

    async def finish(self) -> None:
        """Refuse anything that follows what was read."""
        if len(self._inner) or await self.piece():
            raise RefusedError("Adding to the store was refused: something follows the data.")


def _check_held(size: int) -> None:
    if size > HELD_BYTES_MAX:
        raise RefusedError(f"Adding a text was refused: it has more than {HELD_BYTES_MAX} bytes.")


class FrameWriter:
    """Framed data on its way to a daemon, in frames of our own.

    The first holds two bytes: no operation has the number 2, so that a daemon which refuses a request before it reads
    the frames ends the conversation there, instead of obeying what they contain.
    """

    def __init__(self, daemon: Channel) -> None:
        """Start before the first frame."""
        self._daemon = daemon
        self._begun = False

    def write(self, piece: bytes) -> None:
        """Send a piece."""
        if piece and not self._begun:
            self._begun = True
            self._daemon.write(wire.frame(piece[:_FIRST_FRAME_BYTES]))
            piece = piece[_FIRST_FRAME_BYTES:]
        if piece:
            self._daemon.write(wire.frame(piece))

    def end(self) -> None:
        """Send the end."""
        self._daemon.write(wire.END_OF_FRAMES)

    async def sent(self) -> None:
        """Wait until the daemon has taken nearly everything."""
        await self._daemon.drain()


async def pass_all(frames: Frames, daemon: Channel) -> None:
    """Stream framed data to the daemon, as fast as it takes it."""
    out = FrameWriter(daemon)
    while piece := await frames.piece():
        out.write(piece)
        await out.sent()
    out.end()
    await out.sent()


async def pass_nar(frames: Frames, daemon: Channel, witness: Callable[[bytes], None]) -> None:
    """Stream one NAR to the daemon; `witness` sees every byte of it first, and raises `ProtocolError` to refuse it."""
    out = FrameWriter(daemon)
    pending = bytearray()

    async def send() -> None:
        if not pending:
            return
        piece = bytes(pending)
        pending.clear()
        try:
            witness(piece)
        except ProtocolError as error:
            raise RefusedError(f"Adding to the store was refused: {error}") from None
        out.write(piece)
        await out.sent()

    await frames.read(lambda reader: nar.copy(reader, pending.extend), send)
    out.end()
    await out.sent()
