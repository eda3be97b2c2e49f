"""`--dry-run`: the plan as lines, the sum first, then attributes by how they changed, builds and fetches. Pure."""

from itertools import chain
from typing import Final

from nixmill.cli.render import blocks
from nixmill.cli.render.flow import sentence
from nixmill.cli.render.names import listed
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.table import table
from nixmill.core.plan_view import PlannedBuild, PlannedFetch, PlanRow, PlanView
from nixmill.core.run_event import Change, Work
from nixmill.core.status import Status
from nixmill.core.terminal_text import about, counted, number, size
from nixmill.nix.store_path import name_part

ROWS_MAX: Final = 200
"""Attributes, builds or fetches that are listed; `--json` has them all."""
_STATUS: Final = {Work.NONE: Status.PASSED, Work.FETCH: Status.CACHED, Work.BUILD: Status.RUNNING}
_ORDER: Final = (Change.NEWLY_FAILING, Change.FIXED, Change.NEW, Change.CHANGED, Change.UNKNOWN, Change.SAME)


def plan_lines(view: PlanView, paint: Paint, columns: int) -> list[str]:
    """Return what a run would do, in full; each section begins with its count."""
    parts = [sentence(_sum(view, paint), columns)]
    parts += [_attributes([row for row in view.rows if row.change is kind], kind, paint, columns) for kind in _ORDER]
    parts += [_removed(view, paint, columns), _errors(view, paint, columns)]
    parts += [_builds(view.builds, paint, columns), _fetches(view.fetches, paint, columns)]
    return list(chain.from_iterable(["", *part] for part in parts if part))[1:]


def _sum(view: PlanView, paint: Paint) -> str:
    words = []
    if view.builds:
        words.append(f"build {counted(len(view.builds), 'derivation')}")
    if view.fetches:
        known = f" ({size(view.fetch_bytes)}, {size(view.unpacked_bytes)} unpacked)" if view.fetch_bytes else ""
        words.append(f"fetch {counted(len(view.fetches), 'path')}{known}")
    if not words:
        return paint.bold(f"Nothing to do: no work for {counted(len(view.rows), 'attribute')}.")
    time = f", {about(view.about_s)}" if view.about_s is not None else ""
    return paint.bold(f"Would {' and '.join(words)} for {counted(len(view.rows), 'attribute')}{time}.")


def _attributes(rows: list[PlanRow], change: Change, paint: Paint, columns: int) -> list[str]:
    """Return the attributes of one kind of change; of those that need nothing and are the same only the count."""
    quiet = [row for row in rows if row.change is Change.SAME and row.work is Work.NONE]
    shown = [row for row in rows if row.change is not Change.SAME or row.work is not Work.NONE]
    if not rows:
        return []
    title = "attributes" if change is Change.UNKNOWN else change.value
    lines = [_title(title, len(rows), paint)]
    cells = [_row(row, paint, columns) for row in shown[:ROWS_MAX]]
    lines += table(cells, "lrrl", paint, columns)
    lines += _left(len(shown) - ROWS_MAX, paint)
    return [*lines, paint.dim(f"  no work for {counted(len(quiet), 'attribute')}")] if quiet else lines


def _row(row: PlanRow, paint: Paint, columns: int) -> tuple[str, str, str, str]:
    name = f"{paint.glyph(_STATUS[row.work])} {paint.attribute(row.path, max(columns // 2, 20))}"
    known = f" ({size(row.fetch_bytes)})" if row.fetch_bytes else ""
    return (
        name,
        f"build {number(row.to_build)}" if row.to_build else "",
        f"fetch {number(row.to_fetch)}{known}" if row.to_fetch else "",
        paint.dim(paint.text(row.reason)),
    )


def _removed(view: PlanView, paint: Paint, columns: int) -> list[str]:
    if not view.removed:
        return []
    names = listed(list(view.removed), paint, columns - 2)
    return [_title(Change.REMOVED.value, len(view.removed), paint), f"  {names}"]


def _errors(view: PlanView, paint: Paint, columns: int) -> list[str]:
    lines = [blocks.evaluation_error(error, paint, columns - 2) for error in view.errors[:ROWS_MAX]]
    if not lines:
        return []
    return [
        _title("not evaluated", len(view.errors), paint),
        *(f"  {line}" for line in chain.from_iterable(lines)),
        *_left(len(view.errors) - ROWS_MAX, paint),
    ]


def _builds(builds: tuple[PlannedBuild, ...], paint: Paint, columns: int) -> list[str]:
    """Return the builds, what takes long first."""
    if not builds:
        return []
    ordered = sorted(builds, key=lambda build: (-(build.about_s or 0.0), build.name))
    cells = [_build(build, paint) for build in ordered[:ROWS_MAX]]
    lines = table(cells, "lrll", paint, columns)
    return [_title("to build", len(builds), paint), *lines, *_left(len(builds) - ROWS_MAX, paint)]


def _build(build: PlannedBuild, paint: Paint) -> tuple[str, str, str, str]:
    return (
        paint.text(build.name),
        about(build.about_s) if build.about_s is not None else "",
        paint.dim(f"for {counted(build.attributes, 'attribute')}") if build.attributes else "",
        paint.status(Status.TROUBLE, paint.text(build.waits_for)),
    )


def _fetches(fetches: tuple[PlannedFetch, ...], paint: Paint, columns: int) -> list[str]:
    """Return the fetches, the largest first."""
    if not fetches:
        return []
    ordered = sorted(fetches, key=lambda fetch: (-fetch.download_bytes, name_part(fetch.path)))
    cells = [_fetch(fetch, paint) for fetch in ordered[:ROWS_MAX]]
    lines = table(cells, "lrl", paint, columns)
    return [_title("to fetch", len(fetches), paint), *lines, *_left(len(fetches) - ROWS_MAX, paint)]


def _fetch(fetch: PlannedFetch, paint: Paint) -> tuple[str, str, str]:
    unpacked = paint.dim(f"{size(fetch.unpacked_bytes)} unpacked") if fetch.unpacked_bytes else ""
    return paint.text(name_part(fetch.path)), size(fetch.download_bytes) if fetch.download_bytes else "", unpacked


def _title(words: str, count: int, paint: Paint) -> str:
    return f"{paint.bold(words)} {paint.dim(number(count))}"


def _left(count: int, paint: Paint) -> list[str]:
    return [paint.dim(f"  and {number(count)} more; all of them: --json")] if count > 0 else []
