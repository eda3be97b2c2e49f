"""Everything from which the roots that should stand follow, in SQL (`nixmill.core.roots.wanted`).

It is asked for whenever roots are reconciled and may be about a hundred thousand pins, so rows are read raw, and what
can no longer change is remembered: the paths of a complete evaluation, and those of a run that has ended.
"""

import sys
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, func, select

from nixmill.core.change import ChangeState
from nixmill.core.outcome import Outcome
from nixmill.core.pull_request import PullState
from nixmill.core.roots import DAY_S, KeptPin, KeptRun, RootFacts, RootRules, kept_runs
from nixmill.core.upload import UploadState
from nixmill.edge.database import tables
from nixmill.edge.database.engine import as_table
from nixmill.edge.database.retention import numbers
from nixmill.edge.database.tables_forge import pull_request
from nixmill.edge.database.tables_roots import hand_pin, pin, realisation, upload
from nixmill.nix.store_path import StorePath

_UNDER_WAY: Final = (UploadState.WAITING.value, UploadState.REBUILDING.value)
_NOTHING_YET: Final = ("", ChangeState.HELD.value, ChangeState.DONE.value)

Paths = tuple[StorePath, ...]


class _Details(msgspec.Struct):
    """What of an attribute's details names paths."""

    outputs: dict[str, StorePath | None] = {}


_many_outputs: Final = msgspec.json.Decoder(list[dict[str, StorePath]])
_many_details: Final = msgspec.json.Decoder(list[_Details])


class FactReader:
    """Reads facts, and remembers what stays."""

    def __init__(self, rules: RootRules, served: Collection[str]) -> None:
        """Know how long what is kept, and the names of the caches that serve straight from the store."""
        self._rules = rules
        self._served = sorted(served)
        self._whole: dict[int, Paths] = {}
        """By complete evaluation: derivations and outputs of all attributes."""
        self._ended: dict[int, Paths] = {}
        """By ended run: all derivations, and the outputs that are good."""

    def read(self, connection: Connection, now: float) -> RootFacts:
        """Return the facts; in one transaction, so that they go together."""
        return RootFacts(
            pins=_pins(connection),
            hand=[(path, until) for path, until in connection.execute(_hand(now))],
            runs=[*self._open_runs(connection), *self._pull_runs(connection, now)],
            uploads=_uploads(connection),
            served=list(connection.execute(_done(self._served)).scalars()) if self._served else (),
        )

    def _open_runs(self, connection: Connection) -> list[KeptRun]:
        evaluations = _evaluations_of_open_runs(connection)
        known = {number for _, number, _ in evaluations}
        whole: dict[int, Paths] = {}
        for _, number, complete in evaluations:
            if complete and number not in whole:
                whole[number] = self._whole.get(number) or _evaluation_paths(connection, number)
        self._whole = {number: paths for number, paths in whole.items() if number in known}
        found = []
        for run, number, complete in evaluations:
            paths = whole[number] if complete else _evaluation_paths(connection, number)
            found.append(KeptRun(number=run, paths=paths, done=False))
        return found

    def _pull_runs(self, connection: Connection, now: float) -> list[KeptRun]:
        kept = kept_runs(_ended_pull_runs(connection, self._rules, now), self._rules, now)
        ended = {run.number: self._ended.get(run.number) or _run_paths(connection, run.number) for run in kept}
        self._ended = ended
        return [msgspec.structs.replace(run, paths=ended[run.number]) for run in kept]


def _pins(connection: Connection) -> list[KeptPin]:
    of = pin.c
    result = connection.execute(select(of.outputs, of.gone_at, of.held))
    # As the driver gives them: rows of SQLAlchemy would cost as much as all the rest.
    rows = result.cursor.fetchall() if result.cursor is not None else []
    outputs = _many_outputs.decode(_array(row[0] for row in rows))
    return [KeptPin(tuple(paths.values()), row[1], row[2]) for paths, row in zip(outputs, rows, strict=True)]


def _array(texts: Iterable[str]) -> str:
    """Return one JSON list of many texts: decoded at once, it costs a fraction."""
    return "[" + ",".join(texts) + "]"


def _hand(now: float) -> Select[Any]:
    of = hand_pin.c
    return select(of.store_path, of.until).where(of.until.is_(None) | (of.until > now))


def _uploads(connection: Connection) -> dict[str, list[StorePath]]:
    of = upload.c
    found: dict[str, list[StorePath]] = {}
    for cache, path in connection.execute(select(of.cache, of.path).where(of.state.in_(_UNDER_WAY))):
        found.setdefault(cache, []).append(path)
    return found


