"""Deliveries of GitHub's webhooks, read. Pure: bytes in, hints out.

Only which thing to look at is taken, and who pressed a button. Source: GitHub's "Webhook events and payloads"; the
examples of octokit/webhooks are in the tests. What this file does not know: signatures (`github`).
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

import msgspec

from nixmill.core.forge import ForgeUser, Hint, HintKind, MalformedEventError
from nixmill.core.posting import Button
from nixmill.edge.forge.stranger_text import kept

EVENTS: Final = ("issue_comment", "merge_group", "pull_request", "push", "repository")
"""What the App is to subscribe to; of its installations and of buttons on its checks it is told in any case."""
_PULL_REQUEST_ACTIONS: Final = frozenset(
    {
        "opened", "synchronize", "reopened", "closed", "edited", "ready_for_review", "converted_to_draft", "labeled",
        "unlabeled", "enqueued", "dequeued",
    }
)  # fmt: skip
_NOTHING: Final = (Hint(kind=HintKind.NOTHING),)
_NUMBER_MAX: Final = 2**63 - 1

T = TypeVar("T")


class _User(msgspec.Struct):
    id: int
    login: str


class _Repository(msgspec.Struct):
    id: int
    full_name: str


class _About(msgspec.Struct):
    """What all events have that are about a repository."""

    repository: _Repository
    action: str = ""
    sender: _User | None = None


class _Push(_About, kw_only=True):
    ref: str
    after: str = ""
    deleted: bool = False


class _PullRequest(_About, kw_only=True):
    number: int


class _Issue(msgspec.Struct):
    number: int
    pull_request: dict[str, msgspec.Raw] | None = None


class _Comment(msgspec.Struct):
    id: int
    user: _User | None = None


class _IssueComment(_About, kw_only=True):
    issue: _Issue
    comment: _Comment


class _App(msgspec.Struct):
    id: int | None = None


class _PullOfCheck(msgspec.Struct):
    number: int


class _Check(msgspec.Struct):
    """A check run, or a check suite."""

    head_sha: str
    app: _App | None = None
    external_id: str | None = None
    pull_requests: list[_PullOfCheck] = []


class _Requested(msgspec.Struct):
    identifier: str = ""


class _CheckRun(_About, kw_only=True):
    check_run: _Check
    requested_action: _Requested | None = None


class _CheckSuite(_About, kw_only=True):
    check_suite: _Check


class _MergeGroup(msgspec.Struct):
    head_sha: str
    head_ref: str
    base_ref: str


class _MergeQueue(_About, kw_only=True):
    merge_group: _MergeGroup


def hints(event: str, body: bytes, app: int) -> tuple[Hint, ...]:
    """Return what a delivery of kind `event` (its `X-GitHub-Event`) hints at, for the App number `app`.

    Raises `MalformedEventError`.
    """
    if event in {"check_run", "check_suite"}:
        return _check(event, body, app)
    read = _READERS.get(event)
    return (read(body),) if read is not None else _NOTHING


def _push(body: bytes) -> Hint:
    push = _decoded(_Push, body)
    commit = "" if push.deleted else _commit(push.after)
    return _hint(push, HintKind.PUSH, ref=kept(push.ref), commit=commit)


def _pull_request(body: bytes) -> Hint:
    pull = _decoded(_PullRequest, body)
    if pull.action not in _PULL_REQUEST_ACTIONS:
        return _NOTHING[0]
    return _hint(pull, HintKind.PULL_REQUEST, pull_request=_number(pull.number))


def _comment(body: bytes) -> Hint:
    said = _decoded(_IssueComment, body)
    if said.action != "created" or said.issue.pull_request is None:
        return _NOTHING[0]
    author = _person(said.comment.user)
    return _hint(
        said, HintKind.COMMENT, author, pull_request=_number(said.issue.number), comment=str(_number(said.comment.id))
    )


def _merge_queue(body: bytes) -> Hint:
    queue = _decoded(_MergeQueue, body)
    group = queue.merge_group
    if queue.action not in {"checks_requested", "destroyed"}:
        return _NOTHING[0]
    return _hint(
        queue,
        HintKind.MERGE_QUEUE,
        ref=kept(_full(group.head_ref)),
        commit=_commit(group.head_sha),
        base_ref=kept(_full(group.base_ref)),
        closed=queue.action == "destroyed",
    )


def _repository(body: bytes) -> Hint:
    return _hint(_decoded(_About, body), HintKind.REPOSITORY)


def _installation(body: bytes) -> Hint:
    _decoded(dict[str, msgspec.Raw], body)
    return Hint(kind=HintKind.REPOSITORY)


_READERS: Final[Mapping[str, Callable[[bytes], Hint]]] = {
    "push": _push,
    "pull_request": _pull_request,
    "issue_comment": _comment,
    "merge_group": _merge_queue,
    "repository": _repository,
    "member": _repository,
    "public": _repository,
    "installation": _installation,
    "installation_repositories": _installation,
    "installation_target": _installation,
}


def _check(event: str, body: bytes, app: int) -> tuple[Hint, ...]:
    """Read a button of a check; those of other Apps' checks, of which GitHub tells too, mean nothing."""
    if event == "check_suite":
        suite = _decoded(_CheckSuite, body)
        kind = HintKind.RERUN if suite.action == "rerequested" else HintKind.NOTHING
        return _button(suite, suite.check_suite, kind, app)
    run = _decoded(_CheckRun, body)
    return _button(run, run.check_run, _pressed(run), app)


