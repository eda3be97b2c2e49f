"""The first schema: runs, attempts, evaluations, outcomes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward; there is no way back."""
    _runs()
    _attempts()
    _evaluations()
    _outcomes()


def _runs() -> None:
    op.create_table(
        "nm_counter",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("next", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_nm_counter"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "nm_run",
        sa.Column("number", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("checkout", sa.Text(), nullable=False),
        sa.Column("commit", sa.Text(), nullable=False),
        sa.Column("tree_hash", sa.Text(), nullable=False),
        sa.Column("targets", sa.Text(), nullable=False),
        sa.Column("base_commit", sa.Text(), nullable=False),
        sa.Column("process", sa.BigInteger(), nullable=False),
        sa.Column("process_identity", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("sentence", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_nm_run"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_nm_run_open",
        "nm_run",
        ["number"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def _attempts() -> None:
    op.create_table(
        "nm_attempt",
        sa.Column("number", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("run", _NUMBER, nullable=False),
        sa.Column("drv_path", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("work", sa.Text(), nullable=False),
        sa.Column("machine", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("exit_status", sa.Integer(), nullable=True),
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("output_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["nm_run.number"], name="fk_nm_attempt_run", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number", name="pk_nm_attempt"),
    )
    op.create_index(
        "ix_nm_attempt_built",
        "nm_attempt",
        ["name", "number", "seconds"],
        unique=False,
        sqlite_where=sa.text("outcome = 'succeeded' AND work = 'build'"),
        postgresql_where=sa.text("outcome = 'succeeded' AND work = 'build'"),
    )
    op.create_index("ix_nm_attempt_drv_path", "nm_attempt", ["drv_path", "number", "outcome"], unique=False)
    op.create_index("ix_nm_attempt_run", "nm_attempt", ["run"], unique=False)


def _evaluations() -> None:
    op.create_table(
        "nm_evaluation",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("complete", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("run", _NUMBER, nullable=True),
        sa.Column("tree_hash", sa.Text(), server_default="", nullable=False),
        sa.Column("commit", sa.Text(), server_default="", nullable=False),
        sa.Column("seconds", sa.Double(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["run"], ["nm_run.number"], name="fk_nm_evaluation_run", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_nm_evaluation"),
    )
    op.create_index("ix_nm_evaluation_key", "nm_evaluation", ["key"], unique=True)
    op.create_index("ix_nm_evaluation_run", "nm_evaluation", ["run"], unique=False)
    op.create_table(
        "nm_attribute",
        sa.Column("evaluation", _NUMBER, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("drv_path", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation"], ["nm_evaluation.id"], name="fk_nm_attribute_evaluation", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("evaluation", "position", name="pk_nm_attribute"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "nm_evaluation_error",
        sa.Column("evaluation", _NUMBER, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("fault", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation"], ["nm_evaluation.id"], name="fk_nm_evaluation_error_evaluation", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("evaluation", "position", name="pk_nm_evaluation_error"),
        sqlite_with_rowid=False,
    )


def _outcomes() -> None:
    op.create_table(
        "nm_run_evaluation",
        sa.Column("evaluation", _NUMBER, nullable=False),
        sa.Column("run", _NUMBER, nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation"], ["nm_evaluation.id"], name="fk_nm_run_evaluation_evaluation", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run"], ["nm_run.number"], name="fk_nm_run_evaluation_run", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("evaluation", "run", name="pk_nm_run_evaluation"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_nm_run_evaluation_run", "nm_run_evaluation", ["run"], unique=False)
    op.create_table(
        "nm_outcome",
        sa.Column("evaluation", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("run", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("drv_path", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("how", sa.Text(), nullable=False),
        sa.Column("culprit", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation", "run"],
            ["nm_run_evaluation.evaluation", "nm_run_evaluation.run"],
            name="fk_nm_outcome_evaluation_run",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("evaluation", "run", "path", name="pk_nm_outcome"),
        sqlite_with_rowid=False,
    )
