"""An evaluator that reads its records from a script."""

from collections.abc import AsyncGenerator, Mapping, Sequence

from nixmill.core.evaluation import (
    Attribute,
    EvalRecord,
    EvaluationEnded,
    EvaluationFailedError,
    EvaluationRequest,
)
from nixmill.nix.attr_path import AttrPath, show


class FakeEvaluator:
    """Answers each target's attribute with the records scripted for it; others are unknown."""

    def __init__(self, script: Mapping[AttrPath, Sequence[EvalRecord]]) -> None:
        self.script = script
        self.requests: list[EvaluationRequest] = []
        self.open = 0
        """Evaluations that are under way."""

    async def identity(self) -> str:
        return "fake 1"

    async def evaluate(self, request: EvaluationRequest) -> AsyncGenerator[Sequence[EvalRecord], None]:
        self.requests.append(request)
        self.open += 1
        try:
            for target in request.targets:
                for record in self._scripted(target.attr):
                    if _wanted(record, request.settings.systems):
                        yield [record]
            yield [EvaluationEnded(seconds=0.1, first_record_s=0.1, peak_bytes=1, workers=1, evaluator="fake 1")]
        finally:
            self.open -= 1

    def _scripted(self, attr: AttrPath) -> Sequence[EvalRecord]:
        if attr not in self.script:
            raise EvaluationFailedError(f"There is no attribute {show(attr)} in the fake.")
        return self.script[attr]


def _wanted(record: EvalRecord, systems: tuple[str, ...]) -> bool:
    return not systems or not isinstance(record, Attribute) or record.system in systems
