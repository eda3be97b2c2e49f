"""Hands on records in groups, as the door wants them."""

import contextlib
from collections.abc import AsyncGenerator, Sequence

from nixmill.core.evaluation import EvalRecord, EvaluationRequest
from nixmill.edge.evaluator.nix_eval_jobs import NixEvalJobsEvaluator
from nixmill.edge.evaluator.own import OwnEvaluator


class Grouped:
    """The door `Evaluator` over one that yields single records."""

    def __init__(self, inner: OwnEvaluator | NixEvalJobsEvaluator) -> None:
        """Hand on what `inner` yields."""
        self._inner = inner

    async def identity(self) -> str:
        """See `Evaluator`."""
        return await self._inner.identity()

    async def evaluate(self, request: EvaluationRequest) -> AsyncGenerator[Sequence[EvalRecord], None]:
        """See `Evaluator`."""
        async with contextlib.aclosing(self._inner.evaluate(request)) as groups:
            async for records in groups:
                yield records
