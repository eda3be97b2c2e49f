"""What a server's pages look like on a terminal: home, project, run, queue, and a run that is being watched. Pure.

Everything on a page comes from strangers and passes `Paint.text` on its way into a line.
"""

from collections.abc import Container, Iterable, Sequence
from typing import Final

from nixmill.cli.render.flow import sentence
from nixmill.cli.render.names import host
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.table import table
from nixmill.core.change import ChangeState
from nixmill.core.outcome import Outcome
from nixmill.core.project import short
from nixmill.core.run_event import Change, Verdict
from nixmill.core.status import LOOK, Status, of_outcome
from nixmill.core.terminal_text import about, brief, counted, duration, number, pad_start, truncate, width
from nixmill.core.view.pages import EvaluationPage, HomePage, ProjectLine, ProjectPage, QueueLine, QueuePage
from nixmill.core.view.parts import AttemptLine, AttributeLine, Cause, Filter, RefLine, RunLine
from nixmill.nix.store_path import StorePath, derivation_name

SHORT_COMMIT: Final = 8
STRIP: Final = 10
"""Runs in the strip of a project."""
CAUSES_MAX: Final = 20
ROWS_MAX: Final = 20
LINES_MAX: Final = 200
DETAILS_MAX: Final = 4
"""Lines of what Nix says of a failure, such as both hashes."""
TAILS_MAX: Final = 2
"""Root causes with the end of their logs."""
TAIL: Final = 5
"""Lines of the end of a log."""
LOG_EDGE: Final = "|"
RUNNING: Final = "running"
_COUNTED: Final = (
    (Filter.PASSED, Status.PASSED, "passed"),
    (Filter.FAILED, Status.FAILED, "failed"),
    (Filter.TROUBLE, Status.TROUBLE, "our trouble"),
    (Filter.RUNNING, Status.RUNNING, "to go"),
)
_COUNTED_OF_CANCELLED: Final = (*_COUNTED[:2], (Filter.TROUBLE, Status.CANCELLED, "cancelled"))
_GOOD: Final = frozenset({Status.PASSED, Status.CACHED})
_CHANGED: Final = (Filter.NEWLY_FAILING, Filter.FIXED, Filter.NEW, Filter.CHANGED, Filter.REMOVED)


def home_lines(page: HomePage, paint: Paint, now: float, columns: int) -> list[str]:
    """Return what needs you, what broke, what runs, and all projects."""
    lines = _needs(page, paint, columns)
    if page.broken:
        rows = [_broken_row(line, paint, now) for line in page.broken]
        lines += _part("broken default branches", table(rows, "lllll", paint, columns), paint)
    if page.running:
        lines += _part(
            "running", table([_run_row(run, paint, now) for run in page.running], "rlllrl", paint, columns), paint
        )
    rows = [_project_row(line, paint, now) for line in page.projects]
    lines += _part(
        "projects", table(rows, "lllrl", paint, columns) or ["  none yet: nixmill projects add NAME URL"], paint
    )
    return lines[1:]


def project_lines(page: ProjectPage, paint: Paint, now: float, columns: int) -> list[str]:
    """Return the branches of a project and its newest runs."""
    project = page.project
    lines = [f"{paint.bold(paint.text(project.name))}  {paint.dim(paint.text(project.url))}"]
    if page.polled is not None and page.polled.fault:
        lines += ["", f"  {paint.glyph(Status.TROUBLE)} {paint.text(page.polled.fault)}"]
    refs = [line for line in page.refs if line.gone_at is None][:ROWS_MAX]
    lines += _part("branches", table([_ref_row(line, paint, now) for line in refs], "llrl", paint, columns), paint)
    runs = [_run_row(run, paint, now) for run in page.runs[:ROWS_MAX]]
    lines += _part("newest runs", table(runs, "rlllrl", paint, columns), paint)
    return [paint.fit(line, columns) for line in lines]


def run_lines(page: EvaluationPage, paint: Paint, now: float, columns: int, address: str) -> list[str]:
    """Return a run: its verdict or where it stands, counts, causes, what changed, and the page's address."""
    run = page.run
    lines = [*head_lines(page, paint, now, columns), *_count_lines(page, paint, columns)]
    lines += _part("root causes" if page.causes_total > 1 else "root cause", _causes(page, paint, columns), paint)
    lines += _now(page, paint, now, columns) if run.state is not ChangeState.DONE else _rows(page, paint, columns)
    lines += ["", f"  {paint.style(address, 'cyan')}"]
    if run.state is not ChangeState.DONE:
        verb = "approve" if run.state is ChangeState.HELD else "watch"
        lines.append(paint.dim(f"  nixmill {verb} {run.number}"))
    return lines


