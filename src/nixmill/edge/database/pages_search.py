"""Search: exact ids first, then names that begin with the text, then those that have it somewhere.

Ids and commits are found by index. Names of attributes are looked for in the newest evaluations of default branches
only, so that a search has a bounded cost; where that left something out, `more` says so.
"""

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import ColumnElement, Connection, Select, case, func, select

from nixmill.core.access import Sight
from nixmill.core.project import short
from nixmill.core.view.pages import Found, SearchPage
from nixmill.core.view.parts import RunLine
from nixmill.edge.database.pages_lines import newest, run_line, run_query
from nixmill.edge.database.pages_refs import latest_runs
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.pages_tally import places
from nixmill.edge.database.pages_wanted import begins, contains, like, named
from nixmill.edge.database.rows import clean, path_of, path_text
from nixmill.edge.database.tables import attempt, attribute, evaluation, run, run_evaluation
from nixmill.edge.database.tables_forge import pull_request
from nixmill.edge.database.tables_server import project, ref
from nixmill.nix.attr_path import show
from nixmill.nix.store_path import DEFAULT_STORE_DIR, StorePath, base_name

QUERY_MAX: Final = 200
SCANNED_MAX: Final = 20_000
"""Attributes that are looked through for a name."""
IDS_MAX: Final = 5
_COMMIT: Final = re.compile(r"[0-9a-f]{7,64}")
_NUMBER: Final = re.compile(r"(?:#|run )?([1-9][0-9]{0,17})")
_STORE_PATH: Final = re.compile(r"(?:(/\S*)/)?([0-9a-df-np-sv-z]{32})(?:-(\S*))?")


def search(connection: Connection, sight: Sight, query: str, limit: int) -> SearchPage:
    """Look for what people type into the search field."""
    text = clean(query.strip())[:QUERY_MAX]
    if not text:
        return SearchPage(query="", found=(), more=False)
    ids = list(dict.fromkeys(_ids(connection, sight, text)))
    if ids and not _NUMBER.fullmatch(text.lower()):
        return SearchPage(query=text, found=tuple(ids[:limit]), more=False)
    names, cut = _attributes(connection, text, limit + 1, _scanned(connection, sight))
    found = list(dict.fromkeys([*ids, *_names(connection, sight, text, limit + 1), *names]))
    return SearchPage(query=text, found=tuple(found[:limit]), more=cut or len(found) > limit)


def _ids(connection: Connection, sight: Sight, text: str) -> Iterator[Found]:
    """Find what has the text as its number, commit or store path."""
    number = _NUMBER.fullmatch(text.lower())
    if number is not None:
        yield from _runs(connection, sight, int(number[1]))
        yield from _pulls(connection, sight, pull_request.c.number == int(number[1]), IDS_MAX)
    if _COMMIT.fullmatch(text.lower()):
        yield from _commits(connection, sight, text.lower())
    path = _STORE_PATH.fullmatch(text)
    if path is not None:
        prefix = f"{path[1] or DEFAULT_STORE_DIR}/{path[2]}-"
        derivations = list(_derivations(connection, sight, prefix))
        yield from derivations or _outputs(connection, sight, path[2])


def _names(connection: Connection, sight: Sight, text: str, limit: int) -> Iterator[Found]:
    """Find all but attributes by name."""
    yield from _projects(connection, sight, text, limit)
    yield from _branches(connection, sight, text, limit)
    yield from _titled(connection, sight, text, limit)
    yield from _built(connection, sight, text)


def _part(text: str) -> str:
    """Return text as one part of an address; what follows is the form of `nixmill.web.urls`."""
    return quote(text, safe="+:@,=", errors="replace")


def _run_found(kind: str, title: str, line: RunLine) -> Found:
    where = f"{line.project.name} {short(line.ref)}".strip()
    detail = f"run {line.number} of {where}: {line.subject}".removesuffix(": ")
    return Found(kind=kind, title=title, detail=detail, link=f"/r/{line.number}")


