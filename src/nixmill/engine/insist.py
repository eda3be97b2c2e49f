"""Writes what has to be written, however long the database is away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from nixmill.doors import DoorError

T = TypeVar("T")

RETRY_S: Final = 5.0


def _say_nothing(_error: DoorError) -> None:
    """Leave it to others to say that the database is away."""


async def insist(write: Callable[[], Awaitable[T]], waits: Callable[[DoorError], None] = _say_nothing) -> T:
    """Write, again and again while that may help, calling `waits` before each pause; raise what no waiting helps."""
    while True:
        try:
            return await write()
        except DoorError as error:
            if not error.retryable:
                raise
            waits(error)
            await asyncio.sleep(RETRY_S)
