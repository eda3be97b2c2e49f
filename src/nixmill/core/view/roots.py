"""Pages about what is kept alive, and about caches. Instants are seconds since 1970 in UTC, sizes bytes."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from nixmill.core.closure import ClosureSize
from nixmill.core.pin import RootPolicy
from nixmill.core.upload import ResultClass, UploadState
from nixmill.core.view.parts import ProjectLink
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class PinLine(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of an attribute of a branch: the latest good result, or one before it."""

    id: int
    project: ProjectLink
    ref: str
    path: AttrPath
    drv_path: StorePath
    outputs: dict[str, StorePath]
    generation: int
    """1 is the newest."""
    generations: int
    """How many there are."""
    keep: int
    """How many are to be kept."""
    run: int
    run_known: bool
    """Whether the run still has a page."""
    since: float
    policy: RootPolicy
    held: str
    """The cache that alone holds it, `substituter` for one that is not ours; empty: a root stands here."""
    gone_since: float | None
    """Since when the branch no longer has it."""
    until: float | None = None
    """None: until a newer result takes its place."""
    size: ClosureSize | None = None
    """None: it was not measured, or is not in the store."""


class HandPinLine(msgspec.Struct, frozen=True, kw_only=True):
    """A store path that somebody pinned."""

    id: int
    project: ProjectLink | None
    """None: of the whole server."""
    store_path: StorePath
    ref: str
    attribute: AttrPath | None
    """What it was named by."""
    reason: str
    who: str
    since: float
    until: float | None
    """None: until it is unpinned."""
    size: ClosureSize | None = None


class LeaseLine(msgspec.Struct, frozen=True, kw_only=True):
    """A pull request whose newest results are kept."""

    project: ProjectLink
    number: int
    title: str
    open: bool
    runs: tuple[int, ...]
    """Those whose results are kept, the newest first."""
    attributes: int
    """Of these runs together."""
    until: float | None
    """None: nothing of it has ended yet."""


class BranchRoots(msgspec.Struct, frozen=True, kw_only=True):
    """How many pins a branch has."""

    ref: str
    pins: int
    held: int
    """Of these, in caches only."""
    gone: int
    """Of these, no longer on the branch."""


class ProjectRootsPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/p/NAME/roots`: what is kept for a project, and why."""

    project: ProjectLink
    ref: str
    """The branch that it is narrowed to; empty: all."""
    find: str
    """The text that it is narrowed to."""
    branches: tuple[BranchRoots, ...]
    branches_more: int
    pins: tuple[PinLine, ...]
    after: str
    """Pass as `after` for the next pins; empty where there are none."""
    hand: tuple[HandPinLine, ...]
    hand_after: int | None
    """Pass as `hand` for the next ones."""
    pull_requests: tuple[LeaseLine, ...]
    pull_requests_more: int
    running: int
    """Runs that go on: everything that they use is kept."""


class ProjectRoots(msgspec.Struct, frozen=True, kw_only=True):
    """How much is kept for a project, by reason."""

    project: ProjectLink
    pins: int
    held: int
    gone: int
    hand: int
    pull_requests: int
    """Open, or closed not long ago."""
    running: int


class RootFault(msgspec.Struct, frozen=True):
    """A path whose root could not be made."""

    path: StorePath
    fault: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Which roots stand, against those that should."""

    standing: int
    wanted: int
    faults: tuple[RootFault, ...] = ()
    """The first few."""
    fault: str = ""
    """Why nothing could be looked at."""
    checked_at: float | None = None
    """None: not looked at since the server began."""


class ServerRootsPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/roots`: what is kept for the whole server, as far as whoever asks may see it."""

    find: str
    projects: tuple[ProjectRoots, ...]
    after: str
    """Pass as `after` for the next projects; empty where there are none."""
    hand: tuple[HandPinLine, ...]
    """Of the whole server; for administrators."""
    hand_after: int | None
    biggest: tuple[PinLine, ...] = ()
    """The largest closures of those that were measured, the largest first."""
    measured: int = 0
    """How many pins were: the newest ones."""
    standing: Standing | None = None
    """For administrators."""


class CollectionState(StrEnum):
    """How far a dry run of a collection is."""

    NONE = "none"
    """None was asked for since the server began."""
    LISTING = "listing"
    """The store looks for what nothing needs."""
    MEASURING = "measuring"
    DONE = "done"
    FAILED = "failed"


class DeadPath(msgspec.Struct, frozen=True):
    """A path that a collection would delete."""

    path: StorePath
    size: int


class CollectionPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/roots/collection`: what a collection of garbage would free now. Nothing is deleted."""

    state: CollectionState = CollectionState.NONE
    by: str = ""
    started_at: float | None = None
    ended_at: float | None = None
    paths: int = 0
    """How many would be deleted."""
    measured: int = 0
    """Of these, looked at so far. What is no valid path has no size."""
    size: int = 0
    """Of those measured."""
    largest: tuple[DeadPath, ...] = ()
    fault: str = ""

    @property
    def explained(self) -> float:
        """The share of `size` that `largest` account for, 0 to 1."""
        return sum(one.size for one in self.largest) / self.size if self.size else 0.0


class CacheLine(msgspec.Struct, frozen=True, kw_only=True):
    """A binary cache in a list."""

    name: str
    kind: str
    """`disk`, `store`, `s3`, `copy` or `command`."""
    results: ResultClass
    private: bool
    address: str
    """Where Nix reads it; empty where it is not served by nixmill."""
    priority: int
    counts: Mapping[str, int] = {}
    """Uploads by state, of what may be seen."""
    paths: int | None = None
    """What is published; None: not known, or not to be told."""
    size: int | None = None
    """Bytes on its disk."""


class UploadLine(msgspec.Struct, frozen=True, kw_only=True):
    """A path on its way into a cache."""

    path: StorePath
    project: ProjectLink | None
    """None: it was deleted."""
    run: int
    state: UploadState
    tries: int
    due_at: float
    fault: str
    at: float


class CachePage(msgspec.Struct, frozen=True, kw_only=True):
    """`/caches/NAME`: a cache, how to use it, and what is on its way into it."""

    cache: CacheLine
    projects: tuple[str, ...]
    """Globs of names of projects; empty: all that everybody may see. For administrators."""
    public_keys: tuple[str, ...]
    """As `nix.conf` has them: `NAME:BASE64`."""
    nix_conf: str
    nixos: str
    flake: str
    netrc: str
    """Empty for a cache that everybody may read."""
    retention: str = ""
    """How long it keeps what is in it, in a sentence; empty where somebody else collects it."""
    uploads: tuple[UploadLine, ...] = ()
    """What is not done: failed and refused first."""
    uploads_more: bool = False


class CachesPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/caches`: the binary caches."""

    caches: tuple[CacheLine, ...]
