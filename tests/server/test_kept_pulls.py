"""Pull requests and what is kept of them: leases, promotion by a merge, and who never pins."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.contract.forge_world import Where
from tests.support.kept import (
    built,
    collect_garbage,
    delete_by_force,
    ended,
    is_valid,
    kept_pulls,
    outputs,
    pinned,
    roots_of,
    run_of,
    until_gone,
)
from tests.support.program import flake, job
from tests.support.pull_server import PullServer
from tests.support.scratch_store import ScratchStore

QUEUE = "gh-readonly-queue/main/pr-3"
TOLD = "evaluated in run"


@pytest.fixture
async def world(tmp_path: Path, fresh_store: ScratchStore) -> AsyncIterator[PullServer]:
    """A server that keeps nothing of a closed pull request, with a project whose main branch was checked."""
    async with kept_pulls(tmp_path, fresh_store, "roots.pull-request-days = 0") as made:
        made.project.commit(flake__nix=flake(hello=job("hello-0"), same=job("same")))
        await made.running()
        yield made


async def green(world: PullServer, text: str) -> tuple[int, str]:
    """Open a pull request and wait until it is good; return its number and head."""
    number = world.open("mia", Where.SAME, flake__nix=text)
    await world.told(number)
    head = world.hub.head(number)
    await world.until_status(head, "success")
    return number, head


async def close(world: PullServer, number: int, *, merged: bool) -> None:
    """Close a pull request and tell the server."""
    world.hub.close(number, merged=merged)
    await world.told(number)
    await world.server.until(f"/p/hello/pull/{number}", lambda page: page["pull"]["state"] != "open")


async def run_of_main(world: PullServer) -> Any:  # noqa: ANN401 - a page
    """Look at main and return the page of the run of its tip, which is green."""
    await world.look()
    return await run_of(world.server, "hello", world.project.git("rev-parse", "main"))


async def through_a_queue(world: PullServer, head: str) -> str:
    """Let a merge queue test a head; return the commit that it made of it."""
    git, before = world.project.git, await pinned(world.server, "hello")
    git("checkout", "-q", "-b", QUEUE)
    git("merge", "-q", "--no-ff", "-m", "queued", head)
    queued = git("rev-parse", "HEAD")
    git("checkout", "-q", "main")
    await world.look()
    page = await run_of(world.server, "hello", queued, QUEUE)
    assert await built(world.server, page["run"]["number"]) == []
    assert await pinned(world.server, "hello") == before, "nor does a merge queue"
    return queued


async def test_a_merge_promotes_what_the_pull_request_built(world: PullServer) -> None:
    """By a merge commit, by fast-forward, through a queue: known at once, never built again, root at the new path."""
    store, git = world.project.store, world.project.git
    old = (await pinned(world.server, "hello"))["hello"]
    for turn, way in enumerate(("merge", "fast-forward", "queue"), 1):
        number, head = await green(world, flake(hello=job(f"hello-{turn}"), same=job("same")))
        before = await pinned(world.server, "hello")
        assert before["hello"] == old, "a pull request pins nothing"
        collect_garbage(store)
        match way:
            case "merge":
                git("merge", "-q", "--no-ff", "-m", "merged", head)
            case "fast-forward":
                git("merge", "-q", "--ff-only", head)
            case _:
                git("merge", "-q", "--ff-only", await through_a_queue(world, head))
                git("branch", "-q", "-D", QUEUE)
        await close(world, number, merged=True)
        merged = await run_of_main(world)
        assert any(TOLD in notice for notice in merged["notices"]), (way, merged["notices"])
        assert await built(world.server, merged["run"]["number"]) == [], way
        new = outputs(store, merged, "hello")[0]
        assert await pinned(world.server, "hello") == before | {"hello": new}, way
        assert {new, before["same"]} <= roots_of(store), way
        await until_gone(store, old)
        assert is_valid(store, new) and is_valid(store, before["same"]), way
        old = new


async def test_what_a_pull_request_built_is_not_built_again_where_main_has_moved_on(world: PullServer) -> None:
    """Another tree is evaluated anew, and finds what the lease has kept; what was deleted by force is built again."""
    store, git = world.project.store, world.project.git
    number, head = await green(world, flake(hello=job("hello-1"), more=job("more"), same=job("same")))
    world.project.commit(note__txt="meanwhile")
    collect_garbage(store)
    page = await ended(world.server, 2)
    kept, lost = outputs(store, page, "hello")[0], outputs(store, page, "more")[0]
    assert is_valid(store, kept), "its lease keeps it"
    delete_by_force(store, lost)
    git("merge", "-q", "--no-ff", "-m", "merged", head)
    await close(world, number, merged=True)
    merged = await run_of_main(world)
    assert await built(world.server, merged["run"]["number"]) == ["more"]
    now = await pinned(world.server, "hello")
    assert (now["hello"], now["more"]) == (kept, lost)
    collect_garbage(store)
    assert is_valid(store, kept) and is_valid(store, lost)


async def test_results_of_a_closed_pull_request_are_let_go_and_built_again_when_wanted(world: PullServer) -> None:
    store = world.project.store
    number, head = await green(world, flake(hello=job("hello-1"), same=job("same")))
    page = await ended(world.server, 2)
    path, kept = outputs(store, page, "hello")[0], outputs(store, page, "same")[0]
    collect_garbage(store)
    assert is_valid(store, path)
    await close(world, number, merged=False)
    await until_gone(store, path, str(page["rows"][0]["drv_path"]))
    assert is_valid(store, kept), "main has it too"
    world.project.git("merge", "-q", "--ff-only", head)
    merged = await run_of_main(world)
    assert await built(world.server, merged["run"]["number"]) == ["hello-1"]
    assert (await pinned(world.server, "hello"))["hello"] == path
    assert is_valid(store, path)


async def test_a_strangers_branch_called_like_the_default_branch_pins_nothing(world: PullServer) -> None:
    before = await pinned(world.server, "hello")
    number = world.open("mia", Where.OWN_FORK, flake__nix=flake(hello=job("hello-evil"), same=job("same")))
    pull = world.hub.server.pulls[number]
    pull["head"] |= {"ref": "main", "label": "main"}
    await world.told(number)
    await world.until_status(world.hub.head(number), "success")
    page = await ended(world.server, 2)
    path = outputs(world.project.store, page, "hello")[0]
    assert path in roots_of(world.project.store), "leased"
    assert await pinned(world.server, "hello") == before
    await close(world, number, merged=False)
    await until_gone(world.project.store, path)
