"""What is kept, as it looks on a terminal: of a project, of the whole server; what a collection would free. Pure.

Names come from strangers and pass `Paint.text` on their way into a line.
"""

from collections.abc import Sequence
from typing import Final

from nixmill.cli.render.flow import sentence
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.table import table
from nixmill.core.closure import ClosureSize
from nixmill.core.project import short
from nixmill.core.status import Status
from nixmill.core.terminal_text import counted, duration, number, size
from nixmill.core.view.roots import (
    CollectionPage,
    HandPinLine,
    LeaseLine,
    PinLine,
    ProjectRoots,
    ProjectRootsPage,
    ServerRootsPage,
    Standing,
)
from nixmill.nix.attr_path import show

LARGEST: Final = 20
FAULTS_MAX: Final = 10
UNCUT: Final = 10_000
"""Columns of lines that hold whole store paths."""
_SUBSTITUTER: Final = "substituter"


def project_lines(page: ProjectRootsPage, paint: Paint, now: float, columns: int) -> list[str]:
    """Return what is kept for a project: results of branches, pins by hand, pull requests, runs that go on."""
    name = page.project.name
    lines = [paint.bold(f"kept of {paint.text(name)}")]
    lines += [] if page.pins else ["  Nothing is pinned."]
    for ref in dict.fromkeys(pin.ref for pin in page.pins):
        rows = [_heads("", "closure", "alone", "since", "", "attribute")]
        rows += [_pin_row(pin, paint, now) for pin in page.pins if pin.ref == ref]
        lines += _part(paint.text(short(ref)), rows, "lrrrll", paint, columns)
    if page.after:
        narrowed = f" --ref {short(page.ref)}" * bool(page.ref)
        lines.append(paint.dim(f"  more: nixmill roots {paint.text(name)}{narrowed} --after {page.after}"))
    lines += _hand(page.hand, page.hand_after, "pinned by hand", paint, now, columns)
    rows = [_lease_row(line, paint, now) for line in page.pull_requests]
    lines += _part("pull requests", rows, "rlll", paint, columns) if rows else []
    if page.pull_requests_more:
        lines.append(paint.dim(f"  and {number(page.pull_requests_more)} more"))
    if page.running:
        lines += [
            "",
            f"{counted(page.running, 'run')} {'goes' if page.running == 1 else 'go'} on: their paths are kept.",
        ]
    return lines


def server_lines(page: ServerRootsPage, paint: Paint, now: float, columns: int) -> list[str]:
    """Return how much is kept by project and reason, the largest closures, and how the roots stand."""
    rows = [_heads("project", "pins", "in caches", "gone", "by hand", "pull requests", "running")]
    rows += [_project_row(line, paint) for line in page.projects]
    lines = table(rows, "lrrrrrr", paint, columns) if page.projects else ["No project is to be seen."]
    if page.after:
        lines.append(paint.dim(f"  more: nixmill roots --after {page.after}"))
    rows = [_big_row(pin, paint) for pin in page.biggest]
    lines += _part("largest closures", rows, "rrlll", paint, columns) if rows else []
    lines += _hand(page.hand, page.hand_after, "pinned for the whole server", paint, now, columns)
    return lines + (_standing(page.standing, paint, now, columns) if page.standing is not None else [])


def collection_lines(page: CollectionPage, paint: Paint, columns: int) -> list[str]:
    """Return what a collection would free."""
    lines = [paint.bold(f"A collection would free {size(page.size)}: {counted(page.paths, 'path')}.")]
    largest = page.largest[:LARGEST]
    if not largest:
        return lines
    share = 100 * sum(one.size for one in largest) / page.size if page.size else 0.0
    lines += ["", f"The largest, {share:.0f}% of it:"]
    return lines + table([(size(one.size), paint.text(one.path)) for one in largest], "rl", paint, max(columns, UNCUT))


