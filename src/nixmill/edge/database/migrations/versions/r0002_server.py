"""The server: projects, people, changes on their way, messages. A run gains what a change has."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BEGINNINGS: dict[str, Any] = {"postgresql_ops": {"drv_path": "text_pattern_ops"}}
"""Options of an index that finds paths by how they begin."""


def upgrade() -> None:
    """Go forward; there is no way back."""
    _projects()
    _jobsets()
    _users()
    _tokens()
    _runs()
    _findings()
    _outbox()
    _hooks()
    _history()


def _projects() -> None:
    op.create_table(
        "nm_project",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("default_branch", sa.Text(), nullable=False),
        sa.Column("visibility", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("poll_s", sa.Integer(), nullable=False),
        sa.Column("weight", sa.Integer(), nullable=False),
        sa.Column("submodules", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("declared", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("deleted_at", sa.Double(), nullable=True),
        sa.Column("polled_at", sa.Double(), nullable=True),
        sa.Column("poll_fault", sa.Text(), server_default="", nullable=False),
        sa.Column("poll_fault_since", sa.Double(), nullable=True),
        sa.Column("seen_default_branch", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_nm_project"),
        sa.UniqueConstraint("name", name="uq_nm_project_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "nm_project_name",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("project", _NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_project_name_project", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("name", name="pk_nm_project_name"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_nm_project_name_project", "nm_project_name", ["project"])
    op.create_table(
        "nm_ref",
        sa.Column("project", _NUMBER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("commit", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("gone_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_ref_project", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "name", name="pk_nm_ref"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "nm_delivery_seen",
        sa.Column("project", _NUMBER, nullable=False),
        sa.Column("delivery", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_delivery_seen_project", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "delivery", name="pk_nm_delivery_seen"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_nm_delivery_seen_at", "nm_delivery_seen", ["at"])


def _jobsets() -> None:
    op.create_table(
        "nm_jobset",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("project", _NUMBER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("branches", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("targets", sa.Text(), nullable=False),
        sa.Column("systems", sa.Text(), nullable=False),
        sa.Column("build_class", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("on_push", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("fired_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_jobset_project", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_nm_jobset"),
        sa.UniqueConstraint("project", "name", name="uq_nm_jobset_project_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "nm_rule",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("project", _NUMBER, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("when", sa.Text(), nullable=False),
        sa.Column("branches", sa.Text(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_rule_project", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_nm_rule"),
        sa.UniqueConstraint("project", "name", name="uq_nm_rule_project_name"),
        sqlite_autoincrement=True,
    )


def _users() -> None:
    op.create_table(
        "nm_user",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("folded_name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("admin", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("disabled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_nm_user"),
        sa.UniqueConstraint("folded_name", name="uq_nm_user_folded_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "nm_identity",
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("user", _NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["user"], ["nm_user.id"], name="fk_nm_identity_user", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("provider", "subject", name="pk_nm_identity"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_nm_identity_user", "nm_identity", ["user"])
    op.create_table(
        "nm_session",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("user", _NUMBER, nullable=False),
        sa.Column("csrf", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("agent", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["nm_user.id"], name="fk_nm_session_user", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token_hash", name="pk_nm_session"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_nm_session_expires_at", "nm_session", ["expires_at"])
    op.create_index("ix_nm_session_user", "nm_session", ["user"])
    op.create_table(
        "nm_member",
        sa.Column("project", _NUMBER, nullable=False),
        sa.Column("user", _NUMBER, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_member_project", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user"], ["nm_user.id"], name="fk_nm_member_user", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "user", name="pk_nm_member"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_nm_member_user", "nm_member", ["user"])


def _tokens() -> None:
    op.create_table(
        "nm_token",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("user", _NUMBER, nullable=False),
        sa.Column("project", _NUMBER, nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_token_project", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user"], ["nm_user.id"], name="fk_nm_token_user", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_nm_token"),
        sa.UniqueConstraint("token_hash", name="uq_nm_token_token_hash"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_nm_token_project", "nm_token", ["project"])
    op.create_index("ix_nm_token_user", "nm_token", ["user"])
    op.create_table(
        "nm_audit",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("user", _NUMBER, nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("project", _NUMBER, nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_audit_project", ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["user"], ["nm_user.id"], name="fk_nm_audit_user", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_nm_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_nm_audit_project", "nm_audit", ["project"])
    op.create_index("ix_nm_audit_user", "nm_audit", ["user"])
    op.create_table(
        "nm_setting",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_nm_setting"),
        sqlite_with_rowid=False,
    )


def _runs() -> None:
    last = _last_number()
    with op.batch_alter_table("nm_run", table_kwargs={"sqlite_autoincrement": True}) as batch:
        for added in _run_columns():
            batch.add_column(added)
        for column, table, key, rule in (
            ("retry_of", "nm_run", "number", "SET NULL"),
            ("jobset", "nm_jobset", "id", "SET NULL"),
            ("project_id", "nm_project", "id", "CASCADE"),
            ("requested_by", "nm_user", "id", "SET NULL"),
            ("superseded_by", "nm_run", "number", "SET NULL"),
        ):
            batch.create_foreign_key(f"fk_nm_run_{column}", table, [column], [key], ondelete=rule)
    _keep_last_number(last)
    op.create_index("ix_nm_run_commit", "nm_run", ["commit"], postgresql_ops={"commit": "text_pattern_ops"})
    op.create_index("ix_nm_run_jobset", "nm_run", ["jobset"])
    op.create_index("ix_nm_run_project_number", "nm_run", ["project_id", "number"])
    op.create_index("ix_nm_run_ref", "nm_run", ["project_id", "ref", "number"])
    op.create_index("ix_nm_run_ref_verdict", "nm_run", ["project_id", "ref", "verdict", "number"])
    op.create_index("ix_nm_run_requested_by", "nm_run", ["requested_by"])
    op.create_index("ix_nm_run_retry_of", "nm_run", ["retry_of"])
    op.create_index("ix_nm_run_superseded_by", "nm_run", ["superseded_by"])


def _run_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("project_id", _NUMBER, nullable=True),
        sa.Column("jobset", _NUMBER, nullable=True),
        sa.Column("ref", sa.Text(), server_default="", nullable=False),
        sa.Column("origin", sa.Text(), server_default="", nullable=False),
        sa.Column("build_class", sa.Text(), server_default="", nullable=False),
        sa.Column("requested_by", _NUMBER, nullable=True),
        sa.Column("requested_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("options", sa.Text(), server_default="{}", nullable=False),
        sa.Column("retry_of", _NUMBER, nullable=True),
        sa.Column("superseded_by", _NUMBER, nullable=True),
        sa.Column("cancel_asked", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("base_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("subject", sa.Text(), server_default="", nullable=False),
        sa.Column("author", sa.Text(), server_default="", nullable=False),
        sa.Column("evaluation", sa.Text(), server_default="", nullable=False),
        sa.Column("base_evaluation", sa.Text(), server_default="", nullable=False),
        sa.Column("counts", sa.Text(), server_default="{}", nullable=False),
        sa.Column("notices", sa.Text(), server_default="[]", nullable=False),
        sa.Column("output_bytes", sa.BigInteger(), server_default="0", nullable=False),
    ]


def _last_number() -> int | None:
    """Return the last number that a run was given. SQLite forgets it when the table is made anew."""
    if op.get_bind().dialect.name != "sqlite":
        return None
    found: int | None = op.get_bind().execute(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'nm_run'")).scalar()
    return found


def _keep_last_number(last: int | None) -> None:
    if last is not None:
        connection = op.get_bind()
        connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'nm_run'"))
        connection.execute(sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('nm_run', :last)"), {"last": last})


def _findings() -> None:
    op.create_table(
        "nm_failure",
        sa.Column("project", _NUMBER, nullable=False),
        sa.Column("drv_path", sa.Text(), nullable=False),
        sa.Column("run", _NUMBER, nullable=False),
        sa.Column("attempt", _NUMBER, nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_failure_project", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run"], ["nm_run.number"], name="fk_nm_failure_run", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "drv_path", name="pk_nm_failure"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_nm_failure_expires_at", "nm_failure", ["expires_at"])
    op.create_index("ix_nm_failure_run", "nm_failure", ["run"])
    op.create_table(
        "nm_difference",
        sa.Column("run", _NUMBER, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("renamed_to", sa.Text(), nullable=True),
        sa.Column("hidden_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["nm_run.number"], name="fk_nm_difference_run", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "path", name="pk_nm_difference"),
        sqlite_with_rowid=False,
    )


def _outbox() -> None:
    op.create_table(
        "nm_parcel",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("project", _NUMBER, nullable=True),
        sa.Column("run", _NUMBER, nullable=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("fault", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_parcel_project", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run"], ["nm_run.number"], name="fk_nm_parcel_run", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_nm_parcel"),
        sa.UniqueConstraint("key", name="uq_nm_parcel_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_nm_parcel_due", "nm_parcel", ["state", "due_at"])
    op.create_index("ix_nm_parcel_project", "nm_parcel", ["project"])
    op.create_index("ix_nm_parcel_run", "nm_parcel", ["run"])


def _hooks() -> None:
    op.create_table(
        "nm_hook_run",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("hook", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("run", _NUMBER, nullable=False),
        sa.Column("project", _NUMBER, nullable=False),
        sa.Column("attribute", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("exit_code", sa.Integer(), nullable=True),
        sa.Column("signal", sa.Integer(), nullable=True),
        sa.Column("core_dumped", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("errno", sa.Integer(), nullable=True),
        sa.Column("timed_out", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_hook_run_project", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["run"], ["nm_run.number"], name="fk_nm_hook_run_run", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_nm_hook_run"),
        sa.UniqueConstraint("run", "hook", "attribute", name="uq_nm_hook_run_run_hook_attribute"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_nm_hook_run_created_at", "nm_hook_run", ["created_at"])
    op.create_index("ix_nm_hook_run_project", "nm_hook_run", ["project"])
    op.create_index("ix_nm_hook_run_run", "nm_hook_run", ["run"])
    op.create_index("ix_nm_hook_run_state", "nm_hook_run", ["state"])


def _history() -> None:
    op.create_index(
        "ix_nm_attempt_open",
        "nm_attempt",
        ["run", "number"],
        sqlite_where=sa.text("outcome IS NULL"),
        postgresql_where=sa.text("outcome IS NULL"),
    )
    op.create_index(
        "ix_nm_attempt_started", "nm_attempt", ["started_at", "run", "machine", "work", "outcome", "seconds"]
    )
    op.create_index("ix_nm_attribute_drv_path", "nm_attribute", ["drv_path", "evaluation"], **_BEGINNINGS)
    op.create_index("ix_nm_attribute_path", "nm_attribute", ["evaluation", "path"])
    op.create_index("ix_nm_evaluation_error_path", "nm_evaluation_error", ["evaluation", "path"])
    op.add_column("nm_outcome", sa.Column("rank", sa.SmallInteger(), server_default="0", nullable=False))
    op.create_index("ix_nm_outcome_rank", "nm_outcome", ["evaluation", "run", "rank", "path"])
    if op.get_bind().dialect.name == "postgresql":
        op.drop_index("ix_nm_attempt_drv_path", "nm_attempt")
        op.create_index("ix_nm_attempt_drv_path", "nm_attempt", ["drv_path", "number", "outcome"], **_BEGINNINGS)
