"""The suite of forges against the edge to GitLab, over HTTP, and what only GitLab has."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nixmill.core.forge import Repository
from nixmill.core.posting import CheckState, Reply
from nixmill.core.pull_request import PullState
from nixmill.core.trust import Permission
from nixmill.doors import DoorError
from tests.contract.forge_suite import ForgeSuite, posting
from tests.contract.forge_world import Colour, Happening, Spec, Trouble, Where
from tests.support.forge_http import Said
from tests.support.gitlab_server import GitLabServer
from tests.support.gitlab_world import GitLabWorld, standard_signature

HOOK = "https://ci.example.org/hook/forge/forge"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GitLabWorld]:
    server = GitLabServer()
    with server.running():
        world = GitLabWorld(server, tmp_path)
        yield world
        await world.forge.aclose()


class TestGitLab(ForgeSuite):
    pass


async def repository_of(world: GitLabWorld) -> Repository:
    found = await world.forge.repository(world.path)
    assert found is not None
    return found


def only_hook(world: GitLabWorld) -> tuple[int, dict[str, Any]]:
    ((named, hook),) = world.server.hooks.items()
    return named, hook


# Projects.


async def test_projects_are_listed_by_id_however_many_there_are(world: GitLabWorld) -> None:
    world.server.most = 3
    for n in range(10):
        world.server.add_project(f"octo/p{n}", topics=["nix"], visibility="public")
    found = await world.forge.repositories()
    assert [one.path for one in found] == [world.path, *(f"octo/p{n}" for n in range(10))]
    assert (found[0].owner, found[0].private) == ("octo/sub", True)
    assert (found[1].owner, found[1].private, found[1].topics) == ("octo", False, ("nix",))


async def test_what_is_seen_by_those_who_are_signed_in_is_private(world: GitLabWorld) -> None:
    world.project["visibility"] = "internal"
    assert (await repository_of(world)).private


async def test_a_project_without_a_commit_has_no_default_branch(world: GitLabWorld) -> None:
    world.project |= {"default_branch": None, "empty_repo": True}
    assert (await repository_of(world)).default_branch == ""


async def test_a_former_path_leads_to_the_present_one(world: GitLabWorld) -> None:
    world.server.former["octo/before"] = world.project["id"]
    found = await world.forge.repository("octo/before")
    assert found is not None and found.path == world.path


@pytest.mark.parametrize("path", ["101", "hello", "octo/../admin", "octo//hello"])
async def test_what_is_no_path_is_not_asked_for(world: GitLabWorld, path: str) -> None:
    """A number would be taken for the id of a project."""
    with pytest.raises(DoorError, match="no path of a project"):
        await world.forge.repository(path)
    assert world.server.calls == []


# Trust.


@pytest.mark.parametrize(
    ("level", "permission"),
    [
        (5, Permission.NONE),
        (10, Permission.NONE),
        (15, Permission.NONE),
        (20, Permission.READ),
        (30, Permission.WRITE),
        (40, Permission.ADMIN),
        (50, Permission.ADMIN),
    ],
)
async def test_roles_are_permissions(world: GitLabWorld, level: int, permission: Permission) -> None:
    ann = world.user("ann")
    world.server.levels[int(ann.id)] = level
    assert await world.forge.permission(world.path, ann) is permission
    world.server.people[int(ann.id)]["state"] = "blocked"
    assert await world.forge.permission(world.path, ann) is Permission.NONE


@pytest.mark.parametrize("named", ["", "../1", "all", "1e3", "١"])
async def test_an_id_that_is_no_number_is_nobody(world: GitLabWorld, named: str) -> None:
    ann = msgspec.structs.replace(world.user("ann", Permission.ADMIN), id=named)
    assert await world.forge.permission(world.path, ann) is Permission.NONE


async def test_a_fork_that_we_cannot_see_is_a_strangers(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann", Permission.ADMIN), where=Where.OWN_FORK))
    world.server.closed_to_us.add(world.server.merge_requests[number]["source_project_id"])
    pull = await world.forge.pull_request(world.path, number)
    assert pull is not None and (pull.head_repository, pull.head_owner) == ("", "")


async def test_one_that_is_being_merged_is_open(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    world.server.merge_requests[number]["state"] = "locked"
    pull = await world.forge.pull_request(world.path, number)
    assert pull is not None and pull.state is PullState.OPEN


async def test_one_without_commit_is_asked_for_again(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    world.server.merge_requests[number]["sha"] = None
    with pytest.raises(DoorError) as caught:
        await world.forge.pull_request(world.path, number)
    assert caught.value.retryable


async def test_what_gitlab_writes_itself_is_no_comment(world: GitLabWorld) -> None:
    ann = world.user("ann", Permission.ADMIN)
    number = world.open(Spec(author=ann))
    note = world.server.add_note(world.project["id"], number, int(ann.id), "@nixmill approve", system=True)
    assert await world.forge.comment(world.path, number, str(note["id"])) is None


async def test_forks_and_authors_are_asked_for_once(world: GitLabWorld) -> None:
    ann = world.user("ann", Permission.WRITE)
    first = world.open(Spec(author=ann, where=Where.OWN_FORK))
    fork = world.server.merge_requests[first]["source_project_id"]
    for _ in range(150):
        world.server.merge_requests[world.open(Spec(author=ann))]["source_project_id"] = fork
    world.server.calls.clear()
    found = await world.forge.pull_requests(world.path)
    assert len(found) == 151 and {one.author_permission for one in found} == {Permission.WRITE}
    assert len(world.server.calls) == 4  # two pages, the fork, the author


# Statuses.


async def test_a_status_goes_to_the_source_branch(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann"), head_ref="feature/x"))
    await world.forge.post(posting(world, number))
    (status,) = world.server.statuses
    assert (status["project_id"], status["ref"]) == (world.project["id"], "feature/x")


async def test_a_status_goes_to_the_fork_where_we_may_speak_there(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann"), where=Where.OTHER_FORK))
    await world.forge.post(posting(world, number))
    (status,) = world.server.statuses
    fork = world.server.merge_requests[number]["source_project_id"]
    assert (status["project_id"], status["ref"]) == (fork, "topic")


async def test_a_status_goes_to_the_commit_where_the_fork_is_closed_to_us(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann"), where=Where.OTHER_FORK))
    world.server.closed_to_us.add(world.server.merge_requests[number]["source_project_id"])
    await world.forge.post(posting(world, number))
    (status,) = world.server.statuses
    assert (status["project_id"], status["ref"]) == (world.project["id"], f"refs/merge-requests/{number}/head")


async def test_a_status_joins_the_pipeline_of_the_merge_request(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    ref = f"refs/merge-requests/{number}/head"
    pipeline = {"id": 31, "sha": world.head(number), "ref": ref, "project_id": world.project["id"]}
    world.server.merge_requests[number]["head_pipeline"] = pipeline
    await world.forge.post(posting(world, number))
    (status,) = world.server.statuses
    assert (status["pipeline_id"], status["ref"]) == (31, ref)


async def test_a_status_without_pull_request_names_no_ref(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    await world.forge.post(posting(world, number, pull_request=None))
    (call,) = world.server.asked("POST")
    assert sorted(call.body) == ["description", "name", "state", "target_url"]


async def test_saying_again_that_it_runs_is_as_good_as_said(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    first = await world.forge.post(posting(world, number))
    for title in ("13 of 214 attributes changed", "14 of 214 attributes changed"):
        assert await world.forge.post(posting(world, number, title=title)) == first
    assert await world.forge.post(posting(world, number, CheckState.WAITING)) == first
    assert await world.forge.post(posting(world, number, CheckState.GOOD)) == first
    assert [one.colour for one in world.shown(world.head(number))] == [Colour.GREEN]


async def test_the_same_end_is_not_told_twice(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    for _ in range(3):
        await world.forge.post(posting(world, number, CheckState.FAILED))
    assert len(world.server.statuses) == 1


@pytest.mark.parametrize(
    "answer",
    [
        Said(409, {"message": "Another update to this commit status is in progress"}),
        Said(400, {"message": "Cannot transition status via :success from :success"}),
    ],
    ids=["locked", "crossed"],
)
async def test_another_post_in_the_way_is_tried_again(world: GitLabWorld, answer: Said) -> None:
    number = world.open(Spec(author=world.user("ann")))
    rule = next(one for one in world.server.routes if one[0] == "POST" and "statuses" in one[1].pattern)
    world.server.routes.insert(0, (rule[0], rule[1], lambda _: answer))
    with pytest.raises(DoorError) as caught:
        await world.forge.post(posting(world, number, CheckState.GOOD))
    assert caught.value.retryable


async def test_what_gitlab_refuses_is_never_tried_again(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    rule = next(one for one in world.server.routes if one[0] == "POST" and "statuses" in one[1].pattern)
    refusal = Said(422, {"message": "The number of jobs has exceeded the limit"})
    world.server.routes.insert(0, (rule[0], rule[1], lambda _: refusal))
    with pytest.raises(DoorError, match="exceeded the limit") as caught:
        await world.forge.post(posting(world, number))
    assert not caught.value.retryable


async def test_an_address_that_is_too_long_is_left_out(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    for _ in range(2):
        await world.forge.post(posting(world, number, CheckState.FAILED, url="https://ci.example.org/" + "x" * 300))
    assert [shown.url for shown in world.shown(world.head(number))] == [None]


# Answers.


async def test_no_line_of_an_answer_is_obeyed(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    text = "There is no such command:\n/merge\n  /approve\r\n/close"
    await world.forge.reply(Reply(forge="forge", repository=world.path, pull_request=number, text=text), "key")
    (said,) = world.said(number)
    assert "\\/merge" in said


async def test_a_reaction_given_between_two_requests_is_a_reaction(world: GitLabWorld) -> None:
    ann = world.user("ann")
    number = world.open(Spec(author=ann))
    comment = world.write_comment(number, ann, "@nixmill retry")
    reply = Reply(forge="forge", repository=world.path, pull_request=number, comment=comment)
    rule = next(one for one in world.server.routes if one[0] == "GET" and "award_emoji" in one[1].pattern)
    world.server.routes.insert(0, (rule[0], rule[1], lambda _: Said(200, [])))
    for _ in range(2):
        await world.forge.reply(reply, "key")
    assert world.reactions(number, comment) == 1


async def test_a_comment_that_was_deleted_needs_no_reaction(world: GitLabWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    reply = Reply(forge="forge", repository=world.path, pull_request=number, comment="987654", text="Begun.")
    await world.forge.reply(reply, "key")
    assert len(world.said(number)) == 1


# Deliveries.


async def test_a_signed_delivery_needs_no_token(world: GitLabWorld, tmp_path: Path) -> None:
    (tmp_path / "hook-new").write_text("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
    _, body = world.deliver(Happening.PUSH)
    headers = standard_signature(bytes(range(32)), "f5e5f430", int(time.time()), body)
    assert world.forge.event(headers, body).delivery == "f5e5f430"


# Hooks.


async def test_a_hook_is_made_with_the_first_secret(world: GitLabWorld) -> None:
    assert "made" in await world.forge.ensure_hook(await repository_of(world), HOOK)
    named, hook = only_hook(world)
    events = ("push_events", "tag_push_events", "merge_requests_events", "note_events")
    assert hook["url"] == HOOK and all(hook[event] for event in events)
    assert world.server.tokens[named] == "new"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"note_events": False}, "note"),
        ({"push_events_branch_filter": "main"}, "branches 'main'"),
        ({"custom_webhook_template": "{}"}, "body of its own"),
        ({"alert_status": "disabled"}, "trial"),
    ],
    ids=["events", "branches", "template", "off"],
)
async def test_a_hook_that_differs_is_mended(world: GitLabWorld, changes: dict[str, object], said: str) -> None:
    repository = await repository_of(world)
    await world.forge.ensure_hook(repository, HOOK)
    named, hook = only_hook(world)
    hook |= changes
    assert said in await world.forge.ensure_hook(repository, HOOK)
    assert all(hook[name] != value for name, value in changes.items())
    assert await world.forge.ensure_hook(repository, HOOK) == ""
    assert only_hook(world)[0] == named


async def test_a_secret_is_set_once_for_each_value(world: GitLabWorld, tmp_path: Path) -> None:
    repository = await repository_of(world)
    await world.forge.ensure_hook(repository, HOOK)
    named, _ = only_hook(world)
    world.server.calls.clear()
    await world.forge.ensure_hook(repository, HOOK)
    assert world.server.asked("PUT") == []
    (tmp_path / "hook-new").write_text("newer")
    for _ in range(2):
        assert await world.forge.ensure_hook(repository, HOOK) == ""
    assert len(world.server.asked("PUT")) == 1
    assert world.server.tokens[named] == "newer"


async def test_who_may_not_make_hooks_is_told_what_is_missing(world: GitLabWorld) -> None:
    repository = await repository_of(world)
    world.trouble(Trouble.NOT_ALLOWED)
    with pytest.raises(DoorError, match="scope api, role Maintainer") as caught:
        await world.forge.ensure_hook(repository, HOOK)
    assert not caught.value.retryable


async def test_tokens_are_in_no_address(world: GitLabWorld) -> None:
    await world.forge.repositories()
    assert "glpat" not in json.dumps([[call.path, dict(call.query)] for call in world.server.calls])
