"""A run over time as SVG: one lane a machine, one bar an attempt, each a link to its log.

Bars that overlap on a machine stand in rows beneath each other. What made the run as long as it was (the critical
path) has a thick edge and a sign; the table beneath says the same in words. No style stands in it, only classes.
"""

import heapq
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

from nixmill.core.status import LOOK, Status
from nixmill.core.terminal_text import duration
from nixmill.core.view.pages import TimelinePage
from nixmill.core.view.parts import AttemptLine
from nixmill.web import urls
from nixmill.web.writing import clean, css, host

WIDTH: Final = 1000.0
ROW: Final = 18
_BAR: Final = 15
_HEAD: Final = 20
"""Height of a machine's name."""
_AXIS: Final = 22
_CHAR: Final = 6.3
"""About the width of a character of a label."""
_LABEL_MIN: Final = 6
"""Characters of a label that is cut; a shorter stump says nothing, the tooltip says it all."""
_LEAST: Final = 2.0
"""Width of the shortest bar: something to point at."""
_STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)


class Lane(NamedTuple):
    """A machine: its attempts, each with its row."""

    machine: str
    bars: Sequence[tuple[AttemptLine, int]]
    rows: int


def drawn(page: TimelinePage, now: float) -> Markup:
    """Return the timeline of a run; nothing where nothing was tried."""
    if not page.attempts:
        return Markup("")
    begin = min(attempt.started_at for attempt in page.attempts)
    end = max(_end(attempt, now) for attempt in page.attempts)
    scale = WIDTH / max(end - begin, 0.1)
    critical = frozenset(page.critical)
    parts, y = [], _AXIS
    for lane in lanes(page.attempts, now):
        parts.append(_lane_head(lane, y))
        y += _HEAD
        for attempt, row in lane.bars:
            x, wide = (attempt.started_at - begin) * scale, (_end(attempt, now) - attempt.started_at) * scale
            parts.append(_bar(attempt, x, y + row * ROW, wide, now, critical=attempt.drv_path in critical))
        y += lane.rows * ROW + 6
    said = f"Timeline of run {page.run.number}: {len(page.attempts):,} attempts in {duration(end - begin)}"
    return Markup('<svg class="gantt" viewBox="0 0 {} {}" role="group" aria-label="{}">{}{}</svg>').format(
        _n(WIDTH), y, said, _axis(end - begin, scale, y), Markup("").join(parts)
    )


def lanes(attempts: Sequence[AttemptLine], now: float) -> Iterator[Lane]:
    """Yield machines by name, their attempts in as few rows as can be (the first row that is free)."""
    by_machine: dict[str, list[AttemptLine]] = {}
    for attempt in attempts:
        by_machine.setdefault(attempt.machine, []).append(attempt)
    for machine, theirs in sorted(by_machine.items(), key=lambda item: host(item[0])):
        bars, rows = _packed(sorted(theirs, key=lambda attempt: attempt.started_at), now)
        yield Lane(machine, bars, rows)


def _packed(attempts: Sequence[AttemptLine], now: float) -> tuple[list[tuple[AttemptLine, int]], int]:
    """Return attempts, by their start, with their rows, and how many rows there are."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    out: list[tuple[AttemptLine, int]] = []
    for attempt in attempts:
        while busy and busy[0][0] <= attempt.started_at:
            heapq.heappush(free, heapq.heappop(busy)[1])
        row = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (_end(attempt, now), row))
        out.append((attempt, row))
    return out, max((row for _, row in out), default=-1) + 1


def _end(attempt: AttemptLine, now: float) -> float:
    running = attempt.status is Status.RUNNING
    return max(now, attempt.started_at) if running else attempt.started_at + max(attempt.seconds, 0.0)


def _lane_head(lane: Lane, y: int) -> Markup:
    name = clean(host(lane.machine), 80)
    return Markup(
        '<line class="axis" x1="0" x2="{}" y1="{}" y2="{}"/><text class="lane" x="2" y="{}">{}</text>'
    ).format(_n(WIDTH), y, y, y + 14, name)


def _bar(attempt: AttemptLine, x: float, y: int, wide: float, now: float, *, critical: bool) -> Markup:
    took = duration(_end(attempt, now) - attempt.started_at)
    word = LOOK[attempt.status].word
    said = f"{clean(attempt.name, 200)}: {word}, {took}{', on the critical path' if critical else ''}"
    wide = max(wide, _LEAST)
    kind = f"b-{css(attempt.status)}{' critical' if critical else ''}"
    return Markup(
        '<a class="{}" href="{}"><title>{}</title><rect x="{}" y="{}" width="{}" height="{}" rx="2"/>{}</a>'
    ).format(kind, urls.log(attempt.number), said, _n(x), y, _n(wide), _BAR, _label(attempt, x, y, wide, critical))


def _label(attempt: AttemptLine, x: float, y: int, wide: float, critical: bool) -> Markup:  # noqa: FBT001 - as drawn
    sign = "" if attempt.status is Status.PASSED else f"{LOOK[attempt.status].glyph}\ufe0e "
    text = f"{'◆ ' if critical else ''}{sign}{clean(attempt.name, 200)}"
    room = int((wide - 6) / _CHAR)
    if room < min(len(text), _LABEL_MIN):
        text = sign.strip()  # the state stays a shape
    if room < 2 or not text:  # a glyph and its variation selector
        return Markup("")
    shown = text if len(text) <= room else f"{text[: room - 1]}…"
    return Markup('<text x="{}" y="{}">{}</text>').format(_n(x + 4), y + 11, shown)


def _axis(seconds: float, scale: float, height: int) -> Markup:
    """Return lines at round times, at most about ten of them."""
    step = next((step for step in _STEPS if seconds / step <= 10), _STEPS[-1] * (int(seconds / _STEPS[-1] / 10) + 1))
    ticks = []
    for at in range(0, int(seconds) + 1, step):
        x = at * scale
        anchor = "start" if at == 0 else "middle"
        if x > WIDTH - 24 and at:
            break
        ticks.append(
            Markup('<line class="axis" x1="{}" x2="{}" y1="14" y2="{}"/><text x="{}" y="11" text-anchor="{}">{}</text>')
            .format(_n(x), _n(x), height, _n(x), anchor, _said(at))
        )  # fmt: skip
    return Markup("").join(ticks)


def _said(seconds: int) -> str:
    """Return a tick's time, short: `0`, `30 s`, `5 min`, `1:30 h`."""
    if seconds < 60 or seconds % 60:
        return f"{seconds} s" if seconds else "0"
    hours, minutes = divmod(seconds // 60, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours}:{minutes:02} h" if minutes else f"{hours} h"


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")