def _pressed(event: _CheckRun) -> HintKind:
    identifier = event.requested_action.identifier if event.requested_action is not None else ""
    match event.action, identifier:
        case ("rerequested", _) | ("requested_action", Button.RETRY):
            return HintKind.RERUN
        case ("requested_action", Button.APPROVE):
            return HintKind.APPROVE
        case _:
            return HintKind.NOTHING


def _button(event: _About, check: _Check, kind: HintKind, app: int) -> tuple[Hint, ...]:
    if kind is HintKind.NOTHING or check.app is None or check.app.id != app:
        return _NOTHING
    # Of a pull request from a fork GitHub lists none; of a commit in several it lists all.
    number = check.pull_requests[0].number if len(check.pull_requests) == 1 else 0
    run = check.external_id or ""
    hint = _hint(
        event,
        kind,
        _person(event.sender),
        commit=_commit(check.head_sha),
        pull_request=_number(number),
        run=int(run) if run.isascii() and run.isdigit() and len(run) < 19 else 0,
    )
    return (hint,)


def _hint(
    event: _About,
    kind: HintKind,
    actor: ForgeUser | None = None,
    *,
    pull_request: int = 0,
    ref: str = "",
    commit: str = "",
    base_ref: str = "",
    comment: str = "",
    run: int = 0,
    closed: bool = False,
) -> Hint:
    return Hint(
        kind=kind,
        repository=kept(event.repository.full_name),
        repository_id=str(event.repository.id),
        pull_request=pull_request,
        ref=ref,
        commit=commit,
        base_ref=base_ref,
        comment=comment,
        actor=actor or _person(event.sender),
        run=run,
        closed=closed,
    )


def _person(user: _User | None) -> ForgeUser | None:
    return ForgeUser(id=str(user.id), login=kept(user.login)) if user is not None else None


def _full(ref: str) -> str:
    return ref if ref.startswith("refs/") else f"refs/heads/{ref}"


def _commit(name: str) -> str:
    """Return a commit's name; SHA-1 or SHA-256 in hexadecimal digits, else the event makes no sense."""
    if len(name) not in {40, 64} or not set(name) <= set("0123456789abcdef"):
        raise MalformedEventError("The event names a commit that can be none.")
    return name


def _number(number: int) -> int:
    if not 0 <= number <= _NUMBER_MAX:
        raise MalformedEventError("The event has a number that cannot be.")
    return number


def _decoded(kind: type[T], body: bytes) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        hint = " Set the content type of the App's webhook to `application/json`." if body[:8] == b"payload=" else ""
        raise MalformedEventError(f"The event makes no sense: {kept(str(error), 200)}.{hint}") from None
