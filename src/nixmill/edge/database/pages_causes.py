"""Root causes of a run, above their victims: which derivations are at fault, and what each of them took along."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import CTE, ColumnElement, Connection, Row, Select, case, func, select

from nixmill.core.access import Sight
from nixmill.core.outcome import MEANING, Outcome
from nixmill.core.view.parts import Cause
from nixmill.edge.database.pages_attributes import newest_attempts
from nixmill.edge.database.pages_rank import FAILED_RANKS, NEWLY_FAILING_RANKS, TROUBLE_RANKS
from nixmill.edge.database.pages_tally import Place, Tally
from nixmill.edge.database.rows import outcome_of, path_of
from nixmill.edge.database.tables import attempt, outcome, run
from nixmill.edge.database.tables_server import failure
from nixmill.nix.attr_path import show
from nixmill.nix.store_path import StorePath, derivation_name

CAUSES_MAX: Final = 20
NAMES_MAX: Final = 5
_SAYS_NOTHING: Final = (Outcome.SUCCEEDED.value, Outcome.CANCELLED.value)
_FAULTS: Final = tuple(each.value for each, meaning in MEANING.items() if meaning.propagates)

_ranked: Final = outcome.alias("ranked")
_culprit: Final[ColumnElement[str]] = func.coalesce(outcome.c.culprit, outcome.c.drv_path)


class _Attempt(NamedTuple):
    """What a log's attempt says of a cause."""

    number: int
    outcome: str | None
    message: str


def causes(
    connection: Connection, sight: Sight, at: Place, project_id: int, counts: Tally
) -> tuple[tuple[Cause, ...], int]:
    """Return at most `CAUSES_MAX` derivations at fault, those with new victims first, and how many there are."""
    ranks = sorted(counts.keys() & {*FAILED_RANKS, *TROUBLE_RANKS})
    rows = connection.execute(_groups(at, ranks)).all() if ranks else []
    if not rows:
        return (), 0
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row.culprit, []).append(show(path_of(row.path)))
    paths = list(names)
    attempts = _attempts(connection, sight, at.run, paths)
    messages = _remembered(connection, project_id, paths)
    first = _first_failed(connection, project_id, at.run, paths)
    groups = {row.culprit: row for row in rows}.values()
    made = (_cause(row, names, attempts.get(row.culprit), messages, first) for row in groups)
    return tuple(made), int(rows[0].total)


def _at_fault(at: Place, ranks: Sequence[int], *columns: Any) -> Select[Any]:  # noqa: ANN401 - columns of any type
    """Return the question for what failed by itself or by another; what was cancelled has no cause here.

    The index over ranks is asked first, by a name of its own: SQLite would read all outcomes of the run instead.
    """
    of, by = outcome.c, _ranked.c
    same = (of.evaluation == by.evaluation) & (of.run == by.run) & (of.path == by.path)
    here = (by.evaluation == at.evaluation, by.run == at.run, by.rank.in_(ranks))
    query = select(*columns).select_from(_ranked.join(outcome, same))
    return query.where(*here, of.outcome != Outcome.CANCELLED.value)


def _groups(at: Place, ranks: Sequence[int]) -> Select[Any]:
    """Return the question for culprits, those with new victims first: a row for each of their first few victims.

    What failed is read once; it may be much.
    """
    of = outcome.c
    own = case((of.culprit.is_(None), of.outcome)).label("own")
    failed = _at_fault(at, ranks, _culprit.label("culprit"), of.path, of.rank, own).cte("failed")
    failed = failed.prefix_with("MATERIALIZED")
    groups = _counted(failed).cte("groups").prefix_with("MATERIALIZED")
    place = func.row_number().over(partition_by=failed.c.culprit, order_by=(failed.c.rank, failed.c.path))
    shown = failed.c.culprit.in_(select(groups.c.culprit))
    named = select(failed.c.culprit, failed.c.path, place.label("place")).where(shown).subquery("named")
    joined = groups.join(named, named.c.culprit == groups.c.culprit)
    query = select(groups, named.c.path).select_from(joined).where(named.c.place <= NAMES_MAX)
    return query.order_by(groups.c.new.desc(), groups.c.victims.desc(), groups.c.culprit, named.c.place)


def _counted(failed: CTE) -> Select[Any]:
    """Return the question for the first culprits, and how many there are."""
    of = failed.c
    new = func.max(case((of.rank.in_(NEWLY_FAILING_RANKS), 1), else_=0))
    victims = func.count()
    columns = (victims.label("victims"), new.label("new"), func.max(of.own).label("own"))
    grouped = select(of.culprit, *columns, func.count().over().label("total")).group_by(of.culprit)
    return grouped.order_by(new.desc(), victims.desc(), of.culprit).limit(CAUSES_MAX)


def _attempts(connection: Connection, sight: Sight, number: int, drv_paths: Iterable[str]) -> dict[str, _Attempt]:
    tried = newest_attempts(connection, sight, {(number, drv_path) for drv_path in drv_paths})
    of = attempt.c
    query = select(of.drv_path, of.number, of.outcome, of.message).where(
        of.number.in_([t.number for t in tried.values()])
    )
    return {row.drv_path: _Attempt(row.number, row.outcome, row.message) for row in connection.execute(query)}


def _remembered(connection: Connection, project_id: int, drv_paths: Collection[str]) -> dict[str, str]:
    of = failure.c
    query = select(of.drv_path, of.message).where(of.project == project_id, of.drv_path.in_(list(drv_paths)))
    return {row.drv_path: row.message for row in connection.execute(query)}


def _first_failed(connection: Connection, project_id: int, number: int, drv_paths: Sequence[str]) -> dict[str, int]:
    """Return the first run of the project in which each of them failed, where it was before this one."""
    of = attempt.c
    query = (
        select(of.drv_path, func.min(of.run).label("first"))
        .join(run, run.c.number == of.run)
        # Adding 0 keeps SQLite from going through all attempts of the project's runs instead of these derivations'.
        .where(run.c.project_id + 0 == project_id, of.drv_path.in_(drv_paths), of.run + 0 < number)
        .where(of.outcome.in_(_FAULTS))
        .group_by(of.drv_path)
    )
    return {row.drv_path: row.first for row in connection.execute(query)}


def _cause(
    row: Row[Any],
    names: Mapping[str, Sequence[str]],
    tried: _Attempt | None,
    messages: Mapping[str, str],
    first: Mapping[str, int],
) -> Cause:
    drv_path = StorePath(row.culprit)
    told = tried.outcome if tried is not None and tried.outcome not in _SAYS_NOTHING else None
    return Cause(
        drv_path=drv_path,
        name=derivation_name(drv_path),
        outcome=outcome_of(row.own or told or Outcome.BUILD_FAILED.value),
        message=(tried.message if tried is not None else "") or messages.get(row.culprit, ""),
        attempt=None if tried is None else tried.number,
        victims=row.victims,
        new=bool(row.new),
        attributes=tuple(names.get(row.culprit, ())),
        first_failed=first.get(row.culprit),
    )
