"""The tables. All names start with `nm_`, so that other software may keep its tables in the same database.

Decides what is stored and what goes with what when it is deleted. Changing anything here needs a new file in
`migrations/versions`; a test holds the sum of the migrations equal to this file. What this file does not know: SQL
dialects beyond the few options that each construct names itself.

Paths of attributes are stored as JSON lists in pure ASCII: any text, even a lone surrogate, comes back unchanged.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    false,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")
"""64 bits everywhere; SQLite only counts up a column that is called INTEGER."""

run: Final = Table(
    "nm_run",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=True),
    Column("project", Text, nullable=False),
    Column("checkout", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("tree_hash", Text, nullable=False),
    Column("targets", Text, nullable=False),
    Column("base_commit", Text, nullable=False),
    Column("process", BigInteger, nullable=False),
    Column("process_identity", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("verdict", Text),
    Column("sentence", Text, nullable=False),
    # What follows belongs to runs of the server; a run of `nixmill run` leaves it as it is.
    Column("project_id", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE")),
    Column("jobset", NUMBER, ForeignKey("nm_jobset.id", ondelete="SET NULL"), index=True),
    Column("ref", Text, nullable=False, server_default=""),
    Column("origin", Text, nullable=False, server_default=""),
    Column("build_class", Text, nullable=False, server_default=""),
    Column("requested_by", NUMBER, ForeignKey("nm_user.id", ondelete="SET NULL"), index=True),
    Column("requested_at", Double, nullable=False, server_default="0"),
    Column("state", Text, nullable=False, server_default=""),
    Column("options", Text, nullable=False, server_default="{}"),
    Column("retry_of", NUMBER, ForeignKey("nm_run.number", ondelete="SET NULL"), index=True),
    Column("superseded_by", NUMBER, ForeignKey("nm_run.number", ondelete="SET NULL"), index=True),
    Column("cancel_asked", Boolean, nullable=False, server_default=false()),
    Column("base_reason", Text, nullable=False, server_default=""),
    Column("subject", Text, nullable=False, server_default=""),
    Column("author", Text, nullable=False, server_default=""),
    Column("evaluation", Text, nullable=False, server_default=""),
    Column("base_evaluation", Text, nullable=False, server_default=""),
    Column("counts", Text, nullable=False, server_default="{}"),
    Column("notices", Text, nullable=False, server_default="[]"),
    Column("output_bytes", BigInteger, nullable=False, server_default="0"),
    Column("tier", Text, nullable=False, server_default="branch"),
    Column("pull_request", NUMBER),
    Column("base_ref", Text, nullable=False, server_default=""),
    Column("tested", Text, nullable=False, server_default=""),
    Column("withdrawn", Boolean, nullable=False, server_default=false()),
    Column("sizes", Text, nullable=False, server_default="[]"),
    sqlite_autoincrement=True,
)
Index("ix_nm_run_project_number", run.c.project_id, run.c.number)
Index("ix_nm_run_ref", run.c.project_id, run.c.ref, run.c.number)
Index("ix_nm_run_ref_verdict", run.c.project_id, run.c.ref, run.c.verdict, run.c.number)
Index("ix_nm_run_pull_request", run.c.project_id, run.c.pull_request, run.c.number)
Index("ix_nm_run_commit", run.c.commit, postgresql_ops={"commit": "text_pattern_ops"})
Index("ix_nm_run_open", run.c.number, sqlite_where=run.c.ended_at.is_(None), postgresql_where=run.c.ended_at.is_(None))

evaluation: Final = Table(
    "nm_evaluation",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False, unique=True, index=True),
    Column("complete", Boolean, nullable=False, server_default=false()),
    Column("run", NUMBER, ForeignKey("nm_run.number", ondelete="SET NULL"), index=True),
    Column("tree_hash", Text, nullable=False, server_default=""),
    Column("commit", Text, nullable=False, server_default=""),
    Column("seconds", Double, nullable=False, server_default="0"),
    Column("tier", Text, nullable=False, server_default="branch"),
)
"""An evaluation that is not `complete` is only a key: outcomes came before it, or its run was broken off."""

attribute: Final = Table(
    "nm_attribute",
    metadata,
    Column("evaluation", NUMBER, ForeignKey("nm_evaluation.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("system", Text, nullable=False),
    Column("drv_path", Text, nullable=False),
    Column("details", Text, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_nm_attribute_path", attribute.c.evaluation, attribute.c.path)
Index(
    "ix_nm_attribute_drv_path",
    attribute.c.drv_path,
    attribute.c.evaluation,
    postgresql_ops={"drv_path": "text_pattern_ops"},
)

evaluation_error: Final = Table(
    "nm_evaluation_error",
    metadata,
    Column("evaluation", NUMBER, ForeignKey("nm_evaluation.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, nullable=False),
    Column("fault", Text, nullable=False),
    Column("details", Text, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_nm_evaluation_error_path", evaluation_error.c.evaluation, evaluation_error.c.path)

run_evaluation: Final = Table(
    "nm_run_evaluation",
    metadata,
    Column("evaluation", NUMBER, ForeignKey("nm_evaluation.id", ondelete="CASCADE"), primary_key=True),
    Column("run", NUMBER, ForeignKey("nm_run.number", ondelete="CASCADE"), primary_key=True, index=True),
    sqlite_with_rowid=False,
)
"""Which runs found outcomes under which evaluation."""

outcome: Final = Table(
    "nm_outcome",
    metadata,
    Column("evaluation", NUMBER, primary_key=True, autoincrement=False),
    Column("run", NUMBER, primary_key=True, autoincrement=False),
    Column("path", Text, primary_key=True),
    Column("drv_path", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("change", Text, nullable=False),
    Column("how", Text, nullable=False),
    Column("culprit", Text),
    Column("seconds", Double, nullable=False),
    Column("rank", SmallInteger, nullable=False, server_default="0"),
    ForeignKeyConstraint(
        ["evaluation", "run"], ["nm_run_evaluation.evaluation", "nm_run_evaluation.run"], ondelete="CASCADE"
    ),
    sqlite_with_rowid=False,
)
"""`rank` is where a page shows it (`pages_rank`), made from outcome and change when they are recorded."""
Index("ix_nm_outcome_rank", outcome.c.evaluation, outcome.c.run, outcome.c.rank, outcome.c.path)

attempt: Final = Table(
    "nm_attempt",
    metadata,
    Column("number", NUMBER, primary_key=True, autoincrement=False),
    Column("run", NUMBER, ForeignKey("nm_run.number", ondelete="CASCADE"), nullable=False, index=True),
    Column("drv_path", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("system", Text, nullable=False),
    Column("work", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("outcome", Text),
    Column("message", Text, nullable=False),
    Column("exit_status", Integer),
    Column("log", Text, nullable=False),
    Column("output_bytes", BigInteger, nullable=False),
)
Index(
    "ix_nm_attempt_drv_path",
    attempt.c.drv_path,
    attempt.c.number,
    attempt.c.outcome,
    postgresql_ops={"drv_path": "text_pattern_ops"},
)
_open = attempt.c.outcome.is_(None)
Index("ix_nm_attempt_open", attempt.c.run, attempt.c.number, sqlite_where=_open, postgresql_where=_open)
Index(
    "ix_nm_attempt_started",
    attempt.c.started_at,
    attempt.c.run,
    attempt.c.machine,
    attempt.c.work,
    attempt.c.outcome,
    attempt.c.seconds,
)

_built = (attempt.c.outcome == "succeeded") & (attempt.c.work == "build")
Index(
    "ix_nm_attempt_built",
    attempt.c.name,
    attempt.c.number,
    attempt.c.seconds,
    sqlite_where=_built,
    postgresql_where=_built,
)

counter: Final = Table(
    "nm_counter",
    metadata,
    Column("name", Text, primary_key=True),
    Column("next", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Numbers that must never be given twice, even after the rows that had them are gone."""
