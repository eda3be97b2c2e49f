"""What GitHub's REST API answers, as far as it is read, and what that means here. Pure.

Source: GitHub's published OpenAPI description, version 2022-11-28.
"""

import re
from datetime import datetime
from typing import Final

import msgspec

from nixmill.core.forge import Comment, ForgeUser, Repository
from nixmill.core.pull_request import PullRequest, PullState
from nixmill.core.trust import Permission
from nixmill.edge.forge.stranger_text import kept, kept_comment

_PATH: Final = re.compile(r"[A-Za-z0-9_-]{1,100}/(?!\.\.?$)[A-Za-z0-9_.-]{1,100}")
_GHOST: Final = ForgeUser(id="", login="ghost")
"""Stands for somebody whose account is gone, as on GitHub's own pages."""


class WireUser(msgspec.Struct):
    """A user, an organisation or a bot."""

    id: int
    login: str
    type: str = ""


class WireRepository(msgspec.Struct):
    """A repository."""

    id: int
    full_name: str
    owner: WireUser
    clone_url: str
    private: bool = True
    default_branch: str = ""
    archived: bool = False
    topics: list[str] = []


class WireHeadRepository(msgspec.Struct):
    """The repository that a head is in."""

    id: int
    owner: WireUser | None = None


class WireEnd(msgspec.Struct):
    """The head or the base of a pull request."""

    ref: str
    sha: str
    repo: WireHeadRepository | None = None


class WireLabel(msgspec.Struct):
    """A label."""

    name: str = ""


class WirePull(msgspec.Struct):
    """A pull request, in a list or by itself."""

    number: int
    title: str
    html_url: str
    state: str
    head: WireEnd
    base: WireEnd
    updated_at: datetime
    user: WireUser | None = None
    merged_at: datetime | None = None
    draft: bool = False
    labels: list[WireLabel] = []


class WireComment(msgspec.Struct):
    """A comment on an issue or a pull request."""

    id: int
    issue_url: str
    created_at: datetime
    updated_at: datetime
    body: str | None = None
    user: WireUser | None = None


class WirePermission(msgspec.Struct):
    """What a user may do in a repository."""

    permission: str
    user: WireUser | None = None


class WireBranch(msgspec.Struct):
    """A branch."""

    protected: bool = False


def is_path(path: str) -> bool:
    """Say whether a text can be the path of a repository on GitHub."""
    return _PATH.fullmatch(path) is not None


def person(user: WireUser | None) -> ForgeUser:
    """Return somebody."""
    return ForgeUser(id=str(user.id), login=kept(user.login)) if user is not None else _GHOST


def repository(found: WireRepository) -> Repository:
    """Return a repository. Hooks need no rights in it: an App has one for all."""
    return Repository(
        id=str(found.id),
        path=found.full_name,
        owner=found.owner.login,
        clone_url=found.clone_url,
        default_branch=kept(found.default_branch),
        private=found.private,
        archived=found.archived,
        topics=tuple(kept(topic) for topic in found.topics[:50]),
    )


def pull_request(found: WirePull, permission: Permission) -> PullRequest:
    """Return a pull request whose author has a permission."""
    return PullRequest(
        number=found.number,
        title=kept(found.title),
        author=person(found.user),
        url=found.html_url,
        state=_state(found),
        draft=found.draft,
        labels=tuple(kept(label.name) for label in found.labels[:100]),
        head_ref=kept(found.head.ref),
        head_commit=found.head.sha,
        head_repository=str(found.head.repo.id) if found.head.repo is not None else "",
        head_owner=head_owner(found),
        fetch_ref=f"refs/pull/{found.number}/head",
        base_ref=f"refs/heads/{found.base.ref}",
        author_permission=permission,
        updated_at=found.updated_at.timestamp(),
    )


def head_owner(found: WirePull) -> str:
    """Return the id of the user that owns the repository of the head; empty for an organisation's."""
    owner = found.head.repo.owner if found.head.repo is not None else None
    return str(owner.id) if owner is not None and owner.type == "User" else ""


def is_authors_fork(found: WirePull) -> bool:
    """Say whether the head lives in a fork of the author's own: only then the author's permission matters."""
    same = found.head.repo is not None and found.base.repo is not None and found.head.repo.id == found.base.repo.id
    return not same and bool(head_owner(found)) and head_owner(found) == person(found.user).id


def _state(found: WirePull) -> PullState:
    if found.state == "open":
        return PullState.OPEN
    return PullState.CLOSED if found.merged_at is None else PullState.MERGED


def comment(found: WireComment) -> Comment:
    """Return a comment."""
    return Comment(
        id=str(found.id),
        author=person(found.user),
        text=kept_comment(found.body or ""),
        edited=found.updated_at != found.created_at,
        at=found.created_at.timestamp(),
    )


def permission_of(found: WirePermission, user: ForgeUser) -> Permission:
    """Return what somebody may do. Names are given to others once they are free, so the id has to be the same."""
    if found.user is None or str(found.user.id) != user.id:
        return Permission.NONE
    match found.permission:
        case "admin":
            return Permission.ADMIN
        case "write" | "maintain":
            return Permission.WRITE
        case "read" | "triage":
            return Permission.READ
        case _:
            return Permission.NONE
