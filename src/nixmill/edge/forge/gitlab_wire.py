"""Answers of GitLab, and what they are here. Source: `doc/api/` of GitLab 17 and 18."""

from datetime import datetime
from typing import Final

import msgspec

from nixmill.core.forge import Comment, ForgeUser, Repository
from nixmill.core.pull_request import PullRequest, PullState
from nixmill.core.trust import Permission
from nixmill.edge.forge.stranger_text import kept, kept_comment

_EDIT_SLACK_S: Final = 1.0
"""Times have milliseconds, and what is written in one step may have two of them."""
MAINTAINER: Final = 40
_LEVELS: Final = ((MAINTAINER, Permission.ADMIN), (30, Permission.WRITE), (20, Permission.READ))
"""Access levels: Guest 10, Planner 15, Reporter 20, Developer 30, Maintainer 40, Owner 50; 5 gives no access. Below
Reporter nobody reads the code of a project that is not public, so nothing that tells of it either.
"""
_STATES: Final = {"closed": PullState.CLOSED, "merged": PullState.MERGED}
"""`opened`, and `locked` while it is being merged, are open."""


class WireUser(msgspec.Struct, frozen=True):
    """Somebody."""

    id: int
    username: str

    def user(self) -> ForgeUser:
        """Return who this is."""
        return ForgeUser(id=str(self.id), login=kept(self.username))


class WireNamespace(msgspec.Struct, frozen=True):
    """A group, or somebody's own namespace."""

    full_path: str
    kind: str


class WireOwner(msgspec.Struct, frozen=True):
    """Owner of a personal project."""

    id: int


class WireProject(msgspec.Struct, frozen=True):
    """A project."""

    id: int
    path_with_namespace: str
    namespace: WireNamespace
    http_url_to_repo: str
    visibility: str = "private"
    default_branch: str | None = None
    empty_repo: bool = False
    archived: bool = False
    topics: list[str] | None = None
    owner: WireOwner | None = None

    def owner_id(self) -> str:
        """Return the id of the user that it belongs to; empty for a group's."""
        return str(self.owner.id) if self.owner is not None and self.namespace.kind == "user" else ""

    def repository(self) -> Repository:
        """Return what this is here; what only those who are signed in can see (`internal`) counts as private."""
        return Repository(
            id=str(self.id),
            path=kept(self.path_with_namespace, 1000),
            owner=kept(self.namespace.full_path, 1000),
            clone_url=self.http_url_to_repo,
            default_branch="" if self.empty_repo else self.default_branch or "",
            private=self.visibility != "public",
            archived=self.archived,
            topics=tuple(kept(topic) for topic in self.topics or ()),
        )


class WirePipeline(msgspec.Struct, frozen=True):
    """A pipeline."""

    id: int
    sha: str
    ref: str
    project_id: int


class WireMergeRequest(msgspec.Struct, frozen=True):
    """A merge request."""

    iid: int
    title: str
    state: str
    author: WireUser
    web_url: str
    source_branch: str
    target_branch: str
    target_project_id: int
    sha: str | None = None
    source_project_id: int | None = None
    draft: bool = False
    labels: list[str] | None = None
    updated_at: datetime | None = None
    head_pipeline: WirePipeline | None = None
    """Only where one merge request is read."""

    def is_open(self) -> bool:
        """Say whether it is open."""
        return self.state not in _STATES

    def is_from_fork(self) -> bool:
        """Say whether the head is in another project that is there."""
        return self.source_project_id not in {None, self.target_project_id}

    def pull(self, source: WireProject | None, author: Permission) -> PullRequest:
        """Return what this is here; `source` is the fork, None where there is none that we can see."""
        inside = self.source_project_id == self.target_project_id
        return PullRequest(
            number=self.iid,
            title=kept(self.title),
            author=self.author.user(),
            url=self.web_url,
            state=_STATES.get(self.state, PullState.OPEN),
            draft=self.draft,
            labels=tuple(kept(label) for label in self.labels or ()),
            head_ref=kept(self.source_branch),
            head_commit=self.sha or "",
            head_repository=str(self.target_project_id) if inside else str(source.id) if source is not None else "",
            head_owner=source.owner_id() if source is not None else "",
            fetch_ref=head_ref(self.iid),
            base_ref=f"refs/heads/{self.target_branch}",
            author_permission=author,
            updated_at=self.updated_at.timestamp() if self.updated_at is not None else 0.0,
        )


def head_ref(number: int) -> str:
    """Return where the head of a merge request is, in the target's repository."""
    return f"refs/merge-requests/{number}/head"


class WireNote(msgspec.Struct, frozen=True):
    """A comment."""

    id: int
    body: str
    author: WireUser
    created_at: datetime
    updated_at: datetime
    system: bool = False

    def comment(self) -> Comment:
        """Return what this is here."""
        return Comment(
            id=str(self.id),
            author=self.author.user(),
            text=kept_comment(self.body),
            edited=abs((self.updated_at - self.created_at).total_seconds()) > _EDIT_SLACK_S,
            at=self.created_at.timestamp(),
        )


class WireMember(msgspec.Struct, frozen=True):
    """Somebody with a role in a project, by itself or by a group."""

    id: int
    access_level: int
    state: str = "active"

    def permission(self) -> Permission:
        """Return what the role allows; nothing for a blocked account."""
        if self.state != "active":
            return Permission.NONE
        return next((power for level, power in _LEVELS if self.access_level >= level), Permission.NONE)


class WireBranch(msgspec.Struct, frozen=True):
    """A branch."""

    protected: bool = False


class WireStatus(msgspec.Struct, frozen=True):
    """A status of a commit."""

    id: int
    name: str
    status: str
    description: str | None = None
    target_url: str | None = None


class WireEmoji(msgspec.Struct, frozen=True):
    """A reaction."""

    name: str
    user: WireUser


class WireHook(msgspec.Struct, frozen=True):
    """A webhook; its token cannot be read."""

    id: int
    url: str
    push_events: bool = False
    tag_push_events: bool = False
    merge_requests_events: bool = False
    note_events: bool = False
    push_events_branch_filter: str | None = None
    custom_webhook_template: str | None = None
    alert_status: str = "executable"
    """`executable`, `temporarily_disabled` or `disabled`, after deliveries that failed."""
