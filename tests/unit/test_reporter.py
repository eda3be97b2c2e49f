"""When runs are reported on their way: a new one at once, none too often, large ones more rarely."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import cast

from nixmill.config.forges import ForgeSettings
from nixmill.core.forge import ForgeKind
from nixmill.engine.reporter import GATHER_S, SHARE, Reporter
from nixmill.engine.server_doors import ServerDoors

HUB = ForgeSettings(name="hub", kind=ForgeKind.GITEA, url="https://forge.example", token="t")  # noqa: S106 - a name


class HandClock:
    """A clock that a test moves."""

    time = 0.0

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        end = self.time + seconds
        while self.time < end:  # noqa: ASYNC110 - time stands still until the test moves it
            await asyncio.sleep(0)

    async def go(self, seconds: float) -> None:
        """Let time go by, and everybody do what is to be done then."""
        self.time += seconds
        for _ in range(20):
            await asyncio.sleep(0)


class Watched(Reporter):
    """Remembers when it would have reported which run."""

    def __init__(self, clock: HandClock, costs_s: float = 0.0) -> None:
        doors = SimpleNamespace(settings=SimpleNamespace(forges=(HUB,)), clock=clock)
        super().__init__(cast("ServerDoors", doors))
        self.clock = clock
        self.costs_s = costs_s
        self.reports: list[tuple[float, int]] = []

    async def report(self, number: int, *, on_its_way: bool = False) -> None:
        self._hurried.discard(number)
        self.reports.append((self.clock.time, number))
        self.clock.time += self.costs_s


@contextlib.asynccontextmanager
async def running(reporter: Reporter) -> AsyncIterator[None]:
    task = asyncio.create_task(reporter.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_new_run_is_reported_at_once_though_another_one_was_a_moment_ago() -> None:
    clock = HandClock()
    reporter = Watched(clock)
    async with running(reporter):
        reporter.hurry(1)
        await clock.go(0.5)
        reporter.hurry(2)
        await clock.go(0)
    assert reporter.reports == [(0.5, 1), (0.5, 2)]


async def test_what_changes_while_a_run_rests_is_one_report() -> None:
    clock = HandClock()
    reporter = Watched(clock)
    async with running(reporter):
        reporter.hurry(1)
        await clock.go(0)
        for _ in range(4):
            reporter.hurry(1)
            await clock.go(GATHER_S / 4)
        await clock.go(10 * GATHER_S)
    assert reporter.reports == [(0, 1), (GATHER_S, 1)]


async def test_a_run_whose_reports_take_long_is_reported_more_rarely() -> None:
    clock = HandClock()
    reporter = Watched(clock, costs_s=1.0)
    async with running(reporter):
        for _ in range(60):
            reporter.hurry(1)
            await clock.go(0.5)
    assert clock.time * SHARE - 1 <= len(reporter.reports) <= clock.time * SHARE + 1


async def test_the_end_of_a_run_leaves_nothing_to_report_again() -> None:
    clock = HandClock()
    reporter = Watched(clock)
    async with running(reporter):
        reporter.hurry(1)
        await clock.go(0)
        reporter.hurry(1)
        await reporter.report(1)
        await clock.go(10 * GATHER_S)
    assert reporter.reports == [(0, 1), (0, 1)]
