"""Attributes in runs as the lines that pages show, whichever runs and however many, in a fixed number of questions."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, select

from nixmill.core.access import Sight
from nixmill.core.estimate import stem
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change
from nixmill.core.status import Status, of_outcome
from nixmill.core.view.parts import AttributeLine
from nixmill.edge.database import reading
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.pages_tally import Place
from nixmill.edge.database.pages_wanted import Key, first_at, wanted
from nixmill.edge.database.rows import error_of, outcome_of, path_of
from nixmill.edge.database.tables import attempt, attribute, evaluation_error, outcome, run
from nixmill.edge.database.tables_server import difference, project
from nixmill.nix.attr_path import show
from nixmill.nix.store_path import StorePath

_CHANGES: Final = {change.value: change for change in Change}
_FIRST_LINE_MAX: Final = 300


class Tried(NamedTuple):
    """The attempt that explains an attribute."""

    number: int
    output_bytes: int


class Known(NamedTuple):
    """What else lines are made of."""

    attempts: Mapping[tuple[int, str], Tried]
    """By run and derivation: the newest attempt in that run or before."""
    running: frozenset[tuple[int, str]]
    """Runs and derivations that are being worked on."""
    about_s: Mapping[str, float]
    """Median seconds by stem."""


def lines(connection: Connection, sight: Sight, at: Place, paths: Collection[str]) -> list[AttributeLine]:
    """Return attributes of a run in the order of their stored paths given; those that it has not are left out."""
    keys = [(at.run, at.evaluation, path) for path in paths]
    found, _ = lines_by_key(connection, sight, keys, frozenset() if at.done else frozenset({at.run}))
    return [found[key] for key in keys if key in found]


def lines_by_key(
    connection: Connection, sight: Sight, keys: Collection[Key], going: Collection[int]
) -> tuple[dict[Key, AttributeLine], dict[Key, int]]:
    """Return attributes of any runs, and the bytes of outputs where they are known; `going` are runs not ended."""
    rows = connection.execute(_query(connection, keys)).all() if keys else []
    known = _known(connection, sight, rows, going)
    found = {(row.run, row.evaluation, row.text): row for row in rows if _is_there(row)}
    sizes = {key: _size(row, known) for key, row in found.items()}
    return (
        {key: _line(row, known, ended=row.run not in going) for key, row in found.items()},
        {key: size for key, size in sizes.items() if size},
    )


def _query(connection: Connection, keys: Collection[Key]) -> Any:  # noqa: ANN401 - a row of many columns
    want = wanted(connection, keys)
    a, o, e, d = attribute.c, outcome.c, evaluation_error.c, difference.c
    joined = (
        want.outerjoin(attribute, first_at(attribute, want.c.evaluation, want.c.text))
        .outerjoin(outcome, (o.evaluation == want.c.evaluation) & (o.run == want.c.run) & (o.path == want.c.text))
        .outerjoin(evaluation_error, first_at(evaluation_error, want.c.evaluation, want.c.text))
        .outerjoin(difference, (d.run == want.c.run) & (d.path == want.c.text))
    )
    return select(
        want.c.run,
        want.c.evaluation,
        want.c.text,
        a.system,
        a.drv_path.label("own_drv"),
        o.drv_path.label("outcome_drv"),
        o.outcome,
        o.change,
        o.how,
        o.culprit,
        o.seconds,
        e.fault,
        e.details.label("error_details"),
        d.change.label("stands"),
        d.renamed_to,
    ).select_from(joined)


def _is_there(row: Row[Any]) -> bool:
    """Say whether the run has the attribute in any way, be it as removed."""
    return any(part is not None for part in (row.own_drv, row.outcome, row.fault, row.stands))


def _known(connection: Connection, sight: Sight, rows: Iterable[Row[Any]], going: Collection[int]) -> Known:
    ended = {(row.run, _explaining(row)) for row in rows if row.outcome is not None}
    waiting = [row for row in rows if row.outcome is None and row.own_drv and row.run in going]
    names = {_stem(row.own_drv) for row in waiting}
    running = _running(connection, going) if waiting else frozenset()
    pairs = ended | {(row.run, row.own_drv) for row in waiting if (row.run, row.own_drv) in running}
    return Known(
        attempts=newest_attempts(connection, sight, pairs),
        running=running,
        about_s=reading.medians(connection, names) if names else {},
    )


def _stem(drv_path: str) -> str:
    return stem(drv_path.rpartition("/")[2][33:].removesuffix(".drv"))


def _explaining(row: Row[Any]) -> str:
    return str(row.culprit or row.outcome_drv)


def newest_attempts(
    connection: Connection, sight: Sight, pairs: Collection[tuple[int, str]]
) -> dict[tuple[int, str], Tried]:
    """Return, by run and derivation, the newest attempt in that run or before; only from runs that may be seen."""
    if not pairs:
        return {}
    want = wanted(connection, [(number, 0, drv_path) for number, drv_path in pairs])
    of = attempt.c
    number = (
        select(of.number)
        .select_from(attempt.join(run, run.c.number == of.run).join(project, project.c.id == run.c.project_id))
        .where(of.drv_path == want.c.text, of.run <= want.c.run, visible(sight))
        .order_by(of.number.desc())
        .limit(1)
        .correlate(want)
        .scalar_subquery()
    )
    best = select(want.c.run, want.c.text, number.label("number")).subquery("best")
    query = select(best.c.run, best.c.text, of.number, of.output_bytes).join_from(
        best, attempt, of.number == best.c.number
    )
    return {(row[0], row[1]): Tried(row[2], row[3]) for row in connection.execute(query)}


def _running(connection: Connection, going: Collection[int]) -> frozenset[tuple[int, str]]:
    of = attempt.c
    query = select(of.run, of.drv_path).where(of.outcome.is_(None), of.run.in_(sorted(going)))
    return frozenset((number, drv_path) for number, drv_path in connection.execute(query))


def _size(row: Row[Any], known: Known) -> int:
    tried = known.attempts.get((row.run, row.outcome_drv))
    return tried.output_bytes if tried is not None else 0


def _line(row: Row[Any], known: Known, *, ended: bool) -> AttributeLine:
    if row.outcome is not None:
        return _settled(row, known)
    if row.own_drv is not None:
        return _unsettled(row, known, ended=ended)
    return _erred(row) if row.fault is not None else _removed(row)


def _settled(row: Row[Any], known: Known) -> AttributeLine:
    path = path_of(row.text)
    found: Outcome = outcome_of(row.outcome)
    tried = known.attempts.get((row.run, _explaining(row)))
    return AttributeLine(
        path=path,
        name=show(path),
        system=row.system or "",
        drv_path=StorePath(row.outcome_drv),
        status=of_outcome(found),
        outcome=found,
        change=_CHANGES.get(row.change, Change.UNKNOWN),
        how=row.how,
        seconds=row.seconds,
        attempt=None if tried is None else tried.number,
        culprit=None if row.culprit is None else StorePath(row.culprit),
    )


def _unsettled(row: Row[Any], known: Known, *, ended: bool) -> AttributeLine:
    path = path_of(row.text)
    key = (row.run, row.own_drv)
    tried = known.attempts.get(key)
    status = Status.CANCELLED if ended else Status.RUNNING if key in known.running else Status.WAITING
    return AttributeLine(
        path=path,
        name=show(path),
        system=row.system,
        drv_path=StorePath(row.own_drv),
        status=status,
        outcome=None,
        change=Change.UNKNOWN,
        how="",
        seconds=0.0,
        about_s=known.about_s.get(_stem(row.own_drv)),
        attempt=None if tried is None else tried.number,
    )


def _erred(row: Row[Any]) -> AttributeLine:
    error = error_of(row.text, row.fault, row.error_details)
    first = next(iter(error.message.strip().splitlines()), "") or error.fault.value
    return AttributeLine(
        path=error.path,
        name=show(error.path),
        system="",
        drv_path=None,
        status=Status.FAILED,
        outcome=None,
        change=_CHANGES.get(row.stands, Change.UNKNOWN),
        how=first[:_FIRST_LINE_MAX],
        seconds=0.0,
        error=f"{error.message}\nat {error.position}" if error.position else error.message,
    )


def _removed(row: Row[Any]) -> AttributeLine:
    path = path_of(row.text)
    new = None if row.renamed_to is None else path_of(row.renamed_to)
    return AttributeLine(
        path=path,
        name=show(path),
        system="",
        drv_path=None,
        status=Status.CANCELLED,
        outcome=None,
        change=_CHANGES.get(row.stands, Change.REMOVED),
        how=f"is now {show(new)}" if new is not None else "",
        seconds=0.0,
        renamed_to=new,
    )
