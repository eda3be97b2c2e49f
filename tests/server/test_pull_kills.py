"""A server that is killed at each of its doors while it sees to a pull request: one run a head, one answer, one status.

What its forge sent and nobody acknowledged is sent again, as forges do; what was acknowledged is never lost.
"""

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from nixmill.core.change import ChangeState
from nixmill.core.forge import Event, HintKind
from nixmill.core.message import ChannelKind
from nixmill.core.posting import CheckState, Reply
from tests.contract.forge_world import Trouble, Where
from tests.support.journey_world import template
from tests.support.mortal import KilledError
from tests.support.pull_world import PullWorld, a_pull_world

__all__ = ["template"]

FIRST: Final = 30
LATER: Final = 8
Prepare = Callable[[PullWorld], Awaitable[tuple[str, Event | None]]]
"""Brings a world to where the killing begins; returns the head, and the event that is under way."""
Judge = Callable[[PullWorld, str, str], Awaitable[None]]


async def act(world: PullWorld, event: Event | None) -> bool:
    """Take an event and go on as a server does; say whether it was acknowledged."""
    acknowledged = event is None
    with contextlib.suppress(KilledError):
        if event is not None:
            await world.desk.took("hub", event)
            acknowledged = True
        await world.goes_on()
    return acknowledged


async def killed(template: Path, tick: int | None, prepare: Prepare, judge: Judge) -> int:
    """Prepare, act in a process that is killed there, then in one that lives, and judge; return how far it came."""
    async with a_pull_world(template) as world:
        head, event = await prepare(world)
        mortal = world.restarted(dies_at=tick)
        acknowledged = await act(mortal, event)
        await mortal.process.durable.close()
        last = world.restarted()
        if event is not None and not acknowledged:
            await last.desk.took("hub", event)
        await last.starts()
        last.later(7200)
        await last.goes_on()
        await judge(last, head, f"killed at {tick}, {mortal.process.life.last}")
        return mortal.process.life.ticks


