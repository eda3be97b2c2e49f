"""The scenarios of pull requests, forge by forge event, and where each is held; those without a place are here.

| scenario | test |
|---|---|
| W18 push by jobset, by repository | test_hydra_push: jobsets_are_triggered_by_name_and_by_address |
| W19 exactly that jobset | test_hydra_push: only_projects_of_just_that_repository_are_triggered |
| W20, W21 signatures | test_hydra_push: a_webhook_needs_a_signature_by_one_of_the_secrets |
| N27, Q20 pending, then success, right URL | here: on_gitea_it_is_pending_then_good_and_leads_to_the_run |
| E1 a failing build is red | test_pull_requests: a_strangers_pull_request_from_opening_... |
| E4 evaluation fails entirely | here: an_evaluation_that_fails_entirely_is_told_once |
| E32 superseded | test_pull_kills: a_push_while_the_older_head_is_held |
| E33 forge away, posted once | test_pull_kills: posting_while_the_forge_is_away |
| D2 fails on main too | here: what_fails_on_main_too_is_said_and_is_not_green |
| D5, D6 merge base | test_git_merge: a_change_forked_from_..., a_change_without_a_merge_base_... |
| webhooks: signatures, non-ASCII | test_gitea_events, test_github, test_web_hooks: a_wrong_signature_... |
| webhooks: replay, redelivery | test_server_pulls: a_delivery_that_comes_twice_...; test_pull_kills |
| webhooks: cap, malformed | test_web_hooks: an_oversized_webhook_is_413; here: nonsense_is_400 |
| webhooks: database outage | here: a_delivery_that_was_not_stored_... |
| webhooks: retarget rebuilds | test_pull_request: retargeting_is_a_new_change_...; test_event_laws |
| webhooks: current tip of the base | test_pull_requests: what_is_tested_is_the_head_merged_... |
| status: stale generation | test_server_pulls: the_newest_generation_stays_...; test_event_laws |
| status: cap, budget | test_forge_report: there_are_never_more_than_a_few, room_that_... |
| status: flip on rebuild | test_pulls: a_retry_flips_the_status |
| status: ANSI stripped | test_forge_report: titles_are_short_lines; test_forge_markdown_laws |
| status: Retry-After | here: a_forge_that_names_a_time_is_left_alone_until_then |
| canceller: skip markers | test_pulls: skip_ci_ends_without_a_green_check |
| canceller: same tree not cancelled, shared build | test_pull_requests: a_storm_of_...; here: closing_one_of_two_... |
| canceller: out-of-order ignored | test_pull_request: an_older_answer_is_stale; test_event_laws |
| canceller: closing cancels | test_pulls: closing_withdraws_...; test_pull_kills: closing_while_it_is_held |
| git: re-clone on corruption only | test_git_merge: a_damaged_mirror_..., a_server_that_is_down_is_no_conflict |
| git: stale refs pruned | test_git_merge: heads_of_closed_pull_requests_are_forgotten |
| git: submodules without credentials | test_git_tokens: a_submodule_gets_no_token |
| git: infrastructure is no conflict | here: a_git_server_that_is_down_is_trouble_and_no_conflict |
| visibility | test_pages_sight, test_web_rights, test_web_csrf |
| orchestration: same tree, promotion | test_watching_merge_queue: one_tree_of_a_pull_request_a_queue_... |
| orchestration: conflict is clear | test_pulls: a_conflict_is_a_clear_failure |
| orchestration: always a final status | test_event_laws, test_pull_kills |
| orchestration: fault at the end wedges nothing | here: a_fault_of_ours_ends_in_trouble_never_in_green |
| orchestration: instance credentials withheld | test_pull_requests: a_strangers_evaluation_reads_... |
"""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from nixmill.core.forge import HintKind
from nixmill.core.posting import CheckState
from nixmill.core.run_event import Verdict
from nixmill.doors import DoorError
from tests.contract.forge_world import Trouble, Where
from tests.fakes.store import Script
from tests.support.journey_world import away, run_row, template
from tests.support.program import flake, job
from tests.support.pull_server import PullServer, pull_server
from tests.support.pull_world import PullWorld, a_pull_world
from tests.support.scratch_store import ScratchStore

__all__ = ["template"]


@pytest.fixture
async def world(template: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PullWorld]:
    monkeypatch.setattr("nixmill.engine.journey.FETCH_AGAIN_S", 0.0)
    async with a_pull_world(template) as made:
        await made.watch.look(made.project)
        await made.settled()
        yield made


async def checked(world: PullWorld, head: str) -> int:
    """Open a member's pull request and let everything end; return its run."""
    await world.pull_event(world.open("mia", head, where=Where.SAME))
    await world.settled()
    return (await world.changes())[-1].number


