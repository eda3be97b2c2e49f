"""A tree: the exact files that are tested, whose git tree hash is their identity."""

import msgspec


class TreeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a person or a forge asks to be checked."""

    directory: str
    """Any directory in a checkout, or a plain directory."""
    revision: str | None = None
    """A commit, tag or branch; None: the checkout as it stands, uncommitted changes to tracked files included."""


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """Files to evaluate. Immutable: the same `tree_hash` is the same content."""

    project: str
    """Name of the project; also the base name of `path`, since `./.` in Nix depends on it."""
    path: str
    """Where the files are; read-only by agreement."""
    tree_hash: str
    """Git's tree hash, or `nar:` and the NAR hash for a plain directory."""
    commit: str
    """Empty where there is no git."""
    dirty: bool
    """Uncommitted changes are part of the tree; `commit` then names the commit below them."""
    flake_reference: str
    """Locked reference by which Nix can fetch this same tree as a flake, without `dir=`."""
    checkout: str
    """Top of the checkout the tree came from: what people edit."""
    subdirectory: str = ""
    """Where in the tree the person stands, relative, empty for the top."""
    reason: str = ""
    """For a base: why this one (`merge base with origin/main`)."""
    notices: tuple[str, ...] = ()
    """Sentences the person should read: untracked files left out, a shallow clone, and the like."""
