"""What pages cost in a large database: `python -m bench.pages --sqlite` or `--postgres`; ends with 1 above a budget.

The database has a million attempts, a hundred evaluations of 10,000 attributes and one of 100,000, a hundred projects
and 10,000 more runs. The budgets are those of the interface: p95 of 50 ms a page, 300 ms for 100,000 attributes.
"""

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table

from bench.history import store_path
from nixmill.core.access import Sight
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change
from nixmill.core.view.parts import Filter
from nixmill.edge.database import tables, tables_server
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.pages_admin import SqlAdminPages
from nixmill.edge.database.pages_builds import SqlBuildPages
from nixmill.edge.database.pages_evaluation import SqlRunPages
from nixmill.edge.database.pages_home import SqlProjectPages
from nixmill.edge.database.pages_rank import rank_of
from nixmill.edge.database.rows import path_text
from nixmill.nix.store_path import StorePath
from tests.support.postgres import Postgres

PROJECTS = 100
SMALL_RUNS = 10_000
EVALUATIONS = 100
ATTRIBUTES = 10_000
LARGE = 100_000
DERIVATIONS = 200_000
"""Different ones; each has five attempts."""
BUILDS = 1_000_000
ROUNDS = 12
NOW = 1_800_000_000.0
MAIN = "refs/heads/main"
ORDINARY_MS = 50.0
LARGE_MS = 300.0
BIG = SMALL_RUNS + EVALUATIONS + 1
"""The run with 100,000 attributes; the one after it goes on."""
GOING = BIG + 1

Rows = Iterable[Sequence[Any]]


def derivation(number: int) -> StorePath:
    """Return one of the derivations."""
    number %= DERIVATIONS
    return store_path(number, f"package-{number}-1.0.drv")


def fates() -> tuple[list[tuple[Outcome, Change]], list[int]]:
    """Return what becomes of attributes, with weights: most are good and the same."""
    weights = {
        (Outcome.SUCCEEDED, Change.SAME): 900,
        (Outcome.SUCCEEDED, Change.CHANGED): 50,
        (Outcome.SUCCEEDED, Change.NEW): 10,
        (Outcome.SUCCEEDED, Change.FIXED): 5,
        (Outcome.BUILD_FAILED, Change.SAME): 10,
        (Outcome.BUILD_FAILED, Change.NEWLY_FAILING): 3,
        (Outcome.DEPENDENCY_FAILED, Change.NEWLY_FAILING): 20,
        (Outcome.INFRASTRUCTURE, Change.CHANGED): 2,
    }
    return list(weights), list(weights.values())


def insert(connection: Connection, table: Table, columns: Sequence[str], rows: Rows) -> None:
    """Insert many rows as fast as the database can."""
    names = ", ".join(f'"{name}"' for name in columns)
    raw: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "postgresql":
        with raw.cursor() as cursor, cursor.copy(f"COPY {table.name} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        return
    marks = ", ".join("?" * len(columns))
    raw.cursor().executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)  # noqa: S608 - our names


def fill(connection: Connection) -> None:
    """Write everything."""
    project_columns = [
        "id",
        "name",
        "title",
        "url",
        "credential",
        "default_branch",
        "visibility",
        "poll_s",
        "weight",
        "created_at",
    ]
    visibilities = ("public", "internal", "private")
    insert(
        connection,
        tables_server.project,
        project_columns,
        ((n, f"project-{n}", "", "u", "", "main", visibilities[n % 3], 60, 1, 1.0) for n in range(1, PROJECTS + 1)),
    )
    refs = ((n, name, "c", 1.0) for n in range(1, PROJECTS + 1) for name in (MAIN, *branches(n)))
    insert(connection, tables_server.ref, ["project", "name", "commit", "seen_at"], refs)
    insert(connection, tables.run, RUN_COLUMNS, runs())
    sizes = dict.fromkeys(range(1, EVALUATIONS + 1), ATTRIBUTES) | {
        EVALUATIONS + 1: LARGE,
        EVALUATIONS + 2: LARGE,
    }
    evaluations = ((n, f"key-{n}", True, SMALL_RUNS + n, "t", "c", 1.0) for n in sizes)
    insert(
        connection, tables.evaluation, ["id", "key", "complete", "run", "tree_hash", "commit", "seconds"], evaluations
    )
    insert(connection, tables.run_evaluation, ["evaluation", "run"], ((n, SMALL_RUNS + n) for n in sizes))
    for number, size in sizes.items():
        insert(connection, tables.attribute, ATTRIBUTE_COLUMNS, attributes(number, size))
        shown = size if number != EVALUATIONS + 2 else size // 2
        insert(connection, tables.outcome, OUTCOME_COLUMNS, outcomes(number, shown))
    insert(connection, tables.attempt, ATTEMPT_COLUMNS, attempts())


