"""Gerrit's events read as hints, the hook command that makes such events, and the text of messages."""

import hashlib
import hmac
import json
import time
from pathlib import Path

import pytest

from nixmill.cli.gerrit import HOOKS, HookSettings, event, hook, read_settings
from nixmill.core.errors import InputError
from nixmill.core.forge import ForgeryError, Hint, HintKind, MalformedEventError
from nixmill.core.forge_summary import summary
from nixmill.edge.forge.gerrit_events import comment_name, hints, verified, written
from nixmill.edge.forge.gerrit_rest import instant
from nixmill.edge.forge.gerrit_stream import command, stream_address
from nixmill.edge.forge.gerrit_text import plain
from tests.support.report_world import failed_page
from tests.support.screens import check_screen

EVENTS = Path(__file__).parent.parent / "data/forges/gerrit"
CHANGE = (
    "--project",
    "tools/mill",
    "--branch",
    "main",
    "--change-url",
    "https://review.example.org/c/tools/mill/+/1234",
)
PULL = Hint(kind=HintKind.PULL_REQUEST, repository="tools/mill", repository_id="tools/mill", pull_request=1234)


def about(kind: HintKind, **more: str) -> Hint:
    return Hint(kind=kind, repository="tools/mill", repository_id="tools/mill", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("patchset-created", (PULL,)),
        ("change-abandoned", (PULL,)),
        ("change-restored", (PULL,)),
        ("topic-changed", (PULL,)),
        ("hashtags-changed", (PULL,)),
        ("wip-state-changed", (PULL,)),
        ("private-state-changed", (PULL,)),
        ("change-merged", (PULL, about(HintKind.PUSH, ref="refs/heads/main",
                                       commit="4c688da535ea3352536e3b320880aa353bd404b2"))),
        ("ref-updated", (about(HintKind.PUSH, ref="refs/heads/main",
                               commit="0c8c548ca93b44dd501c000ebb79ecc8f9aa4bd6"),)),
        ("project-created", (about(HintKind.REPOSITORY),)),
        ("vote-deleted", (Hint(kind=HintKind.NOTHING),)),
        ("reviewer-added", (Hint(kind=HintKind.NOTHING),)),
    ],
)  # fmt: skip
def test_what_an_event_hints_at(name: str, expected: tuple[Hint, ...]) -> None:
    assert hints((EVENTS / f"{name}.json").read_bytes()) == expected


def test_a_comment_is_named_by_what_was_written() -> None:
    (hint,) = hints((EVENTS / "comment-added.json").read_bytes())
    assert (hint.kind, hint.pull_request, hint.comment) == (HintKind.COMMENT, 1234, comment_name("/nixmill retry"))


@pytest.mark.parametrize(
    "ref",
    ["refs/changes/34/1234/1", "refs/changes/34/1234/meta", "refs/meta/config", "refs/users/01/1"],
)
def test_gerrits_own_refs_are_no_pushes(ref: str) -> None:
    moved = {"type": "ref-updated", "refUpdate": {"project": "a", "refName": ref, "newRev": "1" * 40}}
    assert hints(json.dumps(moved).encode()) == (Hint(kind=HintKind.NOTHING),)


def test_a_branch_that_is_gone_has_no_commit() -> None:
    update = {"project": "tools/mill", "refName": "old", "newRev": "0" * 40}
    for body in ({"type": "ref-updated", "refUpdate": update}, {"type": "batch-ref-updated", "refUpdates": [update]}):
        assert hints(json.dumps(body).encode()) == (about(HintKind.PUSH, ref="refs/heads/old"),)


