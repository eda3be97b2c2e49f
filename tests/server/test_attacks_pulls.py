"""Strangers at the whole server beside a forge: webhooks, commits and repositories that want more than they may."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from nixmill.config.server import ServerSettings
from tests.contract.forge_world import Happening, Where
from tests.fakes.forge import FakeForge
from tests.support.program import flake, job
from tests.support.pull_server import PullServer, pull_server
from tests.support.scratch_store import ScratchStore
from tests.support.web import web_world

PASSWD = Path("/etc/passwd").read_text(encoding="utf-8").splitlines()[0]
ODD = '"<img src=x onerror=alert(1)> @octo/team `x` [a](http://evil.example)"'


@pytest.fixture
async def world(tmp_path: Path, fresh_store: ScratchStore) -> AsyncIterator[PullServer]:
    async with pull_server(tmp_path, fresh_store) as made:
        made.project.commit(flake__nix=flake(hello=job("hello")))
        made.server.start()
        await made.server.ready()
        assert (await made.server.ended(1))["run"]["verdict"] == "passed", made.server.log
        yield made


async def is_held(world: PullServer, run: int) -> None:
    await world.server.until(f"/r/{run}", lambda page: page["run"]["state"] == "waiting for approval")


async def approved(world: PullServer, number: int, run: int) -> dict[str, Any]:
    """Have the head of a pull request approved by name; return its run when that has ended."""
    await world.told(number)
    await is_held(world, run)
    await world.commented(number, "mia", f"/nixmill approve {world.hub.head(number)}")
    ended: dict[str, Any] = await world.server.ended(run)
    return ended


async def test_a_push_right_after_the_approving_comment_waits(world: PullServer) -> None:
    number = world.open("sam", note__txt="harmless")
    await world.told(number)
    await is_held(world, 2)
    comment = world.hub.write_comment(number, world.hub.user("mia", world.permission("mia")), "/nixmill approve")
    world.hub.server.comments[int(comment)] |= {"created_at": (then := world.hub.server.start.isoformat())}
    world.hub.server.comments[int(comment)] |= {"updated_at": then}
    second = world.push(number, flake__nix=flake(evil=job("evil")))
    for _ in range(2):  # the same comment again is another delivery, as when somebody presses "redeliver"
        assert await world.deliver(Happening.COMMENT, number=number, comment=comment) == 202
    await is_held(world, 3)
    assert "approv" in await world.until_status(second, "pending")
    await world.server.until("/runs", lambda _: bool(answers(world, number)))
    assert f"/nixmill approve {second[:12]}" in answers(world, number)[0]
    assert (await world.server.get("/r/3"))["run"]["state"] == "waiting for approval"


def answers(world: PullServer, number: int) -> list[str]:
    return [one["body"] for one in world.hub.server.on(number) if one["user"]["login"] == "nixmill-bot"]


async def test_links_in_a_strangers_tree_lead_nowhere(world: PullServer) -> None:
    top = world.project.top
    for name, target in (("flake.nix", "/etc/passwd"), ("nixmill.toml", "/etc/passwd"), ("flake.lock", "/etc/passwd")):
        number = world.open("sam", note__txt=name)
        git = world.project.git
        git("checkout", "-q", "--detach", "main")
        (top / name).unlink(missing_ok=True)
        (top / name).symlink_to(target)
        git("add", "-A")
        git("commit", "-q", "-m", name)
        head = git("rev-parse", "HEAD")
        git("update-ref", f"refs/pull/{number}/head", head)
        git("checkout", "-q", "-f", "main")
        world.hub.server.commits.add(head)
        world.hub.server.pulls[number]["head"]["sha"] = head
        world.hub.server.pulls[number]["updated_at"] = world.hub.server.now()
        page = await approved(world, number, number + 1)
        assert PASSWD not in json.dumps(page)
        assert PASSWD not in json.dumps(world.hub.server.statuses.get(head, []))


async def test_a_strangers_settings_give_nothing(world: PullServer) -> None:
    """`nixConfig`, `nixmill.toml` and a lock file ask for everything that costs or has power."""
    body = (
        flake(a=job("a"))
        .replace(
            "{\n  outputs",
            """{
  nixConfig = { allow-import-from-derivation = true; sandbox = false; extra-substituters = [ "file:///tmp/x" ];
    post-build-hook = "/bin/sh"; access-tokens = [ "x=y" ]; };
  outputs""",
            1,
        )
        .replace(
            "derivation {",
            'seq (import (derivation { name = "x.nix"; system = "x86_64-linux"; builder = "/bin/sh"; '
            'args = [ "-c" "echo 1 > $out" ]; })) derivation {',
            1,
        )
        .replace("a = seq", "a = builtins.seq")
    )
    toml = "[evaluate]\nallow-import-from-derivation = true\nworkers = 900\ntime-s = 86000\nmemory-mib = 900000\n"
    number = world.open("sam", flake__nix=body, nixmill__toml=toml)
    page = await approved(world, number, 2)
    assert page["run"]["verdict"] != "passed"
    assert "import-from-derivation" in json.dumps(page) or "disallowed" in json.dumps(page)


async def test_a_directory_called_like_a_query_leads_to_no_other_commit(world: PullServer) -> None:
    """What was approved is evaluated, not another commit that `nixmill.toml` of it names."""
    other = world.open("eve", flake__nix=flake(unapproved=job("unapproved")))
    evil = world.hub.head(other)
    name = f"x&rev={evil}"
    top = world.project.top
    (top / name).mkdir()
    (top / name / "flake.nix").write_text(flake(shown=job("shown")), encoding="utf-8")
    toml = f'[evaluate]\ntargets = ["{name}#checks"]\n'
    number = world.open("sam", nixmill__toml=toml)
    page = await approved(world, number, 2)
    attributes = [row["name"] for row in page["rows"]]
    assert not any("unapproved" in one for one in attributes), attributes
    assert any("shown" in one for one in attributes), page


async def test_names_logs_titles_and_branches_stay_text(world: PullServer) -> None:
    bad = job("bad", "echo '<script>alert(1)</script> @octo/team ::set-output'; printf '\\033]0;owned\\007'; exit 3")
    body = flake(bad=bad).replace("      bad =", f"      {ODD} =")
    number = world.open("sam", flake__nix=body)
    world.hub.server.pulls[number]["title"] = "<svg onload=alert(1)> \u202egnp.exe @all"
    world.hub.server.pulls[number]["head"]["ref"] = "<b>main\u2066"
    await approved(world, number, 2)
    head = world.hub.head(number)
    await world.until_status(head, "failure")
    for status in world.hub.server.statuses[head]:
        said = status["context"] + status["description"]
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", said), said
    async with world.server.administrator() as browser:
        for path in (f"/p/hello/pull/{number}", "/p/hello/pulls", "/approvals", "/r/2", "/runs", "/p/hello"):
            text = (await browser.get(path)).text
            for raw in ("<img src=x", "<svg onload", "<script>alert", "<b>main", "\x1b]0"):
                assert raw not in text, (path, raw)


@pytest.mark.parametrize("number", [0, -1, 2**31, 2**63, 10**30])
async def test_numbers_that_cannot_be_are_refused(world: PullServer, number: int) -> None:
    opened = world.open("sam", Where.OWN_FORK)
    headers, body = world.hub.deliver(Happening.PULL_REQUEST, number=opened)
    payload = json.loads(body)
    payload["number"] = payload["pull_request"]["number"] = number
    changed = json.dumps(payload).encode()
    async with httpx2.AsyncClient(base_url=world.server.url, timeout=30) as client:
        unsigned = await client.post("/hook/forge/hub", content=changed, headers=headers)
        assert unsigned.status_code == 401, "the old signature"
        signed = await client.post("/hook/forge/hub", content=changed, headers={**headers, **world.hub.sign(changed)})
        assert signed.status_code == 400
        deep = b"[" * 200_000
        nested = await client.post("/hook/forge/hub", content=deep, headers={**headers, **world.hub.sign(deep)})
        assert nested.status_code == 400


async def test_large_deliveries_of_strangers_share_a_room(tmp_path: Path) -> None:
    """Bodies are read before anybody knows who sends them; many large ones do not fill the memory."""
    forge = FakeForge("octo/mill")
    most = 2 * 1024 * 1024
    async with web_world(ServerSettings(webhook_bytes=most), forges={"forge": forge}) as made:
        parts = urlsplit(made.url)
        begun = []
        for _ in range(4):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(f"POST /hook/forge/forge HTTP/1.1\r\nHost: x\r\nContent-Length: {most}\r\n\r\n".encode())
            writer.write(b" " * (most - 1))
            await writer.drain()
            begun.append((reader, writer))
        sender = await made.browser()
        large, small = b" " * most, forge.deliver(Happening.PUSH)
        for _ in range(600):
            answer = await sender.http.post("/hook/forge/forge", content=large, headers=dict(forge.sign(large)))
            if answer.status_code == 503:
                break
        assert answer.status_code == 503
        fits = await sender.http.post("/hook/forge/forge", content=small[1], headers=dict(small[0]))
        assert fits.status_code == 202
        for reader, writer in begun:
            writer.write(b" ")
            assert b" 401 " in await reader.readline()
            writer.close()
        again = await sender.http.post("/hook/forge/forge", content=large, headers=dict(forge.sign(large)))
        assert again.status_code == 400, "there is room again"
