"""Pull requests on GitHub as their authors and maintainers meet them: the whole server as an App, with real Nix."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.forge_world import Colour, Where
from tests.support.git_server import git_server
from tests.support.github_server import Asked, Reply, Token
from tests.support.github_world import GitHubWorld, add_repository
from tests.support.program import flake, job
from tests.support.pull_server import Pulls, github_beside, pulls
from tests.support.scratch_store import ScratchStore

BAD = 12
"""Attributes that fail; GitHub shows ten of them by themselves at most."""


@pytest.fixture
async def world(tmp_path: Path, fresh_store: ScratchStore) -> AsyncIterator[Pulls[GitHubWorld]]:
    async with github_beside(tmp_path) as beside, pulls(tmp_path, fresh_store, beside) as made:
        made.project.commit(flake__nix=flake(hello=job("hello")))
        yield made


def waiting(name: str, fifo: Path) -> str:
    """Return a job that waits until something is written to a named pipe."""
    return job(name, f"read go < {fifo}; echo $go > $out")


def pipe(path: Path) -> tuple[Path, int]:
    """Make a named pipe and open it, so that what is written stays until it is read."""
    os.mkfifo(path)
    return path, os.open(path, os.O_RDWR)


def queue(world: Pulls[GitHubWorld], number: int, tree: str, action: str = "checks_requested") -> tuple[str, str, Any]:
    """Let the merge queue make a branch with this tree; return its commit, its name, and the delivery that tells."""
    git, main = world.project.git, world.project.git("rev-parse", "main")
    commit = git("commit-tree", f"{tree}^{{tree}}", "-p", main, "-p", world.hub.head(number), "-m", "merge")
    ref = f"refs/heads/gh-readonly-queue/main/pr-{number}-{main}"
    git("update-ref", ref, commit)
    world.hub.repository.commits.add(commit)
    group = {"head_sha": commit, "head_ref": ref, "base_ref": "refs/heads/main", "base_sha": main}
    return commit, ref, world.hub.about("merge_group", action=action, merge_group=group)


async def test_a_strangers_pull_request_from_the_approve_button_to_the_merge_queue(
    world: Pulls[GitHubWorld], tmp_path: Path
) -> None:
    await world.running()
    hub = world.hub
    mia, sam = (hub.user(login, world.permission(login)) for login in ("mia", "sam"))
    fifo, held_open = pipe(tmp_path / "first")
    bad = {f"bad{number:02}": job(f"bad{number:02}", "echo no way; exit 3") for number in range(BAD)}
    number = world.open("sam", flake__nix=flake(hello=job("hello"), slow=waiting("slow", fifo), **bad))
    first = hub.head(number)
    await world.told(number)
    await world.until(first, Colour.PENDING, "approv")
    asked = hub.check(first)
    assert (asked["status"], asked["conclusion"]) == ("completed", "action_required")
    assert [one["identifier"] for one in asked["actions"]] == ["approve"]

    assert await world.post(*hub.press(first, sam, "approve")) == 202
    await world.until_audited("refused")
    assert (await world.server.get("/r/2"))["run"]["state"] == "waiting for approval", "a stranger cannot approve"
    assert await world.post(*hub.press(first, mia, "approve")) == 202
    await world.server.until("/runs", lambda _: hub.check(first)["status"] == "in_progress")
    os.write(held_open, b"go\n")
    await world.until(first, Colour.RED)
    last = f"nixmill: checks.x86_64-linux.bad{BAD - 1:02}"
    await world.until(first, Colour.RED, context="nixmill: checks.x86_64-linux.bad00")
    extras = [one for one in hub.shown(first) if one.context != "nixmill"]
    assert 0 < len(extras) <= 10
    assert all(one.colour is Colour.RED for one in extras), last

    assert await world.post(*hub.press(first, mia)) == 202
    page = await world.server.ended(3)
    assert page["run"]["verdict"] == "failed", "it was built again"
    await world.server.until("/runs", lambda _: hub.check(first)["external_id"] == "3")

    second = world.push(number, flake__nix=flake(hello=job("hello"), more=job("more")))
    await _approved_and_merged(world, number, second)
    os.close(held_open)


async def _approved_and_merged(world: Pulls[GitHubWorld], number: int, second: str) -> None:
    hub = world.hub
    await world.told(number)
    await world.until(second, Colour.PENDING, "approv")
    await world.commented(number, "sam", "/nixmill approve")
    await world.commented(number, "mia", "/nixmill approve")
    await world.until(second, Colour.GREEN)
    assert (await world.server.ended(4))["run"]["tier"] == "fork"

    group, ref, told = queue(world, number, second)
    assert await world.post(*told) == 202
    await world.until(group, Colour.GREEN)
    page = await world.server.ended(5)
    assert page["run"]["tier"] == "branch"
    assert any("evaluated in run 4" in notice for notice in page["notices"]), "the same tree"
    world.project.git("merge", "-q", "--ff-only", group)
    world.project.git("update-ref", "-d", ref)
    hub.close(number, merged=True)
    await world.told(number)
    assert await world.post(*hub.about("push", ref="refs/heads/main", after=group, deleted=False)) == 202
    merged = await world.server.ended(6)
    assert merged["run"]["verdict"] == "passed"
    assert any("was evaluated in run" in notice for notice in merged["notices"]), merged
    assert (await world.server.get("/r/6/timeline"))["attempts"] == []


async def test_a_merge_queue_that_gives_up_a_group_stops_its_run(world: Pulls[GitHubWorld], tmp_path: Path) -> None:
    await world.running()
    fifo, held_open = pipe(tmp_path / "never")
    number = world.open("mia", Where.SAME, flake__nix=flake(slow=waiting("slow", fifo)))
    group, ref, told = queue(world, number, world.hub.head(number))
    assert await world.post(*told) == 202
    await world.server.until("/runs", lambda _: world.shown(group) is not None)
    world.project.git("update-ref", "-d", ref)
    destroyed = {"head_sha": group, "head_ref": ref, "base_ref": "refs/heads/main"}
    assert await world.post(*world.hub.about("merge_group", action="destroyed", merge_group=destroyed)) == 202
    page = await world.server.ended(2)
    assert page["run"]["verdict"] == "cancelled"
    await world.server.until("/runs", lambda _: world.hub.check(group)["conclusion"] == "cancelled")
    os.close(held_open)


async def test_where_checks_may_not_be_written_a_status_tells_and_a_limit_is_waited_out(
    world: Pulls[GitHubWorld],
) -> None:
    hub = world.hub
    del hub.hub.granted["checks"]
    await world.running()
    refused: list[Asked] = []

    def limited(asked: Asked) -> Reply | None:
        if "/statuses/" not in asked.path or len(refused) >= 2:
            return None
        refused.append(asked)
        said = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
        return Reply(403, {"message": said}, (("Retry-After", "1"),))

    hub.hub.always = limited
    number = world.open("mia", Where.SAME, note__txt="mine")
    await world.told(number)
    head = hub.head(number)
    await world.until(head, Colour.GREEN)
    assert refused
    told = [one["state"] for one in hub.repository.statuses if one["sha"] == head and one["context"] == "nixmill"]
    assert told.count("success") == 1
    assert hub.repository.checks == []


async def test_installations_come_change_and_go(tmp_path: Path, fresh_store: ScratchStore) -> None:
    """With git over HTTP, which asks for the token of the repository's installation."""
    with git_server(tmp_path) as served:
        served.login = "nobody:knows"
        async with (
            github_beside(tmp_path, url=f"http://127.0.0.1:{served.port}") as beside,
            pulls(tmp_path, fresh_store, beside, "insecure-git = true") as world,
        ):
            world.project.commit(flake__nix=flake(hello=job("hello")))
            await _installations(world, served.more_logins, served.url("mill"))
    assert served.authorizations, "git showed a token"