def branches(project: int) -> list[str]:
    """Return further branches; the first project has many."""
    return [f"refs/heads/feature-{number}" for number in range(500 if project == 1 else 5)]


RUN_COLUMNS = [
    "number",
    "project",
    "checkout",
    "commit",
    "tree_hash",
    "targets",
    "base_commit",
    "process",
    "process_identity",
    "started_at",
    "ended_at",
    "verdict",
    "sentence",
    "project_id",
    "ref",
    "origin",
    "build_class",
    "requested_at",
    "state",
    "evaluation",
    "base_evaluation",
    "counts",
]
ATTRIBUTE_COLUMNS = ["evaluation", "position", "path", "name", "system", "drv_path", "details"]
OUTCOME_COLUMNS = ["evaluation", "run", "path", "drv_path", "outcome", "change", "how", "culprit", "seconds", "rank"]
ATTEMPT_COLUMNS = [
    "number",
    "run",
    "drv_path",
    "name",
    "system",
    "work",
    "machine",
    "started_at",
    "seconds",
    "outcome",
    "message",
    "exit_status",
    "log",
    "output_bytes",
]


def runs() -> Iterator[Sequence[Any]]:
    """Return the small runs, then those of the evaluations, the last of which goes on."""
    for number in range(1, GOING + 1):
        large = number - SMALL_RUNS
        project = number % PROJECTS + 1 if large <= 0 else large % 10 + 1
        done = number != GOING
        verdict = ("passed" if number % 3 or project % 4 else "failed") if project != 7 else "failed"
        yield (
            number,
            f"project-{project}",
            "",
            f"{number:08x}{'0' * 32}",
            "t",
            "[]",
            "",
            0,
            "",
            NOW - 100_000 + number,
            NOW - 90_000 + number if done else None,
            verdict if done else None,
            "",
            project,
            MAIN if number % 5 or large > 0 else "refs/heads/feature-1",
            "push",
            "branch",
            NOW - 100_000 + number,
            "done" if done else "building",
            f"key-{large}" if large > 0 else "",
            f"key-{large - 1}" if large > 1 else "",
            '{"failed":3,"all":100}' if done and large <= 0 else "{}",
        )


def path(number: int) -> str:
    """Return a stored path."""
    return path_text(("checks", "x86_64-linux", f"package-{number}"))


def attributes(evaluation: int, size: int) -> Iterator[Sequence[Any]]:
    """Return attributes, one in ten of which changes with each evaluation."""
    details = '{"outputs":{"out":"/nix/store/00000000000000000000000000000000-x"},"description":"A package among many"}'
    for n in range(size):
        drv_path = derivation(n if n % 10 else n + evaluation * 1000)
        yield evaluation, n, path(n), f"package-{n}-1.0", "x86_64-linux", drv_path, details


