"""Where a checkout stands towards its remotes, as far as is known there without asking them."""

import msgspec


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A checkout's commit, and which remote branches have it."""

    commit: str
    """Its HEAD."""
    branch: str
    """Empty where no branch is checked out."""
    dirty: bool
    """Files that git knows were changed since."""
    remotes: tuple[tuple[str, str], ...]
    """Name and URL of each remote, `origin` first."""
    on: tuple[str, ...]
    """Remote branches that have the commit, such as `origin/main`; the one that is followed here first."""
