"""What pages cost in a large database: `python -m bench.pages --sqlite` or `--postgres`; ends with 1 above a budget.

The database is that of `bench.pages_world`. Budgets are those of the interface, for the questions of a page alone: p95
of 50 ms a page, 300 ms where 100,000 attributes, or all builds of a day, are behind it.

How to read it: `p50` and `p95` are what one who asks waits for; `p95` is held against the budget. `cpu` is the mean
time of processors, here and in PostgreSQL (less its parallel workers); it depends far less on what else runs. A p95
above the budget with cpu far below it and a load above the number of processors says that the machine was busy: measure
again when it is quiet. With cpu near the budget the page itself is too slow. `--small` fills a fiftieth, in seconds, to
see that everything works; `--only WORDS` measures pages with these words in their name.
"""

import argparse
import asyncio
import contextlib
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench import pages_world as world
from nixmill.core.access import Sight
from nixmill.core.view.parts import Filter
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.pages_admin import SqlAdminPages
from nixmill.edge.database.pages_builds import SqlBuildPages
from nixmill.edge.database.pages_evaluation import SqlRunPages
from nixmill.edge.database.pages_home import SqlProjectPages
from tests.support.postgres import Postgres

ORDINARY_MS = 50.0
LARGE_MS = 300.0
WARM_UP = 6
"""Times that a page is asked for before: from the sixth on, statements are prepared."""
ROUNDS = 40
LARGE_ROUNDS = 20
SIZE = 200
"""Attributes a page."""


class Case(NamedTuple):
    """A page that is measured."""

    name: str
    budget_ms: float
    ask: Callable[[], Awaitable[Any]]


