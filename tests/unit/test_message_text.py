import msgspec
import pytest

from nixmill.core.errors import InputError
from nixmill.core.message import Broken, ChannelKind, Ended, Parcel, Rule, When
from nixmill.core.message_text import LISTED_MAX, MAINTAINERS_MAX, check_rule, fires, is_address, parcels, text, title
from nixmill.core.run_event import Verdict

URL = "https://ci.example.org/r/12"
HELLO = Broken(name="hello", status="failed", cause="exit status 1", maintainers=("Alice@example.org",))
WORLD = Broken(name="world", status="dependency failed", cause="hello-2.12 failed", maintainers=("bob@example.org",))
MILL = Broken(name="tests.mill", status="passed", cause="", maintainers=("alice@example.org", "not an address"))

GOOD = Ended(
    run=12,
    project="mill",
    jobset="main",
    ref="refs/heads/main",
    commit="3f2a9c1d" * 5,
    subject="Oil the wheel",
    author="Alice <alice@example.org>",
    verdict=Verdict.GOOD,
    before=Verdict.GOOD,
    sentence="Passed after 3 s: all 3 attributes are good.",
    url="",
    counts={"all": 3},
    newly_failing=(),
    failing=(),
    fixed=(),
    seconds=3.0,
    ended_at=1_700_000_000.0,
)
BROKE = msgspec.structs.replace(
    GOOD,
    verdict=Verdict.BUILD_FAILED,
    sentence="Failed after 3 s: hello-2.12 failed with exit status 1.",
    newly_failing=(HELLO,),
    failing=(HELLO, WORLD),
    fixed=(MILL,),
)
RULE = Rule(id=3, project=1, name="team", channel=ChannelKind.WEBHOOK, target="https://example.org/ci")


def _ended(verdict: Verdict, before: Verdict | None, **lists: tuple[Broken, ...]) -> Ended:
    return msgspec.structs.replace(GOOD, verdict=verdict, before=before, **lists)


def _parcels(ended: Ended, *rules: Rule) -> list[Parcel]:
    return parcels(ended, rules, URL, project=1, now=5.0)


def _changed(rule: Rule, **changes: object) -> Rule:
    return msgspec.structs.replace(rule, **changes)


V = Verdict


@pytest.mark.parametrize(
    ("before", "verdict", "when"),
    [
        (None, V.GOOD, {When.ALWAYS}),
        (None, V.BUILD_FAILED, {When.ALWAYS, When.FAILURE, When.CHANGE}),
        (V.GOOD, V.GOOD, {When.ALWAYS}),
        (V.GOOD, V.BUILD_FAILED, {When.ALWAYS, When.FAILURE, When.CHANGE}),
        (V.GOOD, V.EVALUATION_FAILED, {When.ALWAYS, When.FAILURE, When.CHANGE}),
        (V.BUILD_FAILED, V.GOOD, {When.ALWAYS, When.CHANGE}),
        (V.BUILD_FAILED, V.BUILD_FAILED, {When.ALWAYS, When.FAILURE}),
        (V.BUILD_FAILED, V.EVALUATION_FAILED, {When.ALWAYS, When.FAILURE}),
        (V.GOOD, V.INFRASTRUCTURE, {When.ALWAYS, When.FAILURE}),
        (V.GOOD, V.NOT_ALLOWED, {When.ALWAYS, When.FAILURE}),
        (V.INFRASTRUCTURE, V.GOOD, {When.ALWAYS}),
        (V.INFRASTRUCTURE, V.BUILD_FAILED, {When.ALWAYS, When.FAILURE, When.CHANGE}),
        (V.GOOD, V.CANCELLED, {When.ALWAYS}),
        (V.BUILD_FAILED, V.CANCELLED, {When.ALWAYS}),
    ],
)
def test_which_runs_are_told(before: Verdict | None, verdict: Verdict, when: set[When]) -> None:
    ended = _ended(verdict, before)
    assert {each for each in When if fires(each, ended, window=False)} == when


def test_red_that_gets_redder_or_less_red_is_a_change() -> None:
    assert fires(When.CHANGE, _ended(V.BUILD_FAILED, V.BUILD_FAILED, newly_failing=(HELLO,)), window=False)
    assert fires(When.CHANGE, _ended(V.BUILD_FAILED, V.BUILD_FAILED, fixed=(HELLO,)), window=False)


