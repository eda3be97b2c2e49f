"""The doors `PullRequests`, `Inbox` and `Statuses` on both databases, and their fakes in memory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pytest

from nixmill.core.change import Change, ChangeState
from nixmill.core.forge import Event, ForgeUser, Hint, HintKind
from nixmill.core.posting import Button, CheckState
from nixmill.core.pull_request import PullState
from nixmill.core.trust import Permission, Tier
from nixmill.doors.forge import Inbox, PullRequests, Statuses
from nixmill.edge.database.database import open_database
from nixmill.edge.database.inbox import SqlInbox
from nixmill.edge.database.pull_requests import SqlPullRequests
from nixmill.edge.database.statuses import SqlStatuses
from tests.fakes.forge_database import FakeInbox, FakePullRequests, FakeStatuses
from tests.support.databases import BOTH, a_place, postgres  # noqa: F401 - a fixture
from tests.support.forge_things import a_posting, a_pull, a_pull_change, an_approval, an_event, an_outcome_of
from tests.support.server_things import NOW, now, saved_project

EACH: Final = (*BOTH, "memory")
replace = msgspec.structs.replace


class Doors(NamedTuple):
    """The doors, the id of a project, and the numbers of the changes whose work was begun."""

    pulls: PullRequests
    inbox: Inbox
    statuses: Statuses
    project: int
    begun: list[int]


@pytest.fixture(params=EACH)
async def doors(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Doors]:
    """Each implementation of the doors, with nothing in it."""
    if request.param == "memory":
        pulls = FakePullRequests()
        yield Doors(pulls, FakeInbox(), FakeStatuses(NOW), 1, pulls.begun)
        return
    with a_place(request.param, request, tmp_path) as where:
        async with open_database(where) as database:
            begun: list[int] = []
            pulls_ = SqlPullRequests(database, now, lambda _connection, numbers: begun.extend(numbers))
            project = await saved_project(database)
            yield Doors(pulls_, SqlInbox(database), SqlStatuses(database, now), project, begun)


async def known_changes(doors: Doors, number: int = 7) -> list[Change]:
    """Return what is known of the changes of a pull request, the oldest first."""
    known = await doors.pulls.pull_request(doors.project, number)
    assert known is not None
    return list(known.changes)[::-1]


async def test_a_pull_request_comes_back_as_it_was_seen(doors: Doors) -> None:
    assert await doors.pulls.pull_request(doors.project, 7) is None
    pull = a_pull(
        title="Grind\u202e finer\u0001",
        draft=True,
        labels=("nixmill", "a,b"),
        head_owner="12",
        author=ForgeUser(id="7", login="zoë"),
        author_permission=Permission.READ,
        updated_at=5.5,
    )
    assert await doors.pulls.saw(doors.project, pull, []) == []
    known = await doors.pulls.pull_request(doors.project, 7)
    assert known is not None
    assert (known.pull, known.tier, list(known.changes), known.approved) == (pull, Tier.FORK, [], frozenset())


async def test_a_look_brings_in_a_change_once(doors: Doors) -> None:
    (number,) = await doors.pulls.saw(doors.project, a_pull(), [a_pull_change(doors.project)])
    assert await doors.pulls.saw(doors.project, a_pull(), [a_pull_change(doors.project)]) == []
    (change,) = await known_changes(doors)
    asked = a_pull_change(doors.project, number=7)
    assert replace(change, requested_at=0.0) == replace(asked, number=number)
    assert doors.begun == []
    known = await doors.pulls.pull_request(doors.project, 7)
    assert known is not None
    assert known.tier is Tier.FORK


async def test_the_work_of_a_member_begins_at_once(doors: Doors) -> None:
    change = a_pull_change(doors.project, tier=Tier.MEMBER, state=ChangeState.WAITING)
    (number,) = await doors.pulls.saw(doors.project, a_pull(), [change])
    assert doors.begun == [number]
    await doors.pulls.saw(doors.project, a_pull(title="Grind it"), [])
    known = await doors.pulls.pull_request(doors.project, 7)
    assert known is not None
    assert (known.tier, known.pull.title) == (Tier.MEMBER, "Grind it")


async def test_another_head_or_base_is_another_change(doors: Doors) -> None:
    changes = [
        a_pull_change(doors.project),
        a_pull_change(doors.project, commit="c8"),
        a_pull_change(doors.project, base_ref="refs/heads/release"),
    ]
    for change in changes:
        assert len(await doors.pulls.saw(doors.project, a_pull(), [change])) == 1
    assert len(await doors.pulls.saw(doors.project, a_pull(8), [a_pull_change(doors.project, 8)])) == 1
    assert len(await known_changes(doors)) == 3


async def test_an_older_look_changes_nothing(doors: Doors) -> None:
    pull = a_pull(updated_at=9.0, head_commit="c8")
    await doors.pulls.saw(doors.project, pull, [])
    late = a_pull(updated_at=8.0, title="Old")
    assert await doors.pulls.saw(doors.project, late, [a_pull_change(doors.project)]) == []
    known = await doors.pulls.pull_request(doors.project, 7)
    assert known is not None
    assert (known.pull, list(known.changes)) == (pull, [])
    assert len(await doors.pulls.saw(doors.project, a_pull(), [a_pull_change(doors.project)])) == 1, "it says no time"


async def test_open_pull_requests_are_listed(doors: Doors) -> None:
    for number, state in ((9, PullState.OPEN), (7, PullState.OPEN), (8, PullState.MERGED), (6, PullState.CLOSED)):
        await doors.pulls.saw(doors.project, a_pull(number, state=state), [])
    assert [pull.number for pull in await doors.pulls.open_pull_requests(doors.project)] == [7, 9]
    assert await doors.pulls.open_pull_requests(doors.project + 1) == []


async def test_an_approval_lets_go_on_what_waits_for_just_that_commit(doors: Doors) -> None:
    (first,) = await doors.pulls.saw(doors.project, a_pull(), [a_pull_change(doors.project)])
    (second,) = await doors.pulls.saw(doors.project, a_pull(), [a_pull_change(doors.project, commit="c8")])
    other = await doors.pulls.saw(doors.project, a_pull(8), [a_pull_change(doors.project, 8)])
    assert await doors.pulls.approve(an_approval(doors.project)) == [first]
    assert await doors.pulls.approve(an_approval(doors.project, who="carol")) == []
    assert doors.begun == [first]
    states = {change.number: change.state for change in await known_changes(doors)}
    assert states == {first: ChangeState.WAITING, second: ChangeState.HELD}
    assert [change.state for change in await known_changes(doors, 8)] == [ChangeState.HELD]
    known = await doors.pulls.pull_request(doors.project, 7)
    assert known is not None
    assert known.approved == frozenset({"c7"})
    (approval,) = await doors.pulls.approvals(doors.project, 7)
    assert (replace(approval, id=0), approval.id > 0) == (an_approval(doors.project), True)
    assert len(other) == 1


async def test_approvals_are_listed_the_newest_first(doors: Doors) -> None:
    for commit, at in (("a", 2.0), ("b", 3.0), ("c", 1.0), ("d", 3.0)):
        await doors.pulls.approve(an_approval(doors.project, commit=commit, at=at))
    assert [each.commit for each in await doors.pulls.approvals(doors.project, 7)] == ["d", "b", "a", "c"]
    assert await doors.pulls.approvals(doors.project, 8) == []


async def test_a_change_that_was_approved_since_it_was_decided_does_not_wait(doors: Doors) -> None:
    await doors.pulls.approve(an_approval(doors.project))
    (number,) = await doors.pulls.saw(doors.project, a_pull(), [a_pull_change(doors.project)])
    assert doors.begun == [number]
    assert [change.state for change in await known_changes(doors)] == [ChangeState.WAITING]
    await doors.pulls.saw(doors.project, a_pull(), [a_pull_change(doors.project, commit="c8")])
    assert doors.begun == [number]


async def test_what_is_withdrawn_ends_or_is_cancelled_and_may_be_begun_anew(doors: Doors) -> None:
    (held,) = await doors.pulls.saw(doors.project, a_pull(), [a_pull_change(doors.project)])
    member = a_pull_change(doors.project, commit="c8", tier=Tier.MEMBER, state=ChangeState.WAITING)
    (going,) = await doors.pulls.saw(doors.project, a_pull(), [member])
    why = ": the pull request is closed"
    assert await doors.pulls.withdraw([going, held, 99], why) == [held, going]
    found = [(change.state, change.withdrawn, change.cancel_asked) for change in await known_changes(doors)]
    assert found == [(ChangeState.DONE, True, True), (ChangeState.WAITING, True, True)]
    assert doors.begun == [going, held], "the end of what was held is told by whoever works"
    assert await doors.pulls.withdraw([held], why) == []
    assert await doors.pulls.approve(an_approval(doors.project)) == []
    assert len(await doors.pulls.saw(doors.project, a_pull(), [member])) == 1
    assert await doors.pulls.withdraw([], why) == []


async def test_of_many_changes_the_newest_are_told(doors: Doors) -> None:
    numbers: list[int] = []
    for n in range(55):
        numbers += await doors.pulls.saw(doors.project, a_pull(), [a_pull_change(doors.project, commit=f"c{n}")])
    assert [change.number for change in await known_changes(doors)] == numbers[5:]


async def test_a_delivery_is_recorded_once(doors: Doors) -> None:
    assert await doors.inbox.put("f", an_event("d1", 7, 8), 1.0)
    assert not await doors.inbox.put("f", an_event("d1", 9), 2.0)
    assert await doors.inbox.put("g", an_event("d1", 9), 2.0)
    due = await doors.inbox.due(2.0, 10)
    assert [(forge, hint.pull_request, tries) for _, forge, hint, tries in due] == [
        ("f", 7, 0),
        ("f", 8, 0),
        ("g", 9, 0),
    ]
    assert [hint.pull_request for _, _, hint, _ in await doors.inbox.due(1.0, 1)] == [7]
    assert await doors.inbox.due(0.5, 10) == []


@pytest.mark.parametrize("hints", [(), (Hint(kind=HintKind.NOTHING),)])
async def test_a_delivery_that_hints_at_nothing_is_remembered(doors: Doors, hints: tuple[Hint, ...]) -> None:
    event = Event(delivery="ping", hints=hints)
    assert [await doors.inbox.put("f", event, 1.0) for _ in range(2)] == [True, False]
    assert await doors.inbox.due(9.0, 10) == []


async def test_hints_come_again_are_given_up_or_are_done(doors: Doors) -> None:
    await doors.inbox.put("f", an_event("d", 1, 2, 3), 1.0)
    again, bad, good = [id_ for id_, *_ in await doors.inbox.due(1.0, 10)]
    await doors.inbox.handled([again], fault="The forge is away.", again_at=5.0)
    await doors.inbox.handled([bad], fault="No such pull request.")
    await doors.inbox.handled([good])
    assert await doors.inbox.due(4.0, 10) == []
    assert [(id_, tries) for id_, _, _, tries in await doors.inbox.due(5.0, 10)] == [(again, 1)]
    await doors.inbox.handled([again, bad, good], again_at=6.0)
    assert [(id_, tries) for id_, _, _, tries in await doors.inbox.due(6.0, 10)] == [(again, 2)]
    await doors.inbox.handled([])
    await doors.inbox.handled([again])
    assert await doors.inbox.due(9.0, 10) == []


async def test_a_status_is_wanted_posted_and_wanted_again(doors: Doors) -> None:
    first = a_posting(doors.project, 1, buttons=(Button.APPROVE,), summary="x" * 60_000, started_at=1.0)
    await doors.statuses.want([first, a_posting(doors.project, 1, context="nixmill: a")])
    assert await doors.statuses.due(NOW - 1, 10) == []
    due = await doors.statuses.due(NOW, 10)
    assert due[0] == first
    assert [posting.context for posting in due] == ["nixmill", "nixmill: a"]
    await doors.statuses.posted(an_outcome_of(first))
    assert [posting.context for posting in await doors.statuses.due(NOW, 10)] == ["nixmill: a"]
    await doors.statuses.want([a_posting(doors.project, 2)])
    (again, _) = sorted(await doors.statuses.due(NOW, 10), key=lambda posting: posting.context)
    assert (again.generation, again.external_id, again.title) == (2, "x1", "at 2")
    assert [posting.generation for posting in await doors.statuses.of_commit(doors.project, "c7")] == [2, 1]
    assert await doors.statuses.of_commit(doors.project, "c8") == []


async def test_a_generation_that_is_not_newer_changes_nothing(doors: Doors) -> None:
    final = a_posting(doors.project, 15, state=CheckState.GOOD)
    await doors.statuses.want([final])
    await doors.statuses.want([a_posting(doors.project, 15), a_posting(doors.project, 3)])
    assert await doors.statuses.of_commit(doors.project, "c7") == [final]
    await doors.statuses.posted(an_outcome_of(final))
    await doors.statuses.want([final])
    assert await doors.statuses.due(NOW, 10) == []


async def test_a_try_of_an_older_generation_leaves_the_newer_one_to_be_posted(doors: Doors) -> None:
    old, new = a_posting(doors.project, 1), a_posting(doors.project, 2)
    await doors.statuses.want([old])
    await doors.statuses.want([new])
    for outcome in (
        an_outcome_of(old, fault="Gone.", external_id=""),
        an_outcome_of(old, fault="Away.", again_at=NOW + 60, external_id=""),
        an_outcome_of(old),
    ):
        await doors.statuses.posted(outcome)
        assert [posting.generation for posting in await doors.statuses.due(NOW, 10)] == [2]
    await doors.statuses.posted(an_outcome_of(new, external_id=""))
    assert await doors.statuses.due(NOW + 99, 10) == []
    assert [posting.external_id for posting in await doors.statuses.of_commit(doors.project, "c7")] == ["x1"]
    await doors.statuses.posted(an_outcome_of(old))
    assert [each.generation for each in await doors.statuses.due(NOW, 10)] == [2], "the older one may stand above it"


async def test_a_try_that_failed_comes_again_or_is_given_up(doors: Doors) -> None:
    posting = a_posting(doors.project, 1)
    await doors.statuses.want([posting])
    await doors.statuses.posted(an_outcome_of(posting, fault="Away.", again_at=NOW + 60, external_id=""))
    assert await doors.statuses.due(NOW + 59, 10) == []
    assert [each.tries for each in await doors.statuses.due(NOW + 60, 10)] == [1]
    await doors.statuses.want([a_posting(doors.project, 2)])
    assert await doors.statuses.due(NOW, 10) == [], "the forge asked to be left alone until then"
    (newer,) = await doors.statuses.due(NOW + 60, 10)
    assert (newer.generation, newer.tries) == (2, 0)
    await doors.statuses.posted(an_outcome_of(newer, fault="The commit is gone.", external_id=""))
    assert await doors.statuses.due(NOW + 1e9, 10) == []
    await doors.statuses.want([a_posting(doors.project, 3)])
    assert [each.generation for each in await doors.statuses.due(NOW, 10)] == [3]


async def test_what_waits_longest_is_posted_first(doors: Doors) -> None:
    waits = [a_posting(doors.project, 1, context=context) for context in ("a", "b", "c")]
    await doors.statuses.want(waits)
    for posting, again_at in zip(waits, (NOW + 3, NOW + 1, NOW + 2), strict=True):
        await doors.statuses.posted(an_outcome_of(posting, fault="Away.", again_at=again_at))
    assert [posting.context for posting in await doors.statuses.due(NOW + 9, 2)] == ["b", "c"]


async def test_many_wants_at_the_same_time_leave_the_newest(doors: Doors) -> None:
    orders = [list(range(1, 30)), list(range(29, 0, -1)), [15, 3, 29, 7]]
    wants = [
        doors.statuses.want([a_posting(doors.project, n, context=context) for context in ("b", "a")])
        for order in orders
        for n in order
    ]
    await asyncio.gather(*wants)
    found = await doors.statuses.of_commit(doors.project, "c7")
    assert [(posting.context, posting.generation, posting.title) for posting in found] == [
        ("a", 29, "at 29"),
        ("b", 29, "at 29"),
    ]