async def test_on_gitea_it_is_pending_then_good_and_leads_to_the_run(tmp_path: Path, fresh_store: ScratchStore) -> None:
    """N27, Q20: whole server, Gitea over HTTP."""
    async with pull_server(tmp_path, fresh_store) as made:
        made.project.commit(flake__nix=flake(hello=job("hello")))
        made.server.start()
        await made.server.ready()
        await made.server.ended(1)
        number = made.open("sam", flake__nix=flake(hello=job("hello"), more=job("more")))
        head = made.hub.head(number)
        await made.told(number)
        await made.until_status(head, "pending")
        assert made.status(head)["target_url"] == f"{made.server.url}/p/hello/pull/1", "where it is approved"
        await made.commented(number, "mia", f"/nixmill approve {head[:12]}")
        await made.until_status(head, "success")
        assert made.status(head)["target_url"] == f"{made.server.url}/r/2"
        await nonsense_is_400(made)


async def nonsense_is_400(made: PullServer) -> None:
    """Send what no forge sends, signed."""
    async with httpx2.AsyncClient(base_url=made.server.url, timeout=30) as client:
        for nonsense in (b"{", b"\xff", b"[]"):
            answer = await client.post("/hook/forge/hub", content=nonsense, headers=dict(made.hub.sign(nonsense)))
            assert answer.status_code == 400, nonsense


async def test_an_evaluation_that_fails_entirely_is_told_once(world: PullWorld) -> None:
    """E4."""
    head = world.good()
    world.made.world.evaluator.groups[head] = [DoorError("nix: no", door="evaluator", action="run", retryable=False)]
    await checked(world, head)
    final = [one for one in world.forge.postings if one.commit == head and one.state is not CheckState.RUNNING]
    assert [one.state for one in final if one.required] == [CheckState.TROUBLE]


async def test_what_fails_on_main_too_is_said_and_is_not_green(world: PullWorld) -> None:
    """D2: it is no regression, has no status of its own, and the check is red all the same."""
    main = world.bad()
    world.made.remote.refs["refs/heads/main"] = main
    await world.watch.look(world.project)
    await world.settled()
    head = world.made.world.commit(*world.made.world.evaluator.groups[main])
    number = await checked(world, head)
    told = world.required(head)
    assert told.state is CheckState.FAILED
    assert "none of them new" in told.title
    assert "as on `main`" in told.summary
    assert {one.context for one in world.forge.postings if one.commit == head} == {"nixmill"}
    assert (await run_row(world.made, number)).verdict is Verdict.BUILD_FAILED


async def test_a_git_server_that_is_down_is_trouble_and_no_conflict(world: PullWorld) -> None:
    head = world.good()
    world.made.remote.troubles = [away() for _ in range(5)]
    number = await checked(world, head)
    row = await run_row(world.made, number)
    assert (row.verdict, world.state(head)) == (Verdict.INFRASTRUCTURE, CheckState.TROUBLE)
    assert "conflict" not in row.sentence


async def test_a_fault_of_ours_ends_in_trouble_never_in_green(world: PullWorld) -> None:
    head = world.good()
    world.made.remote.troubles = [ZeroDivisionError("ours")]
    await checked(world, head)
    assert world.state(head) is CheckState.TROUBLE
    assert "fault of nixmill" in world.required(head).title


async def test_a_forge_that_names_a_time_is_left_alone_until_then(world: PullWorld) -> None:
    head = world.good()
    number = world.open("mia", head, where=Where.SAME)
    await world.pull_event(number)
    world.forge.trouble(Trouble.LIMITED)
    await world.settled()
    world.forge.trouble(Trouble.NONE)
    world.later(20)
    await world.settled()
    assert head not in {one.commit for one in world.forge.postings}, "30 s were named"
    world.later(20)
    await world.settled()
    assert world.state(head) is CheckState.GOOD


async def test_a_delivery_that_was_not_stored_is_refused_and_taken_when_it_comes_again(world: PullWorld) -> None:
    """The database is away while a webhook comes: it is not acknowledged, and not taken for a repetition later."""
    head = world.good()
    number = world.open("mia", head, where=Where.SAME)
    hint = world.forge.hint(HintKind.PULL_REQUEST, pull_request=number)
    event = world.forge.event(*world.forge.delivery(hint))
    put = world.made.inbox.put

    async def fails(*_: object) -> bool:
        raise DoorError("away", door="database", action="record an event", retryable=True)

    world.made.inbox.put = fails  # type: ignore[method-assign, assignment]
    with pytest.raises(DoorError):
        await world.desk.took("hub", event)
    world.made.inbox.put = put  # type: ignore[method-assign]
    assert await world.desk.took("hub", event)
    assert not await world.desk.took("hub", event)
    await world.desk._look()
    await world.settled()
    assert world.state(head) is CheckState.GOOD


async def test_closing_one_of_two_that_want_the_same_build_leaves_it_to_the_other(world: PullWorld) -> None:
    """E32: what others want goes on, and nothing is built twice."""
    drv = world.made.world.store.derivation("shared")
    world.made.builder.script(drv, Script())
    heads = [world.made.world.commit([world.made.world.attribute(name, drv)]) for name in ("one", "two")]
    numbers = [world.open("mia", head, where=Where.SAME) for head in heads]
    for number in numbers:
        await world.pull_event(number)
    world.forge.close(numbers[0])
    await world.pull_event(numbers[0])
    await world.settled()
    assert [world.state(head) for head in heads] == [CheckState.CANCELLED, CheckState.GOOD]
    assert world.made.builder.repeated == []
