"""Pages about pull requests. Instants are seconds since 1970 in UTC."""

from typing import Self

import msgspec

from nixmill.core.merged import ChangedFile, Patch
from nixmill.core.pull_request import Approval, PullState
from nixmill.core.trust import Tier
from nixmill.core.view.parts import ProjectLink, RunLine


class PullLine(msgspec.Struct, frozen=True, kw_only=True):
    """A pull request in a list."""

    project: ProjectLink
    number: int
    title: str
    author: str
    """Login on the forge."""
    url: str
    """On the forge."""
    state: PullState
    draft: bool
    labels: tuple[str, ...]
    head_ref: str
    head_commit: str
    base_ref: str
    tier: Tier
    updated_at: float
    latest: RunLine | None
    """Its newest run."""
    held: bool
    """It waits for approval."""


class PullsPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/p/NAME/pulls`: the pull requests of a project."""

    project: ProjectLink
    closed: bool
    pulls: tuple[PullLine, ...]
    older: int | None
    """Pass as `before` for the next page; None where there is none."""


class ToApprove(msgspec.Struct, frozen=True, kw_only=True):
    """What an approver is shown: what changed since the last approval, or, at first, against the base."""

    commit: str
    since: str
    """The commit it is compared with."""
    since_approval: bool
    """`since` was approved before; else it is the base."""
    commits: int
    files: tuple[ChangedFile, ...]
    files_more: int
    sensitive: tuple[Patch, ...]
    """flake.nix, lock files, CI configuration."""
    fixed_outputs: tuple[str, ...]
    """Lines with a fixed-output hash that came or changed, as `path: line`."""
    left_out: int = 0
    """Patches that were not looked through, or are not shown, because of their number or size."""
    endless: bool = False
    """There were so many differences that git was stopped: not all of them are here."""
    fault: str = ""
    """Why nothing can be shown; empty where it is shown."""

    @classmethod
    def unseen(cls, commit: str, fault: str) -> Self:
        """Return what is said where it is not known what changed."""
        return cls(
            commit=commit,
            since="",
            since_approval=False,
            commits=0,
            files=(),
            files_more=0,
            sensitive=(),
            fixed_outputs=(),
            fault=fault,
        )


class PullPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/p/NAME/pull/NUMBER`: one pull request."""

    pull: PullLine
    runs: tuple[RunLine, ...]
    """The newest first, at most 50."""
    approvals: tuple[Approval, ...]
    to_approve: ToApprove | None = None
    """Filled for one that waits for approval."""


class ApprovalsPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/approvals`: everything that waits for somebody's approval."""

    pulls: tuple[PullLine, ...]
