"""What a server's pages look like on a terminal: home, project, run, queue, and a run that is being watched. Pure.

Everything on a page comes from strangers and passes `Paint.text` on its way into a line.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from nixmill.cli.render.flow import sentence
from nixmill.cli.render.names import host
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.table import table
from nixmill.core.change import ChangeState
from nixmill.core.project import short
from nixmill.core.run_event import Change, Verdict
from nixmill.core.status import LOOK, Status, of_outcome
from nixmill.core.terminal_text import about, counted, duration, number, pad_start, truncate, width
from nixmill.core.view.pages import EvaluationPage, HomePage, ProjectLine, ProjectPage, QueueLine, QueuePage
from nixmill.core.view.parts import AttemptLine, Cause, Filter, RefLine, RunLine

SHORT_COMMIT: Final = 8
STRIP: Final = 10
"""Runs in the strip of a project."""
CAUSES_MAX: Final = 20
ROWS_MAX: Final = 20
LINES_MAX: Final = 200
RUNNING: Final = "running"
_COUNTED: Final = (
    (Filter.PASSED, Status.PASSED, "passed"),
    (Filter.FAILED, Status.FAILED, "failed"),
    (Filter.ERRORS, Status.FAILED, "not evaluated"),
    (Filter.TROUBLE, Status.TROUBLE, "our trouble or cancelled"),
    (Filter.RUNNING, Status.RUNNING, "to go"),
)
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
        lines.append(paint.dim(f"  nixmill watch {run.number}"))
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
    parts = [f"{paint.glyph(run.status)} run {run.number} {paint.text(_stands(run))}", counts]
    text = paint.fit("  ".join(filter(None, parts)), max(columns - len(time) - 3, 10))
    return text + pad_start(paint.dim(time), max(columns - 1 - width(text), len(time) + 1))


def cause_lines(cause: Cause, paint: Paint, columns: int) -> list[str]:
    """Return a root cause with how many attributes failed by it, and the command for its log, beside it if it fits."""
    victims = f" ({counted(cause.victims, 'attribute')})" if cause.victims > 1 else ""
    glyph = paint.glyph(of_outcome(cause.outcome))
    line = f"{glyph} {paint.bold(paint.text(cause.name))}{victims} {paint.text(cause.message)}{', new' * cause.new}"
    command = f"nixmill log {cause.attempt} --remote" if cause.attempt is not None else ""
    if width(line) + len(command) + 3 <= columns:
        return [f"{line}   {paint.style(command, 'cyan')}".rstrip()]
    return [paint.fit(line, columns), *([f"  {paint.style(command, 'cyan')}"] if command else [])]


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
    for name, status, word in _COUNTED:
        if count := page.counts.get(name.value, 0):
            yield f"{paint.glyph(status)} {paint.style(f'{number(count)} {word}', LOOK[status].colour)}"


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
    lines = [f"  {line}" for cause in shown for line in cause_lines(cause, paint, columns - 2)]
    left = page.causes_total - len(shown)
    return [*lines, paint.dim(f"  and {counted(left, 'more root cause')}")] if left > 0 else lines


def _now(page: EvaluationPage, paint: Paint, now: float, columns: int) -> list[str]:
    """Return what is built now."""
    shown = page.attempts_running[:ROWS_MAX]
    return _part("building now", [f"  {_attempt_line(attempt, paint, now, columns - 2)}" for attempt in shown], paint)


def _rows(page: EvaluationPage, paint: Paint, columns: int) -> list[str]:
    """Return the attributes that the page shows: by default those that differ from the base."""
    rows = [
        (paint.glyph(row.status), _how_changed(row.change), paint.plain_attribute(row.path, columns // 2), how)
        for row, how in ((row, paint.text(row.how)) for row in page.rows[:ROWS_MAX])
        if row.change is not Change.SAME or row.status is not Status.PASSED
    ]
    left = page.paging.total - len(rows)
    more = [paint.dim(f"  and {number(left)} more")] if rows and left > 0 else []
    title = f"{page.filter.value.replace('-', ' ')}{' from the base' if page.filter is Filter.DIFFERENT else ''}"
    return _part(title, [*table(rows, "llll", paint, columns), *more], paint)


def _how_changed(change: Change) -> str:
    return "" if change in {Change.SAME, Change.UNKNOWN} else change.value


def _said(run: RunLine, paint: Paint) -> str:
    return paint.text(run.sentence if run.state is ChangeState.DONE else _stands(run))


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
