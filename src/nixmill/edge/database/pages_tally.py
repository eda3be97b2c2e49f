"""How many attributes of a run have which rank, and which of them are in a piece of the table.

Everything is answered by the indices over (evaluation, run, rank, path) and (evaluation, path): the cost of a page is
that of its own rows and of counting, however many attributes there are.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, literal, select, union_all

from nixmill.core.run_event import Change
from nixmill.core.view.parts import FILTERS, Filter
from nixmill.edge.database.pages_rank import (
    LEFT_RANK,
    REMOVED_RANK,
    RUNNING_RANK,
    Group,
    change_of,
    group_of,
    make,
    place,
    shows,
)
from nixmill.edge.database.pages_wanted import named
from nixmill.edge.database.tables import attribute, evaluation, evaluation_error, outcome, run, run_evaluation
from nixmill.edge.database.tables_server import difference


class Place(NamedTuple):
    """Where the facts of a run are."""

    run: int
    evaluation: int
    """Id; 0 where there is none yet."""
    done: bool


Tally = Mapping[int, int]
"""Attributes by rank."""

_Question = Callable[[Connection, Place, str], Select[Any]]


def places(connection: Connection, numbers: Collection[int]) -> list[Place]:
    """Return where the facts of runs are: under the evaluation they name, else the one their outcomes are under."""
    of, links = run.c, run_evaluation.c
    linked = select(func.max(links.evaluation)).where(links.run == of.number).scalar_subquery()
    named_one = (evaluation.c.key == of.evaluation) & (of.evaluation != "")
    query = select(of.number, func.coalesce(evaluation.c.id, linked, 0), of.ended_at.is_not(None))
    joined = query.select_from(run.outerjoin(evaluation, named_one)).where(of.number.in_(sorted(numbers)))
    return [Place(*row) for row in connection.execute(joined)]


def tally(connection: Connection, at: Place) -> Tally:
    """Return how many attributes of a run have which rank."""
    return tallies(connection, [at])[at.run]


def tally_found(connection: Connection, at: Place, find: str, everything: Tally) -> Tally:
    """Return the same of those whose name has a text; `everything` is the tally of the run."""
    return tallies(connection, [at], find, settled=not everything.keys() & {LEFT_RANK, RUNNING_RANK})[at.run]


def tallies(
    connection: Connection, at: Collection[Place], find: str = "", *, settled: bool = False
) -> dict[int, Tally]:
    """Return the same of several runs, by number, in four questions; `settled` says that all have outcomes."""
    counts: dict[int, Counter[int]] = {each.run: Counter() for each in at}
    known: dict[int, int] = {}
    if at:
        for number, rank, amount in _all(connection, at, find, _outcomes):
            counts[number][rank] += amount
        for number, change, amount in _all(connection, at, find, _errors):
            counts[number][make(Group.ERROR, Change(change or Change.UNKNOWN))] += amount
        known = {} if settled else {row[0]: row[1] for row in _all(connection, at, find, _attributes)}
    for each in at:
        mine = counts[each.run]
        mine[LEFT_RANK if each.done else RUNNING_RANK] += max(0, known.get(each.run, 0) - _ended(mine))
    if at:
        for number, amount in _all(connection, at, find, _removed):
            counts[number][REMOVED_RANK] += amount
    return {number: +each for number, each in counts.items()}


def _all(connection: Connection, at: Collection[Place], find: str, question: _Question) -> Sequence[Any]:
    """Return the answers for all places; each has its numbers in it, so that statistics of columns are of use."""
    queries = [question(connection, each, find) for each in at]
    return connection.execute(union_all(*queries) if len(queries) > 1 else queries[0]).all()


def _found(connection: Connection, query: Select[Any], path: ColumnElement[str], find: str) -> Select[Any]:
    return query.where(named(connection, path, find)) if find else query


def _select(*columns: Any) -> Select[Any]:  # noqa: ANN401 - columns of any type
    return select(*columns)


def _ended(counts: Tally) -> int:
    return sum(number for rank, number in counts.items() if group_of(rank) is not Group.ERROR)


def _outcomes(connection: Connection, at: Place, find: str) -> Select[Any]:
    of = outcome.c
    query = _select(literal(at.run), of.rank, func.count()).where(of.evaluation == at.evaluation, of.run == at.run)
    return _found(connection, query.group_by(of.rank), of.path, find)


def _removed(connection: Connection, at: Place, find: str) -> Select[Any]:
    query = _select(literal(at.run), func.count()).where(_is_removed(at.run))
    return _found(connection, query, difference.c.path, find)


def _is_removed(number: int) -> ColumnElement[bool]:
    """Say what counts as removed; what an evaluation error hides is failing instead."""
    of = difference.c
    return and_(of.run == number, of.change == Change.REMOVED.value, of.hidden_by.is_(None))


def _attributes(connection: Connection, at: Place, find: str) -> Select[Any]:
    """Count attributes; without `find` from the last position alone, since positions begin at 0."""
    of = attribute.c
    amount = func.count() if find else func.coalesce(func.max(of.position) + 1, 0)
    query = _select(literal(at.run), amount).where(of.evaluation == at.evaluation)
    return _found(connection, query, of.path, find)


def _errors(connection: Connection, at: Place, find: str) -> Select[Any]:
    change = difference.c.change
    query = _error_rows(at, literal(at.run), change, func.count()).group_by(change)
    return _found(connection, query, evaluation_error.c.path, find)


def _error_rows(at: Place, *columns: Any) -> Select[Any]:  # noqa: ANN401 - columns of any type
    of = evaluation_error.c
    stands = (difference.c.run == at.run) & (difference.c.path == of.path)
    joined = evaluation_error.outerjoin(difference, stands)
    return select(*columns).select_from(joined).where(of.evaluation == at.evaluation)


def counts_of(counts: Tally) -> dict[str, int]:
    """Return counts by filter; none where nothing is known."""
    if not counts:
        return {}
    return {each.value: sum(n for rank, n in counts.items() if shows(each, rank)) for each in FILTERS}


def counted(connection: Connection, number: int) -> dict[str, int]:
    """Return the counts of a run as they are now: what `nm_run.counts` keeps once it is done."""
    found = places(connection, [number])
    return counts_of(tally(connection, found[0])) if found else {}


def piece(
    connection: Connection, at: Place, counts: Tally, filter_: Filter, find: str, window: tuple[int, int]
) -> list[str]:
    """Return the stored paths that a filter shows from the first to before the last of `window`, in their order."""
    paths: list[str] = []
    start, end = window
    before = 0
    for rank in sorted(counts, key=place):
        if not shows(filter_, rank):
            continue
        size = counts[rank]
        low, high = max(start - before, 0), min(end - before, size)
        if low < high:
            query = _paths(connection, at, rank, find).offset(low).limit(high - low)
            paths += connection.execute(query).scalars()
        before += size
    return paths


def _paths(connection: Connection, at: Place, rank: int, find: str) -> Select[Any]:
    """Return the question for the paths of a rank, in their order."""
    match group_of(rank):
        case Group.ERROR:
            path = evaluation_error.c.path
            stored = difference.c.change
            change = change_of(rank)
            stands = stored == change.value
            query = _error_rows(at, path).where(stands | stored.is_(None) if change is Change.UNKNOWN else stands)
        case Group.REMOVED:
            path = difference.c.path
            query = select(path).where(_is_removed(at.run))
        case Group.RUNNING | Group.LEFT:
            path = attribute.c.path
            query = select(path).where(attribute.c.evaluation == at.evaluation, ~_has_outcome(at))
        case _:
            of = outcome.c
            path = of.path
            query = select(path).where(of.evaluation == at.evaluation, of.run == at.run, of.rank == rank)
    query = query.order_by(path)
    return query.where(named(connection, path, find)) if find else query


def _has_outcome(at: Place) -> ColumnElement[bool]:
    of = outcome.c
    same = (of.evaluation == at.evaluation, of.run == at.run, of.path == attribute.c.path)
    return exists(select(of.path).where(*same))


def ranked(connection: Connection, at: Place, ranks: Collection[int]) -> list[str]:
    """Return the stored paths of these ranks, in the order of a page."""
    of = outcome.c
    here = (of.evaluation == at.evaluation, of.run == at.run, of.rank.in_(sorted(ranks)))
    query = select(of.path).where(*here).order_by(of.rank, of.path)
    return list(connection.execute(query).scalars())