def cases(database: Database) -> list[Case]:
    """Return the pages."""
    projects, runs_ = SqlProjectPages(database, lambda: world.NOW), SqlRunPages(database, lambda: world.NOW)
    builds, admin = SqlBuildPages(database, lambda: world.NOW), SqlAdminPages(database, lambda: world.NOW)
    all_, member = Sight(everything=True), Sight(internal=True, private=frozenset(range(3, 60, 3)))
    ten = world.BIG - 5

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
        Case("evaluation of 100,000", LARGE_MS, page(world.BIG)),
        Case("evaluation of 100,000, all, last page", LARGE_MS, page(world.BIG, Filter.ALL, at=500)),
        Case("evaluation of 100,000, found", LARGE_MS, page(world.BIG, Filter.ALL, "package-77")),
        Case("evaluation of 100,000, under way", LARGE_MS, page(world.GOING)),
        Case("evaluation of 100,000, what runs", LARGE_MS, page(world.GOING, Filter.RUNNING)),
        Case("evaluation of 100,000, what runs, last", LARGE_MS, page(world.GOING, Filter.RUNNING, at=250)),
        Case("attribute of a run", ORDINARY_MS, lambda: runs_.attribute_of(all_, world.BIG, attribute)),
        Case("compare 10,000 with 10,000", LARGE_MS, lambda: runs_.compare(all_, ten, ten + 1, 1, 200)),
        Case("compare 10,000 with 100,000", LARGE_MS, lambda: runs_.compare(all_, ten, world.BIG, 1, 200)),
        Case("compare 100,000 with 100,000", LARGE_MS, lambda: runs_.compare(all_, world.BIG, world.GOING, 1, 200)),
        Case("timeline of 10,000", LARGE_MS, lambda: runs_.timeline(all_, ten)),
        Case("derivation", ORDINARY_MS, lambda: builds.derivation(member, world.derivation(77))),
        Case("log", ORDINARY_MS, lambda: builds.log(all_, world.BUILDS // 2)),
        Case("queue: runs", ORDINARY_MS, lambda: builds.queued(member)),
        Case("queue: attempts", ORDINARY_MS, lambda: builds.running(member)),
        Case("machines", LARGE_MS, lambda: builds.machines([f"ssh-ng://builder-{n}" for n in range(8)], world.NOW)),
        Case("numbers, all", LARGE_MS, lambda: builds.numbers(all_, None)),
        Case("numbers, stranger", LARGE_MS, lambda: builds.numbers(Sight(), None)),
        Case("search: name", ORDINARY_MS, lambda: projects.search(all_, "package-77", 50)),
        Case("search: nothing", ORDINARY_MS, lambda: projects.search(member, "nowhere", 50)),
        Case("search: a letter", ORDINARY_MS, lambda: projects.search(member, "a", 50)),
        Case("search: store path", ORDINARY_MS, lambda: projects.search(all_, world.derivation(77)[11:43], 50)),
        Case("search: commit", ORDINARY_MS, lambda: projects.search(all_, f"{world.BIG:08x}", 50)),
        Case("rows", LARGE_MS, admin.rows),
    ]


class Clock:
    """Tells the time of processors that was used: by this process, and by PostgreSQL on its behalf."""

    def __init__(self, backend: int | None) -> None:
        """Watch the process of PostgreSQL that answers, if there is one."""
        self._stat = None if backend is None else Path(f"/proc/{backend}/stat")

    def seconds(self) -> float:
        """Return what was used up to now."""
        used = time.process_time()
        if self._stat is None:
            return used
        fields = self._stat.read_text().rpartition(")")[2].split()
        return used + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measured(case: Case, clock: Clock) -> bool:
    """Print what a page costs; say whether it is within its budget."""
    for _ in range(WARM_UP):
        await case.ask()
    took = []
    used = clock.seconds()
    for _ in range(ROUNDS if case.budget_ms == ORDINARY_MS else LARGE_ROUNDS):
        before = time.perf_counter()
        await case.ask()
        took.append((time.perf_counter() - before) * 1e3)
    cpu = (clock.seconds() - used) / len(took) * 1e3
    p50, p95 = statistics.median(took), sorted(took)[math.ceil(0.95 * len(took)) - 1]
    good = p95 <= case.budget_ms
    verdict = "ok" if good else f"above {case.budget_ms:.0f}"
    print(f"{case.name:42} p50 {p50:7.1f} ms   p95 {p95:7.1f} ms   cpu {cpu:6.1f} ms   {verdict}", flush=True)
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
        # One reader: its process of PostgreSQL is the one to watch.
        async with open_database(where, readers=1) as database:
            yield database


async def a_clock(database: Database, kind: str) -> Clock:
    """Return the clock of what answers."""
    if kind == "sqlite":
        return Clock(None)
    asked = "SELECT pg_backend_pid()"
    return Clock(await database.read(lambda connection: connection.exec_driver_sql(asked).scalar_one(), action="ask"))


async def filled(database: Database, kind: str) -> None:
    """Fill the database, and say how long that took."""
    before = time.perf_counter()
    await database.write(world.fill, action="fill")
    if kind == "postgres":
        await database.write(lambda connection: connection.exec_driver_sql("ANALYZE"), action="analyse")
    print(f"filled in {time.perf_counter() - before:.0f} s", flush=True)


def load() -> str:
    """Return how busy the machine is."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"


async def main() -> int:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--sqlite", dest="kind", action="store_const", const="sqlite")
    kind.add_argument("--postgres", dest="kind", action="store_const", const="postgres")
    parser.add_argument("--small", action="store_true", help="fill a fiftieth")
    parser.add_argument("--only", default="", help="measure pages with this in their name")
    given = parser.parse_args()
    if given.small:
        world.BUILDS, world.ATTRIBUTES, world.LARGE = 20_000, 200, 2_000
    async with a_database(given.kind) as database:
        await filled(database, given.kind)
        clock = await a_clock(database, given.kind)
        print(f"before: {load()}", flush=True)
        results = [await measured(case, clock) for case in cases(database) if given.only in case.name]
        print(f"after: {load()}; {results.count(False)} of {len(results)} above their budget", flush=True)
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
