"""What only the running server knows: reasons, queue, machines, needs, the first steps of a new installation."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.program import Project, flake, job
from tests.support.scratch_store import ScratchStore
from tests.support.server import PASSWORD, ServerProgram

ONE_AT_A_TIME = "runs-at-once = 1\n"


@pytest.fixture
async def server(tmp_path: Path, fresh_store: ScratchStore) -> AsyncIterator[ServerProgram]:
    top = tmp_path / "mill"
    top.mkdir()
    made = ServerProgram(Project(top, fresh_store), tmp_path / "state", ONE_AT_A_TIME)
    try:
        yield made
    finally:
        made.kill()


def add_project(server: ServerProgram) -> None:
    server.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
    server.command("projects", "add", "mill", f"file://{server.project.top}")


async def test_a_new_server_says_what_to_do_first(server: ServerProgram) -> None:
    server.project.commit(flake__nix=flake(hello=job("hello")))
    server.start()
    await server.ready()
    steps = (await server.get("/"))["checklist"]
    assert [step["done"] for step in steps] == [False, False, False]
    assert "nixmill user create" in steps[0]["hint"]
    add_project(server)
    await server.ended(1)
    home = await server.get("/")
    assert home["checklist"] == []
    assert [line["project"]["name"] for line in home["projects"]] == ["mill"]


async def test_whatever_waits_has_a_reason(server: ServerProgram, tmp_path: Path) -> None:
    go = tmp_path / "go"
    slow = f"while [ ! -e {go} ]; do sleep 0.1; done; echo > $out"
    first = job("first", slow)
    server.project.commit(flake__nix=flake(first=first, second=job("second", "echo > $out", f"dep = {first};")))
    add_project(server)
    server.start()
    await server.ready()
    await server.until("/r/1", lambda page: bool(page["attempts_running"]))
    async with server.administrator() as browser:
        answer = await browser.post("/p/mill/start", {"ref": "main"}, page="/p/mill")
        assert answer.headers["location"] == "/r/2"
    queue = await server.get("/queue")
    waits = {run["number"]: run["wait"] for run in queue["runs"]}
    assert waits[1] == "1 derivation going on, 1 more to come"
    assert waits[2] == "1 run go on, as many as this server does at once"
    lines = {(line["name"], line["status"]): line["reason"] for line in queue["lines"]}
    assert lines["first", "running"] == "is being built on this machine"
    assert lines["second", "waiting"].startswith("waits for first (running ")
    machines = (await server.get("/machines"))["machines"]
    assert [line["name"] for line in machines[0]["running"]] == ["first"]
    why = await server.get("/r/1/why/checks.x86_64-linux.second")
    assert any("waits for first" in sentence for sentence in why["sentences"])
    async with server.administrator() as browser:
        await browser.post("/r/2/cancel", page="/r/2")
    assert (await server.ended(2, seconds=5))["run"]["sentence"] == "Cancelled before it began."
    go.touch()
    assert (await server.ended(1))["run"]["verdict"] == "passed"


async def test_why_goes_down_to_the_source_that_changed(server: ServerProgram) -> None:
    def sources(text: str) -> str:
        lib = job("lib", "echo > $out", f'src = builtins.toFile "grain.txt" "{text}";')
        return flake(app=job("app", "echo > $out", f"dep = {lib};"))

    server.project.commit(flake__nix=sources("rye"))
    add_project(server)
    server.start()
    await server.ready()
    await server.ended(1)
    server.project.commit(flake__nix=sources("spelt"))
    async with server.administrator() as browser:
        await browser.post("/p/mill/look", page="/p/mill")
    await server.ended(2)
    why = await server.get("/r/2/why/checks.x86_64-linux.app")
    assert why["sentences"][0] == "It passed: built."
    assert "grain.txt of lib changed (by way of app → lib)" in why["sentences"][1]


async def test_the_administrator_sees_disks_and_what_needs_them(server: ServerProgram) -> None:
    server.project.commit(flake__nix=flake(hello=job("hello")))
    add_project(server)
    server.start()
    await server.ready()
    await server.ended(1)
    async with server.administrator() as browser:
        page = (await browser.get("/admin", headers={"Accept": "application/json"})).json()
    assert {one["place"] for one in page["forecasts"]} == {"State and logs", "Nix store"}
    assert all(one["free_bytes"] > 0 for one in page["forecasts"])
    assert page["needs"] == []
    assert page["database"].startswith("SQLite")