def outcomes(evaluation: int, size: int) -> Iterator[Sequence[Any]]:
    """Return the outcomes of a run, at random but always the same."""
    source = random.Random(evaluation)  # noqa: S311 - no secret
    kinds, weights = fates()
    for n, (outcome, change) in enumerate(source.choices(kinds, weights, k=size)):
        culprit = derivation(source.randrange(50)) if outcome is Outcome.DEPENDENCY_FAILED else None
        own = derivation(n if n % 10 else n + evaluation * 1000)
        rank = rank_of(outcome, change)
        yield (
            evaluation,
            SMALL_RUNS + evaluation,
            path(n),
            own,
            outcome.value,
            change.value,
            "built",
            culprit,
            1.0,
            rank,
        )


def attempts() -> Iterator[Sequence[Any]]:
    """Return attempts; a few of the last run are under way."""
    for number in range(1, BUILDS + 1):
        run = SMALL_RUNS + 1 + number * (EVALUATIONS + 2) // (BUILDS + 1)
        n = number % DERIVATIONS
        outcome = None if run == GOING and n < 5 else "build failed" if n < 50 or n % 40 == 0 else "succeeded"
        machine = f"ssh-ng://builder-{n % 8}"
        started = NOW - 86_400 * 10 + number * 0.86
        log = f"/logs/{number}"
        yield (
            number,
            run,
            derivation(n),
            f"package-{n}",
            "x86_64-linux",
            "build",
            machine,
            started,
            float(n % 300),
            outcome,
            "",
            None,
            log,
            1000,
        )


class Case(NamedTuple):
    """A page that is measured."""

    name: str
    budget_ms: float
    ask: Callable[[], Awaitable[Any]]


def cases(database: Database) -> list[Case]:
    """Return the pages."""
    projects, runs_ = SqlProjectPages(database, lambda: NOW), SqlRunPages(database, lambda: NOW)
    builds, admin = SqlBuildPages(database, lambda: NOW), SqlAdminPages(database, lambda: NOW)
    all_, member = Sight(everything=True), Sight(internal=True, private=frozenset(range(3, 60, 3)))
    ten = BIG - 5

    def page(number: int, filter_: Filter | None = None, find: str = "", at: int = 1) -> Callable[[], Awaitable[Any]]:
        return lambda: runs_.evaluation(all_, number, filter_, find, at, 200)

    attribute = ("checks", "x86_64-linux", "package-77")
    return [
        Case("home, administrator", ORDINARY_MS, lambda: projects.home(all_)),
        Case("home, member", ORDINARY_MS, lambda: projects.home(member)),
        Case("home, stranger", ORDINARY_MS, lambda: projects.home(Sight())),
        Case("project with 500 branches", ORDINARY_MS, lambda: projects.project(all_, "project-1")),
        Case("project", ORDINARY_MS, lambda: projects.project(all_, "project-5")),
        Case("branch", ORDINARY_MS, lambda: projects.branch(all_, "project-5", "main", None, 50)),
        Case("branch that always failed", ORDINARY_MS, lambda: projects.branch(all_, "project-7", "main", None, 50)),
        Case("attribute", ORDINARY_MS, lambda: projects.attribute(all_, "project-5", "main", attribute, None)),
        Case("runs", ORDINARY_MS, lambda: projects.runs(member, None, None, 50)),
        Case("evaluation of 10,000", ORDINARY_MS, page(ten)),
        Case("evaluation of 10,000, all, last page", ORDINARY_MS, page(ten, Filter.ALL, at=50)),
        Case("evaluation of 10,000, found", ORDINARY_MS, page(ten, Filter.ALL, "package-77")),
        Case("evaluation of 100,000", LARGE_MS, page(BIG)),
        Case("evaluation of 100,000, all, last page", LARGE_MS, page(BIG, Filter.ALL, at=500)),
        Case("evaluation of 100,000, found", LARGE_MS, page(BIG, Filter.ALL, "package-77")),
        Case("evaluation of 100,000, under way", LARGE_MS, page(GOING)),
        Case("evaluation of 100,000, what runs", LARGE_MS, page(GOING, Filter.RUNNING)),
        Case("evaluation of 100,000, what runs, last", LARGE_MS, page(GOING, Filter.RUNNING, at=250)),
        Case("attribute of a run", ORDINARY_MS, lambda: runs_.attribute_of(all_, BIG, attribute)),
        Case("compare 10,000 with 10,000", LARGE_MS, lambda: runs_.compare(all_, ten, ten + 1, 1, 200)),
        Case("compare 10,000 with 100,000", LARGE_MS, lambda: runs_.compare(all_, ten, BIG, 1, 200)),
        Case("compare 100,000 with 100,000", LARGE_MS, lambda: runs_.compare(all_, BIG, GOING, 1, 200)),
        Case("timeline of 10,000", LARGE_MS, lambda: runs_.timeline(all_, ten)),
        Case("derivation", ORDINARY_MS, lambda: builds.derivation(member, derivation(77))),
        Case("log", ORDINARY_MS, lambda: builds.log(all_, 500_000)),
        Case("queue: runs", ORDINARY_MS, lambda: builds.queued(member)),
        Case("queue: attempts", ORDINARY_MS, lambda: builds.running(member)),
        Case("machines", LARGE_MS, lambda: builds.machines([f"ssh-ng://builder-{n}" for n in range(8)], NOW)),
        Case("numbers, all", LARGE_MS, lambda: builds.numbers(all_, None)),
        Case("numbers, stranger", LARGE_MS, lambda: builds.numbers(Sight(), None)),
        Case("search: name", ORDINARY_MS, lambda: projects.search(all_, "package-77", 50)),
        Case("search: nothing", ORDINARY_MS, lambda: projects.search(member, "nowhere", 50)),
        Case("search: a letter", ORDINARY_MS, lambda: projects.search(member, "a", 50)),
        Case("search: store path", ORDINARY_MS, lambda: projects.search(all_, derivation(77)[11:43], 50)),
        Case("search: commit", ORDINARY_MS, lambda: projects.search(all_, f"{BIG:08x}", 50)),
        Case("rows", LARGE_MS, admin.rows),
    ]


