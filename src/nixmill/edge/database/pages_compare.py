"""Two runs side by side. What is the same in both is left to the database; only what differs is brought here."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from sqlalchemy import Connection, Subquery, func, literal, null, select, union_all

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


def _side(at: Place, name: str) -> Subquery:
    """Return path, derivation and outcome of everything in a run, as a table."""
    a, o, e = attribute.c, outcome.c, evaluation_error.c
    same = (o.evaluation == at.evaluation) & (o.run == at.run) & (o.path == a.path)
    known = select(a.path, a.drv_path, o.outcome).select_from(attribute.outerjoin(outcome, same))
    erred = select(e.path, null().label("drv_path"), literal(_ERROR).label("outcome"))
    return union_all(known.where(a.evaluation == at.evaluation), erred.where(e.evaluation == at.evaluation)).subquery(
        name
    )


def _differing(connection: Connection, before: Place, after: Place) -> tuple[Differing, int]:
    """Return what is not alike in both, and how much is."""
    old, new = _side(before, "old"), _side(after, "new")
    o, n = old.c, new.c
    unlike = o.drv_path.is_distinct_from(n.drv_path) | o.outcome.is_distinct_from(n.outcome)
    query = select(n.path, n.drv_path, n.outcome, o.path, o.drv_path, o.outcome)
    here = query.select_from(new.outerjoin(old, o.path == n.path)).where(o.path.is_(None) | unlike)
    gone = select(o.path, o.drv_path, o.outcome).select_from(old.outerjoin(new, o.path == n.path))
    differing: Differing = {
        path: (None if was is None else State(was_drv, was_so), State(drv_path, so))
        for path, drv_path, so, was, was_drv, was_so in connection.execute(here)
    }
    alike = connection.execute(select(func.count()).select_from(new)).scalar_one() - len(differing)
    for path, drv_path, so in connection.execute(gone.where(n.path.is_(None))):
        differing[path] = (State(drv_path, so), None)
    return differing, int(alike)


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
