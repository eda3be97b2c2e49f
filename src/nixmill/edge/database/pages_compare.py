"""Two runs side by side. What is alike is dropped as one set operation; lines are made of what a page shows."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from sqlalchemy import CompoundSelect, Connection, literal, null, select, union_all

from nixmill.core.access import Sight
from nixmill.core.outcome import Outcome
from nixmill.core.view.pages import ComparedLine, ComparePage
from nixmill.core.view.parts import AttributeLine, Paging, RunLine
from nixmill.edge.database.pages_attributes import lines_by_key
from nixmill.edge.database.pages_tally import Place
from nixmill.edge.database.rows import path_of
from nixmill.edge.database.tables import attribute, evaluation_error, outcome
from nixmill.nix.attr_path import show

KINDS: Final = ("newly failing", "fixed", "changed", "new", "removed")
"""In the order of the page; `same` is only counted."""
_ERROR: Final = "error"
_SAYS_NOTHING: Final = frozenset(
    {None, Outcome.CANCELLED.value, Outcome.INFRASTRUCTURE.value, Outcome.NO_MACHINE.value}
)


class State(NamedTuple):
    """What an attribute is in a run."""

    drv_path: str | None
    outcome: str | None
    """`error` for one that did not evaluate; None where it is not known."""


Differing = dict[str, tuple[State | None, State | None]]


def compare(
    connection: Connection,
    sight: Sight,
    sides: tuple[Place, Place],
    runs: tuple[RunLine, RunLine],
    paged: Callable[[int], Paging],
) -> ComparePage:
    """Return a page of what differs between two runs."""
    differing, same = _differing(connection, *sides)
    kinds = {path: kind_of(*states) for path, states in differing.items()}
    counts = Counter(kinds.values())
    shown = sorted((KINDS.index(kind), path) for path, kind in kinds.items() if kind in KINDS)
    where = paged(len(shown))
    start = (where.page - 1) * where.size
    piece = [path for _, path in (shown[start : start + where.size] if where.size else shown)]
    return ComparePage(
        before=runs[0],
        after=runs[1],
        counts={**{kind: counts[kind] for kind in KINDS}, "same": same + counts["same"]},
        rows=tuple(_rows(connection, sight, sides, piece, kinds)),
        paging=where,
    )


def kind_of(before: State | None, after: State | None) -> str:
    """Return how an attribute changed from one run to another; one of `KINDS` or `same`."""
    if before is None or after is None:
        return "new" if before is None else "removed"
    was, now = _good(before), _good(after)
    if was is True and now is False:
        return "newly failing"
    if was is False and now is True:
        return "fixed"
    return "same" if before.drv_path == after.drv_path else "changed"


def _good(state: State) -> bool | None:
    return None if state.outcome in _SAYS_NOTHING else state.outcome == Outcome.SUCCEEDED.value


def _side(at: Place) -> CompoundSelect[Any, Any, Any]:
    """Return the question for path, derivation and outcome of everything in a run."""
    a, o, e = attribute.c, outcome.c, evaluation_error.c
    same = (o.evaluation == at.evaluation) & (o.run == at.run) & (o.path == a.path)
    known = select(a.path, a.drv_path, o.outcome).select_from(attribute.outerjoin(outcome, same))
    erred = select(e.path, null().label("drv_path"), literal(_ERROR).label("outcome"))
    return union_all(known.where(a.evaluation == at.evaluation), erred.where(e.evaluation == at.evaluation))


def _differing(connection: Connection, before: Place, after: Place) -> tuple[Differing, int]:
    """Return what is not alike in both, and how much is."""
    old = connection.execute(_side(before)).all()
    new = connection.execute(_side(after)).all()
    unlike = {row[0] for row in set(old).symmetric_difference(new)}
    was = {path: State(drv_path, found) for path, drv_path, found in old if path in unlike}
    now = {path: State(drv_path, found) for path, drv_path, found in new if path in unlike}
    return {path: (was.get(path), now.get(path)) for path in unlike}, len(new) - len(now)


def _rows(
    connection: Connection, sight: Sight, sides: tuple[Place, Place], paths: Iterable[str], kinds: dict[str, str]
) -> Iterable[ComparedLine]:
    wanted = list(paths)
    keys = [(at.run, at.evaluation, path) for at in dict.fromkeys(sides) for path in wanted]
    found, _ = lines_by_key(connection, sight, keys, {at.run for at in sides if not at.done})

    def line(at: Place, path: str) -> AttributeLine | None:
        return found.get((at.run, at.evaluation, path))

    for path in wanted:
        before = None if kinds[path] == "new" else line(sides[0], path)
        after = None if kinds[path] == "removed" else line(sides[1], path)
        names = path_of(path)
        yield ComparedLine(name=show(names), path=names, change=kinds[path], before=before, after=after)
