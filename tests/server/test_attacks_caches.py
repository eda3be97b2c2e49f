"""Strangers, members and neighbours at roots and caches: what they build, push and plant gains them nothing."""

import os
import sqlite3
from collections.abc import AsyncIterator, Collection
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from nixmill.edge.database.pages_pins import Place
from nixmill.edge.evaluator import confine
from tests.contract.forge_world import Where
from tests.support.kept import branch, outputs, pins, press, run_of
from tests.support.program import flake, job
from tests.support.published import (
    IMPATIENT,
    Caches,
    chain,
    ended_well,
    held,
    made,
    publishing_mill,
    until_ready,
    until_uploads,
    uploads,
)
from tests.support.pull_server import PullServer, pull_server
from tests.support.scratch_store import ScratchStore
from tests.support.server import PASSWORD, ServerProgram

RANDOM: Final = "read -r uuid < /proc/sys/kernel/random/uuid; echo $uuid > $out"
IMPORTS: Final = "[evaluate]\nallow-import-from-derivation = true\n"
POWER: Final = '[roots]\nbranches = ["*", "refs/*"]\nkeep = 1000000000\npolicy = "require-local"\n'
Z: Final = "z" * 32
"""The hash part of a path that nothing has."""


@pytest.fixture
async def world(tmp_path: Path, fresh_store: ScratchStore) -> AsyncIterator[PullServer]:
    """A server with a cache for pull requests and one for branches; its repository may import from derivations."""
    caches = Caches(tmp_path)
    caches.add("pulls", "pulls-1", results="pull-request")
    caches.add("main", "main-1")
    async with pull_server(tmp_path, fresh_store) as pulls:
        pulls.server.program = IMPATIENT
        credentials = "\n".join(["[credentials]", *caches.credentials()])
        pulls.server.settings = pulls.server.settings.replace("[credentials]", credentials) + "\n".join(caches.tables)
        pulls.project.commit(flake__nix=flake(same=chain("same")), nixmill__toml=IMPORTS)
        await pulls.running()
        yield pulls


def asked_by(server: ServerProgram, run: int) -> set[str]:
    """Return the caches that a run asked to take something."""
    with closing(sqlite3.connect(f"file:{server.state}/nixmill.sqlite?mode=ro", uri=True)) as database:
        return {cache for (cache,) in database.execute("select cache from nm_upload where run = ?", (run,))}


async def opened(world: PullServer, state: str, text: str, settings: str = IMPORTS) -> None:
    """Have a member open a pull request of a flake, and wait until its check has that state."""
    number = world.open("mia", Where.SAME, flake__nix=text, nixmill__toml=settings)
    await world.told(number)
    await world.until_status(world.hub.head(number), state)


def size_of(path: str) -> int:
    return Path(path).stat().st_size


async def test_no_way_leads_from_a_pull_request_into_a_cache_of_branches(world: PullServer, tmp_path: Path) -> None:
    """What comes out of these builds is another thing each time: were it in the cache, it would be the member's."""
    server, store, gate = world.server, world.project.store, tmp_path / "gate"
    dice, calm, imported = job("dice", RANDOM), job("calm"), job("imported", RANDOM)
    plain = imported.replace('builtins.currentSystem or "x86_64-linux"', '"x86_64-linux"')
    reading = f"reading = builtins.substring 0 4 (builtins.readFile ({plain}));"
    # A build of what a branch will read; and one during evaluation, of which no result is an attribute.
    text = flake(same=chain("same"), dice=dice, calm=calm, reads=job("reads", "echo $reading > $out", reading))
    await opened(world, "success", text)
    await server.until("/r/2", lambda page: page["run"]["verdict"] == "passed")
    # Its own limit makes a build fail of which the output stays in the store.
    large = job("large", "head -c 2000000 /dev/urandom > $out")
    limited = f"{IMPORTS}[build]\nmax-output-mib = 1\n"
    await opened(world, "failure", flake(same=chain("same"), large=large), limited)
    assert size_of(made(store, "large")) == 2_000_000
    # The branch joins a build that a pull request began.
    slow = job("slow", f"while [ ! -e {gate} ]; do sleep 0.05; done; {RANDOM}")
    number = world.open("mia", Where.SAME, flake__nix=flake(same=chain("same"), slow=slow), nixmill__toml=IMPORTS)
    await world.told(number)
    await server.until("/r/4/timeline", lambda page: any(one["name"] == "slow" for one in page["attempts"]))

    rolled = job("rolled", "read -r a < $dice; echo $a > $out", f"dice = {dice};")
    after = job("after", "read -r a < $calm; echo $a > $out", f"calm = {calm};")
    everything = {"dice": dice, "imported": imported, "large": large, "slow": slow, "rolled": rolled, "after": after}
    merged = world.project.commit(flake__nix=flake(same=chain("same"), calm=calm, **everything))
    await world.look()
    await server.until("/runs", lambda page: page["runs"][0]["number"] == 5)
    await server.until("/r/5", lambda page: page["run"]["state"] in {"building", "done"})
    gate.touch()
    page = await run_of(server, "hello", merged)
    paths = {name: outputs(store, page, name)[0] for name in (*everything, "calm")}
    good = {paths.pop("after"), paths.pop("calm")}
    await until_uploads(server, "main", good)
    await until_uploads(server, "main", paths.values(), "refused")
    assert await held(server, "main", [*good, *paths.values()]) == good

    # Whoever tries again what a pull request wanted, it stays the pull request's.
    assert await press(server, "/r/3/retry", "/r/3") == 303
    await server.until("/runs", lambda page: page["runs"][0]["number"] == 6)
    await server.ended(6)
    assert asked_by(server, 6) <= {"pulls"}
    assert uploads(server, "main").keys() & set(paths.values()) == set(paths.values())


