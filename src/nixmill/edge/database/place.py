"""Where a database is, and how one connects to it: a file of SQLite, or a server of PostgreSQL.

A password is handed over apart from the address, so that it never stands in a URL, a log or a message.
"""

from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy.exc
from sqlalchemy import Connection, Engine, create_engine, make_url
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool, QueuePool

from nixmill.core.errors import InputError
from nixmill.edge.database import migrate
from nixmill.edge.database.engine import open_sqlite, sqlite_engine
from nixmill.edge.database.faults import UnfitServerError

OLDEST_POSTGRESQL: Final = 130_000
"""As `server_version_num`: the first that can tell whether a transaction was committed (`pg_xact_status`)."""
CONNECT_TIMEOUT_S: Final = 10
_MIGRATION_LOCK: Final = 0x6E69786D  # an arbitrary number that nobody else uses

_HINT: Final = "Give one such as postgresql://user@host/database or postgresql:///database?host=/run/postgresql"


class SqliteFile(msgspec.Struct, frozen=True):
    """A file."""

    file: Path

    def __str__(self) -> str:
        """Return it as messages name it."""
        return str(self.file)

    def prepare(self) -> None:
        """Make and migrate the database where needed; raise whatever the outside raises."""
        open_sqlite(self.file)

    def connect(self, *, reads_only: bool) -> Connection:
        """Return a connection, which may be used by the calling thread only."""
        return sqlite_engine(self.file, reads_only=reads_only).connect()


class PostgresServer(msgspec.Struct, frozen=True):
    """A database of a server."""

    url: URL
    password: str = ""

    def __str__(self) -> str:
        """Return it as messages name it."""
        return self.url.set(drivername="postgresql").render_as_string(hide_password=True)

    def __repr__(self) -> str:
        """Return it without the password."""
        return f"PostgresServer({self})"

    def prepare(self) -> None:
        """Migrate the database where needed; raise whatever the outside raises."""
        with self.engine().connect() as connection, connection.begin():
            _refuse_unfit(connection)
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            if not migrate.is_current(connection):
                migrate.upgrade(connection)

    def connect(self, *, reads_only: bool) -> Connection:
        """Return a connection. One that only reads sees the same state in all statements of a transaction."""
        connection = self.engine().connect()
        if reads_only:
            return connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        return connection

    def engine(self, *, pooled: bool = False) -> Engine:
        """Return an engine whose connections have nixmill's settings; `pooled` for who connects often."""
        arguments: dict[str, object] = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "nixmill",
            # A host that vanished is noticed within a minute.
            "keepalives_idle": 20,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 50_000,
        }
        if self.password:
            arguments["password"] = self.password
        return create_engine(
            self.url, poolclass=QueuePool if pooled else NullPool, connect_args=arguments, hide_parameters=True
        )


Place = SqliteFile | PostgresServer


def place_of(where: Path | str, password: str = "") -> Place:
    """Return the place that a file or a URL names; raise `InputError` where it names none."""
    if isinstance(where, Path):
        return SqliteFile(where)
    try:
        url = make_url(where)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        # The error may hold a piece of the address, and that a password.
        raise InputError("The database's address is no URL.", _HINT) from None
    if url.drivername not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise InputError(f"Databases of the kind {url.drivername!r} are not known.", _HINT)
    if url.password is not None or "password" in url.query:
        raise InputError("A password may not stand in the database's URL.", "Put it into a credential.")
    if not url.database:
        raise InputError("The database's URL names no database.", _HINT)
    return PostgresServer(url.set(drivername="postgresql+psycopg"), password)


def _refuse_unfit(connection: Connection) -> None:
    number, shown, encoding = connection.exec_driver_sql(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
        " current_setting('server_encoding')"
    ).one()
    if number < OLDEST_POSTGRESQL:
        raise UnfitServerError(f"PostgreSQL {shown} is too old. Use version 13 or newer.")
    if encoding != "UTF8":
        raise UnfitServerError(f"its encoding is {encoding}. Create it anew with: createdb -E UTF8 -T template0")
