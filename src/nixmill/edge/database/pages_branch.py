"""Branches over time, and one attribute across the runs of a branch."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Select, func, literal, select

from nixmill.core.access import Sight
from nixmill.core.run_event import Verdict
from nixmill.core.status import Status
from nixmill.core.view.pages import AttributePage, AttributeRun, BranchPage
from nixmill.core.view.parts import AttributeLine, Point, ProjectLink, RunLine
from nixmill.edge.database.pages_attributes import lines_by_key
from nixmill.edge.database.pages_lines import newest, older, project_link, run_line, run_lines, run_query
from nixmill.edge.database.pages_projects import find_project
from nixmill.edge.database.pages_refs import Stream, full, one_stream, ref_lines
from nixmill.edge.database.pages_tally import places
from nixmill.edge.database.pages_wanted import Key, first_at
from nixmill.edge.database.rows import attribute_of, path_text
from nixmill.edge.database.tables import attribute, run
from nixmill.edge.database.tables_server import ref as ref_table
from nixmill.nix.attr_path import AttrPath, show

HISTORY_MAX: Final = 30
"""Runs on a page of an attribute's history."""


class Branch(NamedTuple):
    """A ref of a project that may be seen."""

    project: ProjectLink
    stream: Stream


def find_branch(connection: Connection, sight: Sight, name: str, ref: str) -> Branch | None:
    """Return a branch (`main`), tag (`refs/tags/v1`) or commit that the remote has, or once had, or that has runs."""
    row = find_project(connection, sight, name)
    if row is None:
        return None
    streams = [Stream(row.id, each) for each in dict.fromkeys((full(ref), ref))]
    found = next((stream for stream in streams if _is_known(connection, stream)), None)
    return None if found is None else Branch(project_link(row), found)


def _is_known(connection: Connection, stream: Stream) -> bool:
    of = ref_table.c
    seen = select(of.name).where(of.project == stream.project, of.name == stream.ref)
    ran = select(run.c.number).where(_of(stream)).limit(1)
    return any(connection.execute(query).first() is not None for query in (seen, ran))


def _of(stream: Stream) -> Any:  # noqa: ANN401 - a condition
    return (run.c.project_id == stream.project) & (run.c.ref == stream.ref)


def branch_page(
    connection: Connection, sight: Sight, name: str, ref: str, before: int | None, limit: int
) -> BranchPage | None:
    """Return a page of a branch."""
    found = find_branch(connection, sight, name, ref)
    if found is None:
        return None
    runs = run_lines(connection, newest(run_query(sight).where(_of(found.stream)), before, limit))
    return BranchPage(
        project=found.project,
        line=ref_lines(connection, sight, one_stream(found.stream))[found.stream],
        runs=tuple(runs),
        older=older(runs, limit),
        durations=_points(runs, {line.number: _seconds(line) for line in runs}),
        sizes=_points(runs, _bytes(connection, [line.number for line in runs])),
    )


def _seconds(line: RunLine) -> float:
    return 0.0 if line.ended_at is None or line.started_at is None else line.ended_at - line.started_at


def _bytes(connection: Connection, numbers: Sequence[int]) -> dict[int, float]:
    query = select(run.c.number, run.c.output_bytes).where(run.c.number.in_(numbers), run.c.output_bytes > 0)
    return {row.number: float(row.output_bytes) for row in connection.execute(query)}


def _points(runs: Iterable[RunLine], values: Mapping[int, float]) -> tuple[Point, ...]:
    """Return the values of runs that have ended, oldest first."""
    ended = sorted((line.number, line) for line in runs if line.ended_at is not None and line.number in values)
    return tuple(
        Point(run=number, at=line.ended_at or 0.0, value=values[number], good=line.verdict is Verdict.GOOD)
        for number, line in ended
    )


def attribute_page(
    connection: Connection, sight: Sight, name: str, ref: str, path: AttrPath, before: int | None
) -> AttributePage | None:
    """Return an attribute across the runs of a branch; None where none of those looked at has it."""
    found = find_branch(connection, sight, name, ref)
    if found is None:
        return None
    rows = connection.execute(newest(run_query(sight).where(_of(found.stream)), before, HISTORY_MAX)).all()
    runs = [run_line(row) for row in rows]
    keys = _keys(connection, rows, path)
    going = [line.number for line in runs if line.ended_at is None]
    lines, sizes = lines_by_key(connection, sight, list(keys.values()), going)
    listed = [AttributeRun(run=line, line=lines[keys[line.number]]) for line in runs if keys.get(line.number) in lines]
    if not listed and before is None:
        return None
    description, maintainers = _about(connection, keys.values())
    return AttributePage(
        project=found.project,
        ref=found.stream.ref,
        path=path,
        name=show(path),
        description=description,
        maintainers=maintainers,
        runs=tuple(listed),
        older=older(runs, HISTORY_MAX),
        durations=_line_points(listed, {each.run.number: each.line.seconds for each in listed if each.line.seconds}),
        sizes=_line_points(listed, {key[0]: float(size) for key, size in sizes.items()}),
    )


def _keys(connection: Connection, rows: Sequence[Row[Any]], path: AttrPath) -> dict[int, Key]:
    text = path_text(path)
    return {at.run: (at.run, at.evaluation, text) for at in places(connection, [row.number for row in rows])}


def _line_points(listed: Sequence[AttributeRun], values: Mapping[int, float]) -> tuple[Point, ...]:
    return tuple(
        Point(
            run=each.run.number,
            at=each.run.ended_at or each.run.requested_at,
            value=values[each.run.number],
            good=_good(each.line),
        )
        for each in reversed(listed)
        if each.run.number in values
    )


def _good(line: AttributeLine) -> bool:
    return line.status is Status.PASSED


def _about(connection: Connection, keys: Iterable[Key]) -> tuple[str, tuple[str, ...]]:
    """Return description and maintainers from the newest evaluation that has the attribute."""
    texts = [(evaluation, text) for _, evaluation, text in keys]
    if not texts:
        return "", ()
    row = connection.execute(_newest_with([evaluation for evaluation, _ in texts], texts[0][1])).first()
    if row is None:
        return "", ()
    found = attribute_of(row.path, row.name, row.system, row.drv_path, row.details)
    return found.description, found.maintainers


def _newest_with(evaluations: Iterable[int], text: str) -> Select[Any]:
    of = attribute.c
    newest_one = select(func.max(of.evaluation)).where(of.evaluation.in_(sorted(set(evaluations))), of.path == text)
    columns = (of.path, of.name, of.system, of.drv_path, of.details)
    return select(*columns).where(first_at(attribute, newest_one.scalar_subquery(), literal(text)))