def _done(caches: Sequence[str]) -> Select[Any]:
    of = upload.c
    return select(of.path).where(of.cache.in_(caches), of.state == UploadState.DONE.value)


def _evaluations_of_open_runs(connection: Connection) -> list[tuple[int, int, bool]]:
    """Return runs that go on with their evaluations, and whether these are complete; one may have several."""
    run, links, of = tables.run.c, tables.run_evaluation.c, tables.evaluation.c
    goes_on = run.ended_at.is_(None) & run.state.not_in(_NOTHING_YET)
    linked = (
        select(run.number, of.id, of.complete)
        .join_from(tables.run, tables.run_evaluation, links.run == run.number)
        .join(tables.evaluation, of.id == links.evaluation)
    )
    # One that is used again is linked only once something was found out under it.
    named = select(run.number, of.id, of.complete).join_from(tables.run, tables.evaluation, of.key == run.evaluation)
    rows = connection.execute(linked.where(goes_on).union(named.where(goes_on, run.evaluation != "")))
    return [(int(number), int(evaluation), bool(complete)) for number, evaluation, complete in rows]


def _ended_pull_runs(connection: Connection, rules: RootRules, now: float) -> list[KeptRun]:
    """Return the ended runs of pull requests that are open, or were until recently; without their paths."""
    run = tables.run.c
    found = []
    for project, pulls in _pulls(connection, rules, now).items():
        mine = (run.project_id == project) & run.pull_request.in_(numbers(connection, pulls))
        late = run.ended_at > now - rules.pull_request_open_days * DAY_S
        query = select(run.number, run.ended_at, run.pull_request).where(
            mine, late, run.state == ChangeState.DONE.value
        )
        found += [
            KeptRun(number=n, paths=(), done=True, ended_at=at, pull_request=(project, pull), closed_at=pulls[pull])
            for n, at, pull in connection.execute(query)
        ]
    return found


def _pulls(connection: Connection, rules: RootRules, now: float) -> dict[int, dict[int, float | None]]:
    """Return, by project, the pull requests that are open (None), or since when they are not."""
    of = pull_request.c
    last = func.coalesce(func.nullif(of.updated_at, 0.0), of.seen_at)
    is_open = of.state == PullState.OPEN.value
    query = select(of.project, of.number, is_open, last).where(is_open | (last > now - rules.pull_request_days * DAY_S))
    found: dict[int, dict[int, float | None]] = {}
    for project, number, still_open, at in connection.execute(query):
        found.setdefault(project, {})[number] = None if still_open else at
    return found


def _evaluation_paths(connection: Connection, evaluation: int) -> Paths:
    of = tables.attribute.c
    rows = connection.execute(select(of.drv_path, of.details).where(of.evaluation == evaluation)).all()
    return _paths((row[0] for row in rows), [row[1] for row in rows])


def _run_paths(connection: Connection, run: int) -> Paths:
    """Return what is kept of an ended run: all its derivations, and the outputs of attributes that came out good."""
    links, of, out = tables.run_evaluation.c, tables.attribute.c, tables.outcome.c
    found = (out.evaluation == of.evaluation) & (out.run == links.run) & (out.path == of.path)
    query = (
        select(of.drv_path, of.details, out.outcome)
        .join_from(tables.run_evaluation, tables.attribute, of.evaluation == links.evaluation)
        .outerjoin(tables.outcome, found)
        .where(links.run == run)
    )
    rows = connection.execute(query).all()
    good = [row for row in rows if row[2] == Outcome.SUCCEEDED.value]
    realised = _realised(connection, {row[0] for row in good})
    return _paths([*(row[0] for row in rows), *realised], [row[1] for row in good])


def _realised(connection: Connection, drv_paths: Collection[str]) -> list[str]:
    """Return the outputs whose paths no evaluation tells."""
    of = realisation.c
    mine = of.drv_path.in_(select(as_table(connection, drv_paths).c.value))
    return list(connection.execute(select(of.path).where(mine, of.path != "")).scalars())


def _paths(drv_paths: Iterable[str], details: Sequence[str]) -> Paths:
    """Return paths without repetition. Runs of a project share most of them, so each is kept in memory once."""
    outputs = (path for one in _many_details.decode(_array(details)) for path in one.outputs.values() if path)
    return tuple(StorePath(sys.intern(path)) for path in dict.fromkeys([*drv_paths, *outputs]))