def _standing(standing: Standing, paint: Paint, now: float, columns: int) -> list[str]:
    if standing.checked_at is None:
        return ["", "The roots were not looked at since the server began."]
    stand = "stands" if standing.standing == 1 else "stand"
    said = f"{counted(standing.standing, 'root')} {stand}, {number(standing.wanted)} should"
    lines = ["", f"{said}. {paint.dim(f'Looked at {_ago(standing.checked_at, now)}.')}"]
    if standing.standing > standing.wanted:
        lines.append(paint.dim("What nothing wants any more goes within a quarter of an hour."))
    faults = [f"{paint.text(one.path)}: {paint.text(one.fault)}" for one in standing.faults[:FAULTS_MAX]]
    for fault in [*([paint.text(standing.fault)] if standing.fault else []), *faults]:
        lines += sentence(f"{paint.glyph(Status.TROUBLE)} {fault}", columns)
    return lines


def _hand(
    hand: Sequence[HandPinLine], after: int | None, title: str, paint: Paint, now: float, columns: int
) -> list[str]:
    rows = [_hand_row(line, paint, now) for line in hand]
    # Never cut: a store path is unpinned by all of its text.
    lines = _part(title, rows, "rllll", paint, max(columns, UNCUT)) if rows else []
    return lines if after is None else [*lines, paint.dim("  and older ones: see the page of roots in the browser")]


def _part(title: str, rows: Sequence[tuple[str, ...]], align: str, paint: Paint, columns: int) -> list[str]:
    return [*(["", paint.bold(title)] if title else []), *table(rows, align, paint, columns)]


def _heads(*words: str) -> tuple[str, ...]:
    return words


def _pin_row(pin: PinLine, paint: Paint, now: float) -> tuple[str, ...]:
    return (
        paint.glyph(Status.CACHED if pin.held else Status.PASSED),
        _bytes(pin.size),
        _bytes(pin.size, alone=True),
        _coarse(now - pin.since),
        _special(pin, paint, now),
        paint.text(show(pin.path)),
    )


def _special(pin: PinLine, paint: Paint, now: float) -> str:
    """Return what is special about a pin: one of several, only in a cache, or no longer on the branch."""
    generation = f"{pin.generation} of {pin.generations}" if pin.generations > 1 else ""
    held = "a substituter" if pin.held == _SUBSTITUTER else paint.text(pin.held, 40)
    where = f"only in {held}" if pin.held else ""
    gone = f"gone, kept {_for(pin.until, now)}".strip() if pin.gone_since is not None else ""
    return ", ".join(filter(None, (generation, where, gone)))


def _hand_row(line: HandPinLine, paint: Paint, now: float) -> tuple[str, ...]:
    end = "" if line.until is None else _for(line.until, now)
    what = show(line.attribute) if line.attribute is not None else line.store_path
    return _bytes(line.size), end, paint.text(line.who, 20), paint.text(line.reason, 40), paint.text(what)


def _lease_row(line: LeaseLine, paint: Paint, now: float) -> tuple[str, ...]:
    state = "open" if line.open else "closed"
    end = _for(line.until, now) if line.until is not None else ""
    runs = f"run{'s' * (len(line.runs) > 1)} {', '.join(map(str, line.runs))}"
    return f"#{line.number}", state, end, f"{runs}: {paint.text(line.title)}"


def _project_row(line: ProjectRoots, paint: Paint) -> tuple[str, ...]:
    counts = (line.pins, line.held, line.gone, line.hand, line.pull_requests, line.running)
    return paint.text(line.project.name), *(number(count) if count else "" for count in counts)


def _big_row(pin: PinLine, paint: Paint) -> tuple[str, ...]:
    alone = f"{_bytes(pin.size, alone=True)} alone"
    where = paint.text(short(pin.ref), 30)
    return _bytes(pin.size), alone, paint.text(pin.project.name), where, paint.text(show(pin.path))


def _bytes(measured: ClosureSize | None, *, alone: bool = False) -> str:
    if measured is None:
        return "?"
    return f"{'>' * (not measured.whole)}{size(measured.alone if alone else measured.closure)}"


def _for(until: float | None, now: float) -> str:
    return f"for {_coarse(until - now)}" if until is not None else ""


def _coarse(seconds: float) -> str:
    """Return a duration in its largest unit alone."""
    return " ".join(duration(max(0.0, seconds)).split()[:2])


def _ago(at: float, now: float) -> str:
    return f"{duration(max(now - at, 0.0))} ago"
