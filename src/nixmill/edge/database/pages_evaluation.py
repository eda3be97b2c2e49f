"""The page of an evaluation, and what else is asked of one run. Implements the door `RunPages`."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Row, Select, func, select

from nixmill.core.access import Sight
from nixmill.core.change import ChangeState
from nixmill.core.size_change import SizeChange
from nixmill.core.view.pages import ComparePage, EvaluationPage, TimelinePage
from nixmill.core.view.parts import AttemptLine, AttributeLine, Filter, Paging, RunLine
from nixmill.edge.database.database import Database
from nixmill.edge.database.pages_attributes import lines
from nixmill.edge.database.pages_causes import causes
from nixmill.edge.database.pages_compare import Comparison, compared
from nixmill.edge.database.pages_lines import attempt_lines, attempt_query, run_line, run_query, runs_by_number
from nixmill.edge.database.pages_rank import FAILED_RANKS, TROUBLE_RANKS, shows
from nixmill.edge.database.pages_tally import Place, Tally, counts_of, piece, places, ranked, tally, tally_found
from nixmill.edge.database.rows import path_text
from nixmill.edge.database.tables import attempt, evaluation, run, run_evaluation
from nixmill.nix.attr_path import AttrPath

RUNNING_MAX: Final = 50
"""Attempts under way that an evaluation's page shows."""
TIMELINE_MAX: Final = 2_000
_sizes: Final = msgspec.json.Decoder(tuple[SizeChange, ...])


class Head(NamedTuple):
    """A run and what else its row says."""

    line: RunLine
    row: Row[Any]
    place: Place


