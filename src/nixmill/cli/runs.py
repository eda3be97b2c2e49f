"""`nixmill runs`: what was checked on this machine, the newest first."""

import os
import sys
from datetime import UTC, datetime

from nixmill.cli.render.choose import paint_for
from nixmill.cli.render.paint import Paint
from nixmill.cli.wiring import Wiring
from nixmill.core.history import Keep, RunRow
from nixmill.core.run_event import Verdict
from nixmill.core.status import Status
from nixmill.engine.upkeep import prune

STATUS = {
    Verdict.GOOD: Status.PASSED,
    Verdict.BUILD_FAILED: Status.FAILED,
    Verdict.EVALUATION_FAILED: Status.FAILED,
    Verdict.NOT_ALLOWED: Status.TROUBLE,
    Verdict.INFRASTRUCTURE: Status.TROUBLE,
    Verdict.CANCELLED: Status.CANCELLED,
}


async def runs(wiring: Wiring, limit: int) -> None:
    """Print a line for each run."""
    async with wiring.open_history() as history:
        rows = await history.runs(limit)
        killed = {row.number for row in await history.crashed_runs()}
    paint = paint_for("auto", os.environ, sys.stdout.fileno())
    for row in rows:
        print(_line(row, paint, killed=row.number in killed))  # noqa: T201 - the result is what is asked for


async def forget(wiring: Wiring, keep: Keep, *, dry_run: bool) -> None:
    """Forget old runs and their logs; say what went, or would go."""
    async with wiring.open_history() as history:
        pruned = await prune(history, wiring.logs(), keep, dry_run=dry_run)
    would = "would be forgotten" if dry_run else "were forgotten"
    counts = (
        f"{len(pruned.runs)} runs, {len(pruned.attempts)} attempts with their logs, {pruned.evaluations} evaluations"
    )
    print(f"{counts} {would}.")  # noqa: T201 - the result is what is asked for


def _line(row: RunRow, paint: Paint, *, killed: bool) -> str:
    status = STATUS[row.verdict] if row.verdict else Status.TROUBLE if killed else Status.RUNNING
    at = datetime.fromtimestamp(row.started_at, tz=UTC).strftime("%Y-%m-%d %H:%M")
    said = row.sentence or ("was killed" if killed else "is running")
    return f"{row.number:>5}  {at}  {paint.glyph(status)} {row.project} {row.commit[:8]}  {said}"
