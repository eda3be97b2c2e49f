"""The live region: what goes on right now, in a few lines whose columns stay put. Pure.

The last line is progress: bar, ∑ counts, time. Above it stand running builds, the oldest first, so that what takes long
stays where it is; and one line for what waits and why. Builds that last less than a moment never appear.
"""

from itertools import islice
from typing import Final

from nixmill.cli.render.names import host
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.state import Running, RunState
from nixmill.core.run_event import Work
from nixmill.core.status import Status
from nixmill.core.terminal_text import about, duration, number, pad_start, width

SHOWN_AFTER_S: Final = 0.3
"""Younger builds are only counted: names that flash by cannot be read."""
TIMER_AFTER_S: Final = 1.0
ROOMY: Final = 7
"""Rows from which on a blank one parts the region from history."""
BAR_MIN: Final = 10
BAR_MAX: Final = 40
_TIME_WIDTH: Final = 11
_ABOUT_WIDTH: Final = 18


def rows_allowed(height: int) -> int:
    """Return how many rows the region may take of a terminal: a third, but one at least."""
    return max(height // 3, 1)


def region(state: RunState, paint: Paint, now: float, columns: int, rows: int) -> list[str]:
    """Return at most `rows` lines of less than `columns` columns, for the moment `now`; none before the run began."""
    if state.started is None or state.ended is not None:
        return []
    columns -= 1  # a full line would leave the cursor pending at the edge, where terminals differ
    gap = [""] if rows >= ROOMY else []
    lines = _activity(state, paint, now, columns, rows - len(gap) - 1) if rows > 1 else []
    return [*gap, *lines, progress(state, paint, now, columns)]


def _activity(state: RunState, paint: Paint, now: float, columns: int, rows: int) -> list[str]:
    waiting = _waiting(state, paint, columns) if rows > 2 else []
    rows -= len(waiting)
    shown = [running for running in state.running.values() if now - running.since >= SHOWN_AFTER_S]
    if len(shown) <= rows:
        lines = [_running(running, paint, now, columns) for running in shown]
    else:
        lines = [_running(running, paint, now, columns) for running in islice(shown, rows - 1)]
        left = len(shown) - len(lines)
        lines.append(paint.fit(paint.dim(f"  {paint.marks.ellipsis} {number(left)} more running"), columns))
    return [*lines, *waiting]


def _running(running: Running, paint: Paint, now: float, columns: int) -> str:
    """Return the line of a running build: glyph, name, phase, time, estimate, and what needs it as far as it fits."""
    began = running.began
    elapsed = now - running.since
    timer = _timer(elapsed) if elapsed >= TIMER_AFTER_S else ""
    name_width = max(min(columns // 3, 44), 12)
    status = Status.CACHED if began.work is Work.FETCH else Status.RUNNING
    line = f"{paint.glyph(status)} {paint.pad(paint.text(began.name), name_width)}"
    left = columns - width(line)
    if left >= _TIME_WIDTH:
        line += pad_start(timer, _TIME_WIDTH)
        left -= _TIME_WIDTH
    if left >= _ABOUT_WIDTH:
        line += paint.dim(paint.pad(f"  {_estimate(running, elapsed)}", _ABOUT_WIDTH))
        left -= _ABOUT_WIDTH
    return paint.fit((line + _doing(running, paint, left)).rstrip(), columns)


def _timer(seconds: float) -> str:
    """Return whole seconds: tenths would twitch."""
    return duration(int(seconds)) if seconds >= 10 else f"{int(seconds)} s"


def _estimate(running: Running, elapsed: float) -> str:
    usual = running.began.about_s
    if usual is None:
        return ""
    return f"of {about(usual)}" if elapsed <= usual * 1.1 else f"over {about(usual)}"


def _doing(running: Running, paint: Paint, left: int) -> str:
    """Return phase and machine as far as they fit."""
    began = running.began
    phase = paint.text(running.phase) or ("fetching" if began.work is Work.FETCH else "")
    machine = paint.text(host(began.machine))
    words = [word for word in (phase, f"on {machine}" if machine else "") if word]
    return f"  {paint.fit(' '.join(words), left - 2)}" if words and left >= 10 else ""


def _waiting(state: RunState, paint: Paint, columns: int) -> list[str]:
    if state.waits is None:
        return []
    text = f"{number(state.waits.waiting)} waiting"
    if state.waits.reasons:
        name, reason = state.waits.reasons[0]
        text += f": {paint.text(name)} {paint.marks.arrow} {paint.text(reason)}"
    return [paint.fit(f"{paint.glyph(Status.WAITING)} {paint.dim(text)}", columns)]


def progress(state: RunState, paint: Paint, now: float, columns: int) -> str:
    """Return the progress line: bar, counts (in long words where they fit), and at the right edge the time."""
    total = _total(state)
    bar_width = max(BAR_MIN, min(columns // 6, BAR_MAX)) if total else 0
    start = f"{bar(state, paint, total, bar_width)}  " if total else ""
    for long in (True, False):
        counts = "  ".join(_Counts(paint, long=long).parts(state))
        time = _time(state, now, long=long)
        gap = columns - width(start) - width(counts) - len(time)
        if gap >= 2:
            return f"{start}{counts}{' ' * gap}{paint.dim(time)}"
    return paint.fit(counts, columns)


def _total(state: RunState) -> int:
    return state.plan.to_build + state.plan.to_fetch if state.plan else 0


def bar(state: RunState, paint: Paint, total: int, columns: int) -> str:
    """Return the bar: good, failed, running, and what is left, each at its share."""
    marks = paint.marks
    total = max(total, state.built + state.fetched + state.failed + len(state.running))
    good = columns * (state.built + state.fetched) // total
    failed = min(_share(state.failed, total, columns), columns - good)
    running = min(_share(len(state.running), total, columns), columns - good - failed)
    rest = columns - good - failed - running
    done = paint.style(marks.bar * good, "green") + paint.style(marks.bar * failed, "red")
    return done + paint.style(marks.bar_run * running, "cyan") + paint.dim(marks.bar_rest * rest)


def _share(count: int, total: int, columns: int) -> int:
    """Return the columns for a count: at least one where there is any."""
    return max(columns * count // total, 1) if count else 0


class _Counts:
    """The counts of the progress line, with or without words."""

    def __init__(self, paint: Paint, *, long: bool) -> None:
        self.paint = paint
        self.long = long

    def parts(self, state: RunState) -> list[str]:
        """Return what is counted; what is zero is not said."""
        paint, plan = self.paint, state.plan
        found = number(state.found + len(state.errors)) + self._word("evaluated")
        parts = [f"{paint.marks.sum} {found}{'' if state.evaluation else paint.marks.ellipsis}"]
        if plan and plan.to_build:
            parts.append(self._of(Status.PASSED, state.built, plan.to_build, "built"))
        if plan and plan.to_fetch:
            parts.append(self._of(Status.CACHED, state.fetched, plan.to_fetch, "fetched"))
        if state.running:
            parts.append(self._count(Status.RUNNING, len(state.running), "running"))
        if broken := state.failed + len(state.errors):
            parts.append(self._count(Status.FAILED, broken, "failed"))
        return parts

    def _of(self, status: Status, done: int, total: int, word: str) -> str:
        return f"{self.paint.glyph(status)} {number(done)}/{number(max(total, done))}{self._word(word)}"

    def _count(self, status: Status, count: int, word: str) -> str:
        return f"{self.paint.glyph(status)} {self.paint.status(status, number(count) + self._word(word))}"

    def _word(self, word: str) -> str:
        return f" {word}" if self.long else ""


def _time(state: RunState, now: float, *, long: bool) -> str:
    left = remaining(state, now)
    estimate = f", {about(left)} left" if left is not None and long else ""
    return _timer(now - state.began_at) + estimate


def remaining(state: RunState, now: float) -> float | None:
    """Return the estimated seconds that are left; None where there is no estimate or it has run out."""
    if state.plan is None or state.plan.about_s is None or state.work_began_at is None:
        return None
    left = state.plan.about_s - (now - state.work_began_at)
    return left if left > 0 else None
