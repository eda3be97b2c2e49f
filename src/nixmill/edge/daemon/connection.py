"""One connection to a daemon: bytes in, answers out, in order.

Requests may be written ahead of answers (`submit`); whatever arrives is parsed at once, in the callback of the event
loop, so that a daemon never waits for us and an answer costs microseconds. One error ends the connection: an error of
the daemon, nonsense, an end of file, or a cancelled `perform`. Closing it makes the daemon kill what it was building.
What this file does not know: operations, what a lost connection means for a run, and where daemons live (`transport`).
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from nixmill.doors import DoorError
from nixmill.edge.daemon import errors
from nixmill.nix import wire, worker_protocol
from nixmill.nix.operations import Options, set_options
from nixmill.nix.wire import Parser, ProtocolError, Reader
from nixmill.nix.worker_protocol import DaemonFacts, Listener, Operation, RemoteError, UnsupportedError, ignore

T = TypeVar("T")

QUIET_S: Final = 0.02
"""A worker that is told to stop just while it turns from one line of log to waiting for the next may miss it, and its
builder lives on until it prints again (seen with Nix 2.34). So no connection is closed on the heels of a line."""
QUIET_PATIENCE_S: Final = 0.2
"""A builder that is never quiet for so long dies of its next line, which its worker cannot pass on."""


class Transport(Protocol):
    """How bytes travel: a socket, or the pipes of a process."""

    def write(self, data: bytes) -> None:
        """Send, buffering as needed; nothing happens once the transport is closed."""

    def abort(self) -> None:
        """Let go of the other side at once; idempotent."""

    async def closed(self) -> None:
        """Return when nothing of the other side is left that we are responsible for."""

    def pause_reading(self) -> None:
        """Let nothing arrive until `resume_reading`."""

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""

    def last_words(self) -> str:
        """Return what the other side printed on its standard error, if that is known."""


@dataclass
class _Pending:
    """An answer that is being waited for."""

    parser: Parser[Any]
    future: asyncio.Future[Any]


class Connection:
    """See the module. Made by `transport.open_socket` and `transport.open_process`, which also shake hands."""

    def __init__(self, address: str) -> None:
        """Start without a transport; `address` is for messages."""
        self.address = address
        self.facts = DaemonFacts(minor=worker_protocol.OLDEST_MINOR)
        self.options: Options | None = None
        """What was last set."""
        self.on_close: Callable[[], Awaitable[None]] | None = None
        """Lets go of what only this connection uses, such as an ssh."""
        self._reader = Reader()
        self._pending: deque[_Pending] = deque()
        self._transport: Transport | None = None
        self._failure: Exception | None = None
        self._heard_at = 0.0
        self._ended = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @property
    def usable(self) -> bool:
        """Say whether another operation can be tried."""
        return self._failure is None

    @property
    def idle(self) -> bool:
        """Say whether no answer is being waited for."""
        return not self._pending

    async def greet(self, transport: Transport, newest_minor: int) -> None:
        """Shake hands; close the connection where that fails."""
        self._transport = transport
        pending = self._expect(worker_protocol.handshake(self._reader, transport.write, newest_minor))
        self._advance()
        try:
            with errors.explained("greet", self.address):
                self.facts = await pending
        except BaseException:
            await self.close()
            raise

    def submit(self, operation: Operation[T], listen: Listener = ignore) -> asyncio.Future[T]:
        """Write a request; return the answer to come. Cancelling that only means that nobody waits for it."""
        operation.check(self.facts)
        return self._send(operation.request, worker_protocol.conclude(operation, self._reader, listen))

    def submit_all(self, operations: Sequence[Operation[T]]) -> asyncio.Future[list[T]]:
        """Write many requests at once; return all answers to come."""
        request = b"".join(operation.request for operation in operations)
        return self._send(request, worker_protocol.conclude_all(operations, self._reader, ignore))

    async def perform(self, operation: Operation[T], listen: Listener = ignore) -> T:
        """Do one operation. Cancelling it closes the connection, which ends what the daemon was doing."""
        try:
            return await self.submit(operation, listen)
        except asyncio.CancelledError:
            try:
                await self._quiet()
            finally:
                await self.close()
            raise

    async def send_framed(self, operation: Operation[T], chunks: AsyncIterator[bytes]) -> asyncio.Future[T]:
        """Write a request and the data that follows it; return the answer to come."""
        answer = self.submit(operation)
        try:
            async for chunk in chunks:
                if not self.usable:
                    break  # the answer says why
                self._write(wire.frame(chunk))
                await self._writable.wait()
        except BaseException:
            answer.cancel()  # nobody will ask for it; the connection is of no use any more
            raise
        self._write(wire.END_OF_FRAMES)
        return answer

    async def configure(self, options: Options) -> None:
        """Set options, unless these are set already."""
        if options != self.options:
            with errors.explained("take settings at", self.address):
                await self.perform(set_options(options))
            self.options = options

    async def ended(self) -> None:
        """Return once the connection is over, whoever ended it."""
        await self._ended.wait()

    async def close(self) -> None:
        """End the connection; return when a spawned daemon is gone."""
        self._fail(errors.lost(self.address, "it was closed by nixmill."))
        if self._transport is not None:
            await self._transport.closed()
        if self.on_close is not None:
            await self.on_close()

    def pause_reading(self) -> None:
        """Let nothing arrive, because whoever takes it cannot follow."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo `pause_reading`."""
        if self._transport is not None and self.usable:
            self._transport.resume_reading()

    def received(self, data: bytes) -> None:
        """Take what arrived; called by the transport."""
        if self.usable:
            self._heard_at = asyncio.get_running_loop().time()
            self._reader.feed(data)
            self._advance()

    def lost(self) -> None:
        """Hear that nothing more will arrive; called by the transport."""
        words = self._transport.last_words() if self._transport is not None else ""
        self._fail(errors.lost(self.address, words))

    def writing_paused(self, *, paused: bool) -> None:
        """Hear whether the transport's buffer is full; called by the transport."""
        if paused and self.usable:
            self._writable.clear()
        else:
            self._writable.set()

    async def _quiet(self) -> None:
        """Wait until nothing has arrived for a moment: see `QUIET_S`."""
        now = asyncio.get_running_loop().time
        deadline = now() + QUIET_PATIENCE_S
        while self.usable and now() < min(self._heard_at + QUIET_S, deadline):  # noqa: ASYNC110 - waits for nothing
            await asyncio.sleep(QUIET_S / 4)

    def _send(self, request: bytes, parser: Parser[T]) -> asyncio.Future[T]:
        if self._failure is not None:
            raise self._failure
        future = self._expect(parser)
        self._write(request)
        return future

    def _expect(self, parser: Parser[T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(parser, future))
        return future

    def _write(self, data: bytes) -> None:
        if self._transport is not None and self.usable:
            self._transport.write(data)

    def _advance(self) -> None:
        """Parse as far as the bytes reach; answers come in the order of requests."""
        while self._pending:
            pending = self._pending[0]
            try:
                next(pending.parser)
            except StopIteration as stop:
                self._pending.popleft()
                if not pending.future.done():
                    pending.future.set_result(stop.value)
            except ProtocolError as error:
                self._fail(errors.garbled(self.address, error))
            except (RemoteError, UnsupportedError) as error:
                self._fail(error)
            else:
                return
        if len(self._reader) and self.usable:
            self._fail(errors.garbled(self.address, ProtocolError("an answer that nobody asked for.")))

    def _fail(self, error: Exception) -> None:
        """End the connection: the answer in work gets `error`, all behind it that the connection is lost."""
        if self._failure is not None:
            return
        self._failure = error if isinstance(error, DoorError) else errors.lost(self.address)
        for number, pending in enumerate(self._pending):
            if not pending.future.done():
                pending.future.set_exception(error if number == 0 else self._failure)
        self._pending.clear()
        self._ended.set()
        self._writable.set()
        if self._transport is not None:
            self._transport.abort()
