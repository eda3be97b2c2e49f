"""What roots and pins cost: `python -m bench.roots [--postgres]`; ends with 1 above a limit.

A server with 100,000 roots standing looks what should stand, finds one change and makes it; a run of 10,000 attributes
is promoted. The store is one of its own and empty: roots may stand for paths that are not valid.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from bench.history import store_path
from nixmill.core.pin import Pin
from nixmill.core.project import Project
from nixmill.core.roots import RootRules, changes, wanted
from nixmill.doors.roots import Roots
from nixmill.edge.daemon import DaemonSettings, open_store
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.pins import SqlPins
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.gc_roots import open_roots
from nixmill.nix.store_path import StorePath
from tests.support.postgres import running_postgres
from tests.support.scratch_store import ScratchStore, scratch_store

ROOTS: Final = 100_000
PROMOTED: Final = 10_000
REFS: Final = 10
ROUNDS: Final = 5
RECONCILE_S: Final = 1.0
PROMOTE_S: Final = 5.0
NOW: Final = 1e9
RULES: Final = RootRules()
MAIN: Final = "refs/heads/main"


def a_pin(project: int, ref: str, number: int, order: int, generation: int, store_dir: str) -> Pin:
    """Return a pin of one output."""
    name = f"package-{number}-1.{generation}"
    return Pin(
        project=project,
        ref=ref,
        path=("checks", "x86_64-linux", f"package-{number}"),
        run=order,
        order=order,
        drv_path=_in(store_dir, store_path(generation, f"{ref[11:]}-{name}.drv")),
        outputs={"out": _in(store_dir, store_path(generation, f"{ref[11:]}-{name}"))},
        at=NOW,
    )


def _in(store_dir: str, path: StorePath) -> StorePath:
    return StorePath(path.replace("/nix/store", store_dir, 1))


class Bench:
    """Figures, and whether a limit was exceeded."""

    def __init__(self) -> None:
        """Begin without figures."""
        self.exceeded = False

    async def measured(self, what: str, work: Callable[[int], Awaitable[object]], limit_s: float | None = None) -> None:
        """Print best and median of some rounds; the median is held to the limit."""
        seconds = []
        for number in range(ROUNDS):
            before = time.perf_counter()
            await work(number)
            seconds.append(time.perf_counter() - before)
        middle = statistics.median(seconds)
        bad = limit_s is not None and middle > limit_s
        self.exceeded |= bad
        limit = "" if limit_s is None else f"   limit {limit_s * 1e3:.0f} ms{' EXCEEDED' if bad else ''}"
        print(f"{what:62} best {min(seconds) * 1e3:8.1f} ms   median {middle * 1e3:8.1f} ms{limit}", flush=True)


async def reconcile(bench: Bench, database: Database, roots: Roots, project: int, store_dir: str) -> None:
    """Measure a look at 100,000 roots of which one changed."""
    history, book = SqlHistory(database, lambda: NOW), SqlPins(database, RULES)
    each = ROOTS // REFS
    for ref in range(REFS):
        name = f"refs/heads/release-{ref}"
        await history.record([a_pin(project, name, number, 1, 1, store_dir) for number in range(each)])
    before = time.perf_counter()
    add, remove = changes(await roots.standing(), wanted(await book.facts(NOW), RULES, NOW))
    await roots.add(add)
    await roots.remove(remove)
    print(f"{f'make {ROOTS:,} roots, once':62} {time.perf_counter() - before:13.3f} s", flush=True)

    async def look(number: int) -> None:
        name = "refs/heads/release-0"
        await history.record([a_pin(project, name, 7, number + 2, number + 2, store_dir)])
        facts = await book.facts(NOW)
        add, remove = changes(await roots.standing(), wanted(facts, RULES, NOW))
        assert (len(add), len(remove)) == (1, 1)
        assert await roots.add(add) == {}
        await roots.remove(remove)

    async def facts(_number: int) -> None:
        await book.facts(NOW)

    async def standing(_number: int) -> None:
        await roots.standing()

    await bench.measured(f"  of which: the facts of {ROOTS:,} pins", facts)
    await bench.measured(f"  of which: listing {ROOTS:,} roots", standing)
    await bench.measured(f"reconcile {ROOTS:,} roots, one changed", look, RECONCILE_S)


async def promote(bench: Bench, database: Database, roots: Roots, project: int, store_dir: str) -> None:
    """Measure what a merge of 10,000 attributes costs: new ones, changed ones, unchanged ones."""
    history = SqlHistory(database, lambda: NOW)

    async def record(order: int, generation: int) -> None:
        pins = [a_pin(project, MAIN, number, order, generation, store_dir) for number in range(PROMOTED)]
        assert await roots.add([path for pin in pins for path in pin.outputs.values()]) == {}
        await history.record(pins)

    count = f"{PROMOTED:,} attributes"
    await bench.measured(f"promote {count}, all changed (the first time: new)", lambda n: record(n + 1, n), PROMOTE_S)
    await bench.measured(f"promote {count}, none changed", lambda n: record(n + 100, ROUNDS - 1), PROMOTE_S)


@contextlib.asynccontextmanager
async def a_database(kind: str, scratch: ScratchStore) -> AsyncIterator[Database]:
    """Open an empty database."""
    with contextlib.ExitStack() as stack:
        where: Path | str = scratch.root / "state" / "history.sqlite"
        if kind == "postgres":
            cluster = stack.enter_context(running_postgres())
            where = cluster.url(cluster.new())
        async with open_database(where) as database:
            yield database


async def main(kind: str) -> bool:
    """Print all figures; say whether all limits were kept."""
    bench = Bench()
    with scratch_store() as scratch:
        settings = DaemonSettings.from_environment(scratch.environment)
        async with a_database(kind, scratch) as database, open_store("auto", settings) as store:
            opened = await open_roots(store, None, scratch.root / "state", Path(scratch.environment["NIX_STATE_DIR"]))
            project = Project(name="mill", url="https://example.org/mill.git")
            number = (await SqlProjects(database, lambda: NOW).save_project(project)).id
            await promote(bench, database, opened.roots, number, scratch.store_dir)
            await reconcile(bench, database, opened.roots, number, scratch.store_dir)
    return not bench.exceeded


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--postgres", action="store_const", const="postgres", default="sqlite", dest="kind")
    sys.exit(0 if asyncio.run(main(parser.parse_args().kind)) else 1)
