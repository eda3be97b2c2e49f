"""The server as its users meet it: a push becomes a verdict by itself, and nothing that happens to it loses one."""

import asyncio
import hashlib
import hmac
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from tests.support.postgres import Postgres, postgres  # noqa: F401 - a fixture
from tests.support.program import Project, flake, job
from tests.support.scratch_store import ScratchStore
from tests.support.server import PASSWORD, ServerProgram

KILLS = 5
JOBS = 12


@pytest.fixture(params=["sqlite", "postgresql"])
async def server(
    request: pytest.FixtureRequest, tmp_path: Path, fresh_store: ScratchStore
) -> AsyncIterator[ServerProgram]:
    """A server that is not started yet, with an administrator and one project, on either database."""
    top = tmp_path / "mill"
    top.mkdir()
    settings = ""
    if request.param == "postgresql":
        cluster: Postgres = request.getfixturevalue("postgres")
        settings = f'database = "{cluster.url(cluster.new())}"\n'
    made = ServerProgram(Project(top, fresh_store), tmp_path / "state", settings)
    made.project.commit(flake__nix=flake(hello=job("hello")))
    made.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")
    made.command("projects", "add", "mill", f"file://{top}")
    try:
        yield made
    finally:
        made.kill()


def diary_job(name: str, diary: Path, extra: str = "", seconds: str = "0.1") -> str:
    return job(name, f'echo "$name" >> {diary}; sleep {seconds}; echo > $out', extra)


async def test_a_push_becomes_a_verdict_by_itself(server: ServerProgram) -> None:
    server.start()
    await server.ready()
    first = await server.ended(1)
    assert (first["run"]["verdict"], first["run"]["ref"]) == ("passed", "refs/heads/main")
    bad = job("bad", "echo no; exit 3")
    server.project.commit(flake__nix=flake(hello=job("hello"), bad=bad))
    async with server.administrator() as browser:
        assert (await browser.post("/p/mill/look", page="/p/mill")).status_code == 303
        page = await server.ended(2)
        assert page["run"]["verdict"] == "failed"
        assert page["base"]["number"] == 1
        assert [(row["name"], row["change"], row["status"]) for row in page["rows"]] == [
            ("checks.x86_64-linux.bad", "new", "failed")
        ]
        assert page["causes"][0]["tail"][-1] == "no"
        drv_path = page["causes"][0]["drv_path"]
        derivation = await server.get(f"/d/{drv_path.rpartition('/')[2]}")
        assert [one["status"] for one in derivation["attempts"]] == ["failed"]
        assert derivation["remembered"][0]["run"] == 2
        shown = await browser.get("/r/2")
        assert "bad" in shown.text
        log = await browser.get(f"/log/{page['rows'][0]['attempt']}/raw")
        assert log.text.splitlines()[-1] == "no"
        home = await server.get("/")
        assert [line["ref"] for line in home["broken"]] == ["refs/heads/main"]
    assert server.stop() == 0


async def test_a_webhook_must_be_signed_and_counts_once(server: ServerProgram) -> None:
    server.start()
    await server.ready()
    await server.ended(1)
    async with server.administrator() as browser:
        settings = (await browser.get("/p/mill/settings")).text
    secret = settings.split('id="webhook-secret"')[1].split('value="')[1].split('"')[0]
    body = b'{"ref": "refs/heads/main"}'
    good = {"X-Nixmill-Signature": f"sha256={hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()}"}
    async with httpx2.AsyncClient(base_url=server.url) as client:
        assert (await client.post("/hook/mill", content=body)).status_code == 401
        wrong = {"X-Nixmill-Signature": "sha256=" + "0" * 64}
        assert (await client.post("/hook/mill", content=body, headers=wrong)).status_code == 401
        assert (await client.post("/hook/nobody", content=body, headers=good)).status_code == 401
        server.project.commit(flake__nix=flake(hello=job("hello", "echo again > $out")))
        delivered = {**good, "X-Nixmill-Delivery": "1"}
        assert (await client.post("/hook/mill", content=body, headers=delivered)).json() == {"accepted": True}
        assert (await client.post("/hook/mill", content=body, headers=delivered)).json() == {"accepted": False}
    assert (await server.ended(2))["run"]["verdict"] == "passed"


