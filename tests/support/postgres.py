"""A private PostgreSQL: a real cluster in a temporary directory, reached by a Unix socket alone."""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import sql

PROGRAMS: Final = max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default=None, key=str)
USER: Final = "mill"
_SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0777",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "lc_messages": "C",
    # Tests crash the server, never the machine.
    "fsync": "off",
    "full_page_writes": "off",
}


_SHARED: Final = pytest.StashKey["Postgres"]()


class Postgres:
    """A running cluster that makes databases."""

    def __init__(self, directory: Path, password: str = "") -> None:
        """Make a cluster in an empty directory and start it; with a password, it asks for that."""
        self._password = password
        self.directory = directory
        self._data = directory / "data"
        self._numbers = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user:
            shutil.chown(directory, self._user)
        directory.chmod(0o755)
        self._initialise()
        self.start()

    def start(self) -> None:
        """Start the server; returns once it answers."""
        arguments = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        log = (self.directory.parent / f"{self.directory.name}.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", str(self._data), "-k", str(self.directory), *arguments],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd="/",
            )
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        for _ in range(300):
            with contextlib.suppress(psycopg.OperationalError), self._connect():
                return
            assert self._process is not None and self._process.poll() is None, "PostgreSQL did not start"
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
        pytest.fail("PostgreSQL did not answer within 30 s")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT breaks connections off, SIGQUIT is a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(60)

    def url(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://{USER}@/{database}?host={self.directory}"

    def new(self, template: str = "template0", *, encoding: str = "UTF8") -> str:
        """Make a database; return its name."""
        name = f"test{next(self._numbers)}"
        with self._connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} ENCODING {} LOCALE 'C'").format(
                    sql.Identifier(name), sql.Identifier(template), sql.Literal(encoding)
                )
            )
        return name

    def drop(self, name: str) -> None:
        """Delete a database, whoever is connected to it."""
        with self._connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self.directory), user=USER, dbname="postgres", password=self._password, autocommit=True
        )

    def _initialise(self) -> None:
        command = [_program("initdb"), "-D", str(self._data), "-U", USER, "-E", "UTF8", "-N", "--locale=C"]
        command.append("--auth=scram-sha-256" if self._password else "--auth=trust")
        with tempfile.NamedTemporaryFile("w") as file:
            if self._password:
                file.write(self._password)
                file.flush()
                Path(file.name).chmod(0o644)
                command.append(f"--pwfile={file.name}")
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self._user, cwd="/")


def _program(name: str) -> str:
    assert PROGRAMS is not None
    return str(PROGRAMS.parent / name)


def why_not() -> str:
    """Return why there can be no cluster here; empty where there can."""
    if PROGRAMS is None:
        return "PostgreSQL is not installed (apt install postgresql)"
    if os.getuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "PostgreSQL does not run as root, and there is no user called postgres"
    return ""


@contextlib.contextmanager
def running_postgres(password: str = "") -> Iterator[Postgres]:
    """Run a cluster of one's own; skips the test where that is impossible."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="nm-pg-") as top:
        Path(top).chmod(0o755)
        directory = Path(top) / "c"
        directory.mkdir()
        made = Postgres(directory, password)
        try:
            yield made
        finally:
            made.stop()


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Postgres:
    """One cluster for the whole session, however many modules import this."""
    made = request.config.stash.get(_SHARED, None)
    if made is None:
        stack = contextlib.ExitStack()
        made = stack.enter_context(running_postgres())
        request.config.stash[_SHARED] = made
        request.config.add_cleanup(stack.close)
    return made
