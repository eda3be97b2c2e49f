"""Published deliveries of GitLab as hints, and what proves where they come from."""

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from nixmill.core.forge import ForgeryError, ForgeUser, Hint, HintKind, MalformedEventError
from nixmill.edge.forge.gitlab_events import event_of

DATA = Path(__file__).parents[1] / "data" / "forges" / "gitlab" / "deliveries"
NOW = 1_760_000_000.0
ROOT = ForgeUser(id="1", login="root")
NOTHING = Hint(kind=HintKind.NOTHING)
KEY = bytes(range(32))
SIGNING = "whsec_" + base64.b64encode(KEY).decode()


def example(name: str, **changes: object) -> dict[str, Any]:
    """Return a published delivery with some fields changed."""
    return {**json.loads((DATA / f"{name}.json").read_text()), **changes}


def about(name: str, **changes: object) -> dict[str, Any]:
    """Return a published delivery with some of its attributes changed."""
    payload = example(name)
    payload["object_attributes"] |= changes
    return payload


def hints_of(payload: object) -> tuple[Hint, ...]:
    return event_of({"x-gitlab-token": "s"}, json.dumps(payload).encode(), ["s"], NOW).hints


PULL = Hint(
    kind=HintKind.PULL_REQUEST, repository="gitlabhq/gitlab-test", repository_id="1", pull_request=1, actor=ROOT
)
COMMENT = Hint(
    kind=HintKind.COMMENT,
    repository="gitlab-org/gitlab-test",
    repository_id="5",
    pull_request=1,
    comment="1244",
    actor=ROOT,
)
PUSH = Hint(
    kind=HintKind.PUSH,
    repository="mike/diaspora",
    repository_id="15",
    ref="refs/heads/master",
    commit="da1560886d4f094c3e6c9ef40349f7d38b5d27d7",
    actor=ForgeUser(id="4", login="jsmith"),
)
TABLE: dict[str, tuple[dict[str, Any], Hint]] = {
    "a push": (example("push"), PUSH),
    "a tag": (
        example("tag_push"),
        Hint(
            kind=HintKind.PUSH,
            repository="jsmith/example",
            repository_id="1",
            ref="refs/tags/v1.0.0",
            commit="82b3d5ae55f7080f1e6022629cdb57bfae7cccc7",
            actor=ForgeUser(id="1", login=""),
        ),
    ),
    "a tag deleted": (
        example("tag_push", after="0" * 40),
        Hint(
            kind=HintKind.PUSH,
            repository="jsmith/example",
            repository_id="1",
            ref="refs/tags/v1.0.0",
            actor=ForgeUser(id="1", login=""),
        ),
    ),
    **{
        f"a merge request: {action}": (about("merge_request", action=action), PULL)
        for action in ("open", "update", "reopen", "close", "merge")
    },
    "a merge request without action": (about("merge_request", action=None), PULL),
    **{
        f"a merge request: {action}": (about("merge_request", action=action), NOTHING)
        for action in ("approved", "unapproved", "approval", "unapproval")
    },
    "new commits": (about("merge_request", action="update", oldrev="9" * 40), PULL),
    "a comment": (example("note_on_merge_request"), COMMENT),
    "a comment before 16.11": (about("note_on_merge_request", action=None), COMMENT),
    "an internal comment": (example("note_on_merge_request", event_type="confidential_note"), COMMENT),
    "a comment edited": (about("note_on_merge_request", action="update"), NOTHING),
    "what GitLab writes itself": (about("note_on_merge_request", system=True), NOTHING),
    "a comment on an issue": (example("note_on_issue"), NOTHING),
    "a comment on a commit": (example("note_on_commit"), NOTHING),
    "a job": (example("job"), NOTHING),
    "a project renamed": (
        example("project_rename"),
        Hint(kind=HintKind.REPOSITORY, repository="jsmith/underscore", repository_id="73"),
    ),
    "a repository updated": (
        example("repository_update"),
        Hint(
            kind=HintKind.PUSH,
            repository="jsmith/example",
            repository_id="1",
            ref="refs/heads/master",
            commit="4045ea7a3df38697b3730a20fb73c8bed8a3e69e",
            actor=ForgeUser(id="1", login=""),
        ),
    ),
    "a user": (example("user_create"), NOTHING),
}