@pytest.mark.parametrize(
    "body",
    [
        {"type": "patchset-created"},
        {"type": "patchset-created", "change": {"project": "a", "number": "12; rm"}},
        {"type": "patchset-created", "change": {"project": "", "number": 12}},
        {"type": "patchset-created", "change": {"project": "a", "number": 10**15}},
        {"type": "comment-added", "comment": "Patch Set 2: Code-Review+2", "change": {"project": "a", "number": 1}},
        {"type": "ref-updated"},
        {"type": "something-new", "change": {"project": "a", "number": 1}},
    ],
    ids=["no change", "no number", "no project", "too large", "only a vote", "no ref", "unknown"],
)
def test_events_that_mean_nothing(body: dict[str, object]) -> None:
    assert hints(json.dumps(body).encode()) == (Hint(kind=HintKind.NOTHING),)


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"type": 7}', b"{}", b'{"type":"a","change":7}'])
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedEventError):
        hints(body)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("Patch Set 3:\n\n/nixmill retry", "/nixmill retry"),
        ("Patch Set 3: Code-Review+2 Verified-1\n\n(2 comments)\n\nWell done.\n", "Well done."),
        ("Patch Set 3:\n\n(1 inline comment)\n\nx", "x"),
        ("Uploaded patch set 2.", ""),
        ("Patch Set 3: Verified+1", ""),
        ("/nixmill retry\r\nnow", "/nixmill retry\nnow"),
        ("Say: Patch Set 3: x", "Say: Patch Set 3: x"),
    ],
)
def test_what_gerrit_puts_before_a_comment_is_left_out(message: str, expected: str) -> None:
    assert written(message) == expected


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_becomes_an_event_that_is_understood(name: str) -> None:
    flags = [*CHANGE, "--comment", "Patch Set 1:\n\n/nixmill retry", "--newrev", "1" * 40]
    if name == "ref-updated":
        flags += ["--refname", "refs/heads/main", "--oldrev", "0" * 40]
    found = hints(json.dumps(event(name, flags, at=1.5)).encode())
    assert found[0].repository == "tools/mill"
    assert found[0].kind in {HintKind.PULL_REQUEST, HintKind.COMMENT, HintKind.PUSH}
    assert name == "ref-updated" or found[0].pull_request == 1234


def test_a_hook_says_the_same_as_the_stream() -> None:
    flags = ["--change", "tools%2Fmill~1234", "--kind", "REWORK", *CHANGE, "--change-owner", "Ann", "--topic", "--x",
             "--uploader", "Ann (ann@example.org)", "--commit", "1" * 40, "--patchset", "5"]  # fmt: skip
    assert event("patchset-created", flags, at=1753736174.9) == {
        "type": "patchset-created",
        "eventCreatedOn": 1753736174,
        "uploader": {"name": "Ann (ann@example.org)"},
        "change": {"project": "tools/mill", "branch": "main", "topic": "--x", "number": 1234, "url": CHANGE[5]},
        "patchSet": {"number": "5", "revision": "1" * 40, "kind": "REWORK"},
    }


def test_without_urls_the_number_comes_from_the_id() -> None:
    told = event("change-merged", ["--change", "tools%2Fmill~1234", "--project", "tools/mill"], at=0)
    assert hints(json.dumps(told).encode())[0].pull_request == 1234


