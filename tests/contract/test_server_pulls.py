"""Pull requests in the database: two that write at the same time, deletion, what is forgotten, what strangers send."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec
import pytest
from sqlalchemy import Connection, text

from nixmill.core.access import Sight
from nixmill.core.account import Identity, User
from nixmill.core.change import Change, ChangeState, Progress
from nixmill.core.errors import InputError
from nixmill.core.forge import Event, Hint, HintKind
from nixmill.core.history import Keep, RunEndRow
from nixmill.core.message import ChannelKind, Parcel
from nixmill.core.pull_request import PullState, decide
from nixmill.core.run_event import Verdict
from nixmill.core.size_change import SizeChange
from nixmill.core.trust import Tier
from nixmill.edge.database import upkeep
from nixmill.edge.database.accounts import SqlAccounts
from nixmill.edge.database.changes import SqlChanges
from nixmill.edge.database.database import Database, open_database
from nixmill.edge.database.deletion import GRACE_S, sweep
from nixmill.edge.database.history import SqlHistory
from nixmill.edge.database.inbox import SqlInbox
from nixmill.edge.database.members import SqlMembers
from nixmill.edge.database.outbox import SqlOutbox
from nixmill.edge.database.pages_evaluation import SqlRunPages
from nixmill.edge.database.past import SqlPast
from nixmill.edge.database.projects import SqlProjects
from nixmill.edge.database.pull_requests import SqlPullRequests
from nixmill.edge.database.statuses import SqlStatuses
from nixmill.edge.database.story import SqlStory
from tests.support.databases import database, place, postgres
from tests.support.forge_things import a_posting, a_pull, a_pull_change, an_approval, an_event, an_outcome_of
from tests.support.history_rows import an_evaluation, an_outcome
from tests.support.server_things import NOW, a_change, a_project, accepted, now, saved_project

__all__ = ["database", "place", "postgres"]

ROUNDS: Final = 20
DAY_S: Final = 86_400.0
replace = msgspec.structs.replace


@pytest.fixture
async def two(place: Path | str) -> AsyncIterator[tuple[Database, Database]]:
    """Two that write to the same database, as two processes would."""
    async with open_database(place) as one, open_database(place) as other:
        yield one, other


async def change_of(database: Database, number: int) -> Change:
    found = await SqlChanges(database, now).change(number)
    assert found is not None
    return found


async def test_two_looks_at_the_same_time_are_one(two: tuple[Database, Database]) -> None:
    project = await saved_project(two[0])
    doors = [SqlPullRequests(each, now) for each in two]
    looks = [doors[n % 2].saw(project, a_pull(), [a_pull_change(project)]) for n in range(40)]
    assert sorted(map(len, await asyncio.gather(*looks))) == [0] * 39 + [1]
    assert len(await SqlChanges(two[0], now).open_changes()) == 1


async def test_an_approval_at_the_same_time_as_a_look_is_not_missed(two: tuple[Database, Database]) -> None:
    project = await saved_project(two[0])
    begun: list[int] = []
    doors = [SqlPullRequests(each, now, lambda _connection, numbers: begun.extend(numbers)) for each in two]
    for number in range(1, ROUNDS + 1):
        look = doors[number % 2].saw(project, a_pull(number), [a_pull_change(project, number)])
        approve = doors[(number + 1) % 2].approve(an_approval(project, number))
        await asyncio.gather(*((look, approve) if number % 3 else (approve, look)))
    changes = await SqlChanges(two[0], now).open_changes()
    assert [change.state for change in changes] == [ChangeState.WAITING] * ROUNDS
    assert sorted(set(begun)) == [change.number for change in changes]


async def test_an_approval_and_a_withdrawal_at_the_same_time_agree(two: tuple[Database, Database]) -> None:
    project = await saved_project(two[0])
    doors = [SqlPullRequests(each, now) for each in two]
    for number in range(1, ROUNDS + 1):
        (run,) = await doors[0].saw(project, a_pull(number), [a_pull_change(project, number)])
        released, withdrawn = await asyncio.gather(
            doors[0].approve(an_approval(project, number)), doors[1].withdraw([run], ": closed")
        )
        change = await change_of(two[0], run)
        assert withdrawn == [run]
        assert (change.withdrawn, change.cancel_asked) == (True, True)
        assert change.state is (ChangeState.WAITING if released else ChangeState.DONE)


async def test_a_delivery_that_comes_twice_at_the_same_time_is_recorded_once(two: tuple[Database, Database]) -> None:
    doors = [SqlInbox(each) for each in two]
    puts = [doors[n % 2].put("f", an_event("d", 1, 2), 1.0) for n in range(40)]
    assert sorted(await asyncio.gather(*puts)) == [False] * 39 + [True]
    assert len(await doors[0].due(1.0, 100)) == 2


async def test_the_newest_generation_stays_whoever_comes_last(two: tuple[Database, Database]) -> None:
    project = await saved_project(two[0])
    doors = [SqlStatuses(each, now) for each in two]
    contexts = ["nixmill", "nixmill: a", "nixmill: b"]

    def wanted(generation: int, backwards: int) -> list[object]:
        return [a_posting(project, generation, context=each) for each in (contexts[::-1] if backwards else contexts)]

    generations = [n * 7 % 41 for n in range(41)]
    await asyncio.gather(*(doors[n % 2].want(wanted(n, n % 2)) for n in generations))  # type: ignore[arg-type]
    found = await doors[0].of_commit(project, "c7")
    assert [(each.context, each.generation, each.title) for each in found] == [(each, 40, "at 40") for each in contexts]


async def test_a_held_change_ends_with_a_sentence(database: Database) -> None:
    project, pulls = await saved_project(database), SqlPullRequests(database, now)
    (number,) = await pulls.saw(project, a_pull(), [a_pull_change(project)])
    assert [each.number for each in await SqlChanges(database, now).open_changes()] == [number]
    await pulls.withdraw([number], ": the pull request is merged")
    line = await SqlRunPages(database, now).run(Sight(everything=True), number)
    assert line is not None
    assert (line.state, line.verdict, line.sentence) == (
        ChangeState.DONE,
        Verdict.CANCELLED,
        "Cancelled: the pull request is merged.",
    )
    assert (line.ended_at, line.started_at is not None) == (NOW, True)
    assert await SqlChanges(database, now).open_changes() == []


async def test_what_is_about_to_be_cancelled_is_not_let_go_on(database: Database) -> None:
    project, pulls = await saved_project(database), SqlPullRequests(database, now)
    (number,) = await pulls.saw(project, a_pull(), [a_pull_change(project)])
    assert await SqlChanges(database, now).stop(number)
    assert await pulls.approve(an_approval(project)) == []
    assert (await change_of(database, number)).state is ChangeState.DONE


async def test_a_head_that_comes_back_is_checked_again(database: Database) -> None:
    """Pushed to another commit and back, a pull request would be stuck at `cancelled` otherwise."""
    project, pulls = await saved_project(database), SqlPullRequests(database, now)
    numbers = []
    for commit in ("a", "b", "a", "a"):
        seen, known = a_pull(head_commit=commit), await pulls.pull_request(project, 7)
        decision = decide(known, seen, project=project, jobset=None, tier=Tier.FORK, drafts=True, backlog=False)
        numbers += await pulls.saw(project, seen, decision.changes)
        for older in numbers[:-1]:
            await SqlChanges(database, now).stop(older, superseded_by=numbers[-1])
    assert len(numbers) == 3


async def test_a_project_that_is_gone_has_no_pull_requests(database: Database) -> None:
    project, pulls = await saved_project(database), SqlPullRequests(database, now)
    (held,) = await pulls.saw(project, a_pull(), [a_pull_change(project)])
    statuses = SqlStatuses(database, now)
    await SqlProjects(database, now).delete_project(project)
    assert (await change_of(database, held)).state is ChangeState.DONE, "nobody works on it, and nobody would end it"
    assert await pulls.saw(project, a_pull(8), [a_pull_change(project, 8)]) == []
    with pytest.raises(InputError, match="no such project any more"):
        await pulls.approve(an_approval(project))
    await statuses.want([a_posting(project)])
    assert not await sweep(database, now=now), "its forge has not heard yet"
    await statuses.posted(an_outcome_of(a_posting(project)))
    while await sweep(database, now=now):
        pass
    assert await pulls.pull_request(project, 7) is None
    await statuses.want([a_posting(project)])
    assert await statuses.due(NOW, 10) == []
    parcel = Parcel(
        key="k", project=project, run=None, channel=ChannelKind.FORGE, target="f", credential="", title="t",
        text="x", body="{}",
    )  # fmt: skip
    await SqlInbox(database, now).handled([], replies=[parcel])
    assert await SqlOutbox(database, now).due(NOW, 10) == []


async def test_a_forge_that_never_hears_does_not_keep_a_project(database: Database) -> None:
    project = await saved_project(database)
    await SqlStatuses(database, now).want([a_posting(project)])
    await SqlProjects(database, now).delete_project(project)
    assert not await sweep(database, now=now)
    assert await sweep(database, now=lambda: NOW + GRACE_S + 1)


async def test_answers_are_put_into_the_outbox_once(database: Database) -> None:
    project, inbox = await saved_project(database), SqlInbox(database, now)
    await inbox.put("f", an_event("d", 7), 1.0)
    ((hint, *_),) = await inbox.due(1.0, 10)
    parcel = Parcel(
        key="k", project=project, run=None, channel=ChannelKind.FORGE, target="f", credential="", title="t",
        text="x", body="{}",
    )  # fmt: skip
    for _ in range(2):
        await inbox.handled([hint], replies=[parcel, replace(parcel, project=None, key="l")])
    assert [each.key for each in await SqlOutbox(database, now).due(NOW, 10)] == ["k", "l"]


async def test_a_repository_has_one_project(database: Database) -> None:
    projects = SqlProjects(database, now)
    fields = {"forge": "f", "repository": "o/mill", "repository_id": "31", "drafts": False}
    mill = await projects.save_project(a_project("mill", **fields))
    assert (mill.forge, mill.repository, mill.repository_id, mill.drafts) == ("f", "o/mill", "31", False)
    assert await projects.save_project(replace(mill, title="The mill")) == replace(mill, title="The mill")
    with pytest.raises(InputError, match="'o/mill' of f already"):
        await projects.save_project(a_project("copy", **fields))
    with pytest.raises(InputError, match="called 'mill' already"):
        await projects.save_project(a_project("mill"))
    for name, other in (("g", {"forge": "g"}), ("h", {"repository_id": "32"}), ("i", {"repository_id": ""})):
        await projects.save_project(a_project(name, **{**fields, **other}))
    await projects.save_project(a_project("j", **{**fields, "repository_id": ""}))
    await projects.delete_project(mill.id)
    assert (await projects.save_project(a_project("copy", **fields))).repository_id == "31"


async def test_a_change_keeps_what_it_merges(database: Database) -> None:
    project, changes = await saved_project(database), SqlChanges(database, now)
    asked = a_pull_change(
        project, tier=Tier.MEMBER, state=ChangeState.WAITING, tested="t0", base_commit="b0", requested_at=5.0,
        anyway=(("checks", "x"),),
    )  # fmt: skip
    (number,) = await changes.accept([asked])
    assert await changes.change(number) == replace(asked, number=number)
    size = SizeChange(path=("a",), name="a", version_before="1", version_after="2", closure_after=3)
    await changes.progress(Progress(number=number, tested="t1", base_commit="b1", sizes=(size,)))
    found = await change_of(database, number)
    assert (found.tested, found.base_commit) == ("t1", "b1")
    page = await SqlRunPages(database, now).evaluation(Sight(everything=True), number, None, "", 1, 10)
    assert page is not None
    assert (page.tested, page.base_commit, page.sizes) == ("t1", "b1", (size,))
    assert (page.run.pull_request, page.run.tier, page.run.base_ref) == (7, Tier.MEMBER, "refs/heads/main")


async def test_work_on_what_is_held_is_not_begun(database: Database) -> None:
    project, begun = await saved_project(database), list[int]()
    changes = SqlChanges(database, now, lambda _connection, numbers: begun.extend(numbers))
    held, going = await changes.accept([a_pull_change(project), a_change(project)])
    assert begun == [going]
    assert (await change_of(database, held)).state is ChangeState.HELD


async def test_older_changes_of_a_pull_request_are_found_those_that_are_held_too(database: Database) -> None:
    project, past = await saved_project(database), SqlPast(database)
    other = await accepted(database, project, ref="refs/heads/main")
    changes = SqlChanges(database, now)
    first, second, retry, elsewhere, done = await changes.accept([
        a_pull_change(project),
        a_pull_change(project, commit="c8", state=ChangeState.WAITING),
        a_pull_change(project, commit="c8", state=ChangeState.WAITING, ref="refs/changes/07/7/2"),
        a_pull_change(project, 8),
        a_pull_change(project, commit="c9"),
    ])  # fmt: skip
    await changes.progress(Progress(number=done, verdict=Verdict.GOOD, sentence=""))
    (newest,) = await changes.accept([a_pull_change(project, commit="d")])
    found = await past.earlier(await change_of(database, newest))
    assert [change.number for change in found] == [first, second, retry]
    assert await past.earlier(await change_of(database, other)) == []
    assert elsewhere not in {change.number for change in found}


async def test_an_evaluation_keeps_its_tier(database: Database) -> None:
    history, run = SqlHistory(database, now), await accepted(database, await saved_project(database))
    await history.record(
        [an_evaluation(run, ("a",), key="k1"), replace(an_evaluation(run, ("a",), key="k2"), tier=Tier.FORK)]
    )
    rows = [await history.evaluation(key) for key in ("k1", "k2")]
    assert [row and row.tier for row in rows] == [Tier.BRANCH, Tier.FORK]


@pytest.mark.parametrize(("tier", "hears"), [(Tier.FORK, 0), (Tier.MEMBER, 0), (Tier.BRANCH, 1), (Tier.PROTECTED, 1)])
async def test_hooks_hear_nothing_of_untrusted_commits(database: Database, tier: Tier, hears: int) -> None:
    history = SqlHistory(database, now)
    run = await accepted(database, await saved_project(database), tier=tier)
    await history.record([an_evaluation(run, ("a",)), an_outcome(run, "a")])
    await history.record([RunEndRow(number=run, ended_at=NOW, verdict=Verdict.GOOD, sentence="")])
    assert len(await SqlStory(database).attributes_for_hooks(run)) == hears


async def test_runs_of_closed_pull_requests_only_have_their_time(database: Database) -> None:
    project, pulls, history = await saved_project(database), SqlPullRequests(database, now), SqlHistory(database, now)
    ages = itertools.count(50, -1)
    runs: dict[int, list[int]] = {}
    for number, state in ((7, PullState.OPEN), (8, PullState.MERGED), (9, PullState.CLOSED)):
        for commit in ("a", "b"):
            change = a_pull_change(project, number, commit=commit, requested_at=NOW - next(ages) * DAY_S)
            runs.setdefault(number, []).extend(await pulls.saw(project, a_pull(number, state=state), [change]))
        for run in runs[number]:
            await history.record([RunEndRow(number=run, ended_at=NOW, verdict=Verdict.GOOD, sentence="")])
    pruned = await history.prune(Keep(runs=1, days=10))
    assert list(pruned.runs) == [runs[7][0], *runs[8], *runs[9]]


async def test_deliveries_and_statuses_are_forgotten_after_a_while(database: Database) -> None:
    project, inbox, statuses = await saved_project(database), SqlInbox(database), SqlStatuses(database, now)
    for delivery, at in (("old", NOW - 40 * DAY_S), ("new", NOW - 5 * DAY_S)):
        await inbox.put("f", an_event(delivery, 7, 8), at)
    waiting, standing, recent = (a_posting(project, context=each) for each in ("waiting", "standing", "recent"))
    await statuses.want([waiting, standing, recent])
    await statuses.posted(an_outcome_of(standing, at=NOW - 100 * DAY_S))
    await statuses.posted(an_outcome_of(recent, at=NOW - 10 * DAY_S))
    gone = await upkeep.tidy(database, upkeep.Ages(audit=0), NOW)
    assert gone == {"nm_hint": 2, "nm_status": 1}
    assert [each.context for each in await statuses.of_commit(project, "c7")] == ["recent", "waiting"]
    assert [await inbox.put("f", an_event(delivery, 7), NOW) for delivery in ("old", "new")] == [True, False]


async def test_what_strangers_send_fits(database: Database) -> None:
    """NUL, lone surrogates, and texts that no index takes."""
    project, inbox, statuses = await saved_project(database), SqlInbox(database), SqlStatuses(database, now)
    pulls, odd = SqlPullRequests(database, now), "x\0\ud800" + "".join(chr(0x4E00 + n) for n in range(5_000))
    await pulls.saw(project, a_pull(title=odd, head_ref=odd, labels=(odd,), head_commit="c\0"), [])
    known = await pulls.pull_request(project, 7)
    assert known is not None
    assert known.pull.title == odd.replace("\0", "�").replace("\ud800", "�")
    event = Event(delivery=odd, hints=(Hint(kind=HintKind.COMMENT, repository=odd, comment=odd),))
    assert [await inbox.put("f", event, 1.0) for _ in range(2)] == [True, False]
    assert await inbox.put("f", replace(event, delivery=odd + "y"), 1.0)
    assert len(await inbox.due(1.0, 10)) == 2
    posting = a_posting(project, context=odd, title=odd)
    await statuses.want([posting, replace(posting, context=odd + "y")])
    found = await statuses.due(NOW, 10)
    assert len(found) == 2
    for each in found:
        await statuses.posted(an_outcome_of(each))
    assert await statuses.due(NOW, 10) == []
    await pulls.approve(an_approval(project, commit="c\0", who=odd, via=odd))


async def test_who_somebody_is_on_a_forge_is_kept_up_to_date(database: Database) -> None:
    accounts, members = SqlAccounts(database, now), SqlMembers(database)
    user = await accounts.save_user(User(name="alice"), Identity(provider="f", subject="12"))
    assert await members.identity(user.id, "f") == Identity(provider="f", subject="12")
    for login in ("alice", "alice2", ""):
        await accounts.save_user(user, Identity(provider="f", subject="12", login=login))
    assert await members.identity(user.id, "f") == Identity(provider="f", subject="12", login="alice2")
    assert await members.identity(user.id, "g") is None
    assert await accounts.known_as(Identity(provider="f", subject="12", login="somebody")) == user


async def test_rows_of_before_are_of_a_branch(database: Database) -> None:
    def old(connection: Connection) -> None:
        connection.execute(
            text(
                'INSERT INTO nm_run (project, checkout, "commit", tree_hash, targets, base_commit, process, '
                "process_identity, started_at, sentence, project_id, state, origin, build_class) VALUES "
                "('mill', '', 'c', '', '[]', '', 0, '', 1, '', :project, 'waiting', 'push', 'branch')"
            ),
            {"project": project},
        )

    project = await saved_project(database)
    await database.write(old, action="write an old row")
    (change,) = await SqlChanges(database, now).open_changes()
    assert (change.tier, change.pull_request, change.withdrawn, change.base_ref) == (Tier.BRANCH, None, False, "")
