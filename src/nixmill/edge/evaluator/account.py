"""What an evaluation took, and what is left of its time: the facts of `EvaluationEnded`."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import TypeVar

from nixmill.core.evaluation import EvalRecord, EvaluationEnded, EvaluationLimits, EvaluationTrace
from nixmill.edge.evaluator import complaints

T = TypeVar("T")


class Account:
    """Kept from the moment an evaluation begins."""

    def __init__(self, limits: EvaluationLimits) -> None:
        """Begin now."""
        self._began = time.monotonic()
        self._limit = limits.time_s
        self._first: float | None = None
        self._peak = 0
        self._workers = 0

    def count(self) -> None:
        """Hear that a record is handed out."""
        if self._first is None:
            self._first = time.monotonic() - self._began

    def measured(self, peak_bytes: int, workers: int) -> None:
        """Hear the largest resident memory of a worker, and how many workers there were."""
        self._peak = max(self._peak, peak_bytes)
        self._workers = max(self._workers, workers)

    def left_s(self) -> float:
        """Return how many seconds the evaluation may still take; negative when it is over."""
        return self._began + self._limit - time.monotonic()

    async def within_time(self, waiting: Awaitable[T], busy: Callable[[], list[str]]) -> T:
        """Wait for something; raise `EvaluationFailedError`, naming what is `busy`, when the time is over."""
        try:
            async with asyncio.timeout(self.left_s()):
                return await waiting
        except TimeoutError:
            raise complaints.too_long(self._limit, busy()) from None

    def ended(self, evaluator: str) -> EvaluationEnded:
        """Return the last record."""
        return EvaluationEnded(
            seconds=time.monotonic() - self._began,
            first_record_s=self._first,
            peak_bytes=self._peak,
            workers=self._workers,
            evaluator=evaluator,
        )


Groups = AsyncGenerator[Sequence[EvalRecord], None]
"""What the door yields: records that were there at once."""


async def carried_through(groups: Groups, account: Account, identity: Callable[[], Awaitable[str]]) -> Groups:
    """Yield groups and then the end, but no trace twice: each worker evaluates the root for itself and repeats it."""
    seen: set[str] = set()
    async with contextlib.aclosing(groups):
        async for group in groups:
            fresh = [record for record in group if _is_fresh(record, seen)]
            if fresh:
                account.count()
                yield fresh
    yield [account.ended(await identity())]


def _is_fresh(record: EvalRecord, seen: set[str]) -> bool:
    if not isinstance(record, EvaluationTrace):
        return True
    known = record.text in seen
    seen.add(record.text)
    return not known
