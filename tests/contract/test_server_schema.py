"""The schema on both databases: the sum of the migrations is the tables, and what was recorded before is kept."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, Connection, ForeignKeyConstraint, Table, UniqueConstraint, inspect, text

from nixmill.edge.database import migrate, tables, tables_forge, tables_server
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.engine import sqlite_engine
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.place import SqliteFile
from tests.support.databases import BOTH, a_place, database, place, postgres, server
from tests.support.history_rows import a_run, an_evaluation, an_outcome
from tests.support.postgres import Postgres, why_not

__all__ = ["database", "place", "postgres"]

_ALIEN = "CREATE TABLE dbos_of_others (id INTEGER PRIMARY KEY)"


def _sqlite_schema(connection: Connection) -> dict[str, frozenset[str]]:
    found = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE name LIKE 'nm\\_%' ESCAPE '\\'"))
    indices = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type = 'index'"))
    return {name: _parts(sql) for name, sql in (*found, *indices) if name != migrate.VERSION_TABLE}


def _parts(sql: str) -> frozenset[str]:
    """Return what a statement says, in no order: a column that was added later stands after the constraints."""
    plain = re.sub(r"\s+", " ", sql.replace('"', ""))
    inner = plain.partition("(")[2]
    options = inner.rpartition(")")[2]
    pieces = re.split(r",(?![^(]*\))", inner.rpartition(")")[0])
    return frozenset(piece.strip() for piece in (*pieces, options))


_PG = """
SELECT 'column ' || table_name || '.' || column_name,
       concat_ws(' ', data_type, is_nullable, coalesce(column_default, ''), is_identity)
