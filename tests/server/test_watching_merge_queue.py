"""Branches of merge queues: each is checked as it stands and told of on its commit, with the power of a branch."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from nixmill.core.change import BuildClass, Change, ChangeState, Origin
from nixmill.core.forge import HintKind
from nixmill.core.posting import CheckState
from nixmill.core.project import Jobset, Project, Ref
from nixmill.core.run_event import Verdict
from nixmill.core.trust import Tier
from nixmill.core.watching import changes_from
from tests.contract.forge_world import Where
from tests.support.journey_world import run_row, template  # noqa: F401 - a fixture
from tests.support.pull_world import PullWorld, a_pull_world

PROJECT = Project(id=1, name="mill", url="file:///mill", forge="hub", repository="octo/hello")
MAIN = Jobset(id=1, name="main", targets=("checks",))
QUEUE = "refs/heads/gh-readonly-queue/main/pr-2-d9c2d2ef"


@pytest.fixture
async def world(template: Path) -> AsyncIterator[PullWorld]:  # noqa: F811 - the fixture
    async with a_pull_world(template) as made:
        await made.watch.look(made.project)
        await made.settled()
        yield made


async def queued(world: PullWorld, commit: str) -> Change:
    """Let the forge's queue make a branch, look, and let everything end; return the newest change."""
    world.made.remote.refs[QUEUE] = commit
    await world.watch.look(world.project)
    await world.settled()
    return (await world.changes())[-1]


def seen(known: dict[str, str] | None, more: dict[str, str], project: Project = PROJECT) -> list[Change]:
    refs = [Ref(name="refs/heads/main", commit="a"), *(Ref(name=name, commit=to) for name, to in more.items())]
    return changes_from(project, [MAIN, msgspec.structs.replace(MAIN, id=2, name="more")], known, refs, "main")


def test_a_queue_is_checked_once_in_the_first_jobset_where_it_is_new_or_moved() -> None:
    known = {"refs/heads/main": "a"}
    (new,) = seen(known, {QUEUE: "b"})
    assert (new.jobset, new.origin, new.build_class) == (1, Origin.MERGE_QUEUE, BuildClass.MERGE_QUEUE)
    assert (new.targets, new.tier) == (("checks",), Tier.BRANCH)
    assert [one.commit for one in seen(known | {QUEUE: "b"}, {QUEUE: "c"})] == ["c"]
    assert seen(known | {QUEUE: "b"}, {QUEUE: "b"}) == []
    assert seen(known | {QUEUE: "b"}, {}) == []


def test_the_first_look_starts_no_queue_and_without_a_forge_there_is_none() -> None:
    assert [one.ref for one in seen(None, {QUEUE: "b"})] == ["refs/heads/main"] * 2
    plain = msgspec.structs.replace(PROJECT, forge="")
    assert seen({"refs/heads/main": "a"}, {QUEUE: "b"}, plain) == []
    asleep = msgspec.structs.replace(PROJECT, enabled=False)
    assert seen({"refs/heads/main": "a"}, {QUEUE: "b"}, asleep) == []
    tag = QUEUE.replace("heads", "tags")
    assert seen({"refs/heads/main": "a"}, {tag: "b"}) == []


async def test_a_queue_is_told_of_on_its_commit_and_has_the_tier_of_a_branch(world: PullWorld) -> None:
    world.forge.repos[world.forge.path].protected.add("gh-readonly-queue/main/pr-2-d9c2d2ef")
    commit = world.bad()
    change = await queued(world, commit)
    assert (change.origin, change.tier) == (Origin.MERGE_QUEUE, Tier.BRANCH)
    assert world.state(commit) is CheckState.FAILED
    world.made.builder.scripts.clear()
    moved = world.made.world.commit(*world.made.world.evaluator.groups[commit])
    await queued(world, moved)
    assert world.state(moved) is CheckState.GOOD, (
        "neither failure memory nor what fails on the base keeps a queue from trying"
    )


async def test_a_queue_that_is_given_up_has_its_run_cancelled(world: PullWorld) -> None:
    commit = world.good()
    world.made.remote.refs[QUEUE] = commit
    await world.watch.look(world.project)
    del world.made.remote.refs[QUEUE]
    await world.watch.look(world.project)
    await world.settled()
    number = (await world.changes())[-1].number
    assert (await run_row(world.made, number)).verdict is Verdict.CANCELLED
    assert world.state(commit) is CheckState.CANCELLED
    assert commit not in world.made.world.evaluator.asked


async def test_one_tree_of_a_pull_request_a_queue_and_a_push_is_evaluated_once(world: PullWorld) -> None:
    """The sandbox of a pull request takes things away, never adds any: what it found good is good outside."""
    head = world.good()
    number = world.open("mia", head, where=Where.SAME)
    await world.pull_event(number)
    await world.settled()
    await queued(world, head)
    world.made.remote.refs["refs/heads/main"] = head
    world.forge.close(number, merged=True)
    await world.watch.look(world.project)
    await world.settled()
    assert world.made.world.evaluator.asked.count(head) == 1
    origins = [one.origin for one in await world.changes() if one.commit == head]
    assert origins == [Origin.PULL_REQUEST, Origin.MERGE_QUEUE, Origin.PUSH]
    assert world.state(head) is CheckState.GOOD


@pytest.mark.parametrize("branch", ["main", "gh-readonly-queue/main/pr-1-0", "gitea-mq/1"])
async def test_the_name_of_a_forks_branch_gains_nothing(world: PullWorld, branch: str) -> None:
    head = world.good()
    number = world.open("sam", head, where=Where.OWN_FORK, head_ref=branch)
    await world.told(
        world.forge.hint(HintKind.PULL_REQUEST, pull_request=number),
        world.forge.hint(HintKind.MERGE_QUEUE, commit=head, ref=f"refs/heads/{branch}", base_ref="refs/heads/main"),
        world.forge.hint(HintKind.PUSH, commit=head, ref=f"refs/heads/{branch}"),
    )
    await world.watch.look(world.project)
    await world.settled()
    mine = [one for one in await world.changes() if one.commit == head]
    assert [(one.state, one.tier, one.origin) for one in mine] == [(ChangeState.HELD, Tier.FORK, Origin.PULL_REQUEST)]
    assert head not in world.made.world.evaluator.asked