def head_lines(page: EvaluationPage, paint: Paint, now: float, columns: int) -> list[str]:
    """Return the first lines of a run: the sentence of its verdict, or how far it is and why it waits."""
    run = page.run
    said = paint.text(run.sentence if run.state is ChangeState.DONE else _stands(run))
    first, *rest = sentence(said, columns - 2, indent="")
    verdict = [f"{paint.glyph(run.status)} {paint.status(run.status, first)}"]
    verdict += [f"  {paint.status(run.status, line)}" for line in rest]
    what = f"  run {run.number} of {paint.text(run.project.name)} {paint.text(short(run.ref))} {run_commit(run, paint)}"
    against = f" against {paint.text(page.base_commit[:SHORT_COMMIT])}" if page.base_commit else ""
    subject = f"  {paint.text(run.subject)}" if run.subject else ""
    return [*verdict, paint.dim(paint.fit(f"{what}{against}  {_took(run, now)}{subject}", columns))]


def watched_lines(page: EvaluationPage, paint: Paint, now: float, columns: int, rows: int) -> list[str]:
    """Return at most `rows` lines for a run that is watched: what runs now, and on the last line how far it is."""
    running = list(page.attempts_running)
    room = max(rows - 1, 0)
    shown = running if len(running) <= room else running[: max(room - 1, 0)]
    lines = [_attempt_line(attempt, paint, now, columns) for attempt in shown]
    if len(shown) < len(running) and room:
        lines.append(paint.dim(f"  {paint.marks.ellipsis} {number(len(running) - len(shown))} more running"))
    return [*lines, progress_line(page, paint, now, columns)]


def progress_line(page: EvaluationPage, paint: Paint, now: float, columns: int) -> str:
    """Return how far a run is: its state or why it waits, counts, and at the right edge the time."""
    run, time = page.run, _took(page.run, now)
    counts = "  ".join(_counts(page, paint))
    stands = run.state.value if counts and run.state is ChangeState.BUILDING and not run.cancel_asked else _stands(run)
    parts = [f"{paint.glyph(run.status)} run {run.number} {paint.text(stands)}", counts]
    text = paint.fit("  ".join(filter(None, parts)), max(columns - len(time) - 3, 10))
    return text + pad_start(paint.dim(time), max(columns - 1 - width(text), len(time) + 1))


def cause_lines(cause: Cause, paint: Paint, columns: int, *, tail: int = 0) -> list[str]:
    """Return a root cause with how many attributes failed by it, the end of its log, and the command for all of it.

    `tail` is how many lines of the log at most; the command stands beside the first line where all fits there.
    """
    victims = f" ({counted(cause.victims, 'attribute')})" if cause.victims > 1 else ""
    failed = "failed, " if cause.outcome is Outcome.BUILD_FAILED else ""
    said, *details = brief(cause.message).split("\n")[:DETAILS_MAX] or [""]
    glyph = paint.glyph(of_outcome(cause.outcome))
    line = f"{glyph} {paint.bold(paint.text(cause.name))}{victims} {failed}{paint.text(said)}{', new' * cause.new}"
    command = f"nixmill log {cause.attempt} --remote" if cause.attempt is not None else ""
    below = [paint.fit(f"  {paint.text(text)}", columns) for text in details]
    below += [paint.dim(paint.fit(f"  {LOG_EDGE} {paint.text(text)}", columns)) for text in cause.tail[-tail:] if tail]
    if not below and width(line) + len(command) + 3 <= columns:
        return [f"{line}   {paint.style(command, 'cyan')}".rstrip()]
    return [paint.fit(line, columns), *below, *([f"  {paint.style(command, 'cyan')}"] if command else [])]


def queue_lines(page: QueuePage, paint: Paint, now: float, columns: int, *, why: bool) -> list[str]:
    """Return the runs in the order in which they go on, then builds; `why` shows what each one waits for."""
    if not page.runs and not page.lines:
        return ["Nothing runs and nothing waits."]
    lines = _part("runs", table([_run_row(run, paint, now) for run in page.runs], "rlllrl", paint, columns), paint)
    running = [_building_row(line, paint, now, columns) for line in page.lines if line.status == RUNNING]
    lines += _part("builds", table(running[:LINES_MAX], "lrlrll", paint, columns), paint)
    waiting = [line for line in page.lines if line.status != RUNNING][: LINES_MAX if why else 0]
    lines += _part("waiting", [text for line in waiting for text in _waiting_lines(line, paint, columns)], paint)
    left = page.waiting - len(waiting)
    if left > 0:
        hint = "" if why else ": nixmill queue --why"
        lines += ["", f"  {paint.glyph(Status.WAITING)} {number(left)} {'more ' if waiting else ''}waiting{hint}"]
    return lines[1:]