@pytest.mark.parametrize("flags", [[], ["--project", "a"], ["--change-url", "x/12"], ["--project"], ["x", "y"]])
@pytest.mark.parametrize("name", ["patchset-created", "ref-updated"])
def test_flags_that_say_too_little_are_refused(name: str, flags: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        event(name, flags, at=0)
    assert "$@" in caught.value.remedy


def test_the_hooks_settings(tmp_path: Path) -> None:
    path = tmp_path / "hook.toml"
    path.touch(mode=0o600)
    path.write_text('server = "https://ci.example.org/"\nforge = "review"\nsecret-file = "/s"\n')
    assert read_settings(path) == HookSettings(server="https://ci.example.org", forge="review", secret_file="/s")  # noqa: S106
    path.chmod(0o644)
    with pytest.raises(InputError, match="open to other users"):
        read_settings(path)


@pytest.mark.parametrize("text", ["server = 7", "x", 'server = "https://a"\nforge = "b"', 'secret = "x"'])
def test_settings_that_make_no_sense(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hook.toml"
    path.touch(mode=0o600)
    path.write_text(text)
    with pytest.raises(InputError, match="makes no sense"):
        read_settings(path)


def test_an_unknown_hook_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no hook 'post-receive'") as caught:
        hook("post-receive", [], settings=str(tmp_path / "x"), environ={})
    assert "patchset-created" in caught.value.remedy


def test_any_of_the_secrets_will_do_and_no_other() -> None:
    body = (EVENTS / "ref-updated.json").read_bytes()
    headers = {"x-nixmill-signature": f"sha256={hmac.new(b'two', body, 'sha256').hexdigest()}"}
    assert verified(headers, body, ["one", "two"]).delivery == hashlib.sha256(body).hexdigest()
    for secrets in ([], ["one"], [""]):
        with pytest.raises(ForgeryError):
            verified(headers, body, secrets)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2013-02-21 11:16:36.775000000", 1361445396.775),
        ("2013-02-21 11:16:36", 1361445396.0),
        ("", 0.0),
        ("soon", 0.0),
        ("2013-02-21 11:16:36.x", 0.0),
    ],
)
def test_instants(text: str, expected: float) -> None:
    assert instant(text) == expected


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("**Failed\\!** [Run 12](<https://ci.example.org/r/12>)", "Failed! Run 12 (https://ci.example.org/r/12)"),
        ("### Sizes\n\n| a | b |\n| --- | ---: |\n| `x\\|y` | &lt;3 |", "Sizes:\n\n* a | b\n* `x|y` | <3"),
        ("```\n# not a heading\n**x**\n```", "    # not a heading\n    **x**"),
        ("````\n```\n````", "    ```"),
        ("`a\\b` \\`c\\`", "`a\\b` `c`"),
        ("<details><summary>x</summary>\n\n\n\ny</details>", "x\n\ny"),
        ("x ([log](<https://a/1>)), ([b](c) d)", "x (log: https://a/1), (b (c) d)"),
        ("", ""),
    ],
)
def test_markdown_as_plain_text(markdown: str, expected: str) -> None:
    assert plain(markdown) == expected


def test_a_summary_on_gerrit(request: pytest.FixtureRequest) -> None:
    check_screen(request, "report-on-gerrit", plain(summary(failed_page())).split("\n"))


@pytest.mark.parametrize(
    "markdown", ["[" * 60_000, "([a](" * 12_000, "`a``b" * 12_000, "|-" * 30_000 + "|"], ids=range(4)
)
def test_markup_that_never_ends_takes_no_time(markdown: str) -> None:
    start = time.perf_counter()
    plain(markdown)
    assert time.perf_counter() - start < 1.0


def test_a_long_text_is_cut_at_a_line() -> None:
    text = plain("ü" * 30 + "\n" + "ü\n" * 500, 200)
    assert len(text.encode()) <= 200
    assert text.endswith("ü\n[cut; the page has all of it]")


@pytest.mark.parametrize("stream", ["", "-oProxyCommand=x", "host:70000", "host:x", "a b:22", "user@host:22"])
def test_a_stream_is_a_host_and_a_port(stream: str) -> None:
    with pytest.raises(InputError):
        stream_address(stream, "nixmill", None)
    with pytest.raises(InputError):
        stream_address("host:22", "-lroot", None)


def test_ssh_is_given_no_way_to_ask(tmp_path: Path) -> None:
    key = tmp_path / "a key%"
    words = command(stream_address("review.example.org:29418", "nixmill", key, tmp_path / "known"))
    assert words[-8:] == ["-p", "29418", "-l", "nixmill", "--", "review.example.org", "gerrit", "stream-events"]
    assert {"-oBatchMode=yes", "-oIdentitiesOnly=yes", "-oIdentityAgent=none"} <= set(words)
    assert f'-oIdentityFile="{tmp_path}/a key%%"' in words
    assert stream_address("[::1]", "nixmill", None).host == "::1"
    assert "-oStrictHostKeyChecking=yes" in command(stream_address("[::1]", "nixmill", None))
