"""Pages over HTTP on a database of a million builds, filled as by `bench.pages_world`; ordinary and very large ones."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx2
from sqlalchemy import Connection, text

from bench import pages_world as filling
from bench.server_world import Figure, Options, Process, a_server, database_settings, percentile, process_of
from nixmill.edge.database.database import open_database
from nixmill.edge.database.tables_server import project
from tests.support.program import flake, job
from tests.support.server import ServerProgram
from tests.support.web import Browser

ORDINARY_MS: Final = 50.0
LARGE_MS: Final = 300.0
ROUNDS: Final = 50
WARM: Final = 5
"""Requests before those that count."""
BIG: Final = filling.BIG
TEN: Final = BIG - 5
"""A run with 10,000 attributes."""


async def pages(options: Options) -> AsyncIterator[Figure]:
    """Measure how long pages take."""
    for kind in options.databases:
        with database_settings(kind) as settings, a_server(settings=settings, flake__nix=flake(x=job("x"))) as server:
            server.settings = settings  # no project is declared: numbers of projects are taken
            yield Figure(f"{kind}: filled", await _filled(server, options), "s")
            server.start()
            began = time.perf_counter()
            await server.ready()
            yield Figure(f"{kind}: the server is ready", time.perf_counter() - began, "s")
            async with server.administrator() as mia, server.browser() as stranger:
                for who, browser in (("administrator", mia), ("stranger", stranger)):
                    for path, budget in _paths(who):
                        async for figure in _page(process_of(server), browser, path, budget):
                            yield figure._replace(name=f"{kind}: {figure.name}, {who}")
            yield Figure(f"{kind}: most memory of the server", process_of(server).peak, "MiB")


async def _filled(server: ServerProgram, options: Options) -> float:
    """Fill the database of a server that is not started; return the seconds it took."""
    filling.NOW = time.time()
    if options.quick:
        filling.BUILDS, filling.ATTRIBUTES, filling.LARGE = 20_000, 100, 2_000
    where = next((line.split('"')[1] for line in server.settings.splitlines() if line.startswith("database = ")), "")
    before = time.perf_counter()
    async with open_database(where or Path(server.state / "nixmill.sqlite")) as database:
        await database.write(_fill, action="fill")
    return time.perf_counter() - before


def _fill(connection: Connection) -> None:
    """Fill; nobody looks at the remotes of these projects.

    PostgreSQL counts its rows as it would have done while they came (autovacuum).
    """
    filling.fill(connection)
    connection.execute(project.update().values(enabled=False))
    if connection.dialect.name == "postgresql":
        connection.execute(text("ANALYZE"))


def _paths(who: str) -> Iterator[tuple[str, float]]:
    """Return the pages of somebody, with their budgets in milliseconds."""
    package = quote("checks.x86_64-linux.package-77")
    ordinary = [
        "/",
        "/p/project-3",
        "/p/project-3/b/main",
        f"/p/project-3/a/{package}",
        "/queue",
        "/search?q=package-77",
    ]
    if who == "administrator":
        derivation = filling.derivation(77).rpartition("/")[2]
        ordinary += [
            "/p/project-1",
            f"/d/{derivation}",
            "/log/500000" if filling.BUILDS > 500_000 else "/log/500",
            f"/r/{TEN}",
            f"/r/{TEN}?show=all&page=50" if filling.ATTRIBUTES == 10_000 else f"/r/{TEN}?show=all",
            f"/r/{TEN}/why/{package}",
            "/admin/audit",
        ]
    yield from ((path, ORDINARY_MS) for path in ordinary)
    if who == "administrator":
        large = [
            "/machines",
            "/admin",
            "/metrics",
            f"/r/{BIG}",
            f"/r/{BIG}?show=all&page=2",
            f"/compare/{TEN}/{TEN + 1}",
        ]
        large += [f"/r/{BIG}.json", f"/r/{TEN}/timeline"]
        yield from ((path, LARGE_MS) for path in large)


async def _page(process: Process, browser: Browser, path: str, budget: float) -> AsyncIterator[Figure]:
    took: list[float] = []
    cpu = process.cpu_s
    for _ in range(WARM + ROUNDS):
        before = time.perf_counter()
        answer: httpx2.Response = await browser.get(path)
        took.append((time.perf_counter() - before) * 1e3)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:500])
    p50 = percentile(took[WARM:], 0.5)
    cpu_ms = (process.cpu_s - cpu) / len(took) * 1e3
    remark = f"p50 {p50:.1f}, processor {cpu_ms:.1f}; {len(answer.content) / 1024:.0f} KiB"
    yield Figure(f"{path}, p95", percentile(took[WARM:], 0.95), "ms", budget, remark)
