"""What an evaluation took, and what is left of its time: the facts of `EvaluationEnded`."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
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


async def without_repetition(
    records: AsyncGenerator[EvalRecord, None], account: Account
) -> AsyncGenerator[EvalRecord, None]:
    """Yield records but no trace twice: each worker evaluates the root for itself and repeats what it says."""
    seen: set[str] = set()
    async with contextlib.aclosing(records):
        async for record in records:
            if isinstance(record, EvaluationTrace):
                if record.text in seen:
                    continue
                seen.add(record.text)
            account.count()
            yield record
