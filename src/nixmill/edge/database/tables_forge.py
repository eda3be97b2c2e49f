"""The tables of pull requests, of hints from forges and of statuses on them. The rules of `tables_server` hold.

What a forge said is kept as it was last seen; who approved what stays for as long as the project. A pull request has
no number of ours: it is known by its project and its number there.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from nixmill.edge.database.tables import NUMBER, metadata

pull_request: Final = Table(
    "nm_pull_request",
    metadata,
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), primary_key=True),
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("title", Text, nullable=False),
    Column("author_id", Text, nullable=False),
    Column("author_login", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("draft", Boolean, nullable=False, server_default=false()),
    Column("labels", Text, nullable=False),
    Column("head_ref", Text, nullable=False),
    Column("head_commit", Text, nullable=False),
    Column("head_repository", Text, nullable=False),
    Column("head_owner", Text, nullable=False),
    Column("fetch_ref", Text, nullable=False),
    Column("base_ref", Text, nullable=False),
    Column("author_permission", Text, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("tier", Text, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("first_seen_at", Double, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_nm_pull_request_state", pull_request.c.project, pull_request.c.state, pull_request.c.number)

approval: Final = Table(
    "nm_approval",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), nullable=False),
    Column("pull_request", NUMBER, nullable=False),
    Column("commit", Text, nullable=False),
    Column("user", NUMBER, ForeignKey("nm_user.id", ondelete="SET NULL"), index=True),
    Column("who", Text, nullable=False),
    Column("via", Text, nullable=False),
    Column("at", Double, nullable=False),
    UniqueConstraint("project", "pull_request", "commit"),
    sqlite_autoincrement=True,
)

hint: Final = Table(
    "nm_hint",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("forge", Text, nullable=False),
    Column("delivery", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("due_at", Double, nullable=False),
    Column("fault", Text, nullable=False, server_default=""),
    Column("at", Double, nullable=False, index=True),
    UniqueConstraint("forge", "delivery", "position"),
    sqlite_autoincrement=True,
)
"""Of a delivery there is always position 0, even where it hints at nothing: a replay of it is recognised."""
Index("ix_nm_hint_due", hint.c.state, hint.c.due_at)

status: Final = Table(
    "nm_status",
    metadata,
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), primary_key=True),
    Column("commit", Text, primary_key=True),
    Column("context", Text, primary_key=True),
    Column("body", Text, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("posted_generation", BigInteger, nullable=False, server_default="-1"),
    Column("external_id", Text, nullable=False, server_default=""),
    Column("due_at", Double),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("fault", Text, nullable=False, server_default=""),
    Column("posted_at", Double),
    Column("gave_up", Boolean, nullable=False, server_default=false()),
)
"""`due_at` is null where nothing is to be posted: it stands as it should, or was given up."""
_due = status.c.due_at.is_not(None)
Index("ix_nm_status_due", status.c.due_at, sqlite_where=_due, postgresql_where=_due)
_gave_up = status.c.gave_up.is_(True)
Index("ix_nm_status_gave_up", status.c.posted_at, sqlite_where=_gave_up, postgresql_where=_gave_up)