@pytest.mark.parametrize(
    ("branches", "ref", "jobset", "told"),
    [
        ((), "refs/heads/main", "main", True),
        ((), "refs/heads/main", "", False),
        (("main",), "refs/heads/main", "main", True),
        (("main",), "refs/heads/main", "", True),
        (("release-*", "!release-old"), "refs/heads/release-1", "main", True),
        (("release-*", "!release-old"), "refs/heads/release-old", "main", False),
        (("*",), "refs/tags/v1", "main", False),
        ((), "refs/tags/v1", "main", True),
        ((), "refs/pull/7/head", "main", False),
        (("*",), "refs/pull/7/head", "main", False),
    ],
)
def test_which_branches_are_told(branches: tuple[str, ...], ref: str, jobset: str, *, told: bool) -> None:
    ended = msgspec.structs.replace(BROKE, ref=ref, jobset=jobset)
    assert bool(_parcels(ended, _changed(RULE, branches=branches))) == told


def test_a_rule_that_is_off_tells_nothing() -> None:
    assert _parcels(BROKE, _changed(RULE, enabled=False)) == []


def test_a_parcel_holds_everything_and_its_key_is_always_the_same() -> None:
    (parcel,) = _parcels(BROKE, _changed(RULE, credential="notify-secret"))
    assert parcel.key == "12:3:https://example.org/ci"
    assert (parcel.project, parcel.run, parcel.channel, parcel.target) == (1, 12, RULE.channel, RULE.target)
    assert (parcel.credential, parcel.created_at, parcel.tries) == ("notify-secret", 5.0, 0)
    assert msgspec.json.decode(parcel.body, type=Ended) == msgspec.structs.replace(BROKE, url=URL)
    assert _parcels(BROKE, _changed(RULE, credential="notify-secret")) == [parcel]


def test_attributes_narrow_what_counts_and_what_is_told() -> None:
    rule = _changed(RULE, attributes=("tests.*",), when=When.FAILURE)
    assert _parcels(BROKE, rule) == []
    (parcel,) = _parcels(BROKE, _changed(rule, when=When.CHANGE))
    told = msgspec.json.decode(parcel.body, type=Ended)
    assert (told.newly_failing, told.failing, told.fixed) == ((), (), (MILL,))
    assert "hello:" not in parcel.text
    assert len(_parcels(BROKE, _changed(rule, when=When.ALWAYS))) == 1


def test_trouble_as_a_whole_does_not_count_for_a_window() -> None:
    rule = _changed(RULE, attributes=("hello",), when=When.FAILURE)
    assert _parcels(_ended(V.INFRASTRUCTURE, V.GOOD), rule) == []
    assert len(_parcels(_ended(V.INFRASTRUCTURE, V.GOOD), _changed(rule, attributes=()))) == 1


def test_each_maintainer_is_told_of_their_own() -> None:
    rule = _changed(RULE, channel=ChannelKind.EMAIL, target="maintainers")
    (alice,) = _parcels(BROKE, rule)
    assert alice.target == "alice@example.org"
    assert alice.key == "12:3:alice@example.org"
    assert "hello: failed, exit status 1" in alice.text
    assert "tests.mill" in alice.text
    assert "world" not in alice.text
    told = {parcel.target for parcel in _parcels(BROKE, _changed(rule, when=When.FAILURE))}
    assert told == {"alice@example.org", "bob@example.org"}
    assert _parcels(GOOD, _changed(rule, when=When.ALWAYS)) == []


def test_maintainers_and_attributes_go_together() -> None:
    rule = _changed(RULE, channel=ChannelKind.EMAIL, target="maintainers", attributes=("hello",), when=When.FAILURE)
    assert [parcel.target for parcel in _parcels(BROKE, rule)] == ["alice@example.org"]


def test_a_repository_cannot_make_us_write_to_the_whole_world() -> None:
    many = Broken(name="x", status="failed", cause="", maintainers=tuple(f"a{n}@example.org" for n in range(1000)))
    rule = _changed(RULE, channel=ChannelKind.EMAIL, target="maintainers")
    ended = msgspec.structs.replace(BROKE, newly_failing=(many,), failing=(), fixed=())
    assert len(_parcels(ended, rule)) == MAINTAINERS_MAX


@pytest.mark.parametrize(
    ("ended", "line"),
    [
        (BROKE, "✖ mill main: failed, 1 attribute newly failing, 1 fixed"),
        (_ended(V.GOOD, V.GOOD), "✔ mill main: passed"),
        (_ended(V.GOOD, V.BUILD_FAILED, fixed=(HELLO,)), "✔ mill main: passed again"),
        (_ended(V.INFRASTRUCTURE, V.GOOD), "⚠ mill main: our trouble"),
        (_ended(V.CANCELLED, V.GOOD), "∅ mill main: cancelled"),
        (_ended(V.EVALUATION_FAILED, None), "✖ mill main: evaluation failed"),
        (msgspec.structs.replace(GOOD, ref="refs/tags/v1"), "✔ mill v1: passed"),
    ],
)
def test_the_title_says_shape_place_and_verdict(ended: Ended, line: str) -> None:
    assert title(ended) == line


