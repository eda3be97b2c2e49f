"""Dialling again where a daemon of this machine ended before it had greeted us.

The last process that closes a store's database tidies it up, and one that opens it just then is told it is busy and
gives up at once: a worker of the daemon does, too. The next one finds the database free. Source: SQLite, "Write-Ahead
Logging", section "Sometimes Queries Return SQLITE_BUSY In WAL Mode"; Nix's `LocalStore::openDB` does not try again.
"""

import asyncio
from typing import Final

from nixmill.edge.daemon.connection import Connection
from nixmill.edge.daemon.errors import ConnectionLostError
from nixmill.edge.daemon.pool import Dial

WAITS_S: Final = (0.02, 0.1, 0.3, 1.0)
"""Before each further try."""


def again(dial: Dial) -> Dial:
    """Return what dials as `dial` does, some times more where the other side ended during the greeting."""

    async def patiently() -> Connection:
        for wait in WAITS_S:
            try:
                return await dial()
            except ConnectionLostError:
                await asyncio.sleep(wait)
        return await dial()

    return patiently
