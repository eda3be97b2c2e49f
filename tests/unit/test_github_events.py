"""Deliveries of GitHub: its own examples of every event that is read, and what they hint at."""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from nixmill.core.forge import ForgeUser, Hint, HintKind, MalformedEventError
from nixmill.core.posting import Button
from nixmill.edge.forge.delivery import is_signed
from nixmill.edge.forge.github_events import hints

DATA: Final = Path(__file__).parents[1] / "data/forges/github/events.json"
OURS: Final = 25_811
"""The App of the example with a button."""
NOTHING: Final = Hint(kind=HintKind.NOTHING)
CODERTOCAT: Final = ForgeUser(id="21031067", login="Codertocat")


@cache
def examples() -> dict[str, dict[str, Any]]:
    """Return the examples by event and action, the first one of each."""
    found: dict[str, dict[str, Any]] = {}
    for one in json.loads(DATA.read_text()):
        payload = one["payload"]
        action = payload.get("action") or ("gone" if payload.get("deleted") else payload.get("ref", "").split("/")[-1])
        found.setdefault(f"{one['event']} {action}".strip(), payload)
    return found


def read(name: str, app: int = 0, **changes: Any) -> Hint:  # noqa: ANN401 - JSON
    """Return the hint of an example with some parts changed, for the App that it is about."""
    payload = {**examples()[name], **changes}
    check = payload.get("check_run") or payload.get("check_suite") or {"app": {"id": 1}}
    (hint,) = hints(name.split(maxsplit=1)[0], json.dumps(payload).encode(), app or check["app"]["id"])
    return hint


def hello(kind: HintKind, **parts: Any) -> Hint:  # noqa: ANN401 - of any type
    """Return a hint about the repository of most examples, by its owner."""
    return Hint(kind=kind, repository="Codertocat/Hello-World", repository_id="186853002", actor=CODERTOCAT, **parts)


KINDS: Final = {
    "check_run completed": HintKind.NOTHING,
    "check_run created": HintKind.NOTHING,
    "check_run requested_action": HintKind.NOTHING,
    "check_run rerequested": HintKind.RERUN,
    "check_suite completed": HintKind.NOTHING,
    "check_suite requested": HintKind.NOTHING,
    "check_suite rerequested": HintKind.RERUN,
    "installation created": HintKind.REPOSITORY,
    "installation deleted": HintKind.REPOSITORY,
    "installation new_permissions_accepted": HintKind.REPOSITORY,
    "installation suspend": HintKind.REPOSITORY,
    "installation unsuspend": HintKind.REPOSITORY,
    "installation_repositories added": HintKind.REPOSITORY,
    "installation_repositories removed": HintKind.REPOSITORY,
    "issue_comment created": HintKind.NOTHING,
    "issue_comment deleted": HintKind.NOTHING,
    "issue_comment edited": HintKind.NOTHING,
    "member added": HintKind.REPOSITORY,
    "member edited": HintKind.REPOSITORY,
    "merge_group checks_requested": HintKind.MERGE_QUEUE,
    "ping": HintKind.NOTHING,
    "pull_request assigned": HintKind.NOTHING,
    "pull_request closed": HintKind.PULL_REQUEST,
    "pull_request converted_to_draft": HintKind.PULL_REQUEST,
    "pull_request labeled": HintKind.PULL_REQUEST,
    "pull_request locked": HintKind.NOTHING,
    "pull_request opened": HintKind.PULL_REQUEST,
    "pull_request ready_for_review": HintKind.PULL_REQUEST,
    "pull_request reopened": HintKind.PULL_REQUEST,
    "pull_request review_request_removed": HintKind.NOTHING,
    "pull_request review_requested": HintKind.NOTHING,
    "pull_request synchronize": HintKind.PULL_REQUEST,
    "pull_request unassigned": HintKind.NOTHING,
    "pull_request unlabeled": HintKind.PULL_REQUEST,
    "pull_request unlocked": HintKind.NOTHING,
    "push gone": HintKind.PUSH,
    "push master": HintKind.PUSH,
    "push simple-tag": HintKind.PUSH,
    "repository created": HintKind.REPOSITORY,
    "repository edited": HintKind.REPOSITORY,
    "repository privatized": HintKind.REPOSITORY,
    "repository publicized": HintKind.REPOSITORY,
    "repository renamed": HintKind.REPOSITORY,
    "repository transferred": HintKind.REPOSITORY,
}


def test_every_example_is_in_the_table() -> None:
    assert sorted(KINDS) == sorted(examples())


@pytest.mark.parametrize("name", KINDS)
def test_what_an_example_hints_at(name: str) -> None:
    assert read(name).kind is KINDS[name]


