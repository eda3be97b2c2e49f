"""The fixture `database`: the same tests on SQLite and on PostgreSQL.

A test module imports `database`, `place` and `postgres` and names them in its `__all__`.
"""

import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.place import PostgresServer, place_of
from tests.support.postgres import Postgres, postgres, why_not

__all__ = ["BOTH", "database", "place", "postgres"]

BOTH: Final = ("sqlite", "postgresql")


@functools.cache
def template(postgres: Postgres) -> str:
    """Return the name of a migrated database to clone."""
    name = postgres.new()
    place_of(postgres.url(name)).prepare()
    return name


def server(url: str) -> PostgresServer:
    """Return the place that an address of PostgreSQL names."""
    found = place_of(url)
    assert isinstance(found, PostgresServer)
    return found


@contextlib.contextmanager
def a_place(kind: str, request: pytest.FixtureRequest, directory: Path) -> Iterator[Path | str]:
    """Return where an empty database is, of the kind `sqlite` or `postgresql`."""
    if kind == "sqlite":
        yield directory / "state" / "history.sqlite"
        return
    if why_not():
        pytest.skip(why_not())
    cluster: Postgres = request.getfixturevalue("postgres")
    name = cluster.new(template(cluster))
    try:
        yield cluster.url(name)
    finally:
        cluster.drop(name)


@pytest.fixture(params=BOTH)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """Where an empty database is: a file, and an address."""
    with a_place(request.param, request, tmp_path) as where:
        yield where


@pytest.fixture
async def database(place: Path | str) -> AsyncIterator[Database]:
    """An opened, empty database of one's own, on both."""
    async with open_database(place) as opened:
        yield opened
