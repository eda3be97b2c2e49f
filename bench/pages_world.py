"""A large database for what measures pages: a million attempts, big evaluations, many projects and small runs.

It has a hundred evaluations of 10,000 attributes and one of 100,000, a hundred projects and 10,000 more runs; the last
run, of 100,000 attributes too, goes on. Who measures less sets smaller numbers before `fill`.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Table

from bench.history import store_path
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change
from nixmill.edge.database import tables, tables_server
from nixmill.edge.database.pages_rank import rank_of
from nixmill.edge.database.rows import path_text
from nixmill.nix.store_path import StorePath

PROJECTS = 100
SMALL_RUNS = 10_000
EVALUATIONS = 100
ATTRIBUTES = 10_000
LARGE = 100_000
DERIVATIONS = 200_000
"""Different ones; each has five attempts."""
BUILDS = 1_000_000
NOW = 1_800_000_000.0
MAIN = "refs/heads/main"
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
