"""Two runs side by side. Lines are made of what a page shows alone.

All attributes of both are compared by path and derivation, on each database in the way that was measured to be the
cheapest. What failed on one side only is few as a rule, so that it is looked up on the other by index.
"""

from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, CompoundSelect, Connection, exists, func, literal, select, union_all
from sqlalchemy.sql.functions import FunctionElement

from nixmill.core.access import Sight
from nixmill.core.outcome import Outcome
from nixmill.core.view.pages import ComparedLine
from nixmill.core.view.parts import AttributeLine
from nixmill.edge.database.engine import as_table
from nixmill.edge.database.pages_attributes import lines_by_key
from nixmill.edge.database.pages_rank import FAILED_RANKS
from nixmill.edge.database.pages_tally import Place
from nixmill.edge.database.rows import path_of
from nixmill.edge.database.tables import attribute, evaluation_error, outcome
from nixmill.nix.attr_path import show

KINDS: Final = ("newly failing", "fixed", "changed", "new", "removed")
"""In the order of the page; `same` is only counted."""
_BETWEEN: Final = " "
"""Between path and derivation; no derivation has one."""
_LINE: Final = "\n"

Sides = tuple[Place, Place]


class Unlike(NamedTuple):
    """What is not alike on both sides, in derivation or at all, by stored path."""

    was: set[str]
    now: set[str]
    alike: int


class Comparison:
    """How the attributes of a run differ from those of another."""

    def __init__(self, connection: Connection, before: Place, after: Place) -> None:
        """Read both."""
        unlike = _joined if connection.dialect.name == "postgresql" else _subtracted
        was, now, alike = unlike(connection, before, after)
        here = {"new": now - was, "removed": was - now}
        alone = here["new"] | here["removed"]
        failed = _failed(connection, before) - alone, _failed(connection, after) - alone
        here["newly failing"] = _good(connection, before, failed[1] - failed[0])
        here["fixed"] = _good(connection, after, failed[0] - failed[1])
        flipped = here["newly failing"] | here["fixed"]
        here["changed"] = (was & now) - flipped
        self._paths = here
        self.counts = {kind: len(here[kind]) for kind in KINDS} | {"same": alike - len(flipped - now)}
        """By kind, and how many are the `same`."""
        self.total = sum(map(len, here.values()))
        """How many differ."""

    def piece(self, start: int, end: int) -> dict[str, str]:
        """Return kinds by stored path from the first to before the last of what differs, in the order of the page."""
        found: dict[str, str] = {}
        before = 0
        for kind in KINDS:
            size = self.counts[kind]
            low, high = max(start - before, 0), min(end - before, size)
            if low < high:
                found |= dict.fromkeys(sorted(self._paths[kind])[low:high], kind)
            before += size
        return found


def compared(connection: Connection, sight: Sight, sides: Sides, kinds: dict[str, str]) -> Iterable[ComparedLine]:
    """Return attributes, kinds by stored path, as they are in both runs."""
    keys = [(at.run, at.evaluation, path) for at in dict.fromkeys(sides) for path in kinds]
    found, _ = lines_by_key(connection, sight, keys, {at.run for at in sides if not at.done})

    def line(at: Place, path: str) -> AttributeLine | None:
        return found.get((at.run, at.evaluation, path))

    for path, kind in kinds.items():
        before = None if kind == "new" else line(sides[0], path)
        after = None if kind == "removed" else line(sides[1], path)
        names = path_of(path)
        yield ComparedLine(name=show(names), path=names, change=kind, before=before, after=after)


def _joined(connection: Connection, before: Place, after: Place) -> Unlike:
    """Compare by a full join, of which PostgreSQL makes one pass over each side; SQLite would go to and fro."""
    old, new = _all(before).subquery("old"), _all(after).subquery("new")
    same = (old.c.path == new.c.path) & (old.c.drv_path == new.c.drv_path)
    gone, come = _text(old.c.path).filter(new.c.path.is_(None)), _text(new.c.path).filter(old.c.path.is_(None))
    query = select(gone, come, func.count(new.c.path)).select_from(old.join(new, same, full=True))
    was, now, everything = connection.execute(query).one()
    return Unlike(set(_lines(was)), set(_lines(now)), everything - len(_lines(now)))


def _all(at: Place) -> CompoundSelect[Any, Any, Any]:
    """Return the question for path and derivation; what did not evaluate has none."""
    a, e = attribute.c, evaluation_error.c
    known = select(a.path, a.drv_path).where(a.evaluation == at.evaluation)
    return union_all(known, select(e.path, literal("").label("drv_path")).where(e.evaluation == at.evaluation))


def _subtracted(connection: Connection, before: Place, after: Place) -> Unlike:
    """Compare as sets of texts."""
    old, new = _texts(connection, before), _texts(connection, after)
    gone, come = old - new, new - old
    return Unlike(_paths(gone), _paths(come), len(new) - len(come))


def _texts(connection: Connection, at: Place) -> set[str]:
    """Return path and derivation of everything that an evaluation has; what did not evaluate has no derivation."""
    a, e = attribute.c, evaluation_error.c
    known = select(_text(a.path + _BETWEEN + a.drv_path)).where(a.evaluation == at.evaluation)
    erred = connection.execute(select(e.path + _BETWEEN).where(e.evaluation == at.evaluation)).scalars()
    return {*_lines(connection.execute(known).scalar()), *erred}


def _text(column: ColumnElement[str]) -> FunctionElement[str]:
    """Return all rows joined in one text, which `_lines` takes apart: rows of their own would cost three times as much.

    Paths are stored as JSON, so that none has a line feed in it.
    """
    return func.aggregate_strings(column, _LINE)


def _lines(text: str | None) -> list[str]:
    return text.split(_LINE) if text else []


def _paths(texts: Iterable[str]) -> set[str]:
    return {text.rpartition(_BETWEEN)[0] for text in texts}


def _failed(connection: Connection, at: Place) -> set[str]:
    o, e = outcome.c, evaluation_error.c
    here = (o.evaluation == at.evaluation, o.run == at.run, o.rank.in_(FAILED_RANKS))
    erred = select(e.path).where(e.evaluation == at.evaluation)
    return set(connection.execute(union_all(select(o.path).where(*here), erred)).scalars())


def _good(connection: Connection, at: Place, paths: Collection[str]) -> set[str]:
    """Return those paths that a run built; each is looked up (of a join, SQLite would read all outcomes instead)."""
    if not paths:
        return set()
    of, want = outcome.c, as_table(connection, paths)
    here = (of.evaluation == at.evaluation, of.run == at.run, of.path == want.c.value)
    built = select(of.path).where(*here, of.outcome == Outcome.SUCCEEDED.value)
    return set(connection.execute(select(want.c.value).where(exists(built))).scalars())