def run_commit(run: RunLine, paint: Paint) -> str:
    """Return the start of a run's commit."""
    return paint.text(run.commit[:SHORT_COMMIT])


def verdict_words(verdict: Verdict | None) -> str:
    """Return a verdict in words."""
    return verdict.value if verdict is not None else "no verdict yet"


def _part(title: str, lines: Sequence[str], paint: Paint) -> list[str]:
    return ["", paint.bold(title), *lines] if lines else []


def _needs(page: HomePage, paint: Paint, columns: int) -> list[str]:
    steps = [
        (paint.glyph(Status.PASSED if item.done else Status.WAITING), paint.text(item.title), paint.text(item.hint))
        for item in page.checklist
    ]
    lines = _part("to set up", table(steps, "lll", paint, columns), paint)
    needs = [paint.fit(f"  {paint.glyph(Status.TROUBLE)} {paint.text(need.what)}", columns) for need in page.needs_you]
    return lines + _part("needs you", needs, paint)


def _broken_row(line: RefLine, paint: Paint, now: float) -> tuple[str, ...]:
    latest = line.latest
    name = paint.text(latest.project.name) if latest is not None else ""
    since = line.failing_since
    failing = f"since run {since.number}, {_ago(since.requested_at, now)}" if since is not None else ""
    good = f"last good: run {line.last_good.number}" if line.last_good is not None else "never good"
    return paint.glyph(Status.FAILED), name, paint.text(short(line.ref)), failing, good


def _project_row(line: ProjectLine, paint: Paint, now: float) -> tuple[str, ...]:
    latest = line.default.latest if line.default is not None else None
    status = latest.status if latest is not None else Status.WAITING
    strip = "".join(paint.glyph(run.status) for run in reversed(line.recent[:STRIP]))
    running = f"{line.running} running" if line.running else ""
    if line.fault:
        said = paint.text(line.fault)
    elif not line.enabled:
        said = "switched off"
    else:
        said = (
            f"run {latest.number}, {_ago(latest.requested_at, now)}: {_said(latest, paint)}" if latest else "no run yet"
        )
    return paint.glyph(status), paint.text(line.project.name), strip, running, said


def _ref_row(line: RefLine, paint: Paint, now: float) -> tuple[str, ...]:
    latest = line.latest
    if latest is None:
        return paint.glyph(Status.WAITING), paint.text(short(line.ref)), "", "no run yet"
    since = f" (failing since run {line.failing_since.number})" if line.failing_since is not None else ""
    said = f"{_ago(latest.requested_at, now)}: {_said(latest, paint)}{since}"
    return paint.glyph(latest.status), paint.text(short(line.ref)), f"run {latest.number}", said


def _run_row(run: RunLine, paint: Paint, now: float) -> tuple[str, ...]:
    what = f"{paint.text(run.project.name)} {paint.text(short(run.ref))}"
    return str(run.number), paint.glyph(run.status), what, run_commit(run, paint), _took(run, now), _said(run, paint)


