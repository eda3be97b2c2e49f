"""What deliveries of Gitea and Forgejo hint at.

Sources: `modules/structs/hook.go`, `modules/webhook/type.go` and `services/webhook/deliver.go` of Gitea (Forgejo's are
the same, with `X-Forgejo-` beside `X-Gitea-` headers). `create` and `delete` name refs without `refs/heads/`.
"""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from nixmill.core.forge import Event, ForgeryError, ForgeUser, Hint, HintKind, MalformedEventError
from nixmill.edge.forge.delivery import ForgeId, delivery_of, is_signed
from nixmill.edge.forge.stranger_text import kept, kept_commit

_QUIET: Final = frozenset(
    {
        "assigned",
        "unassigned",
        "milestoned",
        "demilestoned",
        "reviewed",
        "review_requested",
        "review_request_removed",
    }
)
"""What may happen to a pull request without meaning anything here."""
_REF_TYPES: Final = {"branch": "refs/heads/", "tag": "refs/tags/"}

_Number = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]


class _Repository(msgspec.Struct, frozen=True):
    id: ForgeId
    full_name: str


class _User(msgspec.Struct, frozen=True):
    id: ForgeId
    login: str


class _Numbered(msgspec.Struct, frozen=True):
    number: _Number


class _Comment(msgspec.Struct, frozen=True):
    id: ForgeId


class _Payload(msgspec.Struct, frozen=True):
    action: str = ""
    ref: str = ""
    ref_type: str = ""
    after: str = ""
    is_pull: bool = False
    repository: _Repository | None = None
    sender: _User | None = None
    pull_request: _Numbered | None = None
    issue: _Numbered | None = None
    comment: _Comment | None = None


def event_of(headers: Mapping[str, str], body: bytes, secrets: list[str]) -> Event:
    """Verify a delivery, then read it; `headers` have lower-case names."""
    _verify(headers, body, secrets)
    kind = _header(headers, "event")
    if not kind:
        raise MalformedEventError("The delivery has no X-Gitea-Event header, so nothing can be made of it.")
    try:
        payload = msgspec.json.decode(body, type=_Payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedEventError(f"The body is no {kept(kind, 50)!r} event of Gitea: {error}.") from None
    return Event(delivery=delivery_of(_header(headers, "delivery"), body, kind), hints=(_hint(kind, payload),))


def _header(headers: Mapping[str, str], name: str) -> str:
    return headers.get(f"x-forgejo-{name}") or headers.get(f"x-gitea-{name}", "")


def _verify(headers: Mapping[str, str], body: bytes, secrets: list[str]) -> None:
    shown = _header(headers, "signature") or headers.get("x-hub-signature-256", "").removeprefix("sha256=")
    if not shown:
        raise ForgeryError("The delivery is not signed: give the webhook the secret that this server knows.")
    if not is_signed(shown, secrets, body):
        raise ForgeryError("The delivery's signature was made with none of the secrets that this server knows.")


def _hint(kind: str, payload: _Payload) -> Hint:
    match kind:
        case "push":
            return _of(payload, HintKind.PUSH, ref=kept(payload.ref), commit=kept_commit(payload.after))
        case "create" | "delete":
            return _of(payload, HintKind.PUSH, ref=_full_ref(payload))
        case "pull_request" | "pull_request_sync" | "pull_request_label" if payload.action not in _QUIET:
            return _of(payload, HintKind.PULL_REQUEST, pull_request=_number(payload.pull_request))
        case "issue_comment" if payload.action == "created" and _is_on_pull(payload):
            return _commented(payload)
        case "repository":
            return _of(payload, HintKind.REPOSITORY)
        case _:
            return Hint(kind=HintKind.NOTHING)


def _of(
    payload: _Payload,
    kind: HintKind,
    *,
    ref: str = "",
    commit: str = "",
    pull_request: int = 0,
    comment: str = "",
) -> Hint:
    repository = payload.repository
    if repository is None:
        raise MalformedEventError(f"The {kind} event does not say which repository it is about.")
    sender = payload.sender
    return Hint(
        kind=kind,
        repository=kept(repository.full_name),
        repository_id=str(repository.id),
        pull_request=pull_request,
        ref=ref,
        commit=commit,
        comment=comment,
        actor=ForgeUser(id=str(sender.id), login=kept(sender.login)) if sender is not None else None,
    )


def _commented(payload: _Payload) -> Hint:
    if payload.comment is None:
        raise MalformedEventError("The comment event does not say which comment it is about.")
    number = _number(payload.pull_request or payload.issue)
    return _of(payload, HintKind.COMMENT, pull_request=number, comment=str(payload.comment.id))


def _is_on_pull(payload: _Payload) -> bool:
    return payload.is_pull or payload.pull_request is not None


def _number(numbered: _Numbered | None) -> int:
    if numbered is None:
        raise MalformedEventError("The event does not say which pull request it is about.")
    return numbered.number


def _full_ref(payload: _Payload) -> str:
    prefix = "" if payload.ref.startswith("refs/") else _REF_TYPES.get(payload.ref_type, "refs/heads/")
    return prefix + kept(payload.ref)
