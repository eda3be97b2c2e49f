"""The way of a change: whatever happens on it, and wherever the process is killed, it ends in exactly one verdict."""

import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nixmill.core.change import ChangeState
from nixmill.core.history import RunRow
from nixmill.core.run_event import Verdict
from nixmill.edge.database.database import open_database
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.place import place_of
from nixmill.nix.build_result import BuildStatus
from tests.fakes.store import Script
from tests.support.journey_world import JourneyWorld, away

MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108 - only a hint where files cost nothing


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database to copy."""
    file = tmp_path_factory.mktemp("template") / "nixmill.sqlite"
    place_of(file).prepare()
    return file


@contextlib.asynccontextmanager
async def a_world(template: Path) -> AsyncIterator[JourneyWorld]:
    with tempfile.TemporaryDirectory(prefix="nm-journey-", dir=MEMORY) as directory:
        file = Path(directory) / "nixmill.sqlite"
        shutil.copy(template, file)
        async with open_database(file) as database:
            made = JourneyWorld(database)
            await made.prepare()
            yield made


def populate(made: JourneyWorld) -> str:
    """Commit two good attributes with one dependency between them, and one that fails."""
    world = made.world
    low = world.store.derivation("low")
    high = world.store.derivation("high", [low])
    bad = world.store.derivation("bad")
    world.builder.scripts[bad] = [Script(status=BuildStatus.PERMANENT_FAILURE, message="no")]
    return world.commit([world.attribute("low", low), world.attribute("bad", bad)], [world.attribute("high", high)])


async def run_row(made: JourneyWorld, number: int) -> RunRow:
    found = await SqlHistory(made.database, made.clock.now).run(number)
    assert found is not None
    return found[0]


async def test_a_change_becomes_a_verdict(template: Path) -> None:
    async with a_world(template) as made:
        number = await made.accept(populate(made))
        await made.process().goes_on()
        row = await run_row(made, number)
        assert row.verdict is Verdict.BUILD_FAILED
        assert len(await made.parcels()) == 1


async def ticks_of_a_whole_way(template: Path) -> int:
    async with a_world(template) as made:
        await made.accept(populate(made))
        process = made.process()
        await process.goes_on()
        return process.life.ticks


async def killed_at(template: Path, tick: int) -> None:
    async with a_world(template) as made:
        number = await made.accept(populate(made))
        first = made.process(dies_at=tick)
        await first.goes_on()
        assert first.life.died.is_set()
        await made.process().goes_on()
        where = f"killed at {tick}, {first.life.last}"
        row = await run_row(made, number)
        assert row.verdict is Verdict.BUILD_FAILED, (where, row.sentence)
        change = await made.changes.change(number)
        assert change is not None
        assert change.state is ChangeState.DONE, where
        assert len(await made.parcels()) == 1, where
        assert made.builder.repeated == [], where
        evaluated = made.world.evaluator.asked
        assert len(evaluated) <= 2, (where, "at most the one under way is done again")


async def test_wherever_it_is_killed_it_ends_in_one_verdict(template: Path) -> None:
    for tick in range(1, await ticks_of_a_whole_way(template) + 1):
        await killed_at(template, tick)


async def test_a_remote_that_is_away_for_a_while_is_waited_for(
    template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nixmill.engine.journey.FETCH_AGAIN_S", 0.0)
    async with a_world(template) as made:
        made.remote.troubles = [away(), away()]
        number = await made.accept(populate(made))
        await made.process().goes_on()
        assert (await run_row(made, number)).verdict is Verdict.BUILD_FAILED
        made.remote.troubles = [away() for _ in range(5)]
        number = await made.accept(populate(made))
        await made.process().goes_on()
        row = await run_row(made, number)
        assert (row.verdict, row.sentence) == (Verdict.INFRASTRUCTURE, "The remote does not answer.")
