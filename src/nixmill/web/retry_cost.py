"""What a retry costs, said before it is asked for."""

from collections.abc import Sequence
from typing import Final

import msgspec

from nixmill.core.access import Sight
from nixmill.core.outcome import Outcome
from nixmill.core.terminal_text import about, counted
from nixmill.core.view.parts import AttributeLine, Filter, RunLine
from nixmill.doors.pages import RunPages

_ADDED_UP: Final = 500
"""Failures whose times are added up; of more it is only said how many there are."""


class RetryCost(msgspec.Struct, frozen=True, kw_only=True):
    """Sentences beside the buttons; empty where there is nothing to be done."""

    failed: str
    anyway: str
    evaluate: str


async def cost(pages: RunPages, sight: Sight, run: RunLine) -> RetryCost:
    """Return what trying a finished run again costs."""
    failed = run.counts.get(Filter.FAILED, 0) + run.counts.get(Filter.TROUBLE, 0)
    lines = await pages.failing(sight, run.number) if 0 < failed <= _ADDED_UP else ()
    seconds = _seconds(run)
    return RetryCost(
        failed=_failed(lines, failed),
        anyway=_anyway(run.counts.get(Filter.ALL, 0)),
        evaluate=_and_about("evaluates again, then builds what is missing", seconds),
    )


def _anyway(total: int) -> str:
    """Return what it means to look at everything; where nothing was looked at, nobody knows how much that is."""
    return f"looks at all {counted(total, 'attribute')} again" if total > 1 else "looks at every attribute"


def _failed(lines: Sequence[AttributeLine], failed: int) -> str:
    if not failed:
        return ""
    if not lines:
        return f"tries {counted(failed, 'failed attribute')} again"
    own = {
        line.drv_path: line.seconds for line in lines if line.drv_path and line.outcome is not Outcome.DEPENDENCY_FAILED
    }
    causes = {line.culprit for line in lines if line.culprit is not None} | own.keys()
    return _and_about(f"tries {counted(len(causes), 'failed build')} again", sum(own.values()))


def _and_about(text: str, seconds: float | None) -> str:
    return f"{text}, {about(seconds)}" if seconds else text


def _seconds(run: RunLine) -> float | None:
    return run.ended_at - run.started_at if run.ended_at is not None and run.started_at is not None else None