async def _installations(world: Pulls[GitHubWorld], logins: set[str], url: str) -> None:
    hub, server = world.hub, world.server

    def issued(name: str, token: Token) -> None:
        assert token.permissions.keys() <= {"contents", "metadata"} or not token.only
        if token.only:
            assert set(token.permissions.values()) == {"read"}
            logins.add(f"x-access-token:{name}")

    hub.hub.issued = issued
    hub.repository.facts["clone_url"] = url
    await world.running()
    await server.until("/runs", lambda _: hub.hub.hook["url"] == f"{server.url}/hook/forge/hub")
    assert hub.hub.hook["secret"] == "new"  # noqa: S105 - opens nothing

    for path, topics in {"octo/second": ["nix"], "octo/other": [], "elsewhere/third": ["nix"]}.items():
        add_repository(hub.hub, path, clone_url=url).facts |= {"private": False, "topics": topics}
    headers, body = hub.about("installation_repositories")
    assert await world.post(headers | {"x-hub-signature-256": "sha256=" + "0" * 64}, body) in {401, 403}
    known = {name: value for name, value in headers.items() if name == "x-github-event"}
    assert await world.post({**hub.sign(body, "old"), **known}, body) == 202, "the former secret is good, too"
    await server.until("/p/second", lambda page: page["project"]["forge"] == "hub")
    assert await server.get("/p/other") is None, "it has no topic"
    assert await server.get("/p/third") is None, "its owner is not on the list"

    moved = hub.hub.repositories["octo/renamed"] = hub.hub.repositories.pop("octo/hello")
    hub.hub.renamed["octo/hello"] = "octo/renamed"
    moved.facts |= {"full_name": "octo/renamed", "name": "renamed"}
    hub.path = "octo/renamed"
    assert await world.post(*hub.about("repository", action="renamed")) == 202
    await server.until("/p/hello", lambda page: page["project"]["repository"] == "octo/renamed")
    number = world.open("mia", Where.SAME, note__txt="mine")
    await world.told(number)
    await world.until(hub.head(number), Colour.GREEN)

    moved.facts["private"] = True
    assert await world.post(*hub.about("repository", action="privatized")) == 202
    await world.until_absent("/p/hello")
    assert await server.get("/p/second") is not None

    hub.hub.suspended = True
    assert await world.post(*hub.about("installation", action="suspend")) == 202
    number = world.open("mia", Where.SAME, note__txt="more")
    await world.told(number)
    await world.until_logged("suspended")
    hub.hub.suspended = False
    assert await world.post(*hub.about("installation", action="unsuspend")) == 202
    await world.told(number)
    await world.until(hub.head(number), Colour.GREEN)
    hub.hub.uninstalled = True
    hub.hub.tokens.clear()
    number = world.open("mia", Where.SAME, note__txt="most")
    assert await world.post(*hub.about("installation", action="deleted")) == 202
    await world.told(number)
    await world.look()
    await world.until_logged("does not show us a repository")
    assert server.process is not None
    assert server.process.poll() is None
