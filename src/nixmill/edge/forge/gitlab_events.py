"""What deliveries of GitLab hint at.

Sources: `doc/user/project/integrations/webhook_events.md`, `doc/administration/system_hooks.md` and
`app/services/web_hook_service.rb` of GitLab. Of the ids in the headers only `Idempotency-Key` (`webhook-id` of signed
deliveries) stays the same when a delivery is sent again: `X-Gitlab-Webhook-UUID` is new each time, and
`X-Gitlab-Event-UUID` is the same for all events of one request.

Merge trains are GitLab's own pipelines: events about them name the source branch and not the train's ref, so no hint
comes of them. Of more than three branches or tags in one push (`push_event_hooks_limit`) GitLab tells nothing.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec

from nixmill.core.forge import Event, ForgeryError, ForgeUser, Hint, HintKind, MalformedEventError
from nixmill.edge.forge.delivery import ForgeId, delivery_of, is_one_of
from nixmill.edge.forge.stranger_text import kept, kept_commit

SIGNING_PREFIX: Final = "whsec_"
"""Of a signing token (Standard Webhooks); what follows is the key in base64."""
TOLERANCE_S: Final = 300
"""How far the time of a signed delivery may be away."""
REFS_MAX: Final = 100
"""Refs of one push that become hints."""
_QUIET: Final = frozenset({"approved", "unapproved", "approval", "unapproval"})

_Number = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]


class _Project(msgspec.Struct, frozen=True):
    id: ForgeId = 0
    path_with_namespace: str = ""


class _User(msgspec.Struct, frozen=True):
    username: str
    id: ForgeId | None = None
    """Missing before GitLab 13."""


class _Attributes(msgspec.Struct, frozen=True):
    id: ForgeId = 0
    iid: _Number = 0
    action: str | None = None
    noteable_type: str | None = None
    system: bool = False


class _MergeRequest(msgspec.Struct, frozen=True):
    iid: _Number = 0


class _Change(msgspec.Struct, frozen=True):
    ref: str = ""
    after: str | None = None


class _Payload(msgspec.Struct, frozen=True):
    object_kind: str = ""
    event_name: str = ""
    project_id: ForgeId | None = None
    path_with_namespace: str = ""
    project: _Project | None = None
    user: _User | None = None
    user_id: ForgeId | None = None
    user_username: str | None = None
    ref: str = ""
    after: str | None = None
    object_attributes: _Attributes | None = None
    merge_request: _MergeRequest | None = None
    changes: msgspec.Raw = msgspec.Raw(b"null")
    """A list of refs in one event, an object in others."""


def event_of(headers: Mapping[str, str], body: bytes, secrets: list[str], now: float) -> Event:
    """Verify a delivery, then read it; `headers` have lower-case names."""
    _verify(headers, body, secrets, now)
    try:
        payload = msgspec.json.decode(body, type=_Payload)
        hints = tuple(_hints(payload))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedEventError(f"The body is no event of GitLab: {error}.") from None
    claimed = headers.get("webhook-id") or headers.get("idempotency-key", "")
    return Event(delivery=delivery_of(claimed, body, headers.get("x-gitlab-event", "")), hints=hints)


def _verify(headers: Mapping[str, str], body: bytes, secrets: list[str], now: float) -> None:
    shown, signature = headers.get("x-gitlab-token", ""), headers.get("webhook-signature", "")
    if not shown and not signature:
        raise ForgeryError("The delivery has no token: give the webhook the secret token that this server knows.")
    if shown and is_one_of(shown, secrets):
        return
    if signature and _is_signed(headers, body, secrets, now):
        return
    raise ForgeryError("The delivery's token or signature is of none of the secrets that this server knows.")


def _is_signed(headers: Mapping[str, str], body: bytes, secrets: Iterable[str], now: float) -> bool:
    """Say whether a delivery is signed as Standard Webhooks says: HMAC-SHA256 of `id.timestamp.body`."""
    named, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (sent.isascii() and sent.isdigit() and len(sent) <= 12) or abs(now - int(sent)) > TOLERANCE_S:
        return False
    text = f"{named}.{sent}.".encode(errors="replace") + body
    shown = [one.removeprefix("v1,") for one in headers["webhook-signature"].split(" ")[:10] if one.startswith("v1,")]
    made = [base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode() for key in _keys(secrets)]
    return any([is_one_of(one, made) for one in shown])  # noqa: C419 - all are compared, whichever is right


def _keys(secrets: Iterable[str]) -> list[bytes]:
    """Return the keys of those secrets that are signing tokens."""
    found = []
    for secret in secrets:
        if secret.startswith(SIGNING_PREFIX):
            try:
                found.append(base64.b64decode(secret.removeprefix(SIGNING_PREFIX), validate=True))
            except binascii.Error:
                continue  # a token like any other, which begins so by chance
    return found


def _hints(payload: _Payload) -> list[Hint]:
    match payload.object_kind or payload.event_name:
        case "push" | "tag_push":
            return [_moved(payload, _Change(payload.ref, payload.after))]
        case "merge_request":
            return [_merge_request(payload)]
        case "note":
            return [_note(payload)]
        case "repository_update":
            changes = msgspec.json.decode(payload.changes, type=list[_Change])
            return [_moved(payload, change) for change in changes[:REFS_MAX]]
        case "project_create" | "project_destroy" | "project_rename" | "project_transfer" | "project_update":
            return [_of(payload, HintKind.REPOSITORY)]
        case "":
            raise MalformedEventError("The delivery does not say what kind of event it is.")
        case _:
            return [Hint(kind=HintKind.NOTHING)]


def _of(
    payload: _Payload,
    kind: HintKind,
    *,
    ref: str = "",
    commit: str = "",
    pull_request: int = 0,
    comment: str = "",
) -> Hint:
    project = payload.project or _Project()
    path = project.path_with_namespace or payload.path_with_namespace
    if not path:
        raise MalformedEventError(f"The {kind} event does not say which project it is about.")
    number = project.id or payload.project_id
    return Hint(
        kind=kind,
        repository=kept(path, 1000),
        repository_id=str(number) if number else "",
        pull_request=pull_request,
        ref=ref,
        commit=commit,
        comment=comment,
        actor=_actor(payload),
    )


def _actor(payload: _Payload) -> ForgeUser | None:
    if payload.user is not None:
        number = payload.user.id
        return ForgeUser(id=str(number), login=kept(payload.user.username)) if number is not None else None
    if payload.user_id is None:
        return None
    return ForgeUser(id=str(payload.user_id), login=kept(payload.user_username or ""))


def _moved(payload: _Payload, change: _Change) -> Hint:
    return _of(payload, HintKind.PUSH, ref=kept(change.ref), commit=kept_commit(change.after or ""))


def _merge_request(payload: _Payload) -> Hint:
    attributes = payload.object_attributes
    if attributes is None or attributes.iid < 1:
        raise MalformedEventError("The event does not say which merge request it is about.")
    if attributes.action in _QUIET:
        return Hint(kind=HintKind.NOTHING)
    return _of(payload, HintKind.PULL_REQUEST, pull_request=attributes.iid)


def _note(payload: _Payload) -> Hint:
    note = payload.object_attributes
    if note is None or note.id < 1:
        raise MalformedEventError("The event does not say which comment it is about.")
    # Before GitLab 16.11 nothing says `create`, and nothing is sent of edits.
    if note.noteable_type != "MergeRequest" or note.system or note.action not in {None, "create"}:
        return Hint(kind=HintKind.NOTHING)
    if payload.merge_request is None or payload.merge_request.iid < 1:
        raise MalformedEventError("The event does not say which merge request the comment is on.")
    return _of(payload, HintKind.COMMENT, pull_request=payload.merge_request.iid, comment=str(note.id))