def _runs(connection: Connection, sight: Sight, number: int) -> Iterator[Found]:
    for row in connection.execute(run_query(sight).where(run.c.number == number)):
        yield _run_found("run", f"#{number}", run_line(row))


def _commits(connection: Connection, sight: Sight, prefix: str) -> Iterator[Found]:
    query = newest(run_query(sight).where(begins(connection, run.c.commit, prefix)), None, IDS_MAX)
    for row in connection.execute(query):
        yield _run_found("commit", row.commit, run_line(row))


def _derivation_found(drv_path: str) -> Found:
    base = base_name(StorePath(drv_path))
    return Found(kind="derivation", title=base[33:], detail=drv_path, link=f"/d/{_part(base)}")


def _derivations(connection: Connection, sight: Sight, prefix: str) -> Iterator[Found]:
    """Find derivations by the start of their path, among attempts and attributes."""
    tried = _tried(sight).where(begins(connection, attempt.c.drv_path, prefix))
    known = _known(sight, attribute.c.drv_path).where(begins(connection, attribute.c.drv_path, prefix))
    for query in (tried, known):
        for (drv_path,) in connection.execute(query.distinct().limit(IDS_MAX)):
            yield _derivation_found(drv_path)


def _tried(sight: Sight) -> Select[Any]:
    of = attempt.c
    joined = attempt.join(run, run.c.number == of.run).join(project, project.c.id == run.c.project_id)
    return select(of.drv_path).select_from(joined).where(visible(sight))


def _known(sight: Sight, *columns: ColumnElement[Any]) -> Select[Any]:
    """Return the question for columns of attributes of evaluations of runs that may be seen."""
    joined = (
        attribute.join(run_evaluation, run_evaluation.c.evaluation == attribute.c.evaluation)
        .join(run, run.c.number == run_evaluation.c.run)
        .join(project, project.c.id == run.c.project_id)
    )
    return select(*columns).select_from(joined).where(visible(sight))


def _outputs(connection: Connection, sight: Sight, hash_part: str) -> Iterator[Found]:
    """Find the attributes, of the newest evaluations, that have an output with this hash."""
    chosen, _ = _scanned(connection, sight)
    of = attribute.c
    query = select(of.path, of.evaluation).where(of.evaluation.in_(sorted(chosen)))
    for path, each in connection.execute(query.where(of.details.like(f"%/{hash_part}-%")).limit(IDS_MAX)):
        line = chosen[each]
        name = show(path_of(path))
        yield Found(
            kind="store path",
            title=name,
            detail=f"an output of it in run {line.number} of {line.project.name}",
            link=f"/r/{line.number}/why/{_part(name)}",
        )


def _ordered(connection: Connection, column: Any, text: str) -> tuple[Any, ...]:  # noqa: ANN401 - a column of text
    """Return what names are ordered by: those that begin with a text come first."""
    first = case((column == text, 0), (_starts(connection, column, text), 1), else_=2)
    return (first, column)


def _starts(connection: Connection, column: Any, text: str) -> ColumnElement[bool]:  # noqa: ANN401 - a column of text
    pattern = like(text) + "%"
    return (column.ilike if connection.dialect.name == "postgresql" else column.like)(pattern, escape="!")  # type: ignore[no-any-return]


def _projects(connection: Connection, sight: Sight, text: str, limit: int) -> Iterator[Found]:
    of = project.c
    has = contains(connection, of.name, text) | contains(connection, of.title, text)
    query = select(of.name, of.title).where(visible(sight), has).order_by(*_ordered(connection, of.name, text))
    for name, title in connection.execute(query.limit(limit)):
        yield Found(kind="project", title=name, detail=title, link=f"/p/{_part(name)}")


def _branches(connection: Connection, sight: Sight, text: str, limit: int) -> Iterator[Found]:
    of = ref.c
    name = func.replace(func.replace(of.name, "refs/heads/", ""), "refs/tags/", "")
    query = select(project.c.name, of.name).join_from(ref, project, project.c.id == of.project)
    seen = query.where(visible(sight), of.gone_at.is_(None), contains(connection, name, text))
    for of_project, full in connection.execute(seen.order_by(*_ordered(connection, name, text)).limit(limit)):
        shown = full.removeprefix("refs/heads/")
        link = f"/p/{_part(of_project)}/b/{'/'.join(_part(each) for each in shown.split('/'))}"
        yield Found(kind="branch", title=short(full), detail=of_project, link=link)