async def statuses(server: ServerProgram, names: Collection[str]) -> dict[str, int]:
    """Return what is answered to these addresses."""
    async with httpx2.AsyncClient(base_url=server.url, timeout=10) as client:
        return {name: (await client.get(name)).status_code for name in names}


async def test_branches_neighbours_and_odd_addresses_gain_nothing(tmp_path: Path) -> None:
    caches = Caches(tmp_path)
    caches.add("main", "main-1")
    caches.add("releases", "releases-1", results="release")
    caches.secret("reader", "a-token-for-readers")
    hidden = {"private": True, "readers": ["reader"], "projects": ["secret"]}
    caches.add("hidden", "hidden-1", directory=str(tmp_path / "hidden"), **hidden)
    with publishing_mill(tmp_path, caches) as mill:
        server, project = mill.server, mill.project("mill")
        server.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
        first = project.commit(flake__nix=flake(hello=chain("hello")))
        await until_ready(server)
        (path,) = outputs(mill.store, await ended_well(mill, "mill", first), "hello")
        await until_uploads(server, "main", [path])
        await what_is_no_file_of_ours_is_not_served(server, tmp_path)
        await no_address_is_a_fault_of_ours(server)
        await a_branch_grants_itself_nothing(server, project, mill)
        await a_commit_that_is_named_is_no_release(server, project, mill)
        if confine.is_possible():
            await no_evaluation_reads_a_private_cache(mill, tmp_path / "hidden")


async def what_is_no_file_of_ours_is_not_served(server: ServerProgram, tmp_path: Path) -> None:
    """A neighbour who may write into the directory reads nothing of the server's by links, and holds up no thread."""
    directory, secret = server.state / "caches/main", tmp_path / "secret"
    secret.write_text("not for anybody")
    planted = [f"{Z[:-1]}{digit}.narinfo" for digit in range(4)] + [f"nar/{digit}.nar" for digit in range(4)]
    for name in planted[::2]:
        (directory / name).symlink_to(secret)
    for name in planted[1::2]:
        os.mkfifo(directory / name)
    found = await statuses(server, [f"/cache/main/{name}" for name in planted])
    assert set(found.values()) == {404}, found
    server.command("cache", "verify", "main")
    server.command("cache", "collect", "main")
    assert " 1 " in server.command("cache", "list")
    for name in planted:
        (directory / name).unlink()


async def no_address_is_a_fault_of_ours(server: ServerProgram) -> None:
    """Where a page of a list ends is data of strangers, however it is wrapped."""
    wrapped = [Place("a", "b", 10**30), Place("a\0", "b", 1), Place("a", "b\0", 1), Place("a", "b", -(2**63) - 1)]
    found = await statuses(server, [f"/p/mill/roots?after={one.shown()}" for one in wrapped])
    assert set(found.values()) == {400}, found


async def a_branch_grants_itself_nothing(server: ServerProgram, project: Any, mill: Any) -> None:  # noqa: ANN401
    """What is pinned, and how much of it, only the default branch says, within what the server allows."""
    evil = branch(project, "main2", flake__nix=flake(evil=chain("evil")), nixmill__toml=POWER)
    await ended_well(mill, "mill", evil)
    assert await pins(server, "mill", "main2") == []
    allowed = project.commit(flake__nix=flake(hello=chain("hello"), more=chain("more")), nixmill__toml=POWER)
    await ended_well(mill, "mill", allowed)
    again = branch(project, "main3", flake__nix=flake(evil=chain("evil")))
    await ended_well(mill, "mill", again)
    (pin,) = await pins(server, "mill", "main3")
    assert (pin["keep"], pin["path"][-1]) == (10, "evil")


async def a_commit_that_is_named_is_no_release(server: ServerProgram, project: Any, mill: Any) -> None:  # noqa: ANN401
    """A forge may let nobody but few people make tags; starting a run by hand goes no way round that."""
    project.git("tag", "v1", "main~1")
    commit = branch(project, "wip", flake__nix=flake(wip=chain("wip")))
    page = await ended_well(mill, "mill", commit)
    before = max(run["number"] for run in (await server.get("/runs"))["runs"])
    assert await press(server, "/p/mill/start", "/p/mill", ref="refs/tags/v1", commit=commit) == 303
    await server.ended(before + 1)
    assert (await server.get(f"/r/{before + 1}"))["run"]["ref"] == "refs/tags/v1"
    await until_uploads(server, "main", outputs(mill.store, page, "wip"))
    assert uploads(server, "releases") == {}


async def no_evaluation_reads_a_private_cache(mill: Any, directory: Path) -> None:  # noqa: ANN401
    """Branches are evaluated as the server's user: files of a cache of others, wherever it is, are kept from them."""
    (directory / f"{Z}.narinfo").touch()
    place = f'builtins.fetchTree {{ type = "path"; path = "{directory}"; rev = "{"1" * 40}"; }}'
    stolen = f"stolen = builtins.toJSON (builtins.readDir ({place}).outPath);"
    commit = branch(mill.projects["mill"], "reading", flake__nix=flake(thief=job("thief", "echo $stolen", stolen)))
    said = str(await mill.run_of("mill", commit))
    assert "Permission denied" in said
    assert Z not in said
