"""Opens a database of SQLite: settings, versions that are refused, migrations; and what the two dialects write apart.

Source of the settings: measurements of the stack. WAL with `synchronous=FULL`, because what matters is in the
database before it is announced; immediate transactions, because one that starts as a reader and then writes fails
at once when another process wrote in between; a long busy time-out, because two processes may write at a time.
"""

import contextlib
import fcntl
import functools
import json
import os
import sqlite3
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import JSON, Connection, Engine, Table, cast, create_engine, event, func
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool
from sqlalchemy.sql import TableValuedAlias

from nixmill.doors import DoorError
from nixmill.edge.database import migrate
from nixmill.edge.private_files import create_file, make_directory

BUSY_TIMEOUT_MS: Final = 60_000
JOURNAL_SIZE_LIMIT: Final = 64 * 1024 * 1024
READ_ONLY: Final = "nixmill_read_only"
"""Execution option of a connection: its transactions take no lock for writing."""

OLDEST_SQLITE: Final = (3, 42, 0)


def refuse_old_sqlite(sqlite_version: tuple[int, ...], python_version: tuple[int, ...]) -> None:
    """Raise `DoorError` where this Python and this SQLite do not go together."""
    if python_version >= (3, 12) and sqlite_version < OLDEST_SQLITE:
        shown = ".".join(map(str, sqlite_version))
        raise DoorError(
            f"SQLite {shown} is too old: on Python 3.12 and newer nixmill needs SQLite 3.42. "
            "Use a Python that brings a newer SQLite (those of nixpkgs and uv do), or Python 3.11.",
            door="history",
            action="open",
            retryable=False,
        )


def open_sqlite(file: Path) -> None:
    """Make and migrate the database at `file` where needed; raise whatever the outside raises."""
    refuse_old_sqlite(sqlite3.sqlite_version_info, sys.version_info[:3])
    make_directory(file.parent)
    with _only_one_opens(file.parent):
        if not file.exists():
            os.close(create_file(file))
        _migrate(file)


@contextlib.contextmanager
def _only_one_opens(directory: Path) -> Iterator[None]:
    """Keep other processes from opening: changing to WAL does not wait for the busy time-out."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sqlite_engine(file: Path, *, foreign_keys: bool = True, reads_only: bool = False) -> Engine:
    """Return an engine whose connections have nixmill's settings."""
    url = URL.create("sqlite", database=str(file))
    engine = create_engine(url, poolclass=NullPool, connect_args={"isolation_level": None})
    event.listen(engine, "connect", functools.partial(_configure, foreign_keys=foreign_keys, reads_only=reads_only))
    event.listen(engine, "begin", _begin)
    return engine


def _configure(
    connection: sqlite3.Connection, _record: object, *, foreign_keys: bool = True, reads_only: bool = False
) -> None:
    for pragma in (
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        # Only has an effect on an empty file; on any other it would wait for whoever writes.
        *(["auto_vacuum=INCREMENTAL"] if _is_empty(connection) else []),
        "journal_mode=WAL",
        "synchronous=FULL",
        f"foreign_keys={int(foreign_keys)}",
        f"journal_size_limit={JOURNAL_SIZE_LIMIT}",
        f"query_only={int(reads_only)}",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def configure(connection: sqlite3.Connection, record: object) -> None:
    """Give a connection of another library's engine nixmill's settings (event `connect` of SQLAlchemy)."""
    _configure(connection, record)


def _is_empty(connection: sqlite3.Connection) -> bool:
    with contextlib.closing(connection.execute("PRAGMA page_count")) as cursor:
        return bool(cursor.fetchone()[0] == 0)


def _begin(connection: Connection) -> None:
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def _migrate(file: Path) -> None:
    """Bring the schema up to date. Foreign keys are off: rebuilding a table must not delete what refers to it."""
    with sqlite_engine(file, foreign_keys=False).connect() as connection:
        connection.execution_options(**{READ_ONLY: True})
        with connection.begin():
            if migrate.is_current(connection):
                return
        connection.execution_options(**{READ_ONLY: False})
        with connection.begin():
            migrate.upgrade(connection)
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise sqlite3.IntegrityError(f"{len(broken)} rows refer to rows that are not there: {broken[:3]}")


def insert_into(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Return an INSERT of the dialect that knows `ON CONFLICT`."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def as_table(connection: Connection, values: Collection[str]) -> TableValuedAlias:
    """Return a table of one column, `value`, of texts handed over as one parameter: any number of them."""
    if connection.dialect.name == "postgresql":
        return func.json_array_elements_text(cast(list(values), JSON)).table_valued("value")
    return func.json_each(json.dumps(list(values))).table_valued("value")
