"""What is on its way into caches, as pages list it."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, case, func, or_, select

from nixmill.core.access import Sight
from nixmill.core.upload import UploadState
from nixmill.core.view.roots import UploadLine
from nixmill.edge.database.pages_lines import PROJECT, project_link
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.tables_roots import upload
from nixmill.edge.database.tables_server import project
from nixmill.nix.store_path import StorePath

_STATES: Final = {state.value: state for state in UploadState}
_FIRST: Final = (UploadState.FAILED, UploadState.REFUSED, UploadState.REBUILDING, UploadState.WAITING)
"""What is not done, what needs somebody first."""
_JOINED: Final = upload.outerjoin(project, project.c.id == upload.c.project)


def upload_counts(connection: Connection, sight: Sight, cache: str) -> Mapping[str, int]:
    """Count uploads of a cache by state."""
    of = upload.c
    counted = select(of.state, func.count().label("total")).select_from(_JOINED)
    rows = connection.execute(counted.where(of.cache == cache, _seen(sight)).group_by(of.state))
    return {row.state: row.total for row in rows}


def upload_lines(connection: Connection, sight: Sight, cache: str, limit: int) -> list[UploadLine]:
    """Return the uploads of a cache that are not done; those that need somebody first, then the oldest."""
    of = upload.c
    rank = case({state.value: place for place, state in enumerate(_FIRST)}, value=of.state)
    query = (
        select(upload, *PROJECT)
        .select_from(_JOINED)
        .where(of.cache == cache, of.state.in_([state.value for state in _FIRST]), _seen(sight))
        .order_by(rank, of.at, of.path)
        .limit(limit)
    )
    return [_line(row) for row in connection.execute(query)]


def _seen(sight: Sight) -> ColumnElement[bool]:
    """Return the condition for what may be seen; what belongs to no project any more only by those who see all."""
    if sight.everything and sight.only is None:
        return or_(upload.c.project.is_(None), visible(sight))
    return visible(sight)


def _line(row: Row[Any]) -> UploadLine:
    return UploadLine(
        path=StorePath(row.path),
        project=project_link(row) if row.project is not None else None,
        run=row.run,
        state=_STATES[row.state],
        tries=row.tries,
        due_at=row.due_at,
        fault=row.fault,
        at=row.at,
    )