class SqlRunPages:
    """Implements `nixmill.doors.pages.RunPages`."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        """Read from `database`; `now` is what running builds are measured by."""
        self._database = database
        self._now = now

    async def evaluation(
        self, sight: Sight, number: int, filter_: Filter | None, find: str, page: int, size: int
    ) -> EvaluationPage | None:
        """See `RunPages`."""
        now = self._now()
        return await self._database.read(
            lambda connection: _evaluation(connection, sight, number, _Asked(filter_, find, page, size), now),
            action="show a run",
        )

    async def run(self, sight: Sight, number: int) -> RunLine | None:
        """See `RunPages`."""

        def look(connection: Connection) -> RunLine | None:
            found = head(connection, sight, number)
            return None if found is None else with_counts(connection, found)

        return await self._database.read(look, action="show a run")

    async def attribute_of(self, sight: Sight, number: int, path: AttrPath) -> tuple[RunLine, AttributeLine] | None:
        """See `RunPages`."""

        def look(connection: Connection) -> tuple[RunLine, AttributeLine] | None:
            found = head(connection, sight, number)
            made = () if found is None else lines(connection, sight, found.place, [path_text(path)])
            return None if found is None or not made else (found.line, made[0])

        return await self._database.read(look, action="show an attribute")

    async def compare(self, sight: Sight, before: int, after: int, page: int, size: int) -> ComparePage | None:
        """See `RunPages`."""

        def look(connection: Connection) -> ComparePage | None:
            old, new = head(connection, sight, before), head(connection, sight, after)
            if old is None or new is None:
                return None
            found = Comparison(connection, old.place, new.place)
            where = paging(found.total, page, size)
            rows = compared(connection, sight, (old.place, new.place), found.piece(*window(where)))
            return ComparePage(before=old.line, after=new.line, counts=found.counts, rows=tuple(rows), paging=where)

        return await self._database.read(look, action="compare two runs")

    async def timeline(self, sight: Sight, number: int) -> TimelinePage | None:
        """See `RunPages`."""
        now = self._now()
        return await self._database.read(
            lambda connection: _timeline(connection, sight, number, now), action="show a timeline"
        )

    async def failing(self, sight: Sight, number: int) -> Sequence[AttributeLine]:
        """See `RunPages`."""

        def look(connection: Connection) -> Sequence[AttributeLine]:
            found = head(connection, sight, number)
            if found is None:
                return ()
            paths = ranked(connection, found.place, (*FAILED_RANKS, *TROUBLE_RANKS))
            return lines(connection, sight, found.place, paths)

        return await self._database.read(look, action="list what failed")


class _Asked(NamedTuple):
    """Which rows of an evaluation are wanted."""

    filter: Filter | None
    find: str
    page: int
    size: int


def head(connection: Connection, sight: Sight, number: int) -> Head | None:
    """Return a run that may be seen."""
    of = run.c
    more = (
        of.project_id,
        of.tree_hash,
        of.targets,
        of.base_commit,
        of.base_reason,
        of.notices,
        of.evaluation,
        of.tested,
        of.sizes,
    )
    query = run_query(sight).add_columns(*more, of.base_evaluation).where(of.number == number)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return Head(run_line(row), row, places(connection, [number])[0])


def with_counts(connection: Connection, found: Head) -> RunLine:
    """Return the line of a run with counts, those of now where none are recorded."""
    if found.line.counts:
        return found.line
    return _counting(found.line, counts_of(tally(connection, found.place)))


def _counting(line: RunLine, counts: dict[str, int]) -> RunLine:
    fields: dict[str, Any] = {name: getattr(line, name) for name in line.__struct_fields__}
    return RunLine(**{**fields, "counts": counts})


def paging(number: int, page: int, size: int) -> Paging:
    """Return where a page is among `number` rows; a page that is not there becomes the nearest one."""
    pages = max(1, -(-number // size)) if size > 0 else 1
    return Paging(page=min(max(1, page), pages), pages=pages, size=max(0, size), total=number)


def window(of: Paging) -> tuple[int, int]:
    """Return the first row of a page and the one after its last."""
    return ((of.page - 1) * of.size, of.page * of.size) if of.size else (0, of.total)


def _evaluation(connection: Connection, sight: Sight, number: int, asked: _Asked, now: float) -> EvaluationPage | None:
    found = head(connection, sight, number)
    if found is None:
        return None
    everything = tally(connection, found.place)
    chosen = _choose(asked.filter, everything, has_base=bool(found.row.base_evaluation))
    counts = tally_found(connection, found.place, asked.find, everything) if asked.find else everything
    where = paging(_shown(chosen, counts), asked.page, asked.size)
    paths = piece(connection, found.place, counts, chosen, asked.find, window(where))
    shown = found.line if found.line.counts else _counting(found.line, counts_of(everything))
    blame, blamed = causes(connection, sight, found.place, found.row.project_id, everything)
    return EvaluationPage(
        run=shown,
        counts=shown.counts,
        filter=chosen,
        find=asked.find,
        causes=blame,
        causes_total=blamed,
        rows=tuple(lines(connection, sight, found.place, paths)),
        paging=where,
        attempts_running=() if found.place.done else _under_way(connection, sight, number, now),
        **_around(connection, sight, found),
    )


def _shown(filter_: Filter, counts: Tally) -> int:
    return sum(number for rank, number in counts.items() if shows(filter_, rank))


def _choose(wanted: Filter | None, counts: Tally, *, has_base: bool) -> Filter:
    """Return the filter that is shown: what differs, unless there is no base; by default only where something does."""
    if wanted not in {None, Filter.DIFFERENT}:
        return wanted or Filter.ALL
    if not has_base or (wanted is None and not _shown(Filter.DIFFERENT, counts)):
        return Filter.ALL
    return Filter.DIFFERENT


def _around(connection: Connection, sight: Sight, found: Head) -> Mapping[str, Any]:
    """Return what a page says around the table."""
    row = found.row
    of = evaluation.c
    told = connection.execute(select(of.seconds, of.complete).where(of.id == found.place.evaluation)).one_or_none()
    base = connection.execute(_checked(row)).scalar()
    again = select(run.c.number).where(run.c.retry_of == row.number).order_by(run.c.number)
    return {
        "base": runs_by_number(connection, sight, [base] if base is not None else []).get(base or 0),
        "base_commit": row.base_commit,
        "base_reason": row.base_reason,
        "tested": row.tested,
        "sizes": _sizes.decode(row.sizes),
        "tree_hash": row.tree_hash,
        "targets": tuple(json.loads(row.targets)),
        "evaluator": "",
        "evaluation_s": told.seconds if told is not None and told.complete else None,
        "notices": tuple(json.loads(row.notices)),
        "newer": _newer(connection, found),
        "retries": tuple(connection.execute(again).scalars()),
    }


def _checked(row: Row[Any]) -> Select[Any]:
    """Return the question for a run that checked what this one is compared with, rather a branch's of this project.

    One that evaluated it only to compare with it says nothing of how it is.
    """
    of, known = run.c, evaluation.c
    linked = select(run_evaluation.c.run).join(evaluation, known.id == run_evaluation.c.evaluation)
    mine, branch = of.project_id == row.project_id, of.pull_request.is_(None)
    return (
        select(of.number)
        .where(of.number.in_(linked.where(known.key == row.base_evaluation)), of.number != row.number)
        .where(of.evaluation == row.base_evaluation)
        .order_by(mine.desc(), branch.desc(), of.number.desc())
        .limit(1)
    )


def _newer(connection: Connection, found: Head) -> int | None:
    """Return the newest run of the same ref, where it is not this one."""
    of = run.c
    same = (of.project_id == found.row.project_id, of.ref == found.line.ref, of.number > found.line.number)
    newest: int | None = connection.execute(select(func.max(of.number)).where(*same)).scalar()
    return newest


def _under_way(connection: Connection, sight: Sight, number: int, now: float) -> tuple[AttemptLine, ...]:
    of = attempt.c
    query = attempt_query(sight).where(of.run == number, of.outcome.is_(None)).order_by(of.number).limit(RUNNING_MAX)
    return tuple(attempt_lines(connection, query, now=now))


def _timeline(connection: Connection, sight: Sight, number: int, now: float) -> TimelinePage | None:
    found = head(connection, sight, number)
    if found is None:
        return None
    query = attempt_query(sight).where(attempt.c.run == number)
    longest = query.order_by(attempt.c.seconds.desc(), attempt.c.number).limit(TIMELINE_MAX)
    going = None if found.line.state is ChangeState.DONE else now
    shown = sorted(attempt_lines(connection, longest, now=going), key=lambda line: (line.started_at, line.number))
    counting = select(func.count()).select_from(attempt).where(attempt.c.run == number)
    everything = int(connection.execute(counting).scalar_one())
    return TimelinePage(run=found.line, attempts=tuple(shown), left_out=everything - len(shown), critical=())
