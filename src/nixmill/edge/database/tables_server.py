"""The tables of the server, beside those of the history in `tables`. The same rules hold.

Every foreign key says what happens when what it names is deleted (semantics §9): what belongs to a project or a user
goes with it (CASCADE), what only mentions it stays and forgets the name (SET NULL).
"""

from typing import Final

from sqlalchemy import (
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
    true,
)

from nixmill.edge.database.tables import NUMBER, metadata

project: Final = Table(
    "nm_project",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("credential", Text, nullable=False),
    Column("default_branch", Text, nullable=False),
    Column("visibility", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    Column("poll_s", Integer, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("submodules", Boolean, nullable=False, server_default=false()),
    Column("declared", Boolean, nullable=False, server_default=false()),
    Column("created_at", Double, nullable=False),
    Column("deleted_at", Double),
    Column("polled_at", Double),
    Column("poll_fault", Text, nullable=False, server_default=""),
    Column("poll_fault_since", Double),
    Column("seen_default_branch", Text, nullable=False, server_default=""),
    Column("forge", Text, nullable=False, server_default=""),
    Column("repository", Text, nullable=False, server_default=""),
    Column("repository_id", Text, nullable=False, server_default=""),
    Column("drafts", Boolean, nullable=False, server_default=true()),
    sqlite_autoincrement=True,
)
_of_forge = (project.c.repository_id != "") & project.c.deleted_at.is_(None)
Index(
    "uq_nm_project_repository",
    project.c.forge,
    project.c.repository_id,
    unique=True,
    sqlite_where=_of_forge,
    postgresql_where=_of_forge,
)

project_name: Final = Table(
    "nm_project_name",
    metadata,
    Column("name", Text, primary_key=True),
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), nullable=False, index=True),
    sqlite_with_rowid=False,
)
"""Names that a project once had: they lead to it until another project takes them."""

jobset: Final = Table(
    "nm_jobset",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("branches", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("schedule", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("targets", Text, nullable=False),
    Column("systems", Text, nullable=False),
    Column("build_class", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    Column("on_push", Boolean, nullable=False, server_default=true()),
    Column("fired_at", Double),
    UniqueConstraint("project", "name"),
    sqlite_autoincrement=True,
)

ref: Final = Table(
    "nm_ref",
    metadata,
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("commit", Text, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("gone_at", Double),
    sqlite_with_rowid=False,
)

delivery_seen: Final = Table(
    "nm_delivery_seen",
    metadata,
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), primary_key=True),
    Column("delivery", Text, primary_key=True),
    Column("at", Double, nullable=False, index=True),
    sqlite_with_rowid=False,
)

failure: Final = Table(
    "nm_failure",
    metadata,
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), primary_key=True),
    Column("drv_path", Text, primary_key=True),
    Column("run", NUMBER, ForeignKey("nm_run.number", ondelete="CASCADE"), nullable=False, index=True),
    Column("attempt", NUMBER, nullable=False),
    Column("machine", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
    Column("message", Text, nullable=False),
    sqlite_with_rowid=False,
)

difference: Final = Table(
    "nm_difference",
    metadata,
    Column("run", NUMBER, ForeignKey("nm_run.number", ondelete="CASCADE"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("change", Text, nullable=False),
    Column("renamed_to", Text),
    Column("hidden_by", Text),
    sqlite_with_rowid=False,
)
"""How a run differs from its base in what has no outcome: removed attributes, and evaluation errors."""

user: Final = Table(
    "nm_user",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False),
    Column("folded_name", Text, nullable=False, unique=True),
    Column("email", Text, nullable=False),
    Column("admin", Boolean, nullable=False, server_default=false()),
    Column("disabled", Boolean, nullable=False, server_default=false()),
    Column("password_hash", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    sqlite_autoincrement=True,
)

identity: Final = Table(
    "nm_identity",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("user", NUMBER, ForeignKey("nm_user.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("login", Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

session: Final = Table(
    "nm_session",
    metadata,
    Column("token_hash", Text, primary_key=True),
    Column("user", NUMBER, ForeignKey("nm_user.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("csrf", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
    Column("agent", Text, nullable=False),
    Column("address", Text, nullable=False),
    sqlite_with_rowid=False,
)

token: Final = Table(
    "nm_token",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("user", NUMBER, ForeignKey("nm_user.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), index=True),
    Column("name", Text, nullable=False),
    Column("token_hash", Text, nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("used_at", Double),
    sqlite_autoincrement=True,
)

member: Final = Table(
    "nm_member",
    metadata,
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), primary_key=True),
    Column("user", NUMBER, ForeignKey("nm_user.id", ondelete="CASCADE"), primary_key=True, index=True),
    Column("role", Text, nullable=False),
    sqlite_with_rowid=False,
)

audit: Final = Table(
    "nm_audit",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("user", NUMBER, ForeignKey("nm_user.id", ondelete="SET NULL"), index=True),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="SET NULL"), index=True),
    Column("detail", Text, nullable=False),
    Column("address", Text, nullable=False),
    sqlite_autoincrement=True,
)

setting: Final = Table(
    "nm_setting",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

rule: Final = Table(
    "nm_rule",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("credential", Text, nullable=False),
    Column("when", Text, nullable=False),
    Column("branches", Text, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    UniqueConstraint("project", "name"),
    sqlite_autoincrement=True,
)

parcel: Final = Table(
    "nm_parcel",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False, unique=True),
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), index=True),
    Column("run", NUMBER, ForeignKey("nm_run.number", ondelete="SET NULL"), index=True),
    Column("channel", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("credential", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="waiting"),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("due_at", Double, nullable=False),
    Column("fault", Text, nullable=False, server_default=""),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
    sqlite_autoincrement=True,
)
Index("ix_nm_parcel_due", parcel.c.state, parcel.c.due_at)

hook_run: Final = Table(
    "nm_hook_run",
    metadata,
    Column("id", Text, primary_key=True),
    Column("hook", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("run", NUMBER, ForeignKey("nm_run.number", ondelete="CASCADE"), nullable=False, index=True),
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("attribute", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("created_at", Double, nullable=False, index=True),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("exit_code", Integer),
    Column("signal", Integer),
    Column("core_dumped", Boolean, nullable=False, server_default=false()),
    Column("errno", Integer),
    Column("timed_out", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("run", "hook", "attribute"),
    sqlite_with_rowid=False,
)
