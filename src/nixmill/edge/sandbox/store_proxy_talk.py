"""A client of the store proxy and its own daemon, side by side, and what all clients of one evaluation share."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from nixmill.core.store_view import RefusedError, StoreView
from nixmill.edge.sandbox.store_proxy_channel import Channel
from nixmill.nix import worker_relay
from nixmill.nix.store_path import StorePath


class OverError(Exception):
    """The conversation cannot go on; the message is the last thing the client is told."""


class DaemonError(Exception):
    """The daemon answered with an error, which is passed on as it came."""

    def __init__(self, message: bytes) -> None:
        """Keep the whole message, in bytes."""
        super().__init__("The Nix daemon answered with an error, which was passed on.")
        self.message = message


class Estate(Protocol):
    """What all connections of one evaluation share."""

    view: StoreView

    async def show(self, path: StorePath) -> None:
        """Make a path visible in the sandbox, once; raise `OverError` where that fails."""

    def note(self, sentence: str, path: str = "") -> None:
        """Keep what was refused, and the path that was not in the view, where that is why."""


class Talk:
    """Both sides after their handshakes, in protocol 1.`minor`."""

    def __init__(self, client: Channel, daemon: Channel, minor: int, estate: Estate) -> None:
        """Start with nothing asked."""
        self.client = client
        self.daemon = daemon
        self.minor = minor
        self.view = estate.view
        self.estate = estate

    async def ask(self, request: bytes) -> None:
        """Send a request; return when its answer follows, or raise `DaemonError`."""
        if len(self.daemon.reader):
            raise OverError("The Nix daemon said something that nobody asked for, so the connection ends. Try again.")
        self.daemon.write(request)
        await self.hear()

    async def ask_at_length(self, request: bytes) -> None:
        """Send a request that takes long; raise `EndOfStreamError` if the client goes away meanwhile."""
        asking = asyncio.ensure_future(self.ask(request))
        watching = asyncio.ensure_future(self.client.gone())
        try:
            await asyncio.wait([asking, watching], return_when=asyncio.FIRST_COMPLETED)
            (asking if asking.done() else watching).result()
        finally:
            asking.cancel()
            watching.cancel()
            await asyncio.gather(asking, watching, return_exceptions=True)

    async def hear(self) -> None:
        """Pass messages on until an answer follows; raise `DaemonError` where an error ends the request."""
        message = await self.daemon.read(
            worker_relay.messages(self.daemon.reader, self.client.write), self.client.drain
        )
        if message is not None:
            raise DaemonError(message)

    async def hear_while(self, sending: Awaitable[None]) -> None:
        """Pass messages on while data is sent; return when both have ended, or raise what failed first.

        A daemon's error is raised only then: it reads the data to its end all the same.
        """
        tasks = [asyncio.ensure_future(sending), asyncio.ensure_future(self._heard())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in tasks:
                if task.done():
                    task.result()
        except RefusedError as refusal:
            raise OverError(str(refusal)) from None  # the daemon waits for data that will not come
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        error = tasks[1].result()
        if error is not None:
            raise error

    async def _heard(self) -> DaemonError | None:
        try:
            await self.hear()
        except DaemonError as error:
            return error
        return None

    async def number(self) -> int:
        """Read a number that the daemon answers."""
        return await self.daemon.read(self.daemon.reader.u64())

    async def text(self) -> str:
        """Read a string that the daemon answers."""
        return await self.daemon.read(self.daemon.reader.text())

    async def show(self, path: StorePath) -> None:
        """Make a path visible in the sandbox, before the client hears of it."""
        await self.estate.show(path)
