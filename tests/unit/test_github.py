"""GitHub without a network: paths, addresses, permissions, and what a check says."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from nixmill.config.forges import ForgeSettings
from nixmill.core.forge import ForgeKind, ForgeUser
from nixmill.core.posting import Button, CheckState, Posting
from nixmill.core.trust import Permission
from nixmill.edge.forge.github_app import Installation, api_of, granted
from nixmill.edge.forge.github_checks import ACTIONS, NAME_MAX, fields_of, name_of
from nixmill.edge.forge.github_replies import mark_of
from nixmill.edge.forge.github_wire import (
    WireEnd,
    WireHeadRepository,
    WirePermission,
    WirePull,
    WireUser,
    is_authors_fork,
    is_path,
    permission_of,
    pull_request,
)

ANN = WireUser(1, "ann", "User")


@pytest.mark.parametrize("path", ["octo/hello", "o/.github", "a-b_c/h.e_l-l.o", "octo/...", "octo/.x"])
def test_what_can_be_a_path(path: str) -> None:
    assert is_path(path)


@pytest.mark.parametrize(
    "path", ["octo", "octo/", "/hello", "octo/.", "octo/..", "../x", "a/b/c", "a/b\n", "a/b?", "ä/b", "a b/c", "a/%2e"]
)
def test_what_can_be_none(path: str) -> None:
    assert not is_path(path)


@pytest.mark.parametrize(
    ("url", "api", "expected"),
    [
        ("https://github.com", "", "https://api.github.com"),
        ("https://www.github.com/", "", "https://api.github.com"),
        ("https://octo.ghe.com", "", "https://api.octo.ghe.com"),
        ("https://git.example.org/", "", "https://git.example.org/api/v3"),
        ("https://github.com.evil.example", "", "https://github.com.evil.example/api/v3"),
        ("https://git.example.org", "http://10.0.0.1:8080/api/v3", "http://10.0.0.1:8080/api/v3"),
    ],
)
def test_where_the_api_is(url: str, api: str, expected: str) -> None:
    assert api_of(ForgeSettings(name="x", kind=ForgeKind.GITHUB, url=url, api_url=api)) == expected


def test_no_more_permissions_are_asked_for_than_were_granted() -> None:
    installation = Installation(1, {"checks": "read", "contents": "write", "administration": "admin", "new": "magic"})
    assert granted(installation, {"checks": "write", "contents": "read", "new": "read", "statuses": "write"}) == {
        "checks": "read",
        "contents": "read",
    }
    assert granted(Installation(1), {"checks": "write"}) == {"metadata": "read"}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("admin", Permission.ADMIN),
        ("maintain", Permission.WRITE),
        ("write", Permission.WRITE),
        ("triage", Permission.READ),
        ("read", Permission.READ),
        ("none", Permission.NONE),
        ("ADMIN", Permission.NONE),
        ("owner of all", Permission.NONE),
    ],
)
def test_words_for_permissions(told: str, expected: Permission) -> None:
    assert permission_of(WirePermission(told, ANN), ForgeUser(id="1", login="ann")) is expected


def test_a_permission_counts_for_the_id_it_was_told_of() -> None:
    assert permission_of(WirePermission("admin", ANN), ForgeUser(id="2", login="ann")) is Permission.NONE
    assert permission_of(WirePermission("admin", None), ForgeUser(id="1", login="ann")) is Permission.NONE


def wire(head: WireHeadRepository | None, author: WireUser | None = ANN) -> WirePull:
    """Return a pull request."""
    base = WireEnd("main", "b" * 40, WireHeadRepository(7, WireUser(9, "octo", "Organization")))
    return WirePull(
        number=3, title="x", html_url="https://x", state="open", head=WireEnd("main", "a" * 40, head), base=base,
        updated_at=datetime(2026, 1, 1, tzinfo=UTC), user=author,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("head", "author", "expected"),
    [
        (WireHeadRepository(8, ANN), ANN, True),
        (WireHeadRepository(8, WireUser(2, "ann", "User")), ANN, False),
        (WireHeadRepository(8, WireUser(1, "ann", "Organization")), ANN, False),
        (WireHeadRepository(7, ANN), ANN, False),
        (WireHeadRepository(8, None), ANN, False),
        (WireHeadRepository(8, ANN), None, False),
        (None, ANN, False),
        (None, None, False),
    ],
    ids=["own", "namesake", "organisation", "same", "no owner", "ghost", "deleted", "all gone"],
)
def test_whose_permission_is_looked_up(
    head: WireHeadRepository | None, author: WireUser | None, *, expected: bool
) -> None:
    assert is_authors_fork(wire(head, author)) is expected


def test_somebody_whose_account_is_gone_is_nobodys_owner() -> None:
    pull = pull_request(wire(None, None), Permission.NONE)
    assert (pull.author.id, pull.author.login, pull.head_owner, pull.head_repository) == ("", "ghost", "", "")


def posting(state: CheckState = CheckState.GOOD, **changes: Any) -> Posting:  # noqa: ANN401 - of any type
    """Return a status."""
    standard = Posting(
        forge="f", project=1, repository="octo/hello", commit="a" * 40, context="nixmill", state=state, title="t",
        summary="s", url="https://ci.example.org", run=7, generation=1, started_at=1e9, ended_at=1e9 + 60,
    )  # fmt: skip
    return msgspec.structs.replace(standard, **changes)


@pytest.mark.parametrize(
    ("state", "status", "conclusion"),
    [
        (CheckState.WAITING, "queued", None),
        (CheckState.RUNNING, "in_progress", None),
        (CheckState.HELD, "completed", "action_required"),
        (CheckState.GOOD, "completed", "success"),
        (CheckState.FAILED, "completed", "failure"),
        (CheckState.TROUBLE, "completed", "cancelled"),
        (CheckState.CANCELLED, "completed", "cancelled"),
        (CheckState.SKIPPED, "completed", "cancelled"),
    ],
)
def test_states_in_githubs_words(state: CheckState, status: str, conclusion: str | None) -> None:
    fields = fields_of(posting(state))
    assert (fields["status"], fields.get("conclusion")) == (status, conclusion)
    assert ("completed_at" in fields) == (conclusion is not None)
    assert fields["started_at"] == "2001-09-09T01:46:40Z"
    assert fields["external_id"] == "7"


def test_buttons_fit_and_stopping_is_not_offered() -> None:
    actions = fields_of(posting(buttons=tuple(Button)))["actions"]
    assert [action["identifier"] for action in actions] == ["approve", "retry"]
    for label, description in ACTIONS.values():
        assert len(label) <= 20 and len(description) <= 40


def test_a_title_is_never_empty() -> None:
    output = fields_of(posting(title="", summary=""))["output"]
    assert output["title"] == "good"


def test_long_names_stay_two() -> None:
    one, other = name_of("x" * 500 + "1"), name_of("x" * 500 + "2")
    assert one != other and len(one) == len(other) == NAME_MAX
    assert name_of("nixmill: checks.x86_64-linux.foo") == "nixmill: checks.x86_64-linux.foo"


def test_the_mark_of_an_answer_is_a_comment_whatever_the_key() -> None:
    assert mark_of("comment-12.3") == "<!-- nixmill:comment-12.3 -->"
    for key in ("-->", "a--b", "", "x" * 500, "a\nb", "<!--", "a-", "-"):
        mark = mark_of(key)
        assert mark.startswith("<!-- nixmill:") and "--" not in mark[4:-3] and len(mark) < 300
    assert mark_of("a--b") != mark_of("a---b")
