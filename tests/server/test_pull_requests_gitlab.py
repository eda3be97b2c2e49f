"""Merge requests on GitLab as their authors and maintainers meet them: the whole server, with real Nix."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from tests.contract.forge_world import Colour, Where
from tests.support.gitlab_world import GitLabWorld
from tests.support.program import flake, job
from tests.support.pull_server import Pulls, gitlab_beside, pulls
from tests.support.scratch_store import ScratchStore


@pytest.fixture
async def world(tmp_path: Path, fresh_store: ScratchStore) -> AsyncIterator[Pulls[GitLabWorld]]:
    async with gitlab_beside(tmp_path) as beside, pulls(tmp_path, fresh_store, beside) as made:
        made.project.commit(flake__nix=flake(hello=job("hello")))
        await made.running()
        yield made


FORM: Final = {
    "name": "hello",
    "visibility": "public",
    "poll_s": "600",
    "weight": "1",
    "enabled": "true",
    "forge": "hub",
    "repository": "octo/sub/hello",
    "jobset_name": "main",
    "jobset_build_class": "branch",
    "jobset_on_push": "true",
    "jobset_enabled": "true",
    "jobset_time_zone": "UTC",
    **{f"jobset_{name}": "" for name in ("branches", "tags", "schedule", "targets", "systems")},
}


async def leave_drafts_alone(world: Pulls[GitLabWorld]) -> None:
    """Change the project's settings as its owner would."""
    async with world.server.administrator() as browser:
        page = (await browser.get("/p/hello/settings")).text
        found = re.search(r'name="jobset_id" value="(\d+)"', page)
        assert found is not None, page
        fields = {**FORM, "url": f"file://{world.project.top}", "jobset_id": found[1]}
        answer = await browser.post("/p/hello/settings", fields, page="/p/hello/settings")
        assert answer.status_code == 303, answer.text


async def test_a_hook_is_made_mended_and_made_again(world: Pulls[GitLabWorld]) -> None:
    """In a project of a group within a group."""
    hooks, url = world.hub.server.hooks, f"{world.server.url}/hook/forge/hub"
    page = await world.server.get("/p/hello")
    assert (page["project"]["forge"], page["project"]["repository"]) == ("hub", "octo/sub/hello")
    await world.server.until("/runs", lambda _: [hook["url"] for hook in hooks.values()] == [url])
    ((number, hook),) = hooks.items()
    assert world.hub.server.tokens[number] == "new"
    hook |= {"merge_requests_events": False, "push_events_branch_filter": "main", "alert_status": "disabled"}
    await world.look()
    await world.server.until("/runs", lambda _: bool(world.hub.server.trials))
    assert hook["merge_requests_events"]
    assert hook["push_events_branch_filter"] == ""
    hooks.clear()
    await world.look()
    await world.server.until("/runs", lambda _: [hook["url"] for hook in hooks.values()] == [url])
    hooks.clear()
    assert world.server.stop() == 0
    world.server.start()
    await world.server.ready()
    await world.server.until("/runs", lambda _: [hook["url"] for hook in hooks.values()] == [url])


async def test_a_strangers_merge_request_from_opening_to_closing(world: Pulls[GitLabWorld]) -> None:
    number = world.open("sam", flake__nix=flake(hello=job("hello"), bad=job("bad", "echo no way; exit 3")))
    first = world.hub.head(number)
    await world.told(number)
    await world.until(first, Colour.PENDING, "approv")
    await world.commented(number, "sam", "/nixmill approve")
    await world.commented(number, "mia", "/nixmill approve")
    await world.until(first, Colour.RED)
    await world.until(first, Colour.RED, context="nixmill: checks.x86_64-linux.bad")
    seen = [one["status"] for one in world.hub.server.statuses if one["sha"] == first and one["name"] == "nixmill"]
    assert seen[-1] == "failed"
    assert world.hub.server.emoji, "the comment was understood"

    second = world.push(number, message="by force", flake__nix=flake(hello=job("hello")))
    await world.told(number)
    await world.until(second, Colour.PENDING, "approv")
    assert (await world.server.get("/r/2"))["run"]["state"] == "done", "it ended before"
    world.hub.close(number)
    await world.told(number)
    page = await world.server.ended(3)
    assert page["run"]["verdict"] == "cancelled"
    assert "closed" in page["run"]["sentence"]


async def test_a_draft_that_becomes_ready_and_goes_to_another_branch(world: Pulls[GitLabWorld]) -> None:
    world.project.git("checkout", "-q", "-b", "stable")
    stable = world.project.commit(old__txt="of the stable branch")
    world.project.git("checkout", "-q", "main")
    await leave_drafts_alone(world)
    merge_requests = world.hub.server.merge_requests
    number = world.open("mia", Where.SAME, draft=True, note__txt="mine")
    head = world.hub.head(number)
    await world.told(number)
    assert "draft" in (await world.server.ended(2))["run"]["sentence"]
    merge_requests[number] |= {"draft": False, "work_in_progress": False, "updated_at": world.hub.server.now()}
    await world.told(number)
    await world.until(head, Colour.GREEN)
    page = await world.server.ended(3)
    assert page["run"]["base_ref"] == "refs/heads/main"
    merge_requests[number] |= {"target_branch": "stable", "updated_at": world.hub.server.now()}
    await world.told(number)
    page = await world.server.ended(4)
    assert (page["run"]["base_ref"], page["base_commit"]) == ("refs/heads/stable", stable)
    assert page["tested"] not in {"", head}, "merged into the other branch"
    assert page["run"]["verdict"] == "passed"
