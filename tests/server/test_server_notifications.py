"""What the server tells the world of its runs: mail, signed webhooks, hooks; each once, whatever happens meanwhile."""

import asyncio
import hashlib
import hmac
import json
import re
import stat
from pathlib import Path
from typing import Any

from tests.support.mill import Mill, a_mill
from tests.support.program import flake, job
from tests.support.receiver import OK, answer, receiving
from tests.support.server import JSON, PASSWORD
from tests.support.smtp_server import SmtpServer, smtp_server
from tests.support.web import Browser

SECRET = "of the webhook"  # noqa: S105 - opens nothing
_HOOK = re.compile(r"/hooks/([0-9a-f-]+)/log\?run=([0-9]+)")
NAME = "checks.x86_64-linux.hello"


def rule(name: str, channel: str, target: str, **fields: str) -> str:
    more = "".join(f'{key} = "{value}"\n' for key, value in fields.items())
    return f'[[project.rule]]\nname = "{name}"\nchannel = "{channel}"\ntarget = "{target}"\n{more}'


def credential(directory: Path, name: str, secret: str) -> str:
    """Write a secret into a file; return the settings that name it."""
    file = directory / name
    file.write_text(secret)
    file.chmod(0o600)
    return f'[credentials]\n{name} = "{file}"\n'


async def checked(mill: Mill, **checks: str) -> Any:  # noqa: ANN401 - a page
    """Commit a flake of the project `mill`; return the page of its finished run."""
    return await mill.run_of("mill", mill.projects["mill"].commit(flake__nix=flake(**checks)))


def mia(mill: Mill) -> None:
    mill.server.command("user", "create", "mia", "--admin", "--password-stdin", stdin=f"{PASSWORD}\n")


async def test_mail_and_webhooks_tell_what_broke_and_what_was_fixed(tmp_path: Path) -> None:
    failing, away = answer("500 Not Now"), answer("410 Gone")
    async with receiving(failing, failing, OK) as shaky, receiving(away, away, OK) as gone:
        with smtp_server(tmp_path) as smtp:
            settings = f'private-targets = true\n[smtp]\nhost = "127.0.0.1"\nport = {smtp.port}\nsecurity = "none"\n'
            with a_mill(tmp_path, settings + credential(tmp_path, "notify-key", SECRET)) as mill:
                rules = [
                    rule("mail", "email", "team@example.org"),
                    rule("hook", "webhook", f"{shaky.address}/ci", credential="notify-key"),
                    rule("gone", "webhook", f"{gone.address}/away"),
                ]
                mill.project("mill", more_lines="".join(rules))
                mia(mill)
                mill.server.start()
                await mill.server.ready()
                for commands in ("echo > $out", "exit 1", "exit 2", "echo fixed > $out", "echo again > $out"):
                    page = await checked(mill, hello=job("hello", commands))
                assert page["run"]["number"] == 5
                await _mails(mill, smtp, 2)
                await _webhooks(mill, shaky.requests)
                await _dead_letters(mill)
                assert len(gone.requests) == 3, "each was tried once, and one again by hand"


async def _mails(mill: Mill, smtp: SmtpServer, count: int) -> None:
    await mill.server.until("/healthz", lambda _: len(smtp.messages()) == count)
    subjects = [
        line.partition(" ")[2]
        for mail in smtp.messages()
        for line in mail["content"].splitlines()[:20]
        if line.lower().startswith("subject:")
    ]
    assert [word for subject in subjects for word in ("broke", "fixed", "failed", "passed") if word in subject.lower()]
    assert all(mail["to"] == ["team@example.org"] for mail in smtp.messages())


async def _webhooks(mill: Mill, requests: list[Any]) -> None:
    await mill.server.until("/healthz", lambda _: len(requests) >= 4)
    for request in requests:
        wanted = hmac.new(SECRET.encode(), request.body, hashlib.sha256).hexdigest()
        assert request.headers["x-nixmill-signature"] == f"sha256={wanted}"
    taken = requests[2:]
    assert [json.loads(request.body)["run"] for request in taken] == [2, 4], "each was taken once, in order"
    assert len({request.headers["x-nixmill-delivery"] for request in requests}) == 2


