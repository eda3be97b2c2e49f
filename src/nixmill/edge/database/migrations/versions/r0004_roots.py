"""Roots and caches: pins, what was pinned by hand, what is to be published, who built what."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Go forward; there is no way back."""
    _pins()
    _hand_pins()
    _uploads()
    _realisations()


def _pins() -> None:
    op.create_table(
        "nm_pin",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("project", _NUMBER, nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("run", _NUMBER, nullable=False),
        sa.Column("order", _NUMBER, nullable=False),
        sa.Column("drv_path", sa.Text(), nullable=False),
        sa.Column("outputs", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("keep", sa.Integer(), nullable=False),
        sa.Column("held", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("gone_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_pin_project", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_nm_pin"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_nm_pin_key", "nm_pin", ["project", "ref", "path", "order"])
    gone = sa.text("gone_at IS NOT NULL")
    op.create_index("ix_nm_pin_gone", "nm_pin", ["gone_at"], sqlite_where=gone, postgresql_where=gone)
    op.create_table(
        "nm_pin_head",
        sa.Column("project", _NUMBER, nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("jobset", _NUMBER, nullable=False),
        sa.Column("order", _NUMBER, nullable=False),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_pin_head_project", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("project", "ref", "jobset", name="pk_nm_pin_head"),
        sqlite_with_rowid=False,
    )


def _hand_pins() -> None:
    op.create_table(
        "nm_hand_pin",
        sa.Column("id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("project", _NUMBER, nullable=True),
        sa.Column("store_path", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), server_default="", nullable=False),
        sa.Column("attribute", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("user", _NUMBER, nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_hand_pin_project", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user"], ["nm_user.id"], name="fk_nm_hand_pin_user", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("id", name="pk_nm_hand_pin"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_nm_hand_pin_project", "nm_hand_pin", ["project"])
    op.create_index("ix_nm_hand_pin_user", "nm_hand_pin", ["user"])
    of_server = sa.text("project IS NULL")
    op.create_index(
        "uq_nm_hand_pin_server",
        "nm_hand_pin",
        ["store_path"],
        unique=True,
        sqlite_where=of_server,
        postgresql_where=of_server,
    )
    op.create_index("uq_nm_hand_pin_project", "nm_hand_pin", ["project", "store_path"], unique=True)


def _uploads() -> None:
    op.create_table(
        "nm_upload",
        sa.Column("cache", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("project", _NUMBER, nullable=True),
        sa.Column("run", _NUMBER, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.Double(), nullable=False),
        sa.Column("fault", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("done_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["project"], ["nm_project.id"], name="fk_nm_upload_project", ondelete="SET NULL"),
        sa.PrimaryKeyConstraint("cache", "path", name="pk_nm_upload"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_nm_upload_project", "nm_upload", ["project"])
    op.create_index("ix_nm_upload_due", "nm_upload", ["cache", "state", "due_at"])
    op.create_index("ix_nm_upload_path", "nm_upload", ["path"])
    op.create_table(
        "nm_made",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("run", _NUMBER, nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("path", name="pk_nm_made"),
        sqlite_with_rowid=False,
    )


def _realisations() -> None:
    op.create_table(
        "nm_realisation",
        sa.Column("drv_path", sa.Text(), nullable=False),
        sa.Column("output", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), server_default="", nullable=False),
        sa.Column("path", sa.Text(), server_default="", nullable=False),
        sa.Column("text", sa.Text(), server_default="", nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("begun", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("run", _NUMBER, nullable=False),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("drv_path", "output", name="pk_nm_realisation"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_nm_realisation_id", "nm_realisation", ["id"])
    op.create_index("ix_nm_realisation_path", "nm_realisation", ["path"])
