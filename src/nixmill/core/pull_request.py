"""A pull request, and what a new look at it means: which changes follow, which are withdrawn.

Deciding needs only what is known and what the forge says now, so events that come twice, late or never end in the same
state (semantics §11: a webhook is a hint).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from nixmill.core.change import FINAL, BuildClass, Change, ChangeState, Origin
from nixmill.core.forge import ForgeUser
from nixmill.core.project import pull_request_ref
from nixmill.core.trust import Permission, Tier, needs_approval, tier_of_pull_request

BUILD_LABEL: Final = "nixmill"
"""A label that asks for a run where drafts are not run."""
SKIP_LABEL: Final = "skip-ci"
"""A label by which no run is started."""


class PullState(StrEnum):
    """Where a pull request is."""

    OPEN = "open"
    CLOSED = "closed"
    MERGED = "merged"


class PullRequest(msgspec.Struct, frozen=True, kw_only=True):
    """As its forge tells it."""

    number: int
    """Unique in its repository: GitLab's iid, Gerrit's change number."""
    title: str
    author: ForgeUser
    url: str
    state: PullState = PullState.OPEN
    draft: bool = False
    labels: tuple[str, ...] = ()
    head_ref: str
    """Name of the head branch, for people only; nothing is decided by it."""
    head_commit: str
    head_repository: str
    """Id of the repository that the head is in; empty where that was deleted."""
    head_owner: str = ""
    """Id of the user that owns that repository; empty for an organisation's."""
    fetch_ref: str
    """Where this head is fetched from, in the base's own repository: `refs/pull/7/head`, `refs/changes/07/7/2`."""
    base_ref: str
    """In full: `refs/heads/main`."""
    author_permission: Permission = Permission.NONE
    """Of the author (Gerrit: the uploader of this patch set) in the base's repository."""
    updated_at: float = 0.0
    """By the forge's clock."""


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody allowed one commit of a pull request to be evaluated and built. Counts for no other commit."""

    id: int = 0
    project: int
    pull_request: int
    commit: str
    user: int | None = None
    """An account of this server; None where it came from the forge and nobody here is known to be that person."""
    who: str
    """As people read it: `alice`, `github:alice`."""
    via: str
    """`page`, `command line`, `comment`, `button`."""
    at: float


class Known(NamedTuple):
    """What is recorded of a pull request."""

    pull: PullRequest
    tier: Tier
    changes: Sequence[Change]
    """Its changes, the newest first."""
    approved: frozenset[str]
    """Commits that were approved."""


class Decision(NamedTuple):
    """What follows from a look."""

    changes: tuple[Change, ...] = ()
    """To be accepted; one that waits for approval is among them."""
    withdraw: tuple[int, ...] = ()
    """Numbers of changes that nobody needs any more."""
    why: str = ""
    """Of the withdrawal."""


def tier_of(pull: PullRequest, repository: str) -> Tier:
    """Return the tier of a pull request's head; `repository` is the id of the base's."""
    return tier_of_pull_request(
        same_repository=bool(pull.head_repository) and pull.head_repository == repository,
        head_owner_is_author=bool(pull.head_owner) and pull.head_owner == pull.author.id,
        author=pull.author_permission,
    )


def is_stale(known: Known | None, seen: PullRequest) -> bool:
    """Say whether a forge's answer is older than what is known (answers of replicas may be)."""
    return known is not None and 0 < seen.updated_at < known.pull.updated_at


def why_skipped(pull: PullRequest, *, drafts: bool) -> str:
    """Return why an open pull request is not run, for a sentence; empty where it is."""
    if SKIP_LABEL in pull.labels:
        return f"it has the label {SKIP_LABEL}"
    if pull.draft and not drafts and BUILD_LABEL not in pull.labels:
        return f"it is a draft without the label {BUILD_LABEL}"
    return ""


def decide(
    known: Known | None,
    seen: PullRequest,
    *,
    project: int,
    jobset: int | None,
    tier: Tier,
    drafts: bool,
    backlog: bool,
    insist: bool = False,
    off: str = "",
) -> Decision:
    """Return what follows from what the forge says now.

    `backlog`: the repository is looked at for the first time; what is open then is recorded and not run before it
    changes, or `insist` says that a person wants it. `off`: why no pull request of the project is run, for a sentence.
    """
    changes = known.changes if known is not None else ()
    open_ = tuple(change for change in changes if change.state not in FINAL)
    if seen.state is not PullState.OPEN:
        return Decision(withdraw=tuple(change.number for change in open_), why=f": the pull request is {seen.state}")
    if not insist and (why := off or why_skipped(seen, drafts=drafts)):
        return _skipped(known, seen, _change(seen, project, jobset, tier, approved=True), why, backlog=backlog)
    if not insist and _was_left_alone(known, seen, drafts=drafts, backlog=backlog):
        return Decision()
    if any(_is_same(change, seen) for change in changes if not change.withdrawn and change.superseded_by is None):
        left = tuple(change.number for change in open_ if not _is_same(change, seen))
        return Decision(withdraw=left, why=f": the head is {seen.head_commit[:12]} again" if left else "")
    approved = known is not None and seen.head_commit in known.approved
    return Decision(changes=(_change(seen, project, jobset, tier, approved=approved),))


def _skipped(known: Known | None, seen: PullRequest, change: Change, why: str, *, backlog: bool) -> Decision:
    """Return a change that ends at once, so that the required check says why nothing is run; one for each head."""
    before = known.changes if known is not None else ()
    if any(_is_same(one, seen) for one in before) or (known is None and backlog):
        return Decision()
    skipped = msgspec.structs.replace(change, skipped=why, cancel_asked=True, withdrawn=True)
    return Decision(changes=(skipped,))


def _was_left_alone(known: Known | None, seen: PullRequest, *, drafts: bool, backlog: bool) -> bool:
    """Say whether a pull request belongs to the backlog, and is as it was then."""
    if known is None:
        return backlog
    before = known.pull
    unchanged = (before.head_commit, before.base_ref) == (seen.head_commit, seen.base_ref)
    return not known.changes and unchanged and not why_skipped(before, drafts=drafts)


def _is_same(change: Change, seen: PullRequest) -> bool:
    return (change.commit, change.base_ref) == (seen.head_commit, seen.base_ref)


def _change(seen: PullRequest, project: int, jobset: int | None, tier: Tier, *, approved: bool) -> Change:
    held = needs_approval(tier) and not approved
    return Change(
        project=project,
        jobset=jobset,
        ref=pull_request_ref(seen.number),
        commit=seen.head_commit,
        origin=Origin.PULL_REQUEST,
        build_class=BuildClass.PULL_REQUEST,
        state=ChangeState.HELD if held else ChangeState.WAITING,
        tier=tier,
        pull_request=seen.number,
        base_ref=seen.base_ref,
    )
