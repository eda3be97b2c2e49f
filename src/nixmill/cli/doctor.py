"""`nixmill doctor`: is this machine fit for it? Findings, worst first, each with what to do."""

import os
import sys

import msgspec

from nixmill.cli.render.choose import paint_for, terminal_size
from nixmill.cli.render.paint import Paint
from nixmill.cli.wiring import Wiring
from nixmill.core.doctor import Finding, Severity
from nixmill.core.run_event import EXIT_CODE, Verdict
from nixmill.core.status import Status

STATUS = {
    Severity.PROBLEM: Status.FAILED,
    Severity.WARNING: Status.TROUBLE,
    Severity.NOTE: Status.WAITING,
    Severity.GOOD: Status.PASSED,
}


async def doctor(wiring: Wiring, *, thorough: bool, json: bool) -> int:
    """Print the findings; the exit code says whether there is a problem."""
    found = await wiring.examine(thorough=thorough)
    worst_first = sorted(found, key=lambda finding: list(Severity).index(finding.severity))
    if json:
        sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(worst_first)) + b"\n")
    else:
        fd = sys.stdout.fileno()
        paint, columns = paint_for("auto", os.environ, fd), terminal_size(fd)[0]
        for finding in worst_first:
            print(*_lines(finding, paint, columns), sep="\n")  # noqa: T201 - the result is what is asked for
    problems = any(finding.severity is Severity.PROBLEM for finding in found)
    return EXIT_CODE[Verdict.INFRASTRUCTURE if problems else Verdict.GOOD]


def _lines(finding: Finding, paint: Paint, columns: int) -> list[str]:
    lead = f"{paint.glyph(STATUS[finding.severity])} {paint.bold(finding.check)}"
    lines = [f"{lead}: {paint.text(finding.sentence, columns * 4)}"]
    return [*lines, f"    {paint.dim(paint.text(finding.remedy, columns * 4))}"] if finding.remedy else lines
