"""Pull requests as their authors and maintainers meet them: the whole server beside a forge, with real Nix."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nixmill.nix.hashes import from_base32
from tests.contract.forge_world import Trouble, Where
from tests.support.postgres import Postgres, postgres  # noqa: F401 - a fixture
from tests.support.program import flake, job
from tests.support.pull_server import PullServer, pull_server
from tests.support.scratch_store import ScratchStore

on_both_databases = pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
async def world(request: pytest.FixtureRequest, tmp_path: Path, fresh_store: ScratchStore) -> AsyncIterator[PullServer]:
    """A server whose forge has one repository, already checked; on SQLite unless a test asks for PostgreSQL too."""
    settings = ""
    if getattr(request, "param", "sqlite") == "postgresql":
        cluster: Postgres = request.getfixturevalue("postgres")
        settings = f'database = "{cluster.url(cluster.new())}"\n'
    async with pull_server(tmp_path, fresh_store, settings) as made:
        made.project.commit(flake__nix=flake(hello=job("hello")))
        made.server.start()
        await made.server.ready()
        page = await made.server.ended(1)
        assert page["run"]["verdict"] == "passed", made.server.log
        yield made


async def test_a_repository_becomes_a_project_with_a_webhook_by_itself(world: PullServer) -> None:
    await world.server.until("/p/hello", lambda page: page["project"]["forge"] == "hub")
    await world.server.until("/runs", lambda _: bool(world.hub.server.hooks))
    ((_, hook),) = world.hub.server.hooks.items()
    assert hook["config"]["url"] == f"{world.server.url}/hook/forge/hub"
    head = world.project.git("rev-parse", "main")
    world.hub.server.commits.add(head)


@on_both_databases
async def test_a_strangers_pull_request_from_opening_to_merging(world: PullServer) -> None:
    """Held, approved, red with a cause, pushed again and held again, approved, green; then main knows it at once."""
    bad = job("bad", "echo no way; exit 3")
    number = world.open("sam", flake__nix=flake(hello=job("hello"), bad=bad))
    first = world.hub.head(number)
    await world.told(number)
    assert "approv" in await world.until_status(first, "pending")
    page = await world.server.until("/r/2", lambda page: page["run"]["state"] == "waiting for approval")
    assert page["run"]["tier"] == "fork"
    await world.commented(number, "sam", "/nixmill approve")
    await world.commented(number, "mia", "/nixmill approve")
    await world.until_status(first, "failure")
    await world.until_status(first, "failure", "nixmill: checks.x86_64-linux.bad")
    ended = await world.server.ended(2)
    assert ended["causes"][0]["tail"][-1] == "no way"
    good = flake(hello=job("hello"), more=job("more"))
    second = world.push(number, flake__nix=good)
    await world.told(number)
    assert "approv" in await world.until_status(second, "pending")
    await world.commented(number, "mia", "/nixmill approve")
    await world.until_status(second, "success")
    world.project.git("merge", "-q", "--ff-only", second)
    world.hub.close(number, merged=True)
    await world.told(number)
    async with world.server.administrator() as browser:
        await browser.post("/p/hello/look", page="/p/hello")
    merged = await world.server.ended(4)
    assert merged["run"]["verdict"] == "passed"
    assert any("evaluated in run 3" in notice for notice in merged["notices"]), "same tree, known result"
    timeline = await world.server.get("/r/4/timeline")
    assert timeline["attempts"] == [], "nothing is built for what is known"


async def test_what_is_tested_is_the_head_merged_into_the_tip_of_its_base(world: PullServer) -> None:
    number = world.open("mia", Where.SAME, note__txt="from the pull request")
    world.project.commit(other__txt="from main")
    world.hub.server.pulls[number]["base"]["sha"] = "0" * 40
    await world.told(number)
    head = world.hub.head(number)
    await world.until_status(head, "success")
    page = await world.server.get("/p/hello/pull/1")
    run = await world.server.get(f"/r/{page['runs'][0]['number']}")
    assert run["tested"] not in {"", head}, "a merge of both"
    assert run["base_commit"] == world.project.git("rev-parse", "main")


async def test_only_what_changed_is_built_where_the_base_is_good(world: PullServer) -> None:
    first, second, third = job("first"), job("second"), job("third")
    world.project.commit(flake__nix=flake(first=first, second=second))
    async with world.server.administrator() as browser:
        await browser.post("/p/hello/look", page="/p/hello")
    await world.server.ended(2)
    number = world.open("mia", Where.SAME, flake__nix=flake(first=first, second=third))
    await world.told(number)
    await world.until_status(world.hub.head(number), "success")
    timeline = await world.server.get("/r/3/timeline")
    assert [one["name"] for one in timeline["attempts"]] == ["third"]
    assert (await world.server.get("/r/3"))["base"]["number"] == 2


async def test_inputs_that_the_base_locks_need_not_be_fetched_again(world: PullServer) -> None:
    """The input is at an address that nobody can reach, and in the store: in the sandbox it is found by its hash."""
    source = world.project.top.parent / "source"
    source.mkdir()
    (source / "word").write_text("locked")
    path = world.project.nix_store("--add", str(source)).strip()
    hashed = world.project.nix_store("--query", "--hash", path).strip().removeprefix("sha256:")
    sri = "sha256-" + base64.b64encode(from_base32(hashed, 32)).decode()
    url = "https://nowhere.invalid/source.tar.gz"
    locked = {"locked": {"type": "tarball", "url": url, "narHash": sri}, "original": {"type": "tarball", "url": url}}
    nodes = {"root": {"inputs": {"dep": "dep"}}, "dep": {"flake": False, **locked}}
    lock = json.dumps({"nodes": nodes, "root": "root", "version": 7})

    def reading(word: str) -> str:
        text = flake(a=job(word, "echo ${dep} > $out").replace("''${dep}", '${builtins.readFile (dep + "/word")}'))
        inputs = f'inputs.dep = {{ url = "{url}"; flake = false; }};'
        return text.replace("outputs = { self }:", f"{inputs} outputs = {{ self, dep }}:")

    world.project.commit(flake__nix=reading("one"), flake__lock=lock)
    for login, where in (("mia", Where.SAME), ("sam", Where.OWN_FORK)):
        number = world.open(login, where, flake__nix=reading(f"of-{login}"))
        await world.told(number)
        if login == "sam":
            await world.until_status(world.hub.head(number), "pending")
            await world.commented(number, "mia", "/nixmill approve")
        await world.until_status(world.hub.head(number), "success")


async def test_a_conflict_is_a_clear_failure(world: PullServer) -> None:
    number = world.open("mia", Where.SAME, note__txt="mine")
    world.project.commit(note__txt="yours")
    await world.told(number)
    said = await world.until_status(world.hub.head(number), "failure")
    assert "conflict" in said.lower()


async def test_a_strangers_evaluation_reads_nothing_of_the_server(world: PullServer) -> None:
    """The sandbox of the whole server: neither its state nor another file of the machine is there."""
    secret = world.server.state.parent / "secrets" / "token"
    read = f'builtins.readFile (builtins.fetchTree {{ type = "path"; path = "{secret.parent}"; }} + "/token")'
    body = f"{{ outputs = {{ self }}: {{ checks.x86_64-linux.a = throw ({read}); }}; }}"
    number = world.open("mia", Where.SAME, flake__nix=body)
    await world.told(number)
    head = world.hub.head(number)
    await world.until_status(head, "failure")
    page = await world.server.ended(2)
    assert secret.read_text().strip() not in str(page)


async def test_where_builds_may_read_the_machine_nothing_of_a_pull_request_is_built(
    tmp_path: Path, fresh_store: ScratchStore
) -> None:
    async with pull_server(tmp_path, fresh_store, unsandboxed_builds=False) as world:
        world.project.commit(flake__nix=flake(hello=job("hello")))
        world.server.start()
        await world.server.ready()
        assert (await world.server.ended(1))["run"]["verdict"] == "passed", "what was pushed is built"
        number = world.open("mia", Where.SAME, note__txt="mine")
        await world.told(number)
        page = await world.server.ended(2)
        assert "sandbox" in page["run"]["sentence"]
        assert await world.until_status(world.hub.head(number), "error")


@on_both_databases
async def test_statuses_survive_an_outage_of_the_forge_and_a_killed_server(world: PullServer) -> None:
    number = world.open("mia", Where.SAME, note__txt="a")
    head = world.hub.head(number)
    await world.told(number)
    await world.server.until("/r/2", lambda page: bool(page["run"]["number"]))
    world.hub.trouble(Trouble.OUTAGE)
    await world.server.ended(2)
    world.server.kill()
    world.hub.trouble(Trouble.NONE)
    world.server.start()
    await world.server.ready()
    await world.until_status(head, "success")
    green = [one for one in world.hub.server.statuses[head] if one["status"] == "success"]
    assert len(green) == 1, "told once"


async def test_events_that_were_lost_are_found_when_the_server_starts(world: PullServer) -> None:
    world.server.kill()
    number = world.open("mia", Where.SAME, note__txt="while it was down")
    world.server.start()
    await world.server.ready()
    await world.until_status(world.hub.head(number), "success")


@on_both_databases
async def test_a_storm_of_changes_with_one_tree_costs_one_evaluation(world: PullServer) -> None:
    numbers = [world.open("mia", Where.SAME, more__txt="the same") for _ in range(10)]
    for number in numbers:
        world.push(number, message=f"change {number}", more__txt="the same")
        await world.told(number)
    heads = {world.hub.head(number) for number in numbers}
    assert len(heads) == 10
    for head in heads:
        await world.until_status(head, "success", seconds=120)
    runs = [await world.server.get(f"/r/{number}") for number in range(2, 12)]
    known = [run for run in runs if any("was evaluated in run" in notice for notice in run["notices"])]
    assert len(known) == 9
