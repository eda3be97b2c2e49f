"""Pins: the latest good result of an attribute on a branch, and what people pin by hand (semantics §5).

What is pinned is known by ids: project, ref, path of the attribute. As what a run's results are pinned is its
`PinRule`; the rules that move pins are `nixmill.core.roots`.
"""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class RootPolicy(StrEnum):
    """What becomes of a good result that only a cache holds."""

    REQUIRE_LOCAL = "require-local"
    """It is fetched, then pinned."""
    PIN_IF_LOCAL = "pin-if-local"
    """It is recorded as held by the cache; nothing is downloaded."""
    PIN_IN_CACHE = "pin-in-cache"
    """As `pin-if-local`, and the collector of our own cache keeps it."""


class PinRule(msgspec.Struct, frozen=True, kw_only=True):
    """As what the good results of one run are pinned."""

    project: int
    ref: str
    """In full: `refs/heads/main`."""
    order: int
    """Where the run stands among those of its ref: pins never move to a smaller one. See `core.roots.order_of`."""
    policy: RootPolicy = RootPolicy.PIN_IF_LOCAL
    keep: int = 1
    """Generations kept of each attribute, the newest one included."""


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """One generation of a pinned attribute. All its outputs are pinned together, or none."""

    id: int = 0
    project: int
    ref: str
    path: AttrPath
    run: int
    """The run that made it the latest good result."""
    order: int
    """Of the newest run that found it good: `PinRule.order`."""
    drv_path: StorePath
    outputs: Mapping[str, StorePath]
    policy: RootPolicy = RootPolicy.PIN_IF_LOCAL
    keep: int = 1
    held: str = ""
    """Name of the cache that alone holds it, `substituter` for one that is not ours; empty: a root stands here."""
    at: float = 0.0
    """When it was pinned."""
    gone_at: float | None = None
    """Since when the branch, or the whole branch itself, no longer has it."""


class HandPin(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody pinned: one store path, for a reason that is shown to everybody who looks."""

    id: int = 0
    store_path: StorePath
    project: int | None = None
    """None: of the whole server; only administrators pin and unpin these."""
    ref: str = ""
    attribute: AttrPath | None = None
    """The attribute of the project that it was named by."""
    reason: str
    user: int | None = None
    who: str = ""
    at: float = 0.0
    until: float | None = None
    """None: until it is unpinned."""