async def test_what_failed_is_tried_again_by_hand_only(server: ServerProgram, tmp_path: Path) -> None:
    fixed = tmp_path / "fixed"
    flaky = job("flaky", f"if [ -e {fixed} ]; then echo > $out; else exit 1; fi")
    server.project.commit(flake__nix=flake(flaky=flaky))
    server.start()
    await server.ready()
    assert (await server.ended(1))["run"]["verdict"] == "failed"
    fixed.touch()
    server.project.commit(other="x")
    async with server.administrator() as browser:
        await browser.post("/p/mill/look", page="/p/mill")
        again = await server.ended(2)
        assert again["run"]["verdict"] == "failed", "it is remembered"
        answer = await browser.post("/r/2/retry", {"what": "failed"}, page="/r/2")
        assert answer.headers["location"] == "/r/3"
        page = await server.ended(3)
        assert (page["run"]["verdict"], page["run"]["retry_of"]) == ("passed", 2)
        assert (await server.get("/r/2"))["retries"] == [3]


async def test_a_newer_push_supersedes_an_older_one_and_shared_builds_go_on(
    server: ServerProgram, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    diary.touch()
    slow = diary_job("slow", diary, seconds="4")
    server.project.commit(flake__nix=flake(slow=slow))
    server.start()
    await server.ready()
    await server.until("/r/1", lambda page: bool(page["attempts_running"]))
    server.project.commit(flake__nix=flake(slow=slow, more=job("more")))
    async with server.administrator() as browser:
        await browser.post("/p/mill/look", page="/p/mill")
    second = await server.ended(2)
    first = await server.ended(1)
    assert (second["run"]["verdict"], first["run"]["verdict"]) == ("passed", "cancelled")
    assert first["run"]["superseded_by"] == 2
    assert diary.read_text().split() == ["slow"]


async def test_a_cancelled_run_ends_at_once_and_says_so(server: ServerProgram) -> None:
    server.project.commit(flake__nix=flake(slow=job("slow", "sleep 60")))
    server.start()
    await server.ready()
    await server.until("/r/1", lambda page: bool(page["attempts_running"]))
    async with server.administrator() as browser:
        await browser.post("/r/1/cancel", page="/r/1")
        page = await server.ended(1, seconds=10)
    assert page["run"]["verdict"] == "cancelled"


async def test_killed_again_and_again_it_goes_on_and_does_nothing_twice(server: ServerProgram, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    diary.touch()
    checks, last = {}, ""
    for number in range(JOBS):
        name = f"job{number}"
        checks[name] = last = diary_job(name, diary, f"dep = {last};" if last and number % 3 else "", seconds="0.3")
    checks["bad"] = job("bad", f"echo bad >> {diary}; exit 1")
    server.project.commit(flake__nix=flake(**checks))
    dice = random.Random(7)  # noqa: S311 - a test that can be repeated
    for _ in range(KILLS):
        server.start()
        await server.ready()
        await asyncio.sleep(dice.uniform(0.1, 1.5))
        server.kill()
    server.start()
    await server.ready()
    page = await server.ended(1)
    assert page["run"]["verdict"] == "failed"
    assert {row["name"] for row in page["rows"] if row["status"] == "failed"} == {"checks.x86_64-linux.bad"}
    runs = (await server.get("/p/mill"))["runs"]
    assert [run["number"] for run in runs] == [1], "no kill made a second run"
    begun = Counter(diary.read_text().split())
    assert set(begun) == {*(f"job{number}" for number in range(JOBS)), "bad"}
    assert sum(begun.values()) - len(begun) <= 2 * KILLS, "only what was under way (two at a time) is done again"
    assert begun["bad"] <= 2


async def test_a_repository_that_vanishes_is_said_and_comes_back(server: ServerProgram, tmp_path: Path) -> None:
    server.start()
    await server.ready()
    await server.ended(1)
    top = server.project.top
    hidden = top.rename(tmp_path / "hidden")
    async with server.administrator() as browser:
        await browser.post("/p/mill/look", page="/p/mill")
        page = await server.until("/p/mill", lambda page: bool(page["polled"]["fault"]))
        assert "mill" in page["polled"]["fault"]
        hidden.rename(top)
        await browser.post("/p/mill/look", page="/p/mill")
        await server.until("/p/mill", lambda page: not page["polled"]["fault"])


async def test_a_project_is_deleted_with_everything(server: ServerProgram) -> None:
    server.start()
    await server.ready()
    await server.ended(1)
    async with server.administrator() as browser:
        assert (await browser.post("/p/mill/delete", {"name": "mill"}, page="/p/mill/settings")).status_code == 303
    assert await server.get("/p/mill") is None
    assert await server.get("/r/1") is None
    assert (await server.get("/"))["projects"] == []
