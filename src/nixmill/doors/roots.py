"""The doors of what is kept alive: roots in a store, and what the database knows of pins.

The rules of `nixmill.doors` hold.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

from nixmill.core.pin import HandPin, Pin, PinRule
from nixmill.core.roots import RootFacts
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class Roots(Protocol):
    """The garbage-collector roots of this server in one store: one root for a store path, named by its hash part.

    They survive this process. Calls may overlap; adding what stands and removing what does not changes nothing.
    """

    async def add(self, paths: Collection[StorePath]) -> dict[StorePath, str]:
        """Make roots stand for paths, valid or not; return those that could not be made, with the reason.

        A path that is valid afterwards cannot be collected while its root stands. Raises `DoorError` where no root
        at all can be made.
        """

    async def standing(self) -> set[str]:
        """Return the hash parts of the paths that have a root of ours."""

    async def remove(self, hash_parts: Collection[str]) -> None:
        """Let roots go."""


class Leases(Protocol):
    """What a run asks of whoever keeps the roots: its paths stay alive, through a crash of the server too."""

    async def hold(self, run: int, paths: Collection[StorePath]) -> dict[StorePath, str]:
        """Root paths, valid or not, until the run is let go; return those that could not be, with the reason."""


class Collector(Protocol):
    """What collects the garbage of one store."""

    async def dead(self) -> Sequence[StorePath]:
        """Return what a collection would delete now, valid or not, and delete nothing. May take a minute."""


class PinBook(Protocol):
    """What the database knows of pins. A run records its pins with its outcomes (`History.record`)."""

    async def pins(self, project: int, ref: str) -> Sequence[Pin]:
        """Return all generations of the pins of a branch."""

    async def evaluated(self, rule: PinRule, has: Collection[AttrPath], now: float) -> int:
        """Hear what a complete, successful evaluation of a branch has, evaluation errors included.

        Pins of other attributes are gone from now on, those of these are not. An evaluation older than the newest one
        heard of changes nothing. Returns how many are newly gone.
        """

    async def tidy(self, refs: dict[int, Collection[str]], gone_s: float, now: float) -> int:
        """Mark the pins of refs that no longer exist (`refs`: by project, those that do); delete what expired.

        Projects that are not in `refs` are left alone. Returns how many pins were deleted.
        """

    async def pin(self, pin: HandPin) -> HandPin:
        """Pin by hand; what is pinned already gets the new reason and time."""

    async def unpin(self, project: int | None, store_paths: Collection[StorePath]) -> int:
        """Take back what was pinned by hand for a project (None: for the server); return how many."""

    async def facts(self, now: float) -> RootFacts:
        """Return everything from which the roots that should stand follow (`core.roots.wanted`)."""
