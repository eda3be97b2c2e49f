"""How a connection's bytes travel: a unix socket, or the standard streams of a spawned `nix-daemon --stdio`."""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Mapping, Sequence
from typing import Final, cast

from nixmill.doors import DoorError
from nixmill.edge.daemon import errors
from nixmill.edge.daemon.connection import Connection
from nixmill.nix.log_events import plain

RETRY_S: Final = 0.01
REFUSED_PATIENCE_S: Final = 0.5
"""A socket exists for a moment before anybody listens on it. Longer than this, and its daemon is dead."""
BACKLOG_PATIENCE_S: Final = 10.0
"""Old daemons queue five connections; the sixth is told to come again at once."""
LAST_WORDS_BYTES: Final = 4096
EXIT_PATIENCE_S: Final = 0.5
"""How long a spawned daemon may take to kill its builder, tidy up and exit once its input has ended."""


async def open_socket(path: str, newest_minor: int, *, address: str = "") -> Connection:
    """Connect to a daemon's socket; raise `DoorError` where nobody listens, `NotAllowedError` where we may not."""
    name = address or f"unix://{path}"
    sock = await connected_socket(path, name)
    connection = Connection(name)
    try:
        loop = asyncio.get_running_loop()
        _, transport = await loop.create_unix_connection(lambda: _Socket(connection), sock=sock)
    except BaseException:
        sock.close()
        raise
    await connection.greet(transport, newest_minor)
    return connection


async def connected_socket(path: str, name: str) -> socket.socket:
    """Connect by hand: asyncio takes the EAGAIN of a full backlog for success."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        async with asyncio.timeout(BACKLOG_PATIENCE_S):
            began = asyncio.get_running_loop().time()
            while not _try_connect(sock, path, name, since=began):  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(RETRY_S)
    except TimeoutError as error:
        sock.close()
        reason = "it accepts no connection. It may be overloaded."
        raise errors.unreachable(name, reason, retryable=True) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _try_connect(sock: socket.socket, path: str, name: str, *, since: float) -> bool:
    """Return False where trying again makes sense."""
    try:
        sock.connect(path)
    except BlockingIOError:
        return False
    except ConnectionRefusedError as error:
        if asyncio.get_running_loop().time() - since > REFUSED_PATIENCE_S:
            raise _nobody_listens(name, error) from error
        return False
    except PermissionError as error:
        raise errors.not_allowed("let us connect to", name, f"{error.strerror}.") from error
    except OSError as error:
        raise _nobody_listens(name, error) from error
    return True


def _nobody_listens(name: str, error: OSError) -> DoorError:
    reason = error.strerror or str(error)
    gone = error.errno in {errno.ECONNREFUSED, errno.ECONNRESET}
    return errors.unreachable(name, f"{reason}. Start nix-daemon, or use the address `stdio`.", retryable=gone)


async def open_process(
    arguments: Sequence[str], environment: Mapping[str, str], newest_minor: int, *, address: str
) -> Connection:
    """Spawn a daemon that speaks on its standard streams; it is gone when the connection is closed."""
    connection = Connection(address)
    try:
        _, pipes = await asyncio.get_running_loop().subprocess_exec(
            lambda: _Pipes(connection),
            *arguments,
            env=dict(environment),
            # Ctrl-C at a terminal reaches every process of the group; ours are ended by us, in order.
            start_new_session=True,
        )
    except OSError as error:
        reason = f"`{arguments[0]}` cannot be started ({error.strerror}). Install Nix, or name the program."
        raise errors.unreachable(address, reason) from error
    await connection.greet(pipes, newest_minor)
    return connection


class _Socket(asyncio.Protocol):
    """A connected socket. Its daemon is not ours: nothing is left to wait for once it is closed."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._gone = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def closed(self) -> None:
        await self._gone.wait()

    def pause_reading(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def last_words(self) -> str:
        return ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._connection.received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # a reset and an end of file mean the same here
        self._gone.set()
        self._connection.lost()

    def pause_writing(self) -> None:
        self._connection.writing_paused(paused=True)

    def resume_writing(self) -> None:
        self._connection.writing_paused(paused=False)


class _Pipes(asyncio.SubprocessProtocol):
    """A spawned daemon. It dies, and its builder with it, when its input ends; we wait for that."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._exited = asyncio.Event()
        self._process: asyncio.SubprocessTransport | None = None
        self._words = b""

    def write(self, data: bytes) -> None:
        pipe = self._pipe(0)
        if pipe is not None:
            cast("asyncio.WriteTransport", pipe).write(data)

    def abort(self) -> None:
        for number in (0, 1):
            pipe = self._pipe(number)
            if pipe is not None and not pipe.is_closing():
                cast("asyncio.WriteTransport", pipe).abort() if number == 0 else pipe.close()

    async def closed(self) -> None:
        try:
            async with asyncio.timeout(EXIT_PATIENCE_S):
                await self._exited.wait()
        except TimeoutError:
            pass  # it has had its time
        finally:
            self._kill()
            await self._exited.wait()
            if self._process is not None:
                self._process.close()

    def pause_reading(self) -> None:
        pipe = self._pipe(1)
        if pipe is not None:
            cast("asyncio.ReadTransport", pipe).pause_reading()

    def resume_reading(self) -> None:
        pipe = self._pipe(1)
        if pipe is not None:
            cast("asyncio.ReadTransport", pipe).resume_reading()

    def last_words(self) -> str:
        return plain(self._words.decode("utf-8", "replace")).strip()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._process = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1:
            self._connection.received(data)
        else:
            self._words = (self._words + data)[-LAST_WORDS_BYTES:]

    def process_exited(self) -> None:
        self._exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the process has exited and all its output has been read."""
        del exc
        self._connection.lost()

    def pause_writing(self) -> None:
        self._connection.writing_paused(paused=True)

    def resume_writing(self) -> None:
        self._connection.writing_paused(paused=False)

    def _pipe(self, number: int) -> asyncio.BaseTransport | None:
        return self._process.get_pipe_transport(number) if self._process is not None else None

    def _kill(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it exited meanwhile
                self._process.kill()
