"""Every example of docs/notifications.md is what the program does."""

import json
import re
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import msgspec
import structlog

from nixmill.config.projects_file import parse
from nixmill.config.server_file import read_server_settings
from nixmill.core.hook import Hook, HookRun, check_match
from nixmill.core.message import Broken, ChannelKind, Ended, When
from nixmill.core.message_text import check_rule, parcels
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Verdict
from nixmill.edge.database.story import HookDocument
from nixmill.edge.hook_runner import CommandHookRunner
from nixmill.edge.notify.credentials import Credentials
from nixmill.edge.notify.outgoing import Outgoing
from nixmill.edge.notify.webhook import WebhookCourier
from nixmill.edge.system_clock import SystemClock
from nixmill.nix.store_path import StorePath
from tests.support.house import ROOT
from tests.support.receiver import receiving

TEXT: Final = (ROOT / "docs/notifications.md").read_text()
STORE: Final = "/nix/store/"

HELLO: Final = Broken(
    name="x86_64-linux.hello",
    status="build failed",
    cause="hello-2.12 failed with exit status 1",
    maintainers=("alice@example.org",),
)
ENDED: Final = Ended(
    run=12,
    project="mill",
    jobset="main",
    ref="refs/heads/main",
    commit="3f2a9c1d0b5e4f6a8c7d9e0f1a2b3c4d5e6f7a8b",
    subject="hello: 2.10 -> 2.12",
    author="Alice <alice@example.org>",
    verdict=Verdict.BUILD_FAILED,
    before=Verdict.GOOD,
    sentence="Failed after 2 min: hello-2.12 failed with exit status 1.",
    url="",
    counts={"all": 120, "newly-failing": 1, "failed": 1, "fixed": 0, "passed": 119},
    newly_failing=(HELLO,),
    failing=(),
    fixed=(),
    seconds=121.4,
    ended_at=1781784000.5,
)
DOCUMENT: Final = HookDocument(
    run=12,
    project="mill",
    jobset="main",
    ref="refs/heads/main",
    commit=ENDED.commit,
    attribute="x86_64-linux.hello",
    drv_path=f"{STORE}0c6bq7wzkvyhbvqnrkkfhzvyc0mn9xkg-hello-2.12.drv",
    nix_name="hello-2.12",
    system="x86_64-linux",
    outcome=Outcome.SUCCEEDED.value,
    how="built",
    culprit=None,
    outputs={"out": StorePath(f"{STORE}5gk3ry1nmb1bq9ds6vqgl7jp6kxwv3vl-hello-2.12")},
    description="A program that greets",
    seconds=11.8,
    log="/var/lib/nixmill/logs/00/00/345.zst",
)


def _example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found[1]


def _tables(word: str) -> str:
    """Return the TOML examples with this word."""
    return "\n".join(block for block in re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL) if word in block)


def _pretty(document: bytes) -> str:
    return json.dumps(json.loads(document), indent=2, ensure_ascii=False) + "\n"


async def test_a_webhook_posts_the_body_of_the_example_and_its_signature_is_genuine(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("correct horse\n")
    courier = WebhookCourier(Outgoing(private_targets=True), Credentials({"notify-mill": tmp_path / "secret"}))
    async with receiving() as receiver:
        toml = f'[[project]]\nname = "mill"\nurl = "https://example.org/mill.git"\n{_tables("[[project.rule]]")}'
        rule = msgspec.structs.replace(
            parse(toml).projects[0].rules[0],
            channel=ChannelKind.WEBHOOK,
            target=receiver.address,
            credential="notify-mill",
            attributes=(),
        )
        (parcel,) = parcels(ENDED, [rule], "https://ci.example.org/r/12", project=1, now=0.0)
        await courier.deliver(parcel)
    (request,) = receiver.requests
    assert _example("webhook body") == _pretty(request.body)
    names: dict[str, Any] = {}
    exec(_example("signature"), names)  # noqa: S102 - an example of ours
    assert names["is_genuine"]("correct horse", request.body, request.headers["x-nixmill-signature"])
    assert not names["is_genuine"]("correct horse", request.body + b" ", request.headers["x-nixmill-signature"])
    assert not names["is_genuine"]("wrong", request.body, request.headers["x-nixmill-signature"])


async def test_a_hook_reads_the_document_of_the_example(tmp_path: Path) -> None:
    runner = CommandHookRunner(tmp_path, SystemClock(), structlog.get_logger())
    run = HookRun(id=str(uuid4()), hook="cat", command=(), run=12, project=1, attribute="x86_64-linux.hello")
    hook = Hook(name="cat", command=("sh", "-c", 'cat "$NIXMILL_JSON"'))

    async def started() -> None:
        pass

    await runner.run(hook, run, msgspec.json.encode(DOCUMENT), started)
    assert _example("hook document") == _pretty(await runner.read_log(run.id))


def test_the_rule_of_the_example_can_be_declared() -> None:
    toml = f'[[project]]\nname = "mill"\nurl = "https://example.org/mill.git"\n{_tables("[[project.rule]]")}'
    (rule,) = parse(toml).projects[0].rules
    assert check_rule(rule) == rule
    assert (rule.channel, rule.when) == (ChannelKind.EMAIL, When.CHANGE)
    assert rule.branches == ("main", "release-*", "!release-old")


def test_the_settings_of_the_examples_are_understood(tmp_path: Path) -> None:
    file, secret = tmp_path / "server.toml", tmp_path / "secret"
    secret.touch(0o600)
    credentials = "".join(f'{name} = "{secret}"\n' for name in ("smtp-password", "notify-matrix", "notify-mill"))
    parts = ("[[hook]]", "[smtp]", "[matrix]")
    file.write_text("\n".join(_tables(part) for part in parts) + f"\n[credentials]\n{credentials}")
    settings = read_server_settings(file, {})
    assert settings.smtp is not None
    assert settings.matrix is not None
    assert (settings.smtp.security, settings.smtp.password) == ("starttls", "smtp-password")
    assert (settings.matrix.homeserver, settings.matrix.token) == ("https://matrix.example.org", "notify-matrix")
    (hook,) = settings.hooks
    assert check_match(hook.match) == "mill:*:x86_64-linux.*"
    assert (hook.command[0], hook.on, hook.timeout_s) == ("/usr/local/bin/publish", ("succeeded",), 600.0)
    assert settings.hooks_at_once == 4
