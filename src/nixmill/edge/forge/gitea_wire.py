"""Answers of Gitea and Forgejo, and what they are here.

Source: `templates/swagger/v1_json.tmpl` of Gitea 1.23 and the same of Forgejo 11. Lists that are empty may be null.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec

from nixmill.core.forge import Comment, ForgeUser, Repository
from nixmill.core.pull_request import PullRequest, PullState
from nixmill.core.trust import Permission
from nixmill.edge.forge.stranger_text import kept, kept_comment

_EDIT_SLACK_S: Final = 1.0
"""A comment is written in two steps that may fall into two seconds."""
_PERMISSIONS: Final = {
    "read": Permission.READ,
    "write": Permission.WRITE,
    "admin": Permission.ADMIN,
    "owner": Permission.ADMIN,
}


class WireUser(msgspec.Struct, frozen=True):
    """Somebody, or an organisation: the interface does not tell them apart."""

    id: int
    login: str
    visibility: str = "public"

    def user(self) -> ForgeUser:
        """Return who this is."""
        return ForgeUser(id=str(self.id), login=kept(self.login))


class WirePowers(msgspec.Struct, frozen=True):
    """What our token may do in a repository."""

    admin: bool = False


class WireRepository(msgspec.Struct, frozen=True):
    """A repository."""

    id: int
    full_name: str
    owner: WireUser
    clone_url: str
    default_branch: str = ""
    empty: bool = False
    private: bool = False
    internal: bool = False
    archived: bool = False
    topics: list[str] | None = None
    """Missing before Gitea 1.22 and Forgejo 8."""
    permissions: WirePowers | None = None

    def may_admin(self) -> bool:
        """Say whether our token's user is an administrator of it."""
        return self.permissions is not None and self.permissions.admin

    def repository(self, topics: Sequence[str] = ()) -> Repository:
        """Return what this is here; `topics` where it does not say itself."""
        return Repository(
            id=str(self.id),
            path=kept(self.full_name),
            owner=kept(self.owner.login),
            clone_url=self.clone_url,
            default_branch="" if self.empty else self.default_branch,
            # What only those who are signed in can see is not public either.
            private=self.private or self.internal or self.owner.visibility not in {"", "public"},
            archived=self.archived,
            topics=tuple(kept(topic) for topic in (topics if self.topics is None else self.topics)),
        )


class WireTopics(msgspec.Struct, frozen=True):
    """The topics of a repository."""

    topics: list[str] | None = None


class WireLabel(msgspec.Struct, frozen=True):
    """A label."""

    name: str


class WireSide(msgspec.Struct, frozen=True):
    """Head or base of a pull request."""

    ref: str
    sha: str = ""
    label: str = ""
    repo: WireRepository | None = None


class WirePull(msgspec.Struct, frozen=True):
    """A pull request."""

    number: int
    title: str
    html_url: str
    state: str
    base: WireSide
    head: WireSide
    user: WireUser | None = None
    merged: bool = False
    draft: bool = False
    labels: list[WireLabel] | None = None
    updated_at: datetime | None = None

    def author(self) -> ForgeUser:
        """Return who opened it; nobody where the account was deleted."""
        return self.user.user() if self.user is not None else ForgeUser(id="", login="")

    def head_is_branch(self) -> bool:
        """Say whether the head is a branch that exists.

        One made by `git push origin HEAD:refs/for/main` (AGit) says that it lives in the base's repository although
        anybody who can read may make it; its head's ref is `refs/pull/N/head`, and it has no label. So has one whose
        branch was deleted. Both count as strangers'.
        """
        return bool(self.head.label) and not self.head.ref.startswith("refs/")

    def head_repository(self) -> WireRepository | None:
        """Return the repository that the head is a branch of; None where it is none, or was deleted."""
        return self.head.repo if self.head_is_branch() else None

    def is_open(self) -> bool:
        """Say whether it is open."""
        return self.state == "open"

    def is_from_own_fork(self) -> bool:
        """Say whether its author's permission decides how far it is trusted."""
        head = self.head_repository()
        base = self.base.repo
        return (
            head is not None
            and self.user is not None
            and (base is None or head.id != base.id)
            and head.owner.id == self.user.id
        )

    def pull(self, author: Permission) -> PullRequest:
        """Return what this is here."""
        head = self.head_repository()
        return PullRequest(
            number=self.number,
            title=kept(self.title),
            author=self.author(),
            url=self.html_url,
            state=self._state(),
            draft=self.draft,
            labels=tuple(kept(label.name) for label in self.labels or ()),
            head_ref=kept(self.head.ref),
            head_commit=self.head.sha,
            head_repository=str(head.id) if head is not None else "",
            head_owner=str(head.owner.id) if head is not None else "",
            fetch_ref=f"refs/pull/{self.number}/head",
            base_ref=f"refs/heads/{self.base.ref}",
            author_permission=author,
            updated_at=self.updated_at.timestamp() if self.updated_at is not None else 0.0,
        )

    def _state(self) -> PullState:
        if self.merged:
            return PullState.MERGED
        return PullState.OPEN if self.is_open() else PullState.CLOSED


class WireComment(msgspec.Struct, frozen=True):
    """A comment on an issue or pull request."""

    id: int
    body: str
    user: WireUser | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    pull_request_url: str = ""

    def is_on(self, number: int) -> bool:
        """Say whether it is on that pull request."""
        return self.pull_request_url.rstrip("/").rpartition("/")[2] == str(number)

    def comment(self) -> Comment:
        """Return what this is here; one by a deleted account has an author without id."""
        return Comment(
            id=str(self.id),
            author=self.user.user() if self.user is not None else ForgeUser(id="", login=""),
            text=kept_comment(self.body),
            edited=self._edited(),
            at=self.created_at.timestamp() if self.created_at is not None else 0.0,
        )

    def _edited(self) -> bool:
        if self.created_at is None or self.updated_at is None:
            return True
        return abs((self.updated_at - self.created_at).total_seconds()) > _EDIT_SLACK_S


class WirePermission(msgspec.Struct, frozen=True):
    """What somebody may do in a repository."""

    permission: str
    user: WireUser | None = None

    def of(self, user: ForgeUser) -> Permission:
        """Return it, if it is about that very user: names can be given to somebody else."""
        if self.user is None or str(self.user.id) != user.id:
            return Permission.NONE
        return _PERMISSIONS.get(self.permission, Permission.NONE)


class WireBranch(msgspec.Struct, frozen=True):
    """A branch."""

    protected: bool = False


class WireStatus(msgspec.Struct, frozen=True):
    """A status of a commit."""

    id: int
    context: str
    status: str
    description: str = ""
    target_url: str = ""


class WireStatuses(msgspec.Struct, frozen=True):
    """The newest status of each context."""

    statuses: list[WireStatus] | None = None


class WireHook(msgspec.Struct, frozen=True):
    """A webhook; its secret cannot be read."""

    id: int
    config: dict[str, str] | None = None
    events: list[str] | None = None
    active: bool = False
    branch_filter: str = ""
    authorization_header: str = ""
