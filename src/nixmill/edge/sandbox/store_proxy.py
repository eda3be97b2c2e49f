"""A Nix daemon's socket for the evaluation of a change that is not trusted: a proxy with an allow-list.

The evaluator takes it for a daemon that does not trust it. Every request is parsed completely, judged by a `StoreView`,
and written anew for a daemon of that connection's own; nothing else reaches it, settings least of all.
What this file does not know: single operations (`store_proxy_session`), the sandbox, and how paths become visible.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from nixmill.core.store_view import StoreView
from nixmill.doors import DoorError
from nixmill.edge.sandbox.store_proxy_channel import Channel, EndOfStreamError
from nixmill.edge.sandbox.store_proxy_session import Session
from nixmill.edge.sandbox.store_proxy_talk import OverError, Talk
from nixmill.nix import operations, worker_protocol, worker_relay
from nixmill.nix.operations import Options
from nixmill.nix.store_path import StorePath
from nixmill.nix.wire import ProtocolError
from nixmill.nix.worker_protocol import NEWEST_MINOR

CONNECTIONS_MAX: Final = 64
"""How many clients of one evaluation are served at a time; each has a process of the daemon's."""
REFUSED_MAX: Final = 100
"""How many different sentences are kept."""

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
Expose = Callable[[StorePath], Awaitable[None]]


class StoreProxy:
    """See the module. Serves while it is entered; leaving closes every connection."""

    def __init__(self, socket: Path, connect: Connect, view: StoreView, expose: Expose) -> None:
        """Listen on `socket`; reach a daemon by `connect`.

        `expose` is awaited, once for each path, before the client hears that the path is there; it raises `DoorError`
        or `OSError` where that fails.
        """
        self.view = view
        self._refused: dict[str, str] = {}
        self._socket = socket
        self._connect = connect
        self._expose = expose
        self._shown: set[StorePath] = set()
        self._showing = asyncio.Lock()
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._accept, self._socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close every connection, and raise what went wrong in one that nobody foresaw."""
        if self._server is not None:
            self._server.close()
        self._socket.unlink(missing_ok=True)
        tasks = tuple(self._clients)
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    @property
    def refused(self) -> list[str]:
        """Return what was refused, each sentence once.

        Nix asks for each locked input by its path before it fetches it: what then became known is not told.
        """
        return [sentence for sentence, path in self._refused.items() if not self.view.knows(path)]

    def note(self, sentence: str, path: str = "") -> None:
        """Keep what was refused, and the path that was not in the view, where that is why."""
        if len(self._refused) < REFUSED_MAX:
            self._refused.setdefault(sentence, path)

    async def show(self, path: StorePath) -> None:
        """Make a path visible in the sandbox, once however many ask; raise `OverError` where that fails."""
        if path in self._shown:
            return
        async with self._showing:
            if path in self._shown:
                return
            try:
                await self._expose(path)
            except (DoorError, OSError) as error:
                raise OverError(f"{path} could not be made visible in the sandbox: {error}") from None
            self._shown.add(path)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(Channel(reader, writer)))
        self._clients.add(task)
        task.add_done_callback(self._left)

    def _left(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self._clients.discard(task)

    async def _serve(self, client: Channel) -> None:
        try:
            await self._converse(client)
        except EndOfStreamError:
            pass  # clients come and go, and a daemon that goes takes its client along
        except ProtocolError as error:
            self.note(f"A connection to the store was refused: {error}")
        finally:
            await client.close()

    async def _converse(self, client: Channel) -> None:
        if len(self._clients) > CONNECTIONS_MAX:
            await _turn_away(client, f"This evaluation has more than {CONNECTIONS_MAX} connections to the store.")
            return
        try:
            daemon = Channel(*await self._connect())
        except (DoorError, OSError) as error:
            await _turn_away(client, f"The Nix daemon cannot be reached: {error}")
            return
        try:
            talk = await self._greet(client, daemon)
            await Session(talk).run()
        finally:
            await daemon.close()

    async def _greet(self, client: Channel, daemon: Channel) -> Talk:
        """Shake hands with both, in the newest version that both know."""
        newest = await daemon.read(worker_relay.daemon_version(daemon.reader, daemon.write))
        minor = await client.read(worker_relay.client_version(client.reader, client.write, newest))
        nix_version = await daemon.read(worker_relay.greet_daemon(daemon.reader, daemon.write, minor))
        await client.read(worker_relay.client_settings(client.reader, client.write, minor))
        await self._configure(daemon)
        client.write(worker_relay.greeting(minor, nix_version) + worker_relay.LAST)
        await client.drain()
        return Talk(client, daemon, minor, self)

    async def _configure(self, daemon: Channel) -> None:
        """Give the daemon settings of our own, once: the client's never reach it."""
        builds = self.view.allow_builds
        operation = operations.set_options(Options(max_jobs=int(builds), substitute=builds))
        daemon.write(operation.request)
        await daemon.read(worker_protocol.conclude(operation, daemon.reader, worker_protocol.ignore))


async def _turn_away(client: Channel, sentence: str) -> None:
    """Greet a client, but end the greeting with an error."""
    minor = await client.read(worker_relay.client_version(client.reader, client.write, NEWEST_MINOR))
    await client.read(worker_relay.client_settings(client.reader, client.write, minor))
    client.write(worker_relay.greeting(minor, "") + worker_relay.error(sentence))
    await client.drain()
