"""A connection that comes back: transactions are tried again where that can help.

Deadlocks and lost races (PostgreSQL only) are tried again a few times; where the server is gone, one waits for it for
a bounded time. A transaction whose commit was under way when the connection broke is looked up before it is repeated,
so that nothing is done twice. What this file does not know: SQL of nixmill's tables, and threads beside its own.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InvalidRequestError

from nixmill.edge.database.engine import READ_ONLY
from nixmill.edge.database.faults import Trouble, trouble
from nixmill.edge.database.place import Place

T = TypeVar("T")

RACES_MAX: Final = 8
"""How often a transaction that lost a race is tried again."""
BACK_OFF_S: Final = 0.02
RECONNECT_S: Final = 0.25
"""Pause before the first attempt to connect again; doubled up to `RECONNECT_MAX_S`."""
RECONNECT_MAX_S: Final = 2.0


class Link:
    """Belongs to one thread. `closing` cuts waiting short."""

    def __init__(self, place: Place, closing: threading.Event, *, reads_only: bool) -> None:
        """Begin without a connection."""
        self._place = place
        self._closing = closing
        self._reads_only = reads_only
        self._connection: Connection | None = None

    def close(self) -> None:
        """Let the connection go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def connect(self, deadline: float) -> Connection:
        """Return the connection, made anew where it was lost; wait for the server until `deadline` (monotonic)."""
        if self._connection is not None:
            return self._connection
        pause = RECONNECT_S
        while True:
            try:
                self._connection = self._place.connect(reads_only=self._reads_only)
            except DBAPIError as error:
                if trouble(error) is not Trouble.GONE or not self._wait(pause, deadline):
                    raise
                pause = min(pause * 2, RECONNECT_MAX_S)
            else:
                return self._connection

    def transaction(self, work: Callable[[Connection], T], *, writes: bool, deadline: float) -> T:
        """Run `work` in a transaction; it is run again, after a rollback, where that can help."""
        races = 0
        while True:
            try:
                return self._once(work, writes=writes, deadline=deadline)
            except DBAPIError as error:
                match trouble(error):
                    case Trouble.RACE if races < RACES_MAX:
                        races += 1
                        time.sleep(random.uniform(0, BACK_OFF_S * 2**races))  # noqa: S311 - spreads, hides nothing
                    case Trouble.GONE if self._connection is None and self._wait(RECONNECT_S, deadline):
                        pass
                    case _:
                        raise

    def _once(self, work: Callable[[Connection], T], *, writes: bool, deadline: float) -> T:
        connection = self.connect(deadline)
        connection.execution_options(**{READ_ONLY: not writes})
        mark: int | None = None
        try:
            with connection.begin():
                result = work(connection)
                mark = _transaction_id(connection) if writes else None
        except DBAPIError as error:
            if trouble(error) is not Trouble.GONE:
                raise
            self._drop()
            if mark is not None and self._was_committed(mark, deadline):
                return result
            raise
        return result

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def _was_committed(self, mark: int, deadline: float) -> bool:
        """Say what became of a transaction whose commit was never answered; wait until the server knows."""
        while True:
            connection = self.connect(deadline)
            try:
                with connection.begin():
                    status = connection.exec_driver_sql("SELECT pg_xact_status(%s::text::xid8)", (str(mark),)).scalar()
            except DBAPIError as error:
                if trouble(error) is not Trouble.GONE:
                    raise
                self._drop()
                status = "in progress"
            if status != "in progress":
                return bool(status == "committed")
            if not self._wait(RECONNECT_S, deadline):
                raise InvalidRequestError("it is not known whether the last change was recorded")

    def _wait(self, seconds: float, deadline: float) -> bool:
        """Wait a little; say whether there is still time to try again."""
        left = deadline - time.monotonic()
        return left > 0 and not self._closing.wait(min(seconds, left))


def _transaction_id(connection: Connection) -> int | None:
    """Return what identifies the open transaction after it ended; None where it need not be asked for."""
    if connection.dialect.name != "postgresql":
        return None
    found = connection.exec_driver_sql("SELECT pg_current_xact_id_if_assigned()::text").scalar()
    return None if found is None else int(found)
