"""Pull requests from a webhook to the status on the forge, over a forge, a store and a remote in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from nixmill.core.change import ChangeState
from nixmill.core.forge import HintKind
from nixmill.core.posting import CheckState
from nixmill.core.pull_request import PullState
from nixmill.core.run_event import Verdict
from nixmill.core.trust import Tier
from nixmill.edge.database.pages_admin import SqlAdminPages
from nixmill.engine.office import Asker
from tests.contract.forge_world import Trouble, Where
from tests.support.journey_world import run_row, template  # noqa: F401 - a fixture
from tests.support.pull_world import PullWorld, a_pull_world


@pytest.fixture
async def world(template: Path) -> AsyncIterator[PullWorld]:  # noqa: F811 - the fixture
    async with a_pull_world(template) as made:
        yield made


async def test_a_members_pull_request_is_merged_checked_in_the_sandbox_and_told(world: PullWorld) -> None:
    head = world.good()
    number = world.open("mia", head, where=Where.SAME)
    await world.pull_event(number)
    await world.settled()
    (change,) = await world.changes()
    assert change.tier is Tier.MEMBER
    assert (change.tested, change.base_commit) == (head, world.made.remote.refs["refs/heads/main"])
    assert world.made.guarded == [True]
    assert world.state(head) is CheckState.GOOD
    assert world.required(head).context == "nixmill"


async def test_a_strangers_waits_for_the_approval_of_just_that_commit(world: PullWorld) -> None:
    first = world.good()
    number = world.open("sam", first, where=Where.OWN_FORK)
    await world.pull_event(number)
    await world.settled()
    assert world.state(first) is CheckState.HELD
    assert world.made.world.evaluator.asked == [], "nothing of it is evaluated"
    await world.commented(number, "mia", "/nixmill approve")
    await world.settled()
    assert world.state(first) is CheckState.GOOD
    second = world.good()
    world.forge.push(number, second)
    await world.pull_event(number)
    await world.settled()
    assert world.state(second) is CheckState.HELD, "a new push asks again"


async def test_strangers_and_authors_cannot_approve(world: PullWorld) -> None:
    head = world.good()
    number = world.open("sam", head, where=Where.OWN_FORK)
    await world.pull_event(number)
    for login in ("sam", "eve"):
        await world.commented(number, login, "/nixmill approve")
        await world.commented(number, login, "/nixmill retry")
    await world.told(
        world.forge.hint(HintKind.APPROVE, pull_request=number, commit=head, actor=world.forge.users["sam"])
    )
    await world.settled()
    (change,) = await world.changes()
    assert change.state is ChangeState.HELD
    assert world.made.world.evaluator.asked == []


async def test_an_approval_names_the_commit_that_was_looked_at(world: PullWorld) -> None:
    first, second = world.good(), world.good()
    number = world.open("sam", first, where=Where.OWN_FORK)
    await world.pull_event(number)
    world.forge.push(number, second)
    await world.commented(number, "mia", f"/nixmill approve {first[:12]}")
    await world.settled()
    assert world.made.world.evaluator.asked == []
    assert world.state(second) is CheckState.HELD


async def test_the_button_approves_the_commit_that_it_stands_on(world: PullWorld) -> None:
    first, second = world.good(), world.good()
    number = world.open("sam", first, where=Where.OWN_FORK)
    await world.pull_event(number)
    world.forge.push(number, second)
    mia = world.forge.users["mia"]
    await world.told(world.forge.hint(HintKind.APPROVE, pull_request=number, commit=first, actor=mia))
    await world.settled()
    assert world.state(second) is CheckState.HELD
    await world.told(world.forge.hint(HintKind.APPROVE, pull_request=number, commit=second, actor=mia))
    await world.settled()
    assert world.state(second) is CheckState.GOOD


async def test_duplicates_replays_and_late_events_end_in_the_same_state(world: PullWorld) -> None:
    first, second = world.good(), world.good()
    number = world.open("mia", first, where=Where.SAME)
    delivery = world.forge.delivery(world.forge.hint(HintKind.PULL_REQUEST, pull_request=number))
    for _ in range(3):
        await world.desk.took("hub", world.forge.event(*delivery))
    await world.pull_event(number)
    world.forge.push(number, second)
    await world.pull_event(number)
    await world.pull_event(number)
    await world.settled()
    assert [change.commit for change in await world.changes()] == [first, second]
    assert world.state(second) is CheckState.GOOD


async def test_what_no_webhook_told_the_reconciler_finds(world: PullWorld) -> None:
    old = world.good()
    world.open("mia", old, where=Where.SAME)
    await world.pulls.reconcile(world.project)
    assert await world.changes() == [], "what was open before the first look is recorded and not run"
    head = world.good()
    number = world.open("mia", head, where=Where.SAME)
    await world.pulls.reconcile(world.project)
    await world.settled()
    assert world.state(head) is CheckState.GOOD
    world.forge.close(number, merged=True)
    await world.pulls.reconcile(world.project)
    assert [pull.number for pull in await world.made.pulls.open_pull_requests(world.project.id)] == [1]


async def test_a_conflict_is_a_clear_failure(world: PullWorld) -> None:
    head = world.good()
    world.made.remote.conflicts.add(head)
    number = world.open("mia", head, where=Where.SAME)
    await world.pull_event(number)
    await world.settled()
    row = await run_row(world.made, 1)
    assert "conflicts in flake.lock" in row.sentence
    assert world.state(head) is CheckState.FAILED


async def test_skip_ci_ends_without_a_green_check(world: PullWorld) -> None:
    head = world.good()
    world.made.remote.messages[head] = "Fix a typo [skip ci]"
    number = world.open("mia", head, where=Where.SAME)
    await world.pull_event(number)
    await world.settled()
    assert (await run_row(world.made, 1)).verdict is Verdict.CANCELLED
    assert world.state(head) is CheckState.SKIPPED
    await world.commented(number, "mia", "/nixmill retry")
    await world.settled()
    assert world.state(head) is CheckState.GOOD, "a person may want it all the same"


async def test_a_draft_has_a_check_that_says_why_it_is_not_run(world: PullWorld) -> None:
    world.project = await world.made.projects.save_project(msgspec.structs.replace(world.project, drafts=False))
    head = world.good()
    number = world.open("mia", head, where=Where.SAME, draft=True)
    await world.pull_event(number)
    await world.settled()
    assert world.state(head) is CheckState.SKIPPED
    assert "draft" in world.required(head).title
    world.forge.change(number, draft=False)
    await world.pull_event(number)
    await world.settled()
    assert world.state(head) is CheckState.GOOD


async def test_closing_withdraws_and_reopening_begins_anew(world: PullWorld) -> None:
    head = world.good()
    number = world.open("sam", head, where=Where.OWN_FORK)
    await world.pull_event(number)
    world.forge.close(number)
    await world.pull_event(number)
    await world.settled()
    assert (await world.changes())[0].state is ChangeState.DONE
    assert world.state(head) is CheckState.CANCELLED
    world.forge.change(number, state=PullState.OPEN)
    await world.pull_event(number)
    assert [change.state for change in await world.changes()] == [ChangeState.DONE, ChangeState.HELD]


async def test_of_two_pull_requests_with_one_head_the_open_one_speaks(world: PullWorld) -> None:
    head = world.good()
    first, second = world.open("mia", head, where=Where.SAME), world.open("mia", head, where=Where.SAME)
    await world.pull_event(first)
    await world.settled()
    await world.pull_event(second)
    world.forge.close(second)
    await world.pull_event(second)
    await world.settled()
    assert world.state(head) is CheckState.GOOD


async def test_a_project_that_is_deleted_leaves_no_check_waiting(world: PullWorld) -> None:
    head = world.good()
    await world.pull_event(world.open("sam", head, where=Where.OWN_FORK))
    await world.office.delete_project(Asker(user=None, name="root"), world.project)
    while await world.statuses._look():
        pass
    assert world.state(head) is CheckState.CANCELLED


async def test_a_retry_flips_the_status(world: PullWorld) -> None:
    head = world.bad()
    number = world.open("mia", head, where=Where.SAME)
    await world.pull_event(number)
    await world.settled()
    assert world.state(head) is CheckState.FAILED
    extras = {one.context for one in world.forge.postings if not one.required}
    assert extras == {"nixmill: checks.bad"}
    world.made.builder.scripts.clear()
    await world.commented(number, "mia", "/nixmill retry")
    await world.settled()
    assert world.state(head) is CheckState.GOOD
    last = [one for one in world.forge.postings if not one.required][-1]
    assert (last.context, last.state) == ("nixmill: checks.bad", CheckState.GOOD)


async def test_an_outage_of_the_forge_is_waited_out(world: PullWorld) -> None:
    head = world.good()
    number = world.open("mia", head, where=Where.SAME)
    await world.pull_event(number)
    world.forge.trouble(Trouble.OUTAGE)
    await world.settled()
    assert world.forge.postings == []
    world.forge.trouble(Trouble.NONE)
    world.later(7200)
    await world.settled()
    assert world.state(head) is CheckState.GOOD
    assert len([one for one in world.forge.postings if one.required]) == 1, "of several states the newest is posted"


async def test_the_audit_log_says_of_which_project_a_commit_was_approved(world: PullWorld) -> None:
    number = world.open("sam", world.good(), where=Where.OWN_FORK)
    await world.pull_event(number)
    await world.commented(number, "mia", "/nixmill approve")
    page = await SqlAdminPages(world.made.database, world.clock.now).audit(None, 10, "")
    assert [entry.subject for entry in page.lines if entry.action == "approve a commit"] == [f"mill #{number}"]


async def test_where_all_jobsets_are_off_nothing_runs_and_the_check_says_so(world: PullWorld) -> None:
    (jobset,) = await world.made.projects.jobsets(world.project.id)
    await world.made.projects.save_jobsets(world.project.id, [msgspec.structs.replace(jobset, enabled=False)])
    head = world.good()
    number = world.open("mia", head, where=Where.SAME)
    await world.pull_event(number)
    await world.settled()
    assert world.made.world.evaluator.asked == []
    assert world.required(head).title == "Not checked: all jobsets of the project are switched off"
    await world.made.projects.save_jobsets(world.project.id, [jobset])
    await world.pull_event(number)
    await world.settled()
    assert world.state(head) is CheckState.GOOD


async def test_a_conflict_tells_neither_cost_nor_sandbox(world: PullWorld) -> None:
    head = world.good()
    world.made.remote.conflicts.add(head)
    await world.pull_event(world.open("mia", head, where=Where.SAME))
    await world.settled()
    said = world.required(head).summary
    assert "conflicts in" in said
    assert not any(word in said for word in ("Took", "repro", "sandbox"))


async def test_a_base_of_which_there_is_no_run_is_named(world: PullWorld) -> None:
    head = world.bad()
    await world.pull_event(world.open("mia", head, where=Where.SAME))
    await world.settled()
    told = world.required(head)
    assert "; " in told.title and told.title.endswith("new") and "### Against `main` at " in told.summary
