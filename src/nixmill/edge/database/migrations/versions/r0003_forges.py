"""Forges: pull requests, who approved them, hints, statuses. A run knows how far its commit is trusted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward; there is no way back."""
    _columns()
    _pull_requests()
    _approvals()
    _hints()
    _statuses()


def _columns() -> None:
    for name, default in (("tier", "branch"), ("base_ref", ""), ("tested", ""), ("sizes", "[]")):
        op.add_column("nm_run", sa.Column(name, sa.Text(), server_default=default, nullable=False))
    op.add_column("nm_run", sa.Column("pull_request", _NUMBER, nullable=True))
    op.add_column("nm_run", sa.Column("withdrawn", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index("ix_nm_run_pull_request", "nm_run", ["project_id", "pull_request", "number"])
    op.add_column("nm_evaluation", sa.Column("tier", sa.Text(), server_default="branch", nullable=False))
    for name in ("forge", "repository", "repository_id"):
        op.add_column("nm_project", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.add_column("nm_project", sa.Column("drafts", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.add_column("nm_identity", sa.Column("login", sa.Text(), server_default="", nullable=False))
    of_forge = sa.text("repository_id != '' AND deleted_at IS NULL")
    op.create_index(
        "uq_nm_project_repository",
        "nm_project",
        ["forge", "repository_id"],
        unique=True,
        sqlite_where=of_forge,
        postgresql_where=of_forge,
    )


def _pull_requests() -> None:
    op.create_table(
        "nm_pull_request",
        sa.Column("project", _NUMBER, nullable=False),
        sa.Column("number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("author_id", sa.Text(), nullable=False),
        sa.Column("author_login", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("draft", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("head_ref", sa.Text(), nullable=False),
        sa.Column("head_commit", sa.Text(), nullable=False),
        sa.Column("head_repository", sa.Text(), nullable=False),
        sa.Column("head_owner", sa.Text(), nullable=False),
        sa.Column("fetch_ref", sa.Text(), nullable=False),
        sa.Column("base_ref", sa.Text(), nullable=False),
        sa.Column("author_permission", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("first_seen_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_pull_request_project", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "number", name="pk_nm_pull_request"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_nm_pull_request_state", "nm_pull_request", ["project", "state", "number"])


def _approvals() -> None:
    op.create_table(
        "nm_approval",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("project", _NUMBER, nullable=False),
        sa.Column("pull_request", _NUMBER, nullable=False),
        sa.Column("commit", sa.Text(), nullable=False),
        sa.Column("user", _NUMBER, nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_approval_project", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user"], ["nm_user.id"], name="fk_nm_approval_user", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_nm_approval"),
        sa.UniqueConstraint("project", "pull_request", "commit", name="uq_nm_approval_project_pull_request_commit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_nm_approval_user", "nm_approval", ["user"])


def _hints() -> None:
    op.create_table(
        "nm_hint",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("forge", sa.Text(), nullable=False),
        sa.Column("delivery", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("fault", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_nm_hint"),
        sa.UniqueConstraint("forge", "delivery", "position", name="uq_nm_hint_forge_delivery_position"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_nm_hint_at", "nm_hint", ["at"])
    op.create_index("ix_nm_hint_due", "nm_hint", ["state", "due_at"])


def _statuses() -> None:
    op.create_table(
        "nm_status",
        sa.Column("project", _NUMBER, nullable=False),
        sa.Column("commit", sa.Text(), nullable=False),
        sa.Column("context", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("posted_generation", sa.BigInteger(), server_default="-1", nullable=False),
        sa.Column("external_id", sa.Text(), server_default="", nullable=False),
        sa.Column("due_at", sa.Double(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("fault", sa.Text(), server_default="", nullable=False),
        sa.Column("posted_at", sa.Double(), nullable=True),
        sa.Column("gave_up", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_status_project", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "commit", "context", name="pk_nm_status"),
    )
    due = sa.text("due_at IS NOT NULL")
    op.create_index("ix_nm_status_due", "nm_status", ["due_at"], sqlite_where=due, postgresql_where=due)
    op.create_index(
        "ix_nm_status_gave_up",
        "nm_status",
        ["posted_at"],
        sqlite_where=sa.text("gave_up IS 1"),
        postgresql_where=sa.text("gave_up IS true"),
    )
