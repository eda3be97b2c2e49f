"""The end of a run is told whatever goes wrong while it is: what has its verdict is not begun again."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from nixmill.core.change import Change
from nixmill.core.posting import CheckState
from nixmill.doors import DoorError
from nixmill.engine.aftermath import Aftermath
from nixmill.engine.sizes import Measure
from tests.contract.forge_world import Where
from tests.support.journey_world import template
from tests.support.pull_world import PullWorld, a_pull_world

__all__ = ["template"]


@pytest.fixture
async def world(template: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PullWorld]:
    monkeypatch.setattr("nixmill.engine.insist.RETRY_S", 0.0)
    async with a_pull_world(template) as made:
        yield made


async def checked(world: PullWorld) -> str:
    """Check a member's pull request to its end, and what the next process finds of it; return its head."""
    head = world.good()
    await world.pull_event(world.open("mia", head, where=Where.SAME))
    await world.process.durable.launch()
    for change in await world.made.changes.open_changes():
        await world.process.durable.start("change", str(change.number))
    await world.process.durable.idle()
    await world.restarted().starts()
    return head


async def test_a_database_that_is_away_at_the_end_is_waited_for(
    world: PullWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, left = world.process.journey.reporter.report, [3]

    async def away(number: int) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise DoorError("away", door="database", action="look for a change", retryable=True)
        await told(number)

    monkeypatch.setattr(world.process.journey.reporter, "report", away)
    assert world.state(await checked(world)) is CheckState.GOOD
    assert left[0] < 0


async def test_a_fault_in_what_follows_from_a_run_keeps_its_status_from_nobody(
    world: PullWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: Aftermath, __: Change) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(Aftermath, "of", fails)
    assert world.state(await checked(world)) is CheckState.GOOD


async def test_a_store_that_is_away_while_sizes_are_measured_changes_no_verdict(
    world: PullWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: Measure, __: Sequence[object]) -> tuple[()]:
        raise DoorError("away", door="store", action="look up paths", retryable=True)

    monkeypatch.setattr(Measure, "changes", away)
    assert world.state(await checked(world)) is CheckState.GOOD


async def test_a_fault_of_ours_after_the_verdict_leaves_it_as_it_is(
    world: PullWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: Measure, __: Sequence[object]) -> tuple[()]:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(Measure, "changes", fails)
    assert world.state(await checked(world)) is CheckState.GOOD