def _titled(connection: Connection, sight: Sight, text: str, limit: int) -> Iterator[Found]:
    yield from _pulls(connection, sight, contains(connection, pull_request.c.title, text), limit)


def _pulls(connection: Connection, sight: Sight, which: ColumnElement[bool], limit: int) -> Iterator[Found]:
    """Find pull requests, the newest first, open or not."""
    of = pull_request.c
    query = select(project.c.name, of.number, of.title).join_from(pull_request, project, project.c.id == of.project)
    newest_first = query.where(visible(sight), which).order_by(of.first_seen_at.desc(), of.project, of.number.desc())
    for of_project, number, title in connection.execute(newest_first.limit(limit)):
        link = f"/p/{_part(of_project)}/pull/{number}"
        yield Found(kind="pull request", title=f"#{number} {title}", detail=of_project, link=link)


def _built(connection: Connection, sight: Sight, text: str) -> Iterator[Found]:
    """Find the newest builds whose name, without version, is the text."""
    of = attempt.c
    built = (of.outcome == "succeeded") & (of.work == "build") & (of.name == text)
    for (drv_path,) in connection.execute(_tried(sight).where(built).order_by(of.number.desc()).limit(IDS_MAX)):
        yield _derivation_found(drv_path)


def _scanned(connection: Connection, sight: Sight) -> tuple[dict[int, RunLine], bool]:
    """Return the evaluations that are looked through, by id, with a run of each; and whether some were left out."""
    runs = latest_runs(connection, sight)
    where = {at.evaluation: runs[at.run] for at in places(connection, list(runs)) if at.evaluation}
    size = select(func.coalesce(func.max(attribute.c.position) + 1, 0)).where(attribute.c.evaluation == evaluation.c.id)
    query = select(evaluation.c.id, size.scalar_subquery()).where(evaluation.c.id.in_(sorted(where)))
    sizes = connection.execute(query.order_by(evaluation.c.id.desc())).all()
    chosen: dict[int, RunLine] = {}
    left = SCANNED_MAX
    for each, amount in sizes:
        if left <= 0:
            return chosen, True
        chosen[each] = where[each]
        left -= amount
    return chosen, left < 0


def _attributes(
    connection: Connection, text: str, limit: int, scanned: tuple[dict[int, RunLine], bool]
) -> tuple[list[Found], bool]:
    chosen, cut = scanned
    all_ = attribute.c
    some = select(all_.path, all_.evaluation).where(all_.evaluation.in_(sorted(chosen))).limit(SCANNED_MAX)
    of = some.subquery().c
    tail = path_text((text,))[1:-2]  # `"text`, as a name begins
    exact = case((_ends(connection, of.path, tail), 0), (contains(connection, of.path, tail), 1), else_=2)
    query = select(of.path, of.evaluation).where(named(connection, of.path, text))
    rows = connection.execute(query.order_by(exact, func.length(of.path), of.path).limit(limit)).all()
    return [_attribute_found(chosen[each], path) for path, each in rows], cut


def _ends(connection: Connection, column: Any, tail: str) -> ColumnElement[bool]:  # noqa: ANN401 - a column of text
    pattern = f'%{like(tail)}"]'
    return (column.ilike if connection.dialect.name == "postgresql" else column.like)(pattern, escape="!")  # type: ignore[no-any-return]


def _attribute_found(line: RunLine, path: str) -> Found:
    name = show(path_of(path))
    branch = f"?ref={_part(short(line.ref))}" if line.ref.startswith("refs/heads/") else ""
    link = f"/p/{_part(line.project.name)}/a/{_part(name)}{branch}"
    return Found(kind="attribute", title=name, detail=f"{line.project.name} {short(line.ref)}", link=link)
