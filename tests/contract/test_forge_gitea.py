"""The suite of forges against the edge to Gitea and Forgejo, over HTTP, and what only these have."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from nixmill.core.forge import Repository
from nixmill.core.posting import CheckState, Reply
from nixmill.core.trust import Permission
from nixmill.doors import DoorError
from nixmill.doors.server import RetryLaterError
from tests.contract.forge_suite import ForgeSuite, posting
from tests.contract.forge_world import Spec, Trouble, Where
from tests.support.forge_http import Call, Said
from tests.support.gitea_server import GiteaServer
from tests.support.gitea_world import GiteaWorld

HOOK = "https://ci.example.org/hook/forge/forge"


async def made(directory: Path, brand: str, types: str, **settings: object) -> AsyncIterator[GiteaWorld]:
    server = GiteaServer(types)
    with server.running():
        world = GiteaWorld(server, directory, brand=brand, **settings)
        yield world
        await world.forge.aclose()


class TestGitea(ForgeSuite):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[GiteaWorld]:
        async for world in made(tmp_path, "gitea", "gitea-1.23"):
            yield world


class TestForgejo(ForgeSuite):
    @pytest.fixture
    async def world(self, tmp_path: Path) -> AsyncIterator[GiteaWorld]:
        async for world in made(tmp_path, "forgejo", "forgejo-11.0"):
            yield world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[GiteaWorld]:
    async for world in made(tmp_path, "gitea", "gitea-1.23", topic="nix"):
        yield world


async def repository_of(world: GiteaWorld) -> Repository:
    found = await world.forge.repository(world.path)
    assert found is not None
    return found


def only_hook(world: GiteaWorld) -> tuple[int, dict[str, Any]]:
    ((named, hook),) = world.server.hooks.items()
    return named, hook


# Trust.


async def test_a_pull_request_by_agit_is_a_strangers(world: GiteaWorld) -> None:
    """Anybody who can read may `git push origin HEAD:refs/for/main`; the server says it lives in the base."""
    number = world.open(Spec(author=world.user("mallory")))
    world.server.pulls[number]["head"] |= {"label": "", "ref": f"refs/pull/{number}/head"}
    pull = await world.forge.pull_request(world.path, number)
    assert pull is not None
    assert (pull.head_repository, pull.head_owner) == ("", "")
    assert pull.fetch_ref == f"refs/pull/{number}/head"


async def test_a_head_whose_branch_was_deleted_is_a_strangers(world: GiteaWorld) -> None:
    number = world.open(Spec(author=world.user("ann", Permission.ADMIN), where=Where.OWN_FORK))
    world.server.pulls[number]["head"]["ref"] = f"refs/pull/{number}/head"
    pull = await world.forge.pull_request(world.path, number)
    assert pull is not None and (pull.head_repository, pull.head_owner) == ("", "")


async def test_an_account_that_was_deleted_has_no_permission(world: GiteaWorld) -> None:
    number = world.open(Spec(author=world.user("ann"), where=Where.OWN_FORK))
    world.server.pulls[number]["user"] = None
    pull = await world.forge.pull_request(world.path, number)
    assert pull is not None and pull.author.id == "" and pull.author_permission is Permission.NONE
    assert await world.forge.permission(world.path, pull.author) is Permission.NONE


async def test_an_owner_is_an_administrator(world: GiteaWorld) -> None:
    ann = world.user("ann")
    world.server.permissions[int(ann.id)] = "owner"
    assert await world.forge.permission(world.path, ann) is Permission.ADMIN


# Repositories.


async def test_only_what_we_administer_is_given_to_us_and_all_pages_of_it(world: GiteaWorld) -> None:
    world.server.page = 3  # the forge's administrator may set it lower than what we ask for
    for n in range(7):
        world.server.add_repository(f"octo/ours-{n}", topics=["nix", "ci"])
    world.server.add_repository("octo/theirs", permissions={"admin": False, "push": True, "pull": True})
    world.server.add_repository("octo/hidden", permissions=None)
    found = await world.forge.repositories()
    assert [one.path for one in found] == [world.path, *(f"octo/ours-{n}" for n in range(7))]
    assert found[1].topics == ("nix", "ci")


async def test_topics_that_cannot_be_read_are_none_and_the_others_are_read(world: GiteaWorld) -> None:
    world.server.add_repository("octo/good")
    world.server.topics["octo/good"] = ["nix"]
    found = {one.path: one.topics for one in await world.forge.repositories()}
    assert found == {world.path: (), "octo/good": ("nix",)}


async def test_a_limit_while_topics_are_read_is_told(world: GiteaWorld) -> None:
    def limited(call: Call) -> Said:
        return Said(429, {"message": "slow down"}, {"retry-after": "7"})

    world.server.routes.insert(0, ("GET", *world.server.routes[3][1:2], limited))
    with pytest.raises(RetryLaterError) as caught:
        await world.forge.repositories()
    assert caught.value.after_s == 7


@pytest.mark.parametrize(
    ("changes", "private"),
    [
        ({"private": False}, False),
        ({"private": False, "internal": True}, True),
        ({"private": False, "owner": {"id": 9, "login": "octo", "visibility": "limited"}}, True),
        ({"private": False, "owner": {"id": 9, "login": "octo", "visibility": "private"}}, True),
    ],
    ids=["public", "internal", "limited owner", "private owner"],
)
async def test_what_not_everybody_sees_is_private(
    world: GiteaWorld, *, changes: dict[str, object], private: bool
) -> None:
    world.server.repositories[world.path] |= changes
    assert (await repository_of(world)).private is private


async def test_a_former_path_leads_to_the_present_one(world: GiteaWorld) -> None:
    world.server.former["octo/before"] = world.path
    found = await world.forge.repository("octo/before")
    assert found is not None and found.path == world.path


async def test_an_empty_repository_has_no_default_branch(world: GiteaWorld) -> None:
    world.server.repositories[world.path]["empty"] = True
    assert (await repository_of(world)).default_branch == ""


async def test_a_pull_request_without_commit_is_asked_for_again(world: GiteaWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    world.server.pulls[number]["head"]["sha"] = ""
    with pytest.raises(DoorError) as caught:
        await world.forge.pull_request(world.path, number)
    assert caught.value.retryable
    assert list(await world.forge.pull_requests(world.path)) == []


async def test_many_pull_requests_are_read_page_by_page(world: GiteaWorld) -> None:
    ann = world.user("ann", Permission.WRITE)
    numbers = [world.open(Spec(author=ann, where=Where.OWN_FORK)) for _ in range(120)]
    world.server.calls.clear()
    found = await world.forge.pull_requests(world.path)
    assert [one.number for one in found] == numbers[::-1]
    assert {one.author_permission for one in found} == {Permission.WRITE}
    asked = [call.path.rpartition("/")[2] for call in world.server.calls]
    assert (asked.count("pulls"), asked.count("permission")) == (3, 1)


# Statuses.


async def test_the_same_status_is_not_put_up_twice(world: GiteaWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    wanted = posting(world, number)
    first = await world.forge.post(wanted)
    assert await world.forge.post(wanted) == first
    assert len(world.server.statuses[wanted.commit]) == 1
    other = msgspec.structs.replace(wanted, title="13 of 214 attributes changed")
    assert await world.forge.post(other) != first
    assert [one["description"] for one in world.server.statuses[wanted.commit]] == [wanted.title, other.title]


async def test_ours_is_found_among_many_statuses(world: GiteaWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    wanted = posting(world, number)
    await world.forge.post(wanted)
    (ours,) = world.server.statuses[wanted.commit]
    others = [{**ours, "id": 1_000_000 + n, "context": f"other {n}"} for n in range(120)]
    world.server.statuses[wanted.commit] += others
    await world.forge.post(wanted)
    assert len(world.server.asked("POST")) == 1


async def test_a_fault_of_the_forge_is_not_a_lost_commit(world: GiteaWorld) -> None:
    """Gitea answers 500 both for a commit that is gone and for its own faults."""
    number = world.open(Spec(author=world.user("ann")))
    wanted = posting(world, number)

    def broken(call: Call) -> Said:
        return Said(500, {"message": "database is locked"})

    rule = next(one for one in world.server.routes if one[0] == "POST" and "statuses" in one[1].pattern)
    world.server.routes.insert(0, (rule[0], rule[1], broken))
    with pytest.raises(DoorError, match="database is locked") as caught:
        await world.forge.post(wanted)
    assert caught.value.retryable
    with pytest.raises(DoorError, match="no longer has the commit") as caught:
        await world.forge.post(msgspec.structs.replace(wanted, commit="f" * 40))
    assert not caught.value.retryable


@pytest.mark.parametrize("state", list(CheckState))
async def test_states_are_those_that_every_version_knows(world: GiteaWorld, state: CheckState) -> None:
    number = world.open(Spec(author=world.user("ann")))
    await world.forge.post(posting(world, number, state))
    (status,) = world.server.statuses[world.head(number)]
    assert status["status"] in {"pending", "success", "error", "failure"}


# Answers.


async def test_a_stranger_cannot_answer_for_us(world: GiteaWorld) -> None:
    ann = world.user("ann")
    one, other = world.open(Spec(author=ann)), world.open(Spec(author=ann))
    reply = Reply(forge="forge", repository=world.path, pull_request=one, text="Begun.")
    await world.forge.reply(reply, "key")
    world.write_comment(other, ann, world.said(one)[0])
    await world.forge.reply(msgspec.structs.replace(reply, pull_request=other), "key")
    assert len(world.said(other)) == 1


async def test_comments_are_read_once_where_they_have_no_pages(world: GiteaWorld) -> None:
    """In Gitea 1.23 and Forgejo 11 the list of comments is whole, whichever page is asked for."""
    ann = world.user("ann")
    number = world.open(Spec(author=ann))
    world.write_comment(number, ann, "Hello")
    await world.forge.reply(Reply(forge="forge", repository=world.path, pull_request=number, text="Begun."), "key")
    listed = [call for call in world.server.asked("GET") if call.path.endswith("/comments")]
    assert len(listed) == 2


async def test_a_comment_that_was_deleted_needs_no_reaction(world: GiteaWorld) -> None:
    number = world.open(Spec(author=world.user("ann")))
    reply = Reply(forge="forge", repository=world.path, pull_request=number, comment="987654", text="Begun.")
    await world.forge.reply(reply, "key")
    assert len(world.said(number)) == 1


# Hooks.


async def test_a_hook_is_made_with_the_first_secret(world: GiteaWorld) -> None:
    assert "made" in await world.forge.ensure_hook(await repository_of(world), HOOK)
    named, hook = only_hook(world)
    assert (hook["config"], hook["active"]) == ({"url": HOOK, "content_type": "json"}, True)
    assert {"push", "create", "delete", "pull_request", "pull_request_sync", "pull_request_comment"} <= {
        *hook["events"]
    }
    assert world.server.secrets[named] == "new"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"active": False}, "switched off"),
        ({"events": ["push"]}, "pull_request_comment"),
        ({"branch_filter": "main"}, "branches 'main'"),
        ({"config": {"url": HOOK, "content_type": "form"}}, "JSON"),
    ],
    ids=["off", "events", "branches", "form"],
)
async def test_a_hook_that_differs_is_mended(world: GiteaWorld, changes: dict[str, object], said: str) -> None:
    repository = await repository_of(world)
    await world.forge.ensure_hook(repository, HOOK)
    named, hook = only_hook(world)
    hook |= changes | {"authorization_header": "Bearer theirs"}
    assert said in await world.forge.ensure_hook(repository, HOOK)
    assert hook["active"] and hook["branch_filter"] == "*" and hook["config"]["content_type"] == "json"
    assert "pull_request_comment" in hook["events"]
    assert hook["authorization_header"] == "Bearer theirs"
    assert await world.forge.ensure_hook(repository, HOOK) == ""
    assert only_hook(world)[0] == named


async def test_a_secret_is_set_once_for_each_value(world: GiteaWorld, tmp_path: Path) -> None:
    repository = await repository_of(world)
    await world.forge.ensure_hook(repository, HOOK)
    named, _ = only_hook(world)
    world.server.secrets[named] = "forgotten"
    world.server.calls.clear()
    await world.forge.ensure_hook(repository, HOOK)
    assert world.server.asked("PATCH") == []
    (tmp_path / "hook-new").write_text("newer")
    for _ in range(2):
        assert await world.forge.ensure_hook(repository, HOOK) == ""
    assert len(world.server.asked("PATCH")) == 1
    assert world.server.secrets[named] == "newer"


async def test_a_hook_of_an_earlier_start_gets_the_secret(world: GiteaWorld, tmp_path: Path) -> None:
    repository = await repository_of(world)
    await world.forge.ensure_hook(repository, HOOK)
    named, _ = only_hook(world)
    world.server.secrets[named] = "of old"
    again = GiteaWorld(world.server, tmp_path)
    assert await again.forge.ensure_hook(repository, HOOK) == ""
    assert world.server.secrets[named] == "new"
    await again.forge.aclose()


async def test_hooks_of_others_are_left_alone(world: GiteaWorld) -> None:
    repository = await repository_of(world)
    await world.forge.ensure_hook(repository, "https://other.example.org/hook/forge/forge")
    theirs = dict(only_hook(world)[1])
    await world.forge.ensure_hook(repository, HOOK)
    assert len(world.server.hooks) == 2
    assert theirs in world.server.hooks.values()


async def test_a_hook_that_cannot_be_mended_is_told(world: GiteaWorld) -> None:
    repository = await repository_of(world)
    await world.forge.ensure_hook(repository, HOOK)
    _, hook = only_hook(world)
    hook["active"] = False
    rule = next(one for one in world.server.routes if one[0] == "PATCH")
    world.server.routes.insert(0, (rule[0], rule[1], lambda _: Said(200, hook)))
    with pytest.raises(DoorError, match="Delete it there") as caught:
        await world.forge.ensure_hook(repository, HOOK)
    assert not caught.value.retryable


async def test_who_may_not_make_hooks_is_told_what_is_missing(world: GiteaWorld) -> None:
    repository = await repository_of(world)
    world.trouble(Trouble.NOT_ALLOWED)
    with pytest.raises(DoorError, match="write:repository, and being an administrator") as caught:
        await world.forge.ensure_hook(repository, HOOK)
    assert not caught.value.retryable


async def test_hooks_are_made_only_where_that_is_wanted_and_safe(tmp_path: Path) -> None:
    async for world in made(tmp_path, "gitea", "gitea-1.23", create_hooks=False):
        assert await world.forge.ensure_hook(await repository_of(world), HOOK) == ""
        assert world.server.hooks == {}
    async for world in made(tmp_path, "gitea", "gitea-1.23", webhook_secrets=()):
        with pytest.raises(DoorError, match="webhook-secrets"):
            await world.forge.ensure_hook(await repository_of(world), HOOK)
        assert world.server.hooks == {}


async def test_secrets_are_in_no_address_and_no_text(world: GiteaWorld, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("")
    with pytest.raises(DoorError, match="'token': its file is empty") as caught:
        await world.forge.repositories()
    assert not caught.value.retryable
    (tmp_path / "token").write_text("wrong-token-1234")
    with pytest.raises(DoorError) as caught:
        await world.forge.repositories()
    assert "wrong-token-1234" not in str(caught.value)
    assert all("token" not in str(call.query) for call in world.server.calls)