def test_a_push_of_a_branch() -> None:
    expected = hello(HintKind.PUSH, ref="refs/heads/master", commit="6113728f27ae82c7b1a177c8d03f9e96e0adf246")
    assert read("push master", after="6113728f27ae82c7b1a177c8d03f9e96e0adf246") == expected


def test_a_deleted_tag_has_no_commit() -> None:
    assert read("push gone") == hello(HintKind.PUSH, ref="refs/tags/simple-tag")


def test_a_pull_request() -> None:
    assert read("pull_request synchronize").pull_request == 2


@pytest.mark.parametrize("action", ["edited", "enqueued", "dequeued"])
def test_actions_without_an_example(action: str) -> None:
    assert read("pull_request opened", action=action).kind is HintKind.PULL_REQUEST


def test_a_comment_counts_on_a_pull_request_only() -> None:
    issue = {**examples()["issue_comment created"]["issue"], "pull_request": {"url": "x"}}
    hint = read("issue_comment created", issue=issue)
    assert hint == hello(HintKind.COMMENT, pull_request=1, comment="492700400")
    for action in ("edited", "deleted"):
        assert read("issue_comment created", action=action, issue=issue) == NOTHING


@pytest.mark.parametrize("action", ["checks_requested", "destroyed"])
def test_a_merge_queue(action: str) -> None:
    hint = read("merge_group checks_requested", action=action)
    group = examples()["merge_group checks_requested"]["merge_group"]
    assert (hint.commit, hint.ref, hint.base_ref) == (group["head_sha"], group["head_ref"], "refs/heads/main")
    assert hint.closed is (action == "destroyed")


def pressed(identifier: str, app: int = OURS, **changes: Any) -> Hint:  # noqa: ANN401 - JSON
    """Return the hint of a button of a check run of ours."""
    run = {**examples()["check_run requested_action"]["check_run"], "external_id": "7", **changes}
    return read("check_run requested_action", app, check_run=run, requested_action={"identifier": identifier})


def test_the_buttons_of_a_check() -> None:
    commit = examples()["check_run requested_action"]["check_run"]["head_sha"]
    for button, kind in ((Button.APPROVE, HintKind.APPROVE), (Button.RETRY, HintKind.RERUN)):
        assert pressed(button) == Hint(
            kind=kind, repository="electron/electron", repository_id="9384267", commit=commit, run=7,
            pull_request=26764, actor=ForgeUser(id="2036040", login="codebytere"),
        )  # fmt: skip
    for other in ("", "cancel", "APPROVE", "approve ", "x" * 1000):
        assert pressed(other) == NOTHING


def test_a_button_of_another_app_means_nothing() -> None:
    assert pressed(Button.APPROVE, app=OURS + 1) == NOTHING
    assert read("check_suite rerequested", OURS + 1) == NOTHING


@pytest.mark.parametrize("run", ["", "x", "-1", "٣", "9" * 40, "7 "])
def test_a_run_that_a_check_does_not_name(run: str) -> None:
    assert pressed(Button.RETRY, external_id=run).run == 0


def test_a_commit_in_several_pull_requests_names_none() -> None:
    assert pressed(Button.APPROVE, pull_requests=[{"number": 2}, {"number": 3}]).pull_request == 0
    assert pressed(Button.APPROVE, pull_requests=[]).pull_request == 0


@pytest.mark.parametrize("commit", ["", "x" * 40, "--upload-pack=evil", "6113728f27ae", "6" * 41, "A" * 40])
def test_a_commit_that_can_be_none(commit: str) -> None:
    with pytest.raises(MalformedEventError):
        pressed(Button.APPROVE, head_sha=commit)


def test_an_event_of_another_kind_is_not_looked_into() -> None:
    assert hints("star", b"not even JSON", OURS) == (NOTHING,)


@pytest.mark.parametrize(
    "event", ["push", "pull_request", "issue_comment", "check_run", "check_suite", "merge_group", "repository"]
)
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"repository": {"id": "x"}}'], ids=["none", "{}", "[]", "type"])
def test_what_makes_no_sense(event: str, body: bytes) -> None:
    with pytest.raises(MalformedEventError):
        hints(event, body, OURS)


def test_a_form_is_told_how_to_become_json() -> None:
    with pytest.raises(MalformedEventError, match="application/json"):
        hints("push", b"payload=%7B%22ref%22", OURS)


def test_a_number_that_no_database_takes() -> None:
    with pytest.raises(MalformedEventError):
        read("pull_request opened", number=2**70)


def test_the_signature_of_githubs_own_documentation() -> None:
    """Source: GitHub's "Validating webhook deliveries", "Testing the webhook payload validation"."""
    signature = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert is_signed(signature, ["other", "It's a Secret to Everybody"], b"Hello, World!")
    assert not is_signed(signature, ["other"], b"Hello, World!")
    assert not is_signed(signature, ["It's a Secret to Everybody"], b"Hello, World")
