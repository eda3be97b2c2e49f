"""What somebody may see, as a condition on projects. Every question of a page has it: the rest does not exist."""

from sqlalchemy import ColumnElement, FromClause, and_, or_, true

from nixmill.core.access import Sight, Visibility
from nixmill.edge.database.tables_server import project


def visible(sight: Sight, of: FromClause = project) -> ColumnElement[bool]:
    """Return the condition under which a row of `nm_project` may be seen; one that is being deleted never is."""
    allowed: list[ColumnElement[bool]] = [of.c.deleted_at.is_(None)]
    if not sight.everything:
        kinds = [Visibility.PUBLIC.value, *([Visibility.INTERNAL.value] if sight.internal else [])]
        seen: list[ColumnElement[bool]] = [of.c.visibility.in_(kinds)]
        if sight.private:
            seen.append(of.c.id.in_(sorted(sight.private)))
        allowed.append(or_(*seen))
    if sight.only is not None:
        allowed.append(of.c.id == sight.only)
    return and_(true(), *allowed)