def _building_row(line: QueueLine, paint: Paint, now: float, columns: int) -> tuple[str, ...]:
    name = paint.fit(paint.text(line.name), max(columns // 3, 16))
    estimate = f"of {about(line.about_s)}" if line.about_s is not None else ""
    where = paint.text(line.reason) or paint.text(host(line.machine))
    return paint.glyph(Status.RUNNING), str(line.run), name, duration(max(now - line.since, 0.0)), estimate, where


def _waiting_lines(line: QueueLine, paint: Paint, columns: int) -> list[str]:
    """Return what a build waits for, in full."""
    usual = f" ({about(line.about_s)})" if line.about_s is not None else ""
    text = f"  {paint.glyph(Status.WAITING)} {line.run} {paint.text(line.name, 60)}{usual}: {paint.text(line.reason)}"
    return sentence(text, columns, indent="      ")


def _attempt_line(attempt: AttemptLine, paint: Paint, now: float, columns: int) -> str:
    name = paint.pad(paint.text(attempt.name), max(min(columns // 3, 44), 12))
    elapsed = max(now - attempt.started_at, 0.0)
    usual = f"  of {about(attempt.about_s)}" if attempt.about_s is not None else ""
    on = f"  on {paint.text(host(attempt.machine))}" if host(attempt.machine) else ""
    timer = pad_start(duration(int(elapsed)) if elapsed >= 10 else f"{int(elapsed)} s", 11)
    return paint.fit(f"{paint.glyph(Status.RUNNING)} {name}{timer}{paint.dim(usual + on)}", columns - 1)


def _counts(page: EvaluationPage, paint: Paint) -> Iterable[str]:
    cancelled = page.run.status is Status.CANCELLED  # what it left undone is nobody's trouble
    for name, status, word in _COUNTED_OF_CANCELLED if cancelled else _COUNTED:
        if count := page.counts.get(name.value, 0):
            errors = page.counts.get(Filter.ERRORS.value, 0) if name is Filter.FAILED else 0
            part = f" ({number(errors)} did not evaluate)" if errors else ""
            yield f"{paint.glyph(status)} {paint.style(f'{number(count)} {word}', LOOK[status].colour)}{part}"


def _count_lines(page: EvaluationPage, paint: Paint, columns: int) -> list[str]:
    counts = "   ".join(_counts(page, paint))
    changes = ", ".join(
        f"{number(page.counts[name.value])} {name.value.replace('-', ' ')}"
        for name in _CHANGED
        if page.counts.get(name.value)
    )
    lines = [f"  {counts}"] if counts else []
    lines += [f"  against the base: {changes}"] if changes else []
    return ["", *(truncate(line, columns, paint.marks.ellipsis) for line in lines)] if lines else []


def _causes(page: EvaluationPage, paint: Paint, columns: int) -> list[str]:
    shown = page.causes[:CAUSES_MAX]
    lines = []
    for at, cause in enumerate(shown):
        lines += [f"  {line}" for line in cause_lines(cause, paint, columns - 2, tail=TAIL * (at < TAILS_MAX))]
    left = page.causes_total - len(shown)
    return [*lines, paint.dim(f"  and {counted(left, 'more root cause')}")] if left > 0 else lines


def _now(page: EvaluationPage, paint: Paint, now: float, columns: int) -> list[str]:
    """Return what is built now."""
    shown = page.attempts_running[:ROWS_MAX]
    return _part("building now", [f"  {_attempt_line(attempt, paint, now, columns - 2)}" for attempt in shown], paint)


def _rows(page: EvaluationPage, paint: Paint, columns: int) -> list[str]:
    """Return attributes that differ from the base or failed by themselves: who failed with others stands above."""
    compared = page.filter is Filter.DIFFERENT
    above = {cause.drv_path for cause in page.causes}
    told = [row for row in page.rows if _is_told(row, above, compared=compared)]
    rows = [
        (
            "" if row.change is Change.REMOVED else paint.glyph(row.status),
            _how_changed(row.change),
            paint.plain_attribute(row.path, columns // 2),
            paint.text(brief(_why(row))),
        )
        for row in told[:ROWS_MAX]
    ]
    left = len(told) - len(rows)
    further = page.paging.total > len(page.rows) and _is_told(page.rows[-1], above, compared=compared)
    left += page.paging.total - len(page.rows) if further and compared else 0
    rest = f"and {number(left)} more" if left else "and more there:" if further else ""
    more = [paint.dim(f"  {rest}")] if rows and rest else []
    title = "different from the base, or failed" if compared else "failed"
    return _part(title, [*table(rows, "llll", paint, columns), *more], paint)


def _is_told(row: AttributeLine, above: Container[StorePath | None], *, compared: bool) -> bool:
    if compared and row.change not in {Change.SAME, Change.CHANGED}:
        return True
    if row.status is Status.DEPENDENCY_FAILED or row.drv_path in above:
        return False
    return row.status not in _GOOD


def _why(row: AttributeLine) -> str:
    if row.how or row.culprit is None or row.culprit == row.drv_path:
        return row.how
    return f"{derivation_name(row.culprit)} failed"


def _how_changed(change: Change) -> str:
    return "" if change in {Change.SAME, Change.UNKNOWN} else change.value


def _said(run: RunLine, paint: Paint) -> str:
    """Return in a few words how a run ended, or where it stands, and what it tests."""
    if run.state is not ChangeState.DONE:
        return paint.text(_stands(run))
    failed, total = run.counts.get(Filter.FAILED.value, 0), run.counts.get(Filter.ALL.value, 0)
    if not total:
        return paint.text(run.sentence or verdict_words(run.verdict))
    found = f"{number(failed)} of {number(total)} failed" if failed else verdict_words(run.verdict)
    return paint.text(f"{found}  {run.subject}".rstrip())


def _stands(run: RunLine) -> str:
    """Return how far a run is, and why it waits."""
    stopping = ", being cancelled" if run.cancel_asked else ""
    return f"{run.state.value}{stopping}{': ' + run.wait if run.wait else ''}"


def _took(run: RunLine, now: float) -> str:
    if run.started_at is None:
        return _ago(run.requested_at, now)
    if run.ended_at is not None:
        return duration(run.ended_at - run.started_at)
    return duration(max(now - run.started_at, 0.0))


def _ago(at: float, now: float) -> str:
    return f"{duration(max(now - at, 0.0))} ago"