FROM information_schema.columns WHERE table_schema = 'public' AND table_name LIKE 'nm\\_%'
UNION ALL SELECT 'index ' || indexname, indexdef FROM pg_indexes
WHERE schemaname = 'public' AND indexname LIKE '%nm\\_%'
UNION ALL SELECT 'constraint ' || conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conname LIKE '%nm\\_%'
"""


def _postgres_schema(connection: Connection) -> dict[str, str]:
    rows = connection.execute(text(_PG)).all()
    return {name: definition for name, definition in rows if migrate.VERSION_TABLE not in name}


def test_the_sum_of_the_migrations_is_the_tables_on_sqlite(tmp_path: Path) -> None:
    SqliteFile(tmp_path / "migrated").prepare()
    with sqlite_engine(tmp_path / "migrated").begin() as connection:
        connection.exec_driver_sql(_ALIEN)
        migrated = _sqlite_schema(connection)
        assert migrate.revision(connection) == migrate.HEAD
    with sqlite_engine(tmp_path / "direct").begin() as connection:
        tables.metadata.create_all(connection)
        direct = _sqlite_schema(connection)
    assert migrated == direct


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_the_sum_of_the_migrations_is_the_tables_on_postgresql(postgres: Postgres) -> None:
    names = [postgres.new(), postgres.new()]
    migrated, direct = (server(postgres.url(name)) for name in names)
    migrated.prepare()
    with migrated.engine().begin() as connection:
        connection.exec_driver_sql(_ALIEN)
        found = _postgres_schema(connection)
    with direct.engine().begin() as connection:
        tables.metadata.create_all(connection)
        wanted = _postgres_schema(connection)
    assert found == wanted
    assert sum(name.startswith("column nm_") for name in found) > 150
    for name in names:
        postgres.drop(name)


def _upgrade_to_the_first(connection: Connection) -> None:
    from alembic.migration import MigrationContext  # noqa: PLC0415 - as in the program
    from alembic.operations import Operations  # noqa: PLC0415

    first = importlib.import_module("nixmill.edge.database.migrations.versions.r0001_first")
    with Operations.context(MigrationContext.configure(connection)):
        first.upgrade()
    connection.execute(text(f"CREATE TABLE {migrate.VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO nm_schema VALUES ('0001')"))


_OLD_ROWS = """
INSERT INTO nm_run (project, checkout, "commit", tree_hash, targets, base_commit, process, process_identity,
started_at, sentence) VALUES ('example', '/src', 'c0ffee', 'beef', '[".#a"]', '', 1, 'x', 5.0, 'good');
INSERT INTO nm_run (project, checkout, "commit", tree_hash, targets, base_commit, process, process_identity,
started_at, sentence) VALUES ('example', '/src', 'c0ffee', 'beef', '[]', '', 1, 'x', 6.0, '');
INSERT INTO nm_evaluation (key, run, complete) VALUES ('key', 1, true);
INSERT INTO nm_run_evaluation (evaluation, run) VALUES (1, 1);
INSERT INTO nm_outcome (evaluation, run, path, drv_path, outcome, change, how, seconds)
VALUES (1, 1, '["a"]', '/nix/store/x.drv', 'succeeded', 'new', 'built', 1.0);
INSERT INTO nm_attempt (number, run, drv_path, name, system, work, machine, started_at, seconds, message, log,
output_bytes) VALUES (1, 1, '/nix/store/x.drv', 'x', 's', 'build', 'local', 1.0, 1.0, '', '', 0);
DELETE FROM nm_run WHERE number = 2
"""


@pytest.mark.parametrize("kind", BOTH)
async def test_a_database_of_the_first_schema_keeps_its_rows(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with a_place(kind, request, tmp_path) as where:
        if isinstance(where, Path):
            where.parent.mkdir()
        with _emptied(where).begin() as connection:
            _upgrade_to_the_first(connection)
            for statement in _OLD_ROWS.split(";"):
                connection.exec_driver_sql(statement)
        async with open_database(where) as opened:
            history = SqlHistory(opened, lambda: 0.0)
            found = await history.run(1)
            assert found is not None
            assert (found[0].sentence, found[0].targets, len(found[1])) == ("good", (".#a",), 1)
            assert [row.how for row in await history.attributes(1)] == ["built"]
            assert await history.check() == []
            assert await history.start_run(a_run()) == 3


def _emptied(where: Path | str) -> Any:  # noqa: ANN401 - an engine
    if isinstance(where, Path):
        return sqlite_engine(where, foreign_keys=False)
    engine = server(where).engine()
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    return engine


def _starts(table: Table) -> set[tuple[str, ...]]:
    """Return what an index begins with: the keys, the unique constraints, the indices of a whole table."""
    whole = [index for index in table.indexes if not any(kind["where"] is not None for kind in _where(index))]
    unique = [key for key in table.constraints if isinstance(key, UniqueConstraint)]
    lists = [list(table.primary_key), *([*index.columns] for index in whole), *([*key.columns] for key in unique)]
    return {tuple(column.name for column in columns[:n]) for columns in lists for n in range(1, len(columns) + 1)}


def _where(index: Any) -> list[Any]:  # noqa: ANN401 - of SQLAlchemy
    return [index.dialect_options["sqlite"], index.dialect_options["postgresql"]]


@pytest.mark.parametrize("table", tables.metadata.sorted_tables, ids=lambda table: table.name)
def test_every_foreign_key_has_an_index_for_deletions(table: Table) -> None:
    keys = [key for key in table.constraints if isinstance(key, ForeignKeyConstraint)]
    wanted = {tuple(column.name for column in key.columns) for key in keys}
    assert wanted <= _starts(table)


async def test_the_names_of_tables_are_ours(database: Database) -> None:
    names = await database.read(lambda connection: inspect(connection).get_table_names(), action="look")
    assert {name for name in names if name.startswith("nm_")} == {*tables.metadata.tables, migrate.VERSION_TABLE}
    assert {tables_server.project.name, tables_forge.pull_request.name} <= set(names)
    assert isinstance(tables_server.project.c.id, Column)


async def test_what_is_recorded_has_a_rank(database: Database) -> None:
    history = SqlHistory(database, lambda: 0.0)
    run = await history.start_run(a_run())
    await history.record([an_evaluation(run, ("a",)), an_outcome(run, "a")])
    ranks = await database.read(
        lambda connection: connection.execute(text("SELECT rank FROM nm_outcome")).scalars().all(), action="look"
    )
    assert len(ranks) == 1