def test_the_text_as_a_whole() -> None:
    assert (
        text(msgspec.structs.replace(BROKE, url=URL), RULE)
        == """\
✖ Failed after 3 s: hello-2.12 failed with exit status 1.

mill, main, jobset main
Commit 3f2a9c1d3f2a: Oil the wheel (by Alice <alice@example.org>)
Run 12, 3.0 s
https://ci.example.org/r/12

Newly failing (1):
  hello: failed, exit status 1

Fixed (1):
  tests.mill: passed

Still failing (1):
  world: dependency failed, hello-2.12 failed

--\x20
The\x20rule\x20'team'\x20of\x20the\x20project\x20mill\x20asks\x20for\x20this\x20message.
"""
    )


def test_long_lists_are_cut_and_say_how_many_there_are() -> None:
    many = tuple(Broken(name=f"a{n}", status="failed", cause="x") for n in range(50))
    ended = msgspec.structs.replace(BROKE, newly_failing=many, failing=(), counts={"newly-failing": 1234})
    told = text(ended, RULE)
    assert "Newly failing (1,234):\n  a0: failed, x\n" in told
    assert f"  a{LISTED_MAX - 1}: failed, x\n  and {1234 - LISTED_MAX:,} more\n" in told
    assert "Newly failing (50):" in text(ended, _changed(RULE, attributes=("a*",)))


def test_hostile_names_stay_in_their_line() -> None:
    nasty = "x\r\nBcc: all@example.org\x1b[31m\u202e" + "y" * 5000
    ended = msgspec.structs.replace(
        BROKE,
        project=nasty,
        ref=f"refs/heads/{nasty}",
        subject=nasty,
        author=nasty,
        sentence=nasty,
        newly_failing=(Broken(name=nasty, status=nasty, cause=nasty),),
    )
    assert not set(title(ended)) & set("\r\n\x1b\u202e")
    assert len(title(ended)) <= 150
    told = text(ended, RULE)
    assert not set(told) & set("\r\x1b\u202e")
    assert "\nBcc:" not in told
    assert max(map(len, told.splitlines())) < 1000


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("a@example.org", True),
        ("first.last+tag@mail.example.org", True),
        ("a@localhost", True),
        ("", False),
        ("a", False),
        ("a@", False),
        ("@b", False),
        ("a@b@c", False),
        ("a b@c", False),
        ("a@b\n", False),
        ("a@b,c@d", False),
        ("Alice <a@b>", False),
        ("a@-b", False),
        ("a..b@c", False),
        ("ä@b", False),
        ("a" * 65 + "@b", False),
    ],
)
def test_which_texts_are_addresses(address: str, *, good: bool) -> None:
    assert is_address(address) == good


@pytest.mark.parametrize(
    ("channel", "target", "credential"),
    [
        (ChannelKind.EMAIL, "team@example.org", ""),
        (ChannelKind.EMAIL, "maintainers", ""),
        (ChannelKind.WEBHOOK, "https://example.org:8443/ci?x=1", "notify-secret"),
        (ChannelKind.WEBHOOK, "http://[::1]/", ""),
        (ChannelKind.SLACK, "#builds", "notify-slack"),
        (ChannelKind.SLACK, "https://chat.example.org/hooks/x", ""),
        (ChannelKind.MATRIX, "!AbC:example.org", ""),
    ],
)
def test_a_rule_that_can_be_followed(channel: ChannelKind, target: str, credential: str) -> None:
    rule = _changed(RULE, channel=channel, target=target, credential=credential)
    assert check_rule(rule) == rule


@pytest.mark.parametrize(
    ("channel", "target", "credential", "words"),
    [
        (ChannelKind.EMAIL, "a@b, c@d", "", "no target for email"),
        (ChannelKind.WEBHOOK, "maintainers", "", "no target for webhook"),
        (ChannelKind.WEBHOOK, "file:///etc/passwd", "", "no target"),
        (ChannelKind.WEBHOOK, "https://user:password@example.org/", "", "no target"),
        (ChannelKind.WEBHOOK, "https://example.org/ x", "", "no target"),
        (ChannelKind.WEBHOOK, "https://example.org/" + "x" * 2000, "", "no target"),
        (ChannelKind.WEBHOOK, "https://example.org/", "smtp-password", "cannot use the credential"),
        (ChannelKind.SLACK, "#builds", "", "no target"),
        (ChannelKind.MATRIX, "a room", "", "no target"),
    ],
)
def test_a_rule_that_cannot(channel: ChannelKind, target: str, credential: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        check_rule(_changed(RULE, channel=channel, target=target, credential=credential))
    assert caught.value.remedy
