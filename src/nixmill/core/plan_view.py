"""A plan as people read it before anything is done: what `--dry-run` shows. Data only.

The engine fills it from the plan and the diff; texts in it are hostile data from the repository.
"""

import msgspec

from nixmill.core.evaluation import EvalError
from nixmill.core.run_event import Change, Work
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class PlanRow(msgspec.Struct, frozen=True, kw_only=True):
    """One attribute: how it stands, what has to be done for it, and why."""

    path: AttrPath
    change: Change
    work: Work
    """What has to be done for the attribute's own derivation."""
    to_build: int = 0
    """Derivations to build for it, its own included; what attributes share counts for each of them."""
    to_fetch: int = 0
    fetch_bytes: int = 0
    """Download size of what is fetched for it; 0 where caches do not say."""
    reason: str = ""
    """Why it changed, or why nothing is done: `source of hello changed`, `unchanged (passed in run 12)`."""


class PlannedBuild(msgspec.Struct, frozen=True, kw_only=True):
    """A derivation that would be built."""

    drv_path: StorePath
    name: str
    about_s: float | None = None
    attributes: int = 0
    """How many attributes need it."""
    waits_for: str = ""
    """Why no machine could begin it, such as `no machine has kvm`; empty where one could."""


class PlannedFetch(msgspec.Struct, frozen=True, kw_only=True):
    """A path that would be fetched from a cache. Sizes are 0 where the cache does not say."""

    path: StorePath
    download_bytes: int = 0
    unpacked_bytes: int = 0


class PlanView(msgspec.Struct, frozen=True, kw_only=True):
    """The whole plan of a run that was only asked what it would do."""

    base: str
    """Commit that the tree was compared with; empty where there is none."""
    rows: tuple[PlanRow, ...]
    removed: tuple[AttrPath, ...] = ()
    errors: tuple[EvalError, ...] = ()
    builds: tuple[PlannedBuild, ...] = ()
    fetches: tuple[PlannedFetch, ...] = ()
    fetch_bytes: int = 0
    """Download size of everything, also where it is known only as a sum."""
    unpacked_bytes: int = 0
    about_s: float | None = None
