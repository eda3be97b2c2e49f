"""Paths held for as long as a run lives: temporary roots of one connection that stays open.

That connection is asked nothing but validity, because a worker that was asked for path infos answers validity from
memory. If it is lost, another one takes its place and holds everything again, at once and not when next needed.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Final

from nixmill.doors import DoorError
from nixmill.edge.daemon import errors
from nixmill.edge.daemon.connection import Connection
from nixmill.edge.daemon.errors import ConnectionLostError
from nixmill.edge.daemon.pool import Dial
from nixmill.nix import operations
from nixmill.nix.store_path import StorePath

CHUNK: Final = 2000
"""Paths asked in one request: a few hundred KB at most."""
REDIAL_S: Final = 1.0
"""A daemon that dies at once is not asked more often than that."""


class Leases:
    """The connection that holds, and what it must hold."""

    def __init__(self, dial: Dial) -> None:
        """Hold nothing yet; the connection is opened by the first question."""
        self._dial = dial
        self._held: dict[StorePath, None] = {}
        self._connection: Connection | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def hold(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Hold `paths`, then return those that are valid."""
        new = [path for path in paths if path not in self._held]
        self._held.update(dict.fromkeys(new))
        return await self._ask(paths, new)

    async def valid(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Return those that are valid."""
        return await self._ask(paths, ())

    async def connected(self) -> Connection:
        """Return the connection, opening it and holding everything where there is none."""
        async with self._opening:
            if self._connection is None or not self._connection.usable:
                await self._discard()
                connection = await self._dial()
                self._connection = connection
                await self._root(connection, list(self._held))
            return self._connection

    async def keep_alive(self) -> None:
        """Replace the connection whenever it is lost; runs until cancelled."""
        now = asyncio.get_running_loop().time
        while True:
            began = now()
            try:
                with errors.explained("hold paths in", "the store"):
                    await (await self.connected()).ended()
            except DoorError:
                pass  # the next question of the run raises the same; until then, try on
            await asyncio.sleep(max(0.0, began + REDIAL_S - now()))

    async def close(self) -> None:
        """Let everything go; whoever asks later, as a build does that another run waits for, is still answered."""
        self._closed = True
        await self._discard()

    async def _ask(self, paths: Collection[StorePath], new: Collection[StorePath]) -> set[StorePath]:
        if self._closed:
            return await self._ask_briefly(paths)
        try:
            return await self._ask_once(await self.connected(), paths, new)
        except ConnectionLostError:
            return await self._ask_once(await self.connected(), paths, ())  # a new connection holds all already

    async def _ask_briefly(self, paths: Collection[StorePath]) -> set[StorePath]:
        connection = await self._dial()
        try:
            return await self._ask_once(connection, paths, ())
        finally:
            await connection.close()

    async def _ask_once(
        self, connection: Connection, paths: Collection[StorePath], new: Collection[StorePath]
    ) -> set[StorePath]:
        # Written without a pause, so that whoever finds a path among the held ones asks after its root stands.
        rooted = self._root(connection, new)
        answers = [connection.submit(operations.query_valid_paths(chunk)) for chunk in _chunks(paths)]
        await rooted
        return {path for answer in await asyncio.gather(*answers) for path in answer}

    def _root(self, connection: Connection, paths: Collection[StorePath]) -> asyncio.Future[list[list[None]]]:
        roots = [[operations.add_temp_root(path) for path in chunk] for chunk in _chunks(paths)]
        return asyncio.gather(*map(connection.submit_all, roots))

    async def _discard(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()


def _chunks(paths: Iterable[StorePath]) -> Iterator[list[StorePath]]:
    source = iter(paths)
    while chunk := list(islice(source, CHUNK)):
        yield chunk
