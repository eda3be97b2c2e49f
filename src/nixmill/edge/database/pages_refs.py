"""Branches and tags: their newest run, their last good one, and since when they fail.

Each is one step into an index over (project, ref, verdict, number), so that no history, however long, is read.
"""

from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, ScalarSelect, Select, Subquery, func, literal, select

from nixmill.core.access import Sight
from nixmill.core.run_event import Verdict
from nixmill.core.view.parts import RefLine, RunLine
from nixmill.edge.database.pages_lines import FAULTS, run_line, run_query, runs_by_number
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.tables import run
from nixmill.edge.database.tables_server import project, ref

HEADS = "refs/heads/"


class Stream(NamedTuple):
    """A ref of a project."""

    project: int
    ref: str


def full(name: str) -> str:
    """Return a ref in full: `refs/heads/main` for `main`."""
    return name if name.startswith("refs/") else HEADS + name


def default_streams(condition: Any) -> Subquery:  # noqa: ANN401 - any condition on projects
    """Return the default branches of projects as a table of project, ref and `gone_at`."""
    of = project.c
    name = func.coalesce(func.nullif(of.default_branch, ""), of.seen_default_branch)
    gone = ref.c.gone_at
    branch = literal(HEADS).concat(name)
    joined = project.outerjoin(ref, (ref.c.project == of.id) & (ref.c.name == branch))
    query = select(of.id.label("project"), branch.label("ref"), gone).select_from(joined)
    return query.where(condition, name != "").subquery("stream")


def streams_of(project_id: int, limit: int) -> Subquery:
    """Return the refs of a project, those with the newest runs first, as a table like that of `default_streams`."""
    newest = _number(Stream(project_id, ""), func.max, ref.c.name, None)
    of = ref.c
    query = select(of.project.label("project"), of.name.label("ref"), of.gone_at).where(of.project == project_id)
    return (
        query.order_by(func.coalesce(newest, 0).desc(), of.gone_at.is_not(None), of.name)
        .limit(limit)
        .subquery("stream")
    )


def one_stream(stream: Stream) -> Subquery:
    """Return one ref as a table like that of `default_streams`, whether or not the remote has it."""
    gone = select(ref.c.gone_at).where(ref.c.project == stream.project, ref.c.name == stream.ref).scalar_subquery()
    return select(
        literal(stream.project).label("project"), literal(stream.ref).label("ref"), gone.label("gone_at")
    ).subquery("stream")


TELLING: Final = (*FAULTS, Verdict.INFRASTRUCTURE)
"""Verdicts besides good by which a branch stands as it does: a cancelled run does not change how it stands."""


def _under_way(stream: Any) -> ScalarSelect[Any]:  # noqa: ANN401 - a table of streams
    of = run.c
    query = select(func.max(of.number)).where(of.project_id == stream.project, of.ref == stream.ref)
    return query.where(of.verdict.is_(None)).scalar_subquery()


def _number(stream: Any, pick: Any, name: Any, verdict: Verdict | None, above: Any = None) -> ScalarSelect[Any]:  # noqa: ANN401 - columns or values
    of = run.c
    query = select(pick(of.number)).where(of.project_id == stream.project, of.ref == name)
    if verdict is not None:
        query = query.where(of.verdict == verdict.value)
    if above is not None:
        query = query.where(of.number > above)
    return query.scalar_subquery()


def _facts(streams: Subquery) -> Select[Any]:
    """Return the question for the numbers of the runs that matter: newest, last good, first failing of each kind."""
    of = streams.c
    known = select(
        of.project,
        of.ref,
        of.gone_at,
        _number(of, func.max, of.ref, None).label("latest"),
        _number(of, func.max, of.ref, Verdict.GOOD).label("good"),
        _under_way(of).label("under_way"),
        *(_number(of, func.max, of.ref, verdict).label(f"last_{at}") for at, verdict in enumerate(TELLING)),
    ).subquery("known")
    after = func.coalesce(known.c.good, 0)
    first = [_number(known.c, func.min, known.c.ref, verdict, after) for verdict in FAULTS]
    return select(known, *(each.label(f"first_{at}") for at, each in enumerate(first)))


def ref_lines(connection: Connection, sight: Sight, streams: Subquery) -> dict[Stream, RefLine]:
    """Return what is to be said of refs, in two questions however many they are."""
    rows = connection.execute(_facts(streams)).all()
    failing = {Stream(row.project, row.ref): _first(row) for row in rows}
    numbers = {number for row in rows for number in (_standing(row), row.good) if number is not None}
    runs = runs_by_number(connection, sight, numbers | {each for each in failing.values() if each is not None})
    return {
        Stream(row.project, row.ref): RefLine(
            ref=row.ref,
            jobset=_of(runs, _standing(row), "jobset"),
            latest=runs.get(_standing(row) or 0),
            last_good=runs.get(row.good),
            failing_since=runs.get(failing[Stream(row.project, row.ref)] or 0),
            gone_at=row.gone_at,
        )
        for row in rows
    }


def _standing(row: Row[Any]) -> int | None:
    """Return the run by which a ref stands: the newest that was not cancelled, where there is one."""
    told: list[int | None] = [row.good, row.under_way, *(getattr(row, f"last_{at}") for at in range(len(TELLING)))]
    return max((number for number in told if number is not None), default=row.latest)


def _first(row: Row[Any]) -> int | None:
    found = [getattr(row, f"first_{at}") for at in range(len(FAULTS))]
    return min((number for number in found if number is not None), default=None)


def _of(runs: dict[int, RunLine], number: int | None, field: str) -> str:
    return str(getattr(runs[number], field)) if number is not None and number in runs else ""


def latest_runs(connection: Connection, sight: Sight) -> dict[int, RunLine]:
    """Return, by number, the newest run of each default branch and its newest good one."""
    of = default_streams(visible(sight))
    rows = connection.execute(
        select(
            _number(of.c, func.max, of.c.ref, None),
            _number(of.c, func.max, of.c.ref, Verdict.GOOD),
        ).select_from(of)
    )
    return runs_by_number(connection, sight, {number for row in rows for number in row if number is not None})


def recent_runs(connection: Connection, sight: Sight, streams: Subquery, limit: int) -> dict[int, list[RunLine]]:
    """Return the newest runs of some refs, one of each project, by project and newest first; without counts."""
    of = run.c
    same = (of.project_id == streams.c.project, of.ref == streams.c.ref)
    last = select(of.number).where(*same).order_by(of.number.desc()).limit(1).offset(limit - 1).scalar_subquery()
    bounds = select(streams.c.project, streams.c.ref, func.coalesce(last, 0).label("last"))
    # Materialized: PostgreSQL would look for the bound once a run instead of once a ref.
    bound = bounds.cte("bound").prefix_with("MATERIALIZED")
    joined = (of.project_id == bound.c.project) & (of.ref == bound.c.ref) & (of.number >= bound.c.last)
    query = run_query(sight).join(bound, joined).order_by(of.number.desc())
    found: dict[int, list[RunLine]] = {}
    for row in connection.execute(query):
        found.setdefault(row.project_key, []).append(run_line(row))
    return found