async def _dead_letters(mill: Mill) -> None:
    async with mill.server.administrator() as browser:
        page = (await browser.get("/admin/deliveries", headers=JSON)).json()
        dead = [line for line in page["lines"] if line["fault"] and line["due_at"] is None]
        assert [(line["run"], "410" in line["fault"]) for line in dead] == [(4, True), (2, True)], page
        replayed = await browser.post(f"/admin/deliveries/{dead[-1]['id']}/replay", page="/admin/deliveries")
        assert replayed.status_code == 303
        while True:
            page = (await browser.get("/admin/deliveries", headers=JSON)).json()
            states = {line["id"]: line["fault"] for line in page["lines"]}
            if not states[dead[-1]["id"]]:
                return


async def test_hooks_run_once_and_their_logs_are_for_members(tmp_path: Path) -> None:
    diary, gate = tmp_path / "diary", tmp_path / "gate"
    tell = f'echo "$NIXMILL_HOOK" >> {diary}; cat "$NIXMILL_JSON"; echo; echo oops >&2'
    slow = f'echo "$NIXMILL_HOOK" >> {diary}; while [ ! -e {gate} ]; do sleep 0.05; done'
    settings = "".join(
        f"[[hook]]\nname = \"{name}\"\nmatch = \"mill:*:*.{attribute}\"\ncommand = ['/bin/sh', '-c', '''{command}''']\n"
        for name, attribute, command in (("tell", "hello", tell), ("slow", "slow", slow))
    )
    with a_mill(tmp_path, settings) as mill:
        mill.project("mill")
        mia(mill)
        mill.server.start()
        await mill.server.ready()
        page = await checked(mill, hello=job("hello"), other=job("other"))
        identity = await _hook_told(mill, page)
        await checked(mill, hello=job("hello"), slow=job("slow"))
        await mill.server.until("/healthz", lambda _: "slow" in diary.read_text())
        mill.server.kill()
        mill.server.start()
        await mill.server.ready()
        async with mill.server.administrator() as browser:
            lost = await _hook(mill, browser, "slow")
            assert "lost" in lost["state"], lost
            gate.touch()
            assert (await browser.get(f"/hooks/{identity}/log")).status_code == 200
        third = await checked(mill, hello=job("hello", "echo third > $out"))
        assert third["run"]["verdict"] == "passed"
        async with mill.server.administrator() as browser:
            await _hook(mill, browser, "tell", third["run"]["number"])
        assert diary.read_text().split().count("slow") == 1, "what was lost is not run again"
        modes = {stat.S_IMODE(file.stat().st_mode) for file in (mill.server.state / "hooks").rglob("*.log")}
        assert modes == {0o640}


async def _hook_told(mill: Mill, page: Any) -> str:  # noqa: ANN401 - of a run
    async with mill.server.administrator() as browser:
        hook = await _hook(mill, browser, "tell", page["run"]["number"])
        assert (hook["state"], hook["attribute"]) == ("exit code 0", NAME)
        log = (await browser.get(f"/hooks/{hook['id']}/log", headers=JSON)).json()["text"]
    document, oops = log.strip().splitlines()
    said = json.loads(document)
    assert (said["attribute"], said["outcome"], said["run"]) == (NAME, "succeeded", page["run"]["number"])
    assert oops == "oops"
    async with mill.server.browser() as stranger:
        refused = await stranger.get(f"/hooks/{hook['id']}/log", headers=JSON)
        assert refused.status_code in {401, 403, 404}
        assert "oops" not in refused.text
    identity: str = hook["id"]
    return identity


async def _hook(mill: Mill, browser: Browser, name: str, run: int | None = None) -> Any:  # noqa: ANN401 - a line
    """Return how a hook's run went, once it has ended; the newest one, or that of a run."""
    async with asyncio.timeout(60):
        while True:
            for identity, number in _HOOK.findall((await browser.get("/admin")).text):
                page = (await browser.get(f"/hooks/{identity}/log", headers=JSON)).json()["run"]
                if page["hook"] == name and run in (None, int(number)) and page["ended_at"] is not None:
                    return page
            await asyncio.sleep(0.1)
