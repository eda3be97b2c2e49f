"""What is kept alive: `[roots]` of the server's settings. A repository may ask for less or, within limits, for more."""

from pathlib import Path

import msgspec

from nixmill.core.pin import RootPolicy


class RootSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How results stay alive."""

    directory: Path | None = None
    """Of our garbage-collector roots, shared with no other server; None: `gcroots/nixmill` in Nix's state directory
    (`gcroots/nixmill-ID` where another server has that), or, where that may not be written, indirect roots in the
    server's own state directory, which the daemon registers."""
    policy: RootPolicy = RootPolicy.PIN_IF_LOCAL
    """`require-local`, `pin-if-local` or `pin-in-cache`: what becomes of good results that only a cache holds."""
    keep: int = 1
    """Generations kept of each attribute of a branch, the newest one included."""
    keep_max: int = 10
    """The most generations that a repository may ask for."""
    gone_days: float = 14.0
    """Days that the pins of an attribute, or a branch, that is gone are kept."""
    pull_request_days: float = 3.0
    """Days that the results of a pull request are kept after it was merged or closed."""
    pull_request_open_days: float = 60.0
    """Days after which the results of a pull request are let go though it is still open."""
    pull_request_runs: int = 2
    """Newest runs of each pull request whose results are kept."""
