"""The tables of what is kept alive and of what is published. The rules of `tables_server` hold.

A pin outlives its run, so it names the run without referring to it. Store paths are kept whole; outputs are one JSON
object of names and paths, since they are written and read together.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Index, Integer, Table, Text

from nixmill.edge.database.tables import NUMBER, metadata

pin: Final = Table(
    "nm_pin",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), nullable=False),
    Column("ref", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("run", NUMBER, nullable=False),
    Column("order", NUMBER, nullable=False),
    Column("drv_path", Text, nullable=False),
    Column("outputs", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("keep", Integer, nullable=False),
    Column("held", Text, nullable=False, server_default=""),
    Column("at", Double, nullable=False),
    Column("gone_at", Double),
    sqlite_autoincrement=True,
)
Index("ix_nm_pin_key", pin.c.project, pin.c.ref, pin.c.path, pin.c.order)
_gone = pin.c.gone_at.is_not(None)
Index("ix_nm_pin_gone", pin.c.gone_at, sqlite_where=_gone, postgresql_where=_gone)

pin_head: Final = Table(
    "nm_pin_head",
    metadata,
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), primary_key=True),
    Column("ref", Text, primary_key=True),
    Column("jobset", NUMBER, primary_key=True, autoincrement=False),
    Column("order", NUMBER, nullable=False),
    sqlite_with_rowid=False,
)
"""The newest complete evaluation of a branch that was heard of, by jobset (0: of none): an older one takes nothing
away, and neither does that of another jobset, which has other attributes."""

hand_pin: Final = Table(
    "nm_hand_pin",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="CASCADE"), index=True),
    Column("store_path", Text, nullable=False),
    Column("ref", Text, nullable=False, server_default=""),
    Column("attribute", Text),
    Column("reason", Text, nullable=False),
    Column("user", NUMBER, ForeignKey("nm_user.id", ondelete="SET NULL"), index=True),
    Column("who", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("until", Double),
    sqlite_autoincrement=True,
)
_of_server = hand_pin.c.project.is_(None)
Index(
    "uq_nm_hand_pin_server",
    hand_pin.c.store_path,
    unique=True,
    sqlite_where=_of_server,
    postgresql_where=_of_server,
)
Index("uq_nm_hand_pin_project", hand_pin.c.project, hand_pin.c.store_path, unique=True)

upload: Final = Table(
    "nm_upload",
    metadata,
    Column("cache", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("project", NUMBER, ForeignKey("nm_project.id", ondelete="SET NULL"), index=True),
    Column("run", NUMBER, nullable=False),
    Column("state", Text, nullable=False),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("due_at", Double, nullable=False),
    Column("fault", Text, nullable=False, server_default=""),
    Column("at", Double, nullable=False),
    Column("done_at", Double),
    sqlite_with_rowid=False,
)
Index("ix_nm_upload_due", upload.c.cache, upload.c.state, upload.c.due_at)
Index("ix_nm_upload_path", upload.c.path)

realisation: Final = Table(
    "nm_realisation",
    metadata,
    Column("drv_path", Text, primary_key=True),
    Column("output", Text, primary_key=True),
    Column("id", Text, nullable=False, server_default="", index=True),
    Column("path", Text, nullable=False, server_default="", index=True),
    Column("text", Text, nullable=False, server_default=""),
    Column("tier", Text, nullable=False),
    Column("begun", BigInteger, nullable=False, server_default="0"),
    Column("run", NUMBER, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    sqlite_with_rowid=False,
)
"""What outputs came out as; `text` is JSON as Nix writes it. `begun`: the attempt of a
pull request that began since then, until its end is heard of."""

made: Final = Table(
    "nm_made",
    metadata,
    Column("path", Text, primary_key=True),
    Column("tier", Text, nullable=False),
    Column("run", NUMBER, nullable=False),
    Column("attempt", BigInteger, nullable=False),
    Column("at", Double, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)
