"""Connections that are used by one task at a time and again by the next.

A connection is used again only if its last use ended well; whatever raised, was cancelled or left an answer
unread is closed. What this file does not know: operations.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from nixmill.edge.daemon.connection import Connection
from nixmill.nix.operations import Options
from nixmill.nix.worker_protocol import DaemonFacts

Dial = Callable[[], Awaitable[Connection]]
OptionsFor = Callable[[DaemonFacts], Options]


class Pool:
    """Idle connections of one kind to one daemon."""

    def __init__(self, dial: Dial, *, idle_max: int) -> None:
        """Keep at most `idle_max` connections open while nobody uses them."""
        self._dial = dial
        self._idle_max = idle_max
        self._idle: list[Connection] = []

    @contextlib.asynccontextmanager
    async def use(self, options: OptionsFor) -> AsyncIterator[Connection]:
        """Lend a connection with these options."""
        connection = await self._take() or await self._dial()
        try:
            await connection.configure(options(connection.facts))
            yield connection
        except BaseException:
            await connection.close()
            raise
        await self._give_back(connection)

    async def close(self) -> None:
        """Close what is idle; what is lent is closed by its user."""
        self._idle_max = 0
        while self._idle:
            await self._idle.pop().close()

    async def _take(self) -> Connection | None:
        """Return the connection used last that still lives."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            await connection.close()
        return None

    async def _give_back(self, connection: Connection) -> None:
        if connection.usable and connection.idle and len(self._idle) < self._idle_max:
            self._idle.append(connection)
        else:
            await connection.close()
