"""What outputs came out as whose paths only a build tells, and how far that is trusted.

The contents of a content-addressed path prove themselves, but not that a derivation makes it. So a realisation enters
a cache for branches only where a branch built it, from what branches built.
"""

import msgspec

from nixmill.core.trust import Tier
from nixmill.nix.realisation import Realisation
from nixmill.nix.store_path import StorePath


class Realised(msgspec.Struct, frozen=True, kw_only=True):
    """One output of a derivation."""

    drv_path: StorePath
    output: str
    realisation: Realisation | None = None
    """None: somebody whom nobody may trust began to build it, and its end may never be heard of."""
    built: bool = False
    """False: it was there already; then it is trusted as far as whoever built it, where that is known."""
    tier: Tier
    run: int
    attempt: int
    at: float = 0.0
    inputs: tuple[StorePath, ...] = ()
    """What the build read."""
    input_drvs: tuple[StorePath, ...] = ()
    """Derivations that made what it read: it is trusted no more than their realisations."""
