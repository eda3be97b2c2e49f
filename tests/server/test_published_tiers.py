"""Who may fill which cache, and who may read it: tiers of pull requests, releases, private projects."""

from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest

from tests.contract.forge_world import Where
from tests.support.kept import built, fetch, outputs, pinned, run_of
from tests.support.program import flake, job
from tests.support.published import (
    IMPATIENT,
    Caches,
    chain,
    closure,
    ended_well,
    held,
    made,
    nix,
    publishing_mill,
    realise,
    signers,
    until_ready,
    until_uploads,
    uploads,
)
from tests.support.pull_server import PullServer, pull_server
from tests.support.scratch_store import ScratchStore

RANDOM = "read -r uuid < /proc/sys/kernel/random/uuid; echo $uuid > $out"


@pytest.fixture
async def world(tmp_path: Path, fresh_store: ScratchStore) -> AsyncIterator[tuple[PullServer, Caches]]:
    """A server with a cache for pull requests and two for branches, one of them straight from the store."""
    caches = Caches(tmp_path)
    caches.add("pulls", "pulls-1", results="pull-request")
    caches.add("main", "main-1")
    caches.add("straight", "straight-1", kind="store")
    caches.add("releases", "releases-1", results="release")
    async with pull_server(tmp_path, fresh_store) as pulls:
        pulls.server.program = IMPATIENT
        credentials = "\n".join(["[credentials]", *caches.credentials()])
        pulls.server.settings = pulls.server.settings.replace("[credentials]", credentials) + "\n".join(caches.tables)
        pulls.project.commit(flake__nix=flake(same=chain("same")))
        await pulls.running()
        yield pulls, caches


async def nowhere(world: PullServer, paths: Collection[str], *caches: str) -> None:
    """Hold that these caches have none of these paths, and are asked for none."""
    for name in caches:
        assert not await held(world.server, name, paths), name
        assert not uploads(world.server, name).keys() & set(paths), name


async def test_what_a_pull_request_built_enters_caches_of_branches_after_a_second_build_alone(
    world: tuple[PullServer, Caches],
) -> None:
    pulls, caches = world
    server, store = pulls.server, pulls.project.store
    odd_job = job("odd", "echo $dice > $out", f"dice = {job('dice', RANDOM)};")
    text = flake(same=chain("same"), hello=chain("hello", "below"), odd=odd_job)
    number = pulls.open("mia", Where.SAME, flake__nix=text)
    await pulls.told(number)
    head = pulls.hub.head(number)
    await pulls.until_status(head, "success")
    page = await server.get("/r/2")
    hello, odd = outputs(store, page, "hello")[0], outputs(store, page, "odd")[0]
    below, dice = made(store, "below"), made(store, "dice")
    new = {hello, odd, below, dice}
    await until_uploads(server, "pulls", new)
    assert {name for path in new for name in await signers(server, "pulls", path)} == {"pulls-1"}
    await nowhere(pulls, new, "main", "straight", "releases")
    assert realise(store, f"{server.url}/cache/pulls", pulls.project.top / "x", caches.public("main-1"), hello) != ""

    pulls.project.git("merge", "-q", "--ff-only", head)
    await pulls.look()
    merged = await run_of(server, "hello", head)
    assert merged["run"]["verdict"] == "passed"
    assert await built(server, merged["run"]["number"]) == []
    for name in ("main", "straight"):
        await until_uploads(server, name, [hello])
        assert await held(server, name, new) == {hello, below}, name
        await until_uploads(server, name, [odd], "refused")
        assert await signers(server, name, hello) == [f"{name}-1"]
        shown = await server.get(f"/caches/{name}")
        (fault,) = [one["fault"] for one in shown["uploads"] if one["path"] == odd]
        assert dice in fault
        assert "not deterministic" in fault
    assert (await run_of(server, "hello", head))["run"]["verdict"] == "passed"
    assert (await pinned(server, "hello"))["odd"] == odd
    fetched = fetch(store, f"{server.url}/cache/main", pulls.project.top / "y", caches.public("main-1"), hello)
    assert (fetched / Path(hello).name).exists()


async def test_releases_and_private_projects_have_caches_of_their_own(tmp_path: Path) -> None:
    caches = Caches(tmp_path)
    caches.secret("reader", "a-token-for-readers")
    caches.add("main", "main-1")
    caches.add("straight", "straight-1", kind="store")
    caches.add("releases", "releases-1", results="release")
    caches.add("hidden", "hidden-1", private=True, readers=["reader"], projects=["secret"])
    with publishing_mill(tmp_path, caches) as mill:
        server, store = mill.server, mill.store
        opened = mill.project("mill", more_lines='tags = ["v*"]')
        secret = mill.project("secret", visibility='"private"')
        first = opened.commit(flake__nix=flake(open=chain("open")))
        hidden = secret.commit(flake__nix=flake(plan=chain("plan", "idea"), shared=chain("shared")))
        await until_ready(server)
        page = await ended_well(mill, "mill", first)
        (path,) = outputs(store, page, "open")
        await until_uploads(server, "main", [path])

        theirs = [made(store, name) for name in ("plan", "idea", "shared")]
        await until_uploads(server, "hidden", theirs)
        assert (await server.get("/p/secret"), hidden) == (None, hidden)
        for name in ("main", "straight", "releases"):
            assert not uploads(server, name).keys() & set(theirs)
            assert not await held(server, name, theirs)
        url, public = f"{server.url}/cache/hidden", caches.public("hidden-1")
        assert not await held(server, "hidden", theirs)
        assert realise(store, url, tmp_path / "without", public, theirs[0]) != ""
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1\nlogin anybody\npassword a-token-for-readers\n")
        with_token = ("--option", "netrc-file", str(netrc))
        assert realise(store, url, tmp_path / "with", public, theirs[0], *with_token) == ""
        log = (f"{server.url}/cache/main", "straight")[0]
        assert nix(
            store, "nix", "log", "--option", "substituters", log, made(store, "plan.drv"), NIX_LOG_DIR="/"
        ).returncode

        opened.git("commit", "-q", "--allow-empty", "-m", "release")
        opened.write(flake__nix=flake(open=chain("open"), release=chain("release")))
        opened.git("checkout", "-q", "--detach")
        tagged = opened.commit()
        opened.git("tag", "v1")
        opened.git("checkout", "-q", "main")
        page = await ended_well(mill, "mill", tagged)
        new = outputs(store, page, "release")[0]
        await until_uploads(server, "releases", [new, path])
        assert await signers(server, "releases", new) == ["releases-1"]
        assert not await held(server, "main", [new])
        assert set(closure(store, new)) == {new}
