"""What pull requests look like on a terminal: a list, one of them, and what there is to approve. Pure.

Everything on a page comes from strangers and passes `Paint.text` on its way into a line.
"""

from collections.abc import Sequence
from typing import Final

from nixmill.cli.render.flow import sentence
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.table import table
from nixmill.core.project import short
from nixmill.core.status import Status
from nixmill.core.terminal_text import counted, duration, number
from nixmill.core.trust import Tier
from nixmill.core.view.parts import RunLine
from nixmill.core.view.pulls import PullLine, PullPage, PullsPage, ToApprove

SHORT_COMMIT: Final = 10
FILES_MAX: Final = 60
FIXED_MAX: Final = 60
PATCH_LINES_MAX: Final = 400
RUNS_MAX: Final = 10
WHAT_IT_MEANS: Final = "evaluates and builds this commit in a sandbox, without secrets; a new push asks again"
_FROM: Final[dict[Tier, str]] = {
    Tier.FORK: "a stranger",
    Tier.MEMBER: "a member",
    Tier.BRANCH: "a branch",
    Tier.PROTECTED: "a protected branch",
}


def pulls_lines(page: PullsPage, paint: Paint, now: float, columns: int) -> list[str]:
    """Return the pull requests of a project, a line each."""
    if not page.pulls:
        return [f"No {'closed' if page.closed else 'open'} pull request of {paint.text(page.project.name)} is known."]
    lines = table([_row(line, paint, now) for line in page.pulls], "lrllll", paint, columns)
    older = f"nixmill pulls {page.project.name}{' --closed' * page.closed} --before {page.older}"
    return [*lines, *([paint.dim(f"  older: {older}")] if page.older else [])]


def pull_lines(page: PullPage, paint: Paint, now: float, columns: int, address: str) -> list[str]:
    """Return one pull request: how it stands, its runs, who approved what."""
    line = page.pull
    lines = [f"{paint.glyph(_status(line))} {paint.status(_status(line), _standing(line, paint))}"]
    what = f"  #{line.number} of {paint.text(line.project.name)}: {paint.text(line.title)}"
    into = f"  {paint.text(line.head_commit[:SHORT_COMMIT])} into {paint.text(short(line.base_ref))}"
    lines += [paint.fit(what, columns), paint.fit(f"{into}, by {_author(line, paint)}", columns)]
    rows = [_run_row(run, paint, now) for run in page.runs[:RUNS_MAX]]
    lines += ["", paint.bold("runs"), *table(rows, "rlll", paint, columns)] if rows else []
    approvals = [
        (paint.text(one.commit[:SHORT_COMMIT]), paint.text(one.who), paint.text(one.via), _ago(one.at, now))
        for one in page.approvals[:RUNS_MAX]
    ]
    lines += ["", paint.bold("approvals"), *table(approvals, "llll", paint, columns)] if approvals else []
    lines += ["", f"  {paint.style(address, 'cyan')}"]
    if line.held:
        lines.append(paint.dim(f"  nixmill approve {line.project.name}#{line.number}"))
    return lines


def approve_lines(line: PullLine, look: ToApprove, paint: Paint, columns: int) -> list[str]:
    """Return what an approver is to look at."""
    head = f"#{line.number} of {paint.text(line.project.name)}: {paint.text(line.title)}"
    lines = [paint.bold(paint.fit(head, columns)), paint.fit(f"by {_author(line, paint)}", columns)]
    if look.fault:
        fault = f"{paint.glyph(Status.TROUBLE)} What changed cannot be shown: {paint.text(look.fault)}"
        return [*lines, *sentence(fault, columns)]
    which = "which was approved before" if look.since_approval else "the base"
    files = len(look.files) + look.files_more
    lines.append(
        f"{paint.text(look.commit[:SHORT_COMMIT])} against {paint.text(look.since[:SHORT_COMMIT])}, {which}: "
        f"{counted(look.commits, 'commit')}, {counted(files, 'file')}"
    )
    rows = [_file_row(look, at, paint) for at in range(min(len(look.files), FILES_MAX))]
    lines += ["", *table(rows, "lrrl", paint, columns)]
    left = files - len(rows)
    lines += [paint.dim(f"  and {counted(left, 'more file')}")] if left > 0 else []
    if look.left_out or look.endless:
        lines += ["", f"{paint.glyph(Status.TROUBLE)} This is not everything: look at the rest on the forge."]
    for patch in look.sensitive:
        lines += ["", *_patch(patch.text, paint, columns)]
        lines += [paint.dim("  … it is longer: see the rest on the forge")] if patch.cut else []
    return lines + _fixed(look.fixed_outputs, paint, columns)


def _fixed(fixed: Sequence[str], paint: Paint, columns: int) -> list[str]:
    if not fixed:
        return []
    left = len(fixed) - FIXED_MAX
    shown = [paint.fit(f"  {paint.text(text)}", columns) for text in fixed[:FIXED_MAX]]
    more = [paint.dim(f"  and {counted(left, 'more line')}")] if left > 0 else []
    return ["", paint.bold("fixed-output hashes that came or changed: such builds have the network"), *shown, *more]


def _patch(text: str, paint: Paint, columns: int) -> list[str]:
    """Return a patch whole (lines wrap: nothing that is approved is cut off at the edge), in colours."""
    del columns
    lines = paint.lines(text.removesuffix("\n"))
    shown = [_patch_line(line, paint) for line in lines[:PATCH_LINES_MAX]]
    left = len(lines) - len(shown)
    return [*shown, *([paint.dim(f"  … {counted(left, 'more line')}: see them on the forge")] if left > 0 else [])]


def _patch_line(line: str, paint: Paint) -> str:
    if line.startswith(("+++", "---", "diff ", "index ")):
        return paint.bold(line)
    style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
    return paint.style(line, style) if style else line


def _file_row(look: ToApprove, at: int, paint: Paint) -> tuple[str, ...]:
    file = look.files[at]
    was = f" (was {paint.text(file.old_path)})" if file.old_path else ""
    added, removed = ("binary", "") if file.binary else (f"+{number(file.added)}", f"-{number(file.removed)}")
    return file.kind.value, paint.style(added, "green"), paint.style(removed, "red"), f"{paint.text(file.path)}{was}"


def _author(line: PullLine, paint: Paint) -> str:
    return f"{paint.text(line.author)}, {_FROM[line.tier]}"


def _status(line: PullLine) -> Status:
    if line.held or line.latest is None:
        return Status.WAITING
    return line.latest.status


def _standing(line: PullLine, paint: Paint) -> str:
    if line.held:
        return "waits for approval"
    if line.latest is None:
        return "nothing has run yet"
    return paint.text(line.latest.sentence or line.latest.state.value)


def _row(line: PullLine, paint: Paint, now: float) -> tuple[str, ...]:
    run = f"run {line.latest.number}" if line.latest is not None else ""
    said = f"{paint.text(line.title)}{' (draft)' * line.draft}"
    changed = _ago(line.updated_at, now) if line.updated_at else ""
    standing = "waits for approval" if line.held else ""
    return paint.glyph(_status(line)), f"#{line.number}", standing or run, paint.text(line.author, 40), changed, said


def _run_row(run: RunLine, paint: Paint, now: float) -> tuple[str, ...]:
    said = paint.text(run.sentence or run.state.value)
    return (
        str(run.number),
        paint.glyph(run.status),
        paint.text(run.commit[:SHORT_COMMIT]),
        f"{_ago(run.requested_at, now)}: {said}",
    )


def _ago(at: float, now: float) -> str:
    return f"{duration(max(now - at, 0.0))} ago"