@pytest.mark.parametrize("what", TABLE)
def test_published_deliveries_are_hints(what: str) -> None:
    payload, hint = TABLE[what]
    assert hints_of(payload) == (hint,)


def test_each_ref_of_an_update_is_a_hint_up_to_a_hundred() -> None:
    changes = [{"ref": f"refs/heads/b{n}", "after": "1" * 40} for n in range(500)]
    hints = hints_of(example("repository_update", changes=changes))
    assert [hint.ref for hint in hints] == [f"refs/heads/b{n}" for n in range(100)]


@pytest.mark.parametrize(
    "payload",
    [
        example("push", project=None),
        example("merge_request", object_attributes=None),
        about("merge_request", iid=0),
        example("note_on_merge_request", merge_request=None),
        about("note_on_merge_request", id=0),
        example("repository_update", changes="x"),
        example("push", object_kind=["push"]),
    ],
    ids=["nowhere", "no attributes", "no number", "on nothing", "no comment", "no changes", "kind is a list"],
)
def test_what_lacks_what_it_is_about_is_malformed(payload: dict[str, Any]) -> None:
    with pytest.raises(MalformedEventError):
        hints_of(payload)


def test_only_the_idempotency_key_names_a_delivery() -> None:
    body = json.dumps(example("push")).encode()
    again = {"x-gitlab-token": "s", "x-gitlab-event": "Push Hook", "x-gitlab-event-uuid": "same for several"}
    key = {"idempotency-key": "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"}
    assert event_of(again | key, body, ["s"], NOW).delivery == key["idempotency-key"]
    first = event_of(again | {"x-gitlab-webhook-uuid": "1"}, body, ["s"], NOW)
    assert first == event_of(again | {"x-gitlab-webhook-uuid": "2"}, body, ["s"], NOW)
    assert first.delivery != event_of(again | {"x-gitlab-event": "System Hook"}, body, ["s"], NOW).delivery


def signed(body: bytes, *, key: bytes = KEY, named: str = "a-b", sent: str = str(int(NOW))) -> dict[str, str]:
    digest = hmac.digest(key, f"{named}.{sent}.".encode() + body, hashlib.sha256)
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {"webhook-id": named, "webhook-timestamp": sent, "webhook-signature": signature}


def test_a_signed_delivery_needs_no_token() -> None:
    body = json.dumps(example("push")).encode()
    for headers in (signed(body), signed(body) | {"webhook-signature": "v1,x " + signed(body)["webhook-signature"]}):
        event = event_of(headers, body, ["another", SIGNING], NOW + 299)
        assert (event.delivery, event.hints) == ("a-b", (PUSH,))


@pytest.mark.parametrize(
    "headers",
    [
        signed(b"other"),
        signed(b"{}", key=b"x" * 32),
        signed(b"{}", sent=str(int(NOW) - 301)),
        signed(b"{}", sent=str(int(NOW) + 301)),
        signed(b"{}", sent="9" * 400),
        signed(b"{}", sent="-1"),
        signed(b"{}") | {"webhook-id": "another"},
        signed(b"{}") | {"webhook-timestamp": ""},
        signed(b"{}") | {"webhook-signature": "v1,"},
        signed(b"{}") | {"webhook-signature": "v2," + signed(b"{}")["webhook-signature"][3:]},
        signed(b"{}") | {"webhook-signature": signed(b"{}")["webhook-signature"][3:]},
        signed(b"{}", key=SIGNING.encode()),
        {"x-gitlab-token": ""},
        {"x-gitlab-token": "whsec_"},
        {},
    ],
    ids=range(15),
)
def test_a_wrong_signature_is_a_forgery(headers: dict[str, str]) -> None:
    with pytest.raises(ForgeryError):
        event_of(headers, b"{}", ["s", SIGNING, "whsec_no base64"], NOW)
