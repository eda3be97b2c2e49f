"""Gerrit's events, from its hooks or its stream, read as hints.

Only what to look at is taken from an event. Events have no id of a comment, so a comment is named by a digest of its
text (`comment_name`) and looked up on the change; who wrote it is what Gerrit says then. Any field may be missing, and
a change's number is a text in older versions. Source: Gerrit's cmd-stream-events.txt and json.txt.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from nixmill.core.forge import Event, ForgeryError, Hint, HintKind, MalformedEventError

SIGNATURE: Final = "x-nixmill-signature"
DELIVERY: Final = "x-nixmill-delivery"
_PREAMBLE: Final = re.compile(
    r"\A(?:Uploaded patch set \d+\.?|Patch Set \d+:)[^\n]*\n*(?:\(\d+ (?:inline )?comments?\)\s*)?"
)
"""What Gerrit puts before what somebody wrote: `Patch Set 3: Code-Review+2`, `(1 comment)`."""
_PULL_EVENTS: Final = frozenset(
    {
        "patchset-created",
        "change-abandoned",
        "change-restored",
        "change-merged",
        "change-deleted",
        "draft-published",
        "topic-changed",
        "hashtags-changed",
        "wip-state-changed",
        "private-state-changed",
    }
)
_TOLD_REFS: Final = ("refs/heads/", "refs/tags/")
"""Of all refs these are told: a change's own move with every comment."""


class _Change(msgspec.Struct, frozen=True):
    project: str = ""
    branch: str = ""
    number: int | str = 0


class _RefUpdate(msgspec.Struct, frozen=True, rename="camel"):
    project: str = ""
    ref_name: str = ""
    new_rev: str = ""


class _Occurrence(msgspec.Struct, frozen=True, rename="camel"):
    type: str = ""
    change: _Change = _Change()
    ref_update: _RefUpdate = _RefUpdate()
    ref_updates: tuple[_RefUpdate, ...] = ()
    comment: str = ""
    project_name: str = ""
    new_rev: str = ""


def verified(headers: Mapping[str, str], body: bytes, secrets: Iterable[str]) -> Event:
    """Return an event that the hook command sent; raise `ForgeryError` or `MalformedEventError`."""
    given = headers.get(SIGNATURE, "").removeprefix("sha256=").strip().lower()
    if not given:
        raise ForgeryError("The event has no X-Nixmill-Signature.")
    # All of them are compared, so that time tells nothing about which one fitted.
    fits = [hmac.compare_digest(signature(secret, body).encode(), given.encode()) for secret in secrets]
    if not any(fits):
        raise ForgeryError("The event's X-Nixmill-Signature fits none of the forge's secrets.")
    delivery = headers.get(DELIVERY, "")[:100] or hashlib.sha256(body).hexdigest()
    return Event(delivery=delivery, hints=hints(body))


def signature(secret: str, body: bytes) -> str:
    """Return the HMAC-SHA256 of a body, in hexadecimal."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def hints(line: bytes) -> tuple[Hint, ...]:
    """Return what one event hints at; raise `MalformedEventError` where it is none."""
    try:
        found = msgspec.json.decode(line, type=_Occurrence, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedEventError(f"The event is not one of Gerrit's: {str(error)[:200]}") from None
    if not found.type:
        raise MalformedEventError("The event is not one of Gerrit's: it has no type.")
    return tuple(_hints(found)) or (Hint(kind=HintKind.NOTHING),)


def _hints(found: _Occurrence) -> list[Hint]:
    match found.type:
        case "ref-updated":
            return _moved(found.ref_update)
        case "batch-ref-updated":
            return [hint for update in found.ref_updates for hint in _moved(update)]
        case "project-created" | "project-head-updated":
            name = found.project_name
            return [Hint(kind=HintKind.REPOSITORY, repository=name, repository_id=name)]
        case _:
            number = _number(found.change.number)
            return _of_change(found, number) if found.change.project and number else []


def _of_change(found: _Occurrence, number: int) -> list[Hint]:
    project = found.change.project
    if found.type == "comment-added":
        return _said(found, number)
    if found.type not in _PULL_EVENTS:
        return []
    looked = [_about(project, HintKind.PULL_REQUEST, pull_request=number)]
    if found.type == "change-merged":
        branch = found.change.branch.removeprefix("refs/heads/")
        looked.append(_about(project, HintKind.PUSH, ref=f"refs/heads/{branch}", commit=found.new_rev))
    return looked


def _said(found: _Occurrence, number: int) -> list[Hint]:
    """Leave out comments that are only votes: nothing can be asked for in them."""
    if not written(found.comment):
        return []
    name = comment_name(found.comment)
    return [_about(found.change.project, HintKind.COMMENT, pull_request=number, comment=name)]


def _moved(update: _RefUpdate) -> list[Hint]:
    """Gerrit's own hooks name a branch in full, old versions without `refs/heads/`."""
    ref = update.ref_name if update.ref_name.startswith("refs/") else f"refs/heads/{update.ref_name}"
    if not update.project or not update.ref_name or not ref.startswith(_TOLD_REFS):
        return []
    commit = "" if set(update.new_rev) <= {"0"} else update.new_rev
    return [_about(update.project, HintKind.PUSH, ref=ref, commit=commit)]


def _about(
    project: str, kind: HintKind, *, pull_request: int = 0, ref: str = "", commit: str = "", comment: str = ""
) -> Hint:
    return Hint(
        kind=kind,
        repository=project,
        repository_id=project,
        pull_request=pull_request,
        ref=ref,
        commit=commit,
        comment=comment,
    )


def _number(value: int | str) -> int:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 12 else 0


def written(message: str) -> str:
    """Return what somebody wrote, without what Gerrit put before it."""
    return _PREAMBLE.sub("", message.replace("\r\n", "\n")).strip()


def comment_name(message: str) -> str:
    """Return the name of a comment by its text."""
    return "text:" + hashlib.sha256(written(message).encode(errors="replace")).hexdigest()[:32]
