"""The way of a change: whatever happens on it, and wherever the process is killed, it ends in exactly one verdict."""

from pathlib import Path
from typing import Final

import pytest

from nixmill.core.change import Origin
from nixmill.core.errors import InputError
from nixmill.core.run_event import Verdict
from nixmill.core.trust import Tier
from nixmill.engine.office import Asker
from nixmill.engine.office_runs import RunOffice
from tests.support.journey_world import (
    JourneyWorld,
    Process,
    a_world,
    away,
    killed_at,
    populate,
    run_row,
    template,
    ticks_of_a_whole_way,
)

__all__ = ["template"]

EVERY: Final = 29
"""Of all places where the process may be killed; `tests/server/test_journey_kills.py` has all of them."""
MIA = Asker(user=None, name="mia")


async def test_wherever_it_is_killed_it_ends_in_one_verdict(template: Path) -> None:
    for tick in range(1, await ticks_of_a_whole_way(template), EVERY):
        await killed_at(template, tick)


async def test_a_remote_that_is_away_for_a_while_is_waited_for(template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nixmill.engine.journey.FETCH_AGAIN_S", 0.0)
    async with a_world(template) as made:
        made.remote.troubles = [away(), away()]
        first = await made.accept(populate(made))
        await made.process().goes_on()
        assert (await run_row(made, first)).verdict is Verdict.BUILD_FAILED
        made.remote.troubles = [away() for _ in range(5)]
        second = await made.accept(populate(made))
        await made.process().goes_on()
        row = await run_row(made, second)
        assert (row.verdict, row.sentence) == (Verdict.INFRASTRUCTURE, "The remote does not answer.")


async def test_a_fault_in_a_step_is_a_verdict_that_names_the_log(template: Path) -> None:
    async with a_world(template) as made:
        made.remote.troubles = [ZeroDivisionError("no")]
        number = await made.accept(populate(made))
        await made.process().goes_on()
        row = await run_row(made, number)
        assert row.verdict is Verdict.INFRASTRUCTURE
        assert "A fault of nixmill stopped this run" in row.sentence


async def test_what_is_wrong_with_the_repository_is_told_even_from_deep_inside(template: Path) -> None:
    async with a_world(template) as made:
        commit = made.world.source.commit({"flake.nix": "", "nixmill.toml": "targets = ["})
        number = await made.accept(commit)
        await made.process().goes_on()
        row = await run_row(made, number)
        assert row.verdict is Verdict.EVALUATION_FAILED
        assert "no valid TOML" in row.sentence


# Looking at remotes.


async def look(made: JourneyWorld, process: Process) -> list[int]:
    """Look once; return the runs that wait."""
    await made.watch(process).look(made.project)
    return [change.number for change in await made.changes.open_changes()]


async def test_a_look_that_is_killed_anywhere_accepts_each_push_once(template: Path) -> None:
    for tick in range(1, 40, 3):
        async with a_world(template) as made:
            made.remote.refs = {"refs/heads/main": populate(made)}
            await made.looks_and_dies(tick)
            assert await look(made, made.process()) == [1], tick
            assert await look(made, made.process()) == [1], tick


async def test_a_newer_push_stops_the_older_one(template: Path) -> None:
    async with a_world(template) as made:
        for number in (1, 2):
            made.remote.refs = {"refs/heads/main": populate(made)}
            assert number in await look(made, made.process())
        await made.process().goes_on()
        older, newer = [await run_row(made, number) for number in (1, 2)]
        assert (older.verdict, newer.verdict) == (Verdict.CANCELLED, Verdict.BUILD_FAILED)
        assert older.sentence == "Cancelled before it began: run 2 is newer."


async def test_a_remote_that_cannot_be_reached_is_told_until_it_can(template: Path) -> None:
    async with a_world(template) as made:
        made.remote.troubles = [away()]
        assert await look(made, made.process()) == []
        polled = await made.refs.polled(made.project.id)
        assert polled is not None
        assert polled.fault == "The remote does not answer."
        made.remote.refs = {"refs/heads/main": populate(made)}
        assert await look(made, made.process()) == [1]
        polled = await made.refs.polled(made.project.id)
        assert polled is not None
        assert polled.fault == ""


# What people ask for.


async def test_a_run_by_hand_is_of_what_was_named(template: Path) -> None:
    async with a_world(template) as made:
        commit = populate(made)
        made.remote.refs = {"refs/heads/main": commit}
        process = made.process()
        await look(made, process)
        office = RunOffice(process.doors, made.watch(process), process.journey)
        number = await office.start(MIA, made.project, "main")
        change = await made.changes.change(number)
        assert change is not None
        assert (change.ref, change.origin, change.commit) == ("refs/heads/main", Origin.HAND, "")
        with pytest.raises(InputError, match="no branch or tag 'mian'") as caught:
            await office.start(MIA, made.project, "mian")
        assert "main" in caught.value.remedy
        with pytest.raises(InputError, match="is no commit"):
            await office.start(MIA, made.project, "main", commit="abc")


async def test_what_is_cancelled_while_it_waits_never_begins(template: Path) -> None:
    async with a_world(template) as made:
        number = await made.accept(populate(made))
        process = made.process()
        office = RunOffice(process.doors, made.watch(process), process.journey)
        assert await office.cancel(MIA, number)
        await process.goes_on()
        row = await run_row(made, number)
        assert (row.verdict, row.sentence) == (Verdict.CANCELLED, "Cancelled before it began.")
        assert made.world.evaluator.asked == []
        assert not await office.cancel(MIA, number), "it has its verdict"


@pytest.mark.parametrize(("tier", "messages"), [(Tier.MEMBER, 0), (Tier.BRANCH, 1), (Tier.PROTECTED, 1)])
async def test_rules_tell_nobody_of_a_commit_that_nobody_vouches_for(template: Path, tier: Tier, messages: int) -> None:
    """A named commit said to be of `main` may be anybody's: forges give commits of forks by their ids, too."""
    async with a_world(template) as made:
        number = await made.accept(populate(made), origin=Origin.HAND, tier=tier)
        await made.process().goes_on()
        assert (await run_row(made, number)).verdict is Verdict.BUILD_FAILED
        assert len(await made.parcels()) == messages