async def measured(case: Case) -> bool:
    """Print what a page costs; say whether it is within its budget."""
    await case.ask()
    took = []
    for _ in range(ROUNDS):
        before = time.perf_counter()
        await case.ask()
        took.append((time.perf_counter() - before) * 1e3)
    p95 = statistics.quantiles(took, n=20)[-1]
    good = p95 <= case.budget_ms
    p50 = statistics.median(took)
    print(
        f"{case.name:42} p50 {p50:7.1f} ms   p95 {p95:7.1f} ms   {'ok' if good else f'above {case.budget_ms:.0f}'}",
        flush=True,
    )
    return good


def _readable(directory: Path) -> Path:
    """Return an empty directory that the user of PostgreSQL may enter."""
    directory.chmod(0o755)
    made = directory / "cluster"
    made.mkdir()
    return made


@contextlib.asynccontextmanager
async def a_database(kind: str) -> AsyncIterator[Database]:
    """Open an empty database."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        where: Path | str = Path(directory) / "state" / "nixmill.sqlite"
        if kind == "postgres":
            cluster = Postgres(_readable(Path(directory)))
            stack.callback(cluster.stop)
            where = cluster.url(cluster.new())
        async with open_database(where) as database:
            yield database


async def main() -> int:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--sqlite", dest="kind", action="store_const", const="sqlite")
    kind.add_argument("--postgres", dest="kind", action="store_const", const="postgres")
    parser.add_argument("--only", default="", help="measure pages with this in their name")
    given = parser.parse_args()
    async with a_database(given.kind) as database:
        before = time.perf_counter()
        await database.write(fill, action="fill")
        if given.kind == "postgres":
            await database.write(lambda connection: connection.exec_driver_sql("ANALYZE"), action="analyse")
        print(f"filled in {time.perf_counter() - before:.0f} s", flush=True)
        results = [await measured(case) for case in cases(database) if given.only in case.name]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
