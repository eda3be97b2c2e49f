"""Charts as SVG, made here: bars, lines, and the bar of progress. Each has its data in a table beneath.

No style stands in them (the content security policy forbids it): sizes are attributes, colours are classes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from markupsafe import Markup

from nixmill.core import terminal_text
from nixmill.core.view.parts import Filter, Point
from nixmill.web import urls

WIDTH: Final = 640
HEIGHT: Final = 160
_LEFT: Final = 64
_TOP: Final = 8
_BOTTOM: Final = 18
_PLOT_W: Final = WIDTH - _LEFT - 4
_PLOT_H: Final = HEIGHT - _TOP - _BOTTOM
_BAR_MAX: Final = 26.0
_STEPS: Final = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500)
_UNITS_MAX: Final = 8

Write = Callable[[float], str]


def bars(points: Sequence[Point], title: str, write: Write = terminal_text.duration) -> Markup:
    """Return one bar a point, oldest left, linked to its run; a failed one is red and hollow at its foot."""
    if not points:
        return Markup("")
    top = nice_top([point.value for point in points], base=60)
    pitch = _PLOT_W / len(points)
    wide = min(pitch * 0.78, _BAR_MAX)
    drawn = [_bar(point, _LEFT + at * pitch + (pitch - wide) / 2, wide, top, write) for at, point in enumerate(points)]
    return _figure(points, title, write, _axes(points, top, write) + Markup("").join(drawn))


def lines(points: Sequence[Point], title: str, write: Write) -> Markup:
    """Return a line through all points, oldest left, each linked to its run; failed ones are hollow."""
    if not points:
        return Markup("")
    top = nice_top([point.value for point in points], base=1024)
    pitch = _PLOT_W / len(points)
    places = [(_LEFT + (at + 0.5) * pitch, _y(point.value, top)) for at, point in enumerate(points)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [_dot(point, x, y, write) for point, (x, y) in zip(points, places, strict=True)]
    line = Markup('<polyline class="line" points="{}"/>').format(path)
    return _figure(points, title, write, _axes(points, top, write) + line + Markup("").join(dots))


def sizes(points: Sequence[Point], title: str) -> Markup:
    """Return a line of bytes."""
    return lines(points, title, lambda value: terminal_text.size(round(value)))


def progress(counts: Mapping[str, int]) -> Markup:
    """Return how much of a run is done, as a bar: passed, failed, our trouble, and what is left."""
    total = counts.get(Filter.ALL, 0)
    if not total:
        return Markup("")
    parts, at = [], 0.0
    for which in (Filter.PASSED, Filter.FAILED, Filter.TROUBLE):
        share = 100 * counts.get(which, 0) / total
        parts.append(Markup('<rect class="{}" x="{}" width="{}" height="8"/>').format(which, _n(at), _n(share)))
        at += share
    done = total - counts.get(Filter.RUNNING, 0)
    label = f"{terminal_text.number(done)} of {terminal_text.number(total)} done"
    return Markup(
        '<svg class="progress" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(label, Markup("").join(parts))


def nice_top(values: Sequence[float], base: int) -> float:
    """Return a round number at least as large as all values; `base` is that of the unit: 60, 1024, 10."""
    most = max(values, default=0.0)
    tops = (float(base**unit * step) for unit in range(_UNITS_MAX) for step in _STEPS if step < base)
    return next((top for top in tops if top >= most), most)


def _y(value: float, top: float) -> float:
    return _TOP + _PLOT_H * (1 - max(value, 0.0) / top)


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _bar(point: Point, x: float, wide: float, top: float, write: Write) -> Markup:
    y = min(_y(point.value, top), _TOP + _PLOT_H - 1)
    tall = _TOP + _PLOT_H - y
    cross = Markup("") if point.good else _cross(x + wide / 2, y - 4)
    return _linked(
        point,
        write,
        Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>{}').format(
            "good" if point.good else "bad", _n(x), _n(y), _n(wide), _n(tall), cross
        ),
    )


def _cross(x: float, y: float) -> Markup:
    """Return the sign over a failed bar: colour alone would not tell."""
    return Markup('<text x="{}" y="{}" text-anchor="middle">✖</text>').format(_n(x), _n(max(y, 9.0)))


def _dot(point: Point, x: float, y: float, write: Write) -> Markup:
    kind, radius = ("flat", 2.5) if point.good else ("bad-mark", 3.5)
    return _linked(
        point, write, Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(kind, _n(x), _n(y), radius)
    )


def _linked(point: Point, write: Write, drawing: Markup) -> Markup:
    said = f"run {point.run}: {write(point.value)}{'' if point.good else ', failed'}"
    return Markup('<a href="{}" tabindex="-1"><title>{}</title>{}</a>').format(urls.run(point.run), said, drawing)


def _axes(points: Sequence[Point], top: float, write: Write) -> Markup:
    lines_ = [_level(value, top, write) for value in (0.0, top / 2, top)]
    ends = Markup('<text x="{}" y="{}">run {}</text>').format(_LEFT, HEIGHT - 4, points[0].run)
    if len(points) > 1:
        ends += Markup('<text x="{}" y="{}" text-anchor="end">run {}</text>').format(
            WIDTH - 4, HEIGHT - 4, points[-1].run
        )
    return Markup("").join(lines_) + ends


def _level(value: float, top: float, write: Write) -> Markup:
    y = _y(value, top)
    said = write(value).removesuffix(" 0 s").replace(".0 ", " ") if value else "0"
    return Markup(
        '<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/><text x="{}" y="{}" text-anchor="end">{}</text>'
    ).format(_LEFT, WIDTH, _n(y), _n(y), _LEFT - 6, _n(y + 4), said)


def _figure(points: Sequence[Point], title: str, write: Write, drawing: Markup) -> Markup:
    rows = [
        Markup('<tr><td><a href="{}">{}</a><td class="num">{}<td>{}').format(
            urls.run(point.run), point.run, write(point.value), "passed" if point.good else "failed"
        )
        for point in reversed(points)
    ]
    return Markup(
        '<figure class="chart"><svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
        "<details><summary>{} as a table</summary>"
        '<table class="plain"><thead><tr><th>Run<th class="num">Value<th>Result<tbody>{}</table></details></figure>'
    ).format(WIDTH, HEIGHT, title, drawing, title, Markup("").join(rows))
