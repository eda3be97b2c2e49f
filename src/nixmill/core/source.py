"""A tree: the exact files that are tested, whose git tree hash is their identity; and how Nix is told to fetch it.

Decides names: what a project is called, whether a path can stand in a flake reference. Does not know git or disks
(`nixmill.edge.git`). Source: Nix manual, "Flake references"; `src/libutil/url-parts.hh` of Nix 2.8.
"""

import re
import string
from typing import Final
from urllib.parse import quote

import msgspec

_STORE_NAME_LIMIT: Final = 100
"""Nix allows 211 characters in a name; a project's name shares them with suffixes."""
_ILLEGAL_IN_STORE_NAME: Final = re.compile(r"[^0-9a-zA-Z+\-._?=]+")
_PLAIN: Final = frozenset(string.ascii_letters + string.digits + "/-._~!$&'()*+,;=:@")
"""What Nix 2.8 reads in the path of a URL as it stands; it does not decode `%20` and the like when it opens files."""


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


class NoBase(msgspec.Struct, frozen=True, kw_only=True):
    """There is nothing to compare with."""

    reason: str
    """A clause: `this is the first commit`."""


def project_name(origin: str, directory: str) -> str:
    """Return the name of a project: the last part of its origin's URL, else of its directory.

    Only what may stand in a store path's name is kept, since Nix names the copied source after it.
    """
    return _store_name(_last_part(origin).removesuffix(".git")) or _store_name(_last_part(directory)) or "project"


def _last_part(address: str) -> str:
    return re.split(r"[/:\\]", address.rstrip("/\\"))[-1]


def _store_name(text: str) -> str:
    return _ILLEGAL_IN_STORE_NAME.sub("-", text).strip("-").lstrip(".")[:_STORE_NAME_LIMIT]


def is_plain(path: str) -> bool:
    """Say whether every Nix reads a flake reference to this absolute path (2.8 knows no escapes there)."""
    return _PLAIN.issuperset(path)


def git_reference(repository: str, commit: str, *, shallow: bool) -> str:
    """Return the locked flake reference of a commit in a local repository whose path is plain."""
    return f"git+file://{repository}?rev={commit}{'&shallow=1' if shallow else ''}"


def path_reference(directory: str, nar_hash: str) -> str:
    """Return the locked flake reference of a directory whose path is plain; `nar_hash` is in SRI form."""
    return f"path:{directory}?narHash={quote(nar_hash, safe='')}"
