"""A change: what a push, a timer or a person asks to be checked; one change is one run and has its number.

Its way is `nixmill.engine.journey`. States are one table here; what may follow what is decided here.
"""

from enum import StrEnum
from typing import Final

import msgspec

from nixmill.core.run_event import Verdict
from nixmill.core.size_change import SizeChange
from nixmill.core.trust import Tier
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class Origin(StrEnum):
    """Why a run was asked for."""

    PUSH = "push"
    PULL_REQUEST = "pull request"
    MERGE_QUEUE = "merge queue"
    TAG = "tag"
    TIMER = "timer"
    HAND = "by hand"
    RETRY = "retry"


class BuildClass(StrEnum):
    """What goes first where machines are scarce, in this order; within a class projects share by weight."""

    MERGE_QUEUE = "merge queue"
    PULL_REQUEST = "pull request"
    BRANCH = "branch"
    BULK = "bulk"


class ChangeState(StrEnum):
    """How far a change is. Everything that is not final says who owns it, why it waits and until when."""

    HELD = "waiting for approval"
    """Durable, but nothing of it is fetched, evaluated or built before somebody has approved its commit."""
    WAITING = "waiting"
    """Accepted and durable; nobody works on it yet."""
    FETCHING = "fetching"
    EVALUATING = "evaluating"
    BUILDING = "building"
    DONE = "done"
    """Has a verdict."""


FINAL: Final = frozenset({ChangeState.DONE})


class Superseded(msgspec.Struct, frozen=True, kw_only=True):
    """A change that a newer one of the same stream made pointless."""

    number: int
    by: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be checked and how, as accepted. Durable before anything of it is announced."""

    number: int = 0
    """The number of its run, given when it is recorded."""
    project: int
    jobset: int | None
    """None for a ref that belongs to no jobset, started by hand."""
    ref: str
    """In full: `refs/heads/main`; a commit id where a person named one."""
    commit: str = ""
    """Empty: the newest commit of `ref` when the work begins."""
    origin: Origin
    build_class: BuildClass = BuildClass.BRANCH
    requested_by: int | None = None
    """The user; None for a push or a timer."""
    requested_at: float = 0.0
    targets: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    retry_of: int | None = None
    """The run whose tree is checked again."""
    rebuild: bool = False
    """Run anyway: what equals a base that is known good is looked at too, and failure memory is ignored."""
    evaluate_again: bool = False
    forgive: tuple[StorePath, ...] = ()
    """Derivations whose remembered failure does not count in this run."""
    anyway: tuple[AttrPath, ...] = ()
    """Attributes that are built also where they equal a base that is known good."""
    state: ChangeState = ChangeState.WAITING
    cancel_asked: bool = False
    superseded_by: int | None = None
    withdrawn: bool = False
    """Cancelled as its pull request was closed, and to be begun anew should that be opened again."""
    skipped: str = ""
    """Why it ends before anything of it is looked at; empty where it is not skipped."""
    tier: Tier = Tier.BRANCH
    pull_request: int | None = None
    """Its number, for a run of a pull request; `commit` is the head's then, and `ref` where that is fetched."""
    base_ref: str = ""
    """What the head is merged into, in full; empty where the commit is tested as it is."""
    tested: str = ""
    """The commit that is tested where that is not `commit`: head merged into base."""
    base_commit: str = ""
    """The tip of `base_ref` that the head was merged into; empty before."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """What became known of a run on its way; None leaves what was recorded."""

    number: int
    state: ChangeState | None = None
    commit: str | None = None
    tested: str | None = None
    tree_hash: str | None = None
    targets: tuple[str, ...] | None = None
    base_commit: str | None = None
    base_reason: str | None = None
    subject: str | None = None
    """First line of the commit's message."""
    author: str | None = None
    evaluation: str | None = None
    """Key of its evaluation."""
    base_evaluation: str | None = None
    counts: dict[str, int] | None = None
    """Attributes by what people look for; the keys are `nixmill.core.view.parts.FILTERS`."""
    notices: tuple[str, ...] | None = None
    sizes: tuple[SizeChange, ...] | None = None
    """What the run changed in versions and closures, the largest first."""
    verdict: Verdict | None = None
    sentence: str | None = None
    started_at: float | None = None
    ended_at: float | None = None


def supersedes(newer: Change, older: Change) -> bool:
    """Say whether a newer change makes an older one pointless: a branch or pull request of a jobset, pushed again.

    What a person asked for, tags, merge queues and retries are never superseded, but for runs of a pull request whose
    head has moved on: nobody merges those any more.
    """
    if newer.number <= older.number or older.state in FINAL or newer.project != older.project:
        return False
    if newer.pull_request is not None and newer.pull_request == older.pull_request:
        return newer.commit != older.commit or newer.base_ref != older.base_ref
    pushes = older.origin is Origin.PUSH and newer.origin is Origin.PUSH
    return pushes and (newer.jobset, newer.ref) == (older.jobset, older.ref)
