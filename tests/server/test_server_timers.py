"""Timers of jobsets: they fire once for each time, whatever the clock or the process does; a bad one is refused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from nixmill.core.change import Origin
from nixmill.core.project import Jobset
from nixmill.engine.timers import Timers
from nixmill.web.settings_form import JobsetRow
from tests.support.journey_world import JourneyWorld, a_world, populate, template
from tests.support.mill import a_mill
from tests.support.mortal import KilledError
from tests.support.program import flake, job
from tests.support.server import JSON, PASSWORD

__all__ = ["template"]

DAILY = Jobset(name="nightly", branches=("main",), schedule="30 4 * * *", time_zone="UTC", on_push=False)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


class TurnedClock:
    """A clock that a test turns, also backwards; who sleeps wakes at every turn."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._turned = asyncio.Event()
        self._asleep = asyncio.Event()

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    async def sleep(self, _seconds: float) -> None:
        self._asleep.set()
        await self._turned.wait()

    async def sleeper(self) -> None:
        """Return once somebody sleeps."""
        await self._asleep.wait()

    async def turn(self, now: float) -> None:
        """Turn it, and wait until everybody who woke sleeps again."""
        self._now = now
        self._asleep.clear()
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()
        async with asyncio.timeout(10):
            await self._asleep.wait()


@contextlib.asynccontextmanager
async def ticking(made: JourneyWorld, start: str, dies_at: int | None = None) -> AsyncIterator[TurnedClock]:
    """Let the timers of a process run from a time on."""
    clock = TurnedClock(at(start))
    process = made.process(dies_at, clock)
    timers = asyncio.create_task(Timers(process.doors, made.watch(process)).run())
    try:
        async with asyncio.timeout(10):
            await asyncio.wait(
                [asyncio.create_task(clock.sleeper()), asyncio.create_task(process.life.died.wait())],
                return_when=asyncio.FIRST_COMPLETED,
            )
        yield clock
    finally:
        timers.cancel()
        with contextlib.suppress(asyncio.CancelledError, KilledError):
            await timers


async def prepared(made: JourneyWorld, *jobsets: Jobset) -> None:
    """Let the project have these jobsets and one commit on `main`."""
    await made.projects.save_jobsets(made.project.id, jobsets)
    made.remote.refs = {"refs/heads/main": populate(made), "refs/heads/other": "f" * 40}
    process = made.process()
    await made.watch(process).look(made.project)


async def fired(made: JourneyWorld) -> int:
    """Return how many runs timers have started."""
    return sum(change.origin is Origin.TIMER for change in await made.changes.open_changes())


async def test_a_timer_fires_at_its_time_and_missed_ones_are_made_up_for_once(template: Path) -> None:
    async with a_world(template) as made:
        await prepared(made, DAILY)
        async with ticking(made, "2026-11-20T04:00") as clock:
            assert await fired(made) == 0, "what was due before it was known does not count"
            await clock.turn(at("2026-11-20T04:29"))
            assert await fired(made) == 0
            await clock.turn(at("2026-11-20T04:30:01"))
            assert await fired(made) == 1
            await clock.turn(at("2026-11-20T23:00"))
            assert await fired(made) == 1
        async with ticking(made, "2026-11-24T12:00"):
            assert await fired(made) == 2, "four were missed while the server was down"
        change = (await made.changes.open_changes())[-1]
        assert (change.ref, change.jobset is not None) == ("refs/heads/main", True)


async def test_a_clock_that_jumps_fires_nothing_twice(template: Path) -> None:
    async with a_world(template) as made:
        await prepared(made, DAILY)
        async with ticking(made, "2026-11-20T04:00") as clock:
            await clock.turn(at("2026-11-20T05:00"))
            await clock.turn(at("2026-11-18T05:00"))
            await clock.turn(at("2026-11-20T05:00"))
            assert await fired(made) == 1
            await clock.turn(at("2026-11-21T05:00"))
            assert await fired(made) == 2


async def test_a_timer_that_is_off_or_cannot_be_read_stops_no_other(template: Path) -> None:
    off = Jobset(name="off", branches=("main",), schedule="30 4 * * *", enabled=False)
    bad = Jobset(name="bad", branches=("main",), schedule="61 * * * *")
    async with a_world(template) as made:
        await prepared(made, bad, off, DAILY)
        async with ticking(made, "2026-11-20T04:00") as clock:
            await clock.turn(at("2026-11-20T04:31"))
            assert await fired(made) == 1


async def test_killed_anywhere_around_its_time_it_fires_once(template: Path) -> None:
    for tick in range(1, 20):
        async with a_world(template) as made:
            await prepared(made, DAILY)
            async with ticking(made, "2026-11-20T04:00"):
                pass
            async with ticking(made, "2026-11-20T04:31", dies_at=tick):
                pass
            async with ticking(made, "2026-11-20T04:32"):
                assert await fired(made) == 1, tick


async def test_a_bad_schedule_is_refused_by_page_and_api(tmp_path: Path) -> None:
    with a_mill(tmp_path) as mill:
        mill.project("other").commit(flake__nix=flake(hello=job("hello")))
        mill.server.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
        mill.server.start()
        await mill.server.ready()
        async with mill.server.administrator() as browser:
            url = f"file://{tmp_path / 'other'}"
            form = {"name": "mill", "url": url, "poll_s": "60", "weight": "1"}
            typed = JobsetRow(name="nightly", schedule="61 * * * *")
            row = {f"jobset_{name}": value for name, value in msgspec.structs.asdict(typed).items()}
            shown = await browser.post("/p/new", {**form, **row}, page="/p/new")
            assert shown.status_code == 422, shown.text
            assert "is no schedule" in shown.text
            assert "61 * * * *" in shown.text, "what was typed is still there"
            headers = {**JSON, "X-CSRF-Token": await browser.csrf()}
            body = {
                "project": {"name": "mill", "url": url},
                "jobsets": [{"name": "nightly", "schedule": "every day"}],
            }
            answer = await browser.http.post("/p", json=body, headers=headers)
            assert answer.status_code == 422
            assert "is no schedule" in answer.text
            assert await mill.server.get("/p/mill") is None
            body["jobsets"] = [{"name": "nightly", "schedule": "30 4 * * *"}]
            assert (await browser.http.post("/p", json=body, headers=headers)).status_code == 201