async def everywhere(template: Path, prepare: Prepare, judge: Judge) -> None:
    """Kill it at each of the first places, where what was said is obeyed, and at some of those of the run's own way.

    At all of those it is killed in `test_journey_kills`.
    """
    most = await killed(template, None, prepare, judge)
    stride = max(1, (most - FIRST) // LATER)
    for tick in (*range(1, min(FIRST, most) + 1), *range(FIRST + 1, most + 1, stride)):
        await killed(template, tick, prepare, judge)


def commented(world: PullWorld, number: int, text: str) -> Event:
    """Let the maintainer comment; return what the forge sends."""
    comment = world.forge.write_comment(number, world.forge.users["mia"], text)
    return world.forge.event(
        *world.forge.delivery(world.forge.hint(HintKind.COMMENT, pull_request=number, comment=comment))
    )


async def answers(world: PullWorld) -> list[tuple[bool, str]]:
    """Return the answers that were put into the outbox: whether it was understood, and what is said."""
    parcels = await world.made.outbox.due(world.clock.now() + 1e6, 1000)
    replies = [
        msgspec.json.decode(parcel.body, type=Reply) for parcel in parcels if parcel.channel is ChannelKind.FORGE
    ]
    return [(reply.understood, reply.text) for reply in replies]


async def told(world: PullWorld, head: str, state: CheckState, last: str) -> None:
    """Check that the status stands, was told at most once more than needed, and is due no more."""
    assert world.state(head) is state, last
    final = [
        one.generation for one in world.forge.postings if one.commit == head and one.required and one.state is state
    ]
    assert len(final) <= 2, (last, "told, at worst, once more where it was killed before that was recorded")
    assert len(set(final)) == 1, last
    assert not await world.made.statuses.due(world.clock.now() + 1e6, 10), last


async def test_approving_a_held_change(template: Path) -> None:
    async def prepare(world: PullWorld) -> tuple[str, Event]:
        head = world.good()
        number = world.open("sam", head, where=Where.OWN_FORK)
        await world.pull_event(number)
        await world.goes_on()
        return head, commented(world, number, f"/nixmill approve {head[:12]}")

    async def judge(world: PullWorld, head: str, last: str) -> None:
        (change,) = [one for one in await world.changes() if one.commit == head]
        assert change.state is ChangeState.DONE, last
        await told(world, head, CheckState.GOOD, last)
        assert await answers(world) == [(True, "")], last
        assert len(await world.made.pulls.approvals(world.project.id, 1)) == 1, last
        assert world.made.world.evaluator.asked.count(head) <= 2, (last, "only what was under way is done again")
        assert world.made.builder.repeated == [], last

    await everywhere(template, prepare, judge)


async def test_obeying_a_comment(template: Path) -> None:
    async def prepare(world: PullWorld) -> tuple[str, Event]:
        head = world.bad()
        number = world.open("mia", head, where=Where.SAME)
        await world.pull_event(number)
        await world.goes_on()
        assert world.state(head) is CheckState.FAILED
        world.made.builder.scripts.clear()
        return head, commented(world, number, "/nixmill retry")

    async def judge(world: PullWorld, head: str, last: str) -> None:
        runs = [one for one in await world.changes() if one.commit == head]
        assert len(runs) == 2, (last, "it is tried again once")
        await told(world, head, CheckState.GOOD, last)
        assert await answers(world) == [(True, "")], last
        assert world.made.builder.repeated == [], last

    await everywhere(template, prepare, judge)


async def test_a_retry_that_fails_again_is_one_retry(template: Path) -> None:
    async def prepare(world: PullWorld) -> tuple[str, Event]:
        head = world.bad()
        number = world.open("mia", head, where=Where.SAME)
        await world.pull_event(number)
        await world.goes_on()
        return head, commented(world, number, "/nixmill retry")

    async def judge(world: PullWorld, head: str, last: str) -> None:
        assert len([one for one in await world.changes() if one.commit == head]) == 2, last
        assert world.state(head) is CheckState.FAILED, last
        assert await answers(world) == [(True, "")], last

    await everywhere(template, prepare, judge)


async def test_a_push_while_the_older_head_is_held(template: Path) -> None:
    heads: list[str] = []

    async def prepare(world: PullWorld) -> tuple[str, Event]:
        old, new = world.good(), world.good()
        heads[:] = [old, new]
        number = world.open("sam", old, where=Where.OWN_FORK)
        await world.pull_event(number)
        await world.goes_on()
        world.forge.push(number, new)
        hint = world.forge.hint(HintKind.PULL_REQUEST, pull_request=number)
        return new, world.forge.event(*world.forge.delivery(hint))

    async def judge(world: PullWorld, head: str, last: str) -> None:
        assert world.state(head) is CheckState.HELD, last
        assert world.state(heads[0]) is CheckState.CANCELLED, last
        assert [one.state for one in await world.changes()] == [ChangeState.DONE, ChangeState.HELD], last
        assert world.made.world.evaluator.asked == [], last

    await everywhere(template, prepare, judge)


async def test_closing_while_it_is_held(template: Path) -> None:
    async def prepare(world: PullWorld) -> tuple[str, Event]:
        head = world.good()
        number = world.open("sam", head, where=Where.OWN_FORK)
        await world.pull_event(number)
        await world.goes_on()
        world.forge.close(number)
        hint = world.forge.hint(HintKind.PULL_REQUEST, pull_request=number)
        return head, world.forge.event(*world.forge.delivery(hint))

    async def judge(world: PullWorld, head: str, last: str) -> None:
        await told(world, head, CheckState.CANCELLED, last)
        assert world.made.world.evaluator.asked == [], last

    await everywhere(template, prepare, judge)


async def test_posting_while_the_forge_is_away(template: Path) -> None:
    async def prepare(world: PullWorld) -> tuple[str, None]:
        head = world.good()
        number = world.open("mia", head, where=Where.SAME)
        await world.pull_event(number)
        world.forge.trouble(Trouble.OUTAGE)
        await world.goes_on()
        assert world.forge.postings == []
        world.forge.trouble(Trouble.NONE)
        world.later(7200)
        return head, None

    async def judge(world: PullWorld, head: str, last: str) -> None:
        await told(world, head, CheckState.GOOD, last)
        assert world.made.world.evaluator.asked.count(head) == 1, last

    await everywhere(template, prepare, judge)
