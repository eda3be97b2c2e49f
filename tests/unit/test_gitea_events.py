"""Published deliveries of Gitea as hints, and what proves where they come from."""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from nixmill.core.forge import ForgeryError, ForgeUser, Hint, HintKind, MalformedEventError
from nixmill.edge.forge.gitea_events import event_of

DATA = Path(__file__).parents[1] / "data" / "forges" / "gitea" / "deliveries"
MAX = ForgeUser(id="1", login="max")
HERE: dict[str, Any] = {"repository": "max/webhook_test", "repository_id": "20", "actor": MAX}
NOTHING = Hint(kind=HintKind.NOTHING)
PULL = Hint(kind=HintKind.PULL_REQUEST, pull_request=1, **HERE)


def example(name: str, **changes: object) -> dict[str, Any]:
    """Return a published delivery with some fields changed."""
    return {**json.loads((DATA / f"{name}.json").read_text()), **changes}


def headers_of(body: bytes, kind: str, *, secret: str = "s") -> dict[str, str]:  # noqa: S107 - opens nothing
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-gitea-event": kind, "x-gitea-signature": signature, "x-gitea-delivery": "f6266f16-1bf3-46a5"}


def hint_of(kind: str, payload: object) -> Hint:
    body = json.dumps(payload).encode()
    (hint,) = event_of(headers_of(body, kind), body, ["s"]).hints
    return hint


TABLE: dict[str, tuple[str, dict[str, Any], Hint]] = {
    "a push": (
        "push",
        example("push"),
        Hint(
            kind=HintKind.PUSH,
            repository="gitea/webhooks",
            repository_id="140",
            ref="refs/heads/develop",
            commit="bffeb74224043ba2feb48d137756c8a9331c449a",
            actor=ForgeUser(id="1", login="gitea"),
        ),
    ),
    "a branch made": (
        "create",
        example("create"),
        Hint(kind=HintKind.PUSH, ref="refs/heads/feature/one", **HERE),
    ),
    "a tag deleted": ("delete", example("delete"), Hint(kind=HintKind.PUSH, ref="refs/tags/v1.0", **HERE)),
    "a branch with a ref in full": (
        "create",
        example("create", ref="refs/heads/x"),
        Hint(kind=HintKind.PUSH, ref="refs/heads/x", **HERE),
    ),
    **{
        f"a pull request {action}": ("pull_request", example("pull_request", action=action), PULL)
        for action in ("opened", "synchronized", "reopened", "closed", "edited", "label_updated", "label_cleared")
    },
    **{
        f"a pull request {action}": ("pull_request", example("pull_request", action=action), NOTHING)
        for action in ("assigned", "milestoned", "reviewed", "review_requested")
    },
    "a comment": (
        "issue_comment",
        example("issue_comment"),
        Hint(kind=HintKind.COMMENT, pull_request=4, comment="77", **HERE),
    ),
    "a comment on an issue": ("issue_comment", example("issue_comment", is_pull=False), NOTHING),
    "a comment edited": ("issue_comment", example("issue_comment", action="edited"), NOTHING),
    "a comment deleted": ("issue_comment", example("issue_comment", action="deleted"), NOTHING),
    "a review that approves": ("pull_request_approved", example("pull_request", action="reviewed"), NOTHING),
    "a repository deleted": ("repository", example("repository"), Hint(kind=HintKind.REPOSITORY, **HERE)),
    "a fork": ("fork", example("fork"), NOTHING),
    "something new": ("quantum_merge", example("fork"), NOTHING),
}


@pytest.mark.parametrize("what", TABLE)
def test_published_deliveries_are_hints(what: str) -> None:
    kind, payload, hint = TABLE[what]
    assert hint_of(kind, payload) == hint


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("push", example("push", repository=None)),
        ("pull_request", example("pull_request", pull_request=None)),
        ("pull_request", example("pull_request", pull_request={"number": -1})),
        ("issue_comment", example("issue_comment", comment=None)),
        ("issue_comment", example("issue_comment", issue=None)),
        ("push", example("push", repository={"id": "20", "full_name": "a/b"})),
        ("", example("push")),
    ],
    ids=["nowhere", "no pull request", "a negative number", "no comment", "no issue", "text for a number", "no kind"],
)
def test_what_lacks_what_it_is_about_is_malformed(kind: str, payload: dict[str, Any]) -> None:
    with pytest.raises(MalformedEventError):
        hint_of(kind, payload)


def test_names_are_cut() -> None:
    payload = example("push", ref="refs/heads/" + "x" * 10_000 + "\0")
    assert len(hint_of("push", payload).ref) <= 300


@pytest.mark.parametrize("header", ["x-gitea-signature", "x-forgejo-signature", "x-hub-signature-256"])
def test_any_of_the_signatures_will_do(header: str) -> None:
    body = json.dumps(example("push")).encode()
    signature = hmac.new(b"old", body, hashlib.sha256).hexdigest()
    prefix = "sha256=" if header.startswith("x-hub") else ""
    headers = {"x-gitea-event": "push", header: prefix + signature}
    event = event_of(headers, body, ["new", "old"])
    assert event.hints
    assert event.delivery == event_of(headers, body, ["new", "old"]).delivery
    with pytest.raises(ForgeryError):
        event_of(headers, body + b" ", ["new", "old"])
    with pytest.raises(ForgeryError):
        event_of(headers, body, [])


def test_an_id_that_cannot_be_kept_is_replaced_by_a_digest() -> None:
    body = json.dumps(example("push")).encode()
    for named in ("", "x" * 1000, "a b", "\x1b[2J", "é"):
        headers = {**headers_of(body, "push"), "x-gitea-delivery": named}
        assert len(event_of(headers, body, ["s"]).delivery) == 64
