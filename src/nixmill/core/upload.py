"""What is to be published to caches, and who made what (semantics §4 and §7).

A cache takes results of one class. What a pull request built enters no cache for branches: it is built again first, and
has to come out the same (`nixmill.core.publish`).
"""

from enum import StrEnum

import msgspec

from nixmill.core.trust import Tier
from nixmill.nix.store_path import StorePath


class ResultClass(StrEnum):
    """Whose results a cache takes, the least trusted first."""

    PULL_REQUEST = "pull-request"
    """Of pull requests; nobody's configuration should trust its key but those who try them out."""
    BRANCH = "branch"
    """Of branches, timers and people; of tags too where no cache takes releases."""
    RELEASE = "release"
    """Of tags."""


class UploadState(StrEnum):
    """How far a path is on its way into a cache."""

    WAITING = "waiting"
    """It is tried when its time has come."""
    REBUILDING = "rebuilding"
    """A pull request built it, or something in its closure: it is built again before it may enter."""
    DONE = "done"
    REFUSED = "refused"
    """It may not enter; `fault` says why. A person can try again."""
    FAILED = "failed"
    """Given up after many tries; a person can try again."""


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A store path that a cache is to hold, with its closure. One row for each path and cache."""

    cache: str
    path: StorePath
    project: int
    run: int
    """The run whose good result it is."""
    state: UploadState = UploadState.WAITING
    tries: int = 0
    due_at: float = 0.0
    fault: str = ""
    at: float = 0.0
    """When it was asked for."""
    done_at: float | None = None


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """Under which tier a path was built here, the last time; what was fetched has none.

    A path is built only where it is not there, so the last build is the one that what is there came from. What nobody
    may trust is recorded when its build begins: whatever becomes of the build then, its output is never taken for
    somebody else's.
    """

    path: StorePath
    tier: Tier
    run: int
    attempt: int
    at: float = 0.0
    """When it was built, or came out the same when it was built again."""
    drv_path: StorePath | None = None
    """What the attempt built. Only read: it comes from the attempt, and is None where that was forgotten."""
    inputs: tuple[StorePath, ...] = ()
    """What the build read. Only written: what rests on something is trusted no more than that."""
