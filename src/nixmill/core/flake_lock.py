"""Inputs that a flake.lock names, by the store path that Nix keeps their source at.

The path follows from the hash of the contents, so that whoever has locked an input knows where it would be; whether
it is there, and who may know of it, is decided elsewhere.
Source: Nix manual, "nix3 flake", "Lock files"; `src/libfetchers/fetchers.cc`, `Input::computeStorePath` (2.8 to 2.34).
"""

from typing import Final
from urllib.parse import urlsplit

import msgspec

from nixmill.nix import hashes
from nixmill.nix.content_address import METHODS, ContentAddress, path_of
from nixmill.nix.store_path import StorePath

INPUTS_MAX: Final = 2000
"""Inputs of one file that are looked at."""
_SOURCE: Final = "source"
"""What Nix calls every input in the store."""
_OPEN: Final = frozenset({"github", "gitlab", "sourcehut", "tarball", "file", "git", "hg"})
_OPEN_SCHEMES: Final = frozenset({"https", "http", "git+https", "git+http", "tarball+https", "file+https"})


class _Locked(msgspec.Struct):
    type: str = ""
    url: str = ""
    host: str = ""
    nar_hash: str = msgspec.field(default="", name="narHash")


class _Node(msgspec.Struct):
    locked: _Locked | None = None


class _Lock(msgspec.Struct):
    nodes: dict[str, _Node] = {}


class LockedInput(msgspec.Struct, frozen=True):
    """One input."""

    path: StorePath
    over_the_web: bool
    """Fetched by a protocol that needs no key of ours: not by ssh, not from a directory."""


def locked_inputs(text: str, store_dir: str) -> tuple[LockedInput, ...]:
    """Return the inputs of a lock file; what cannot be read or has no hash is left out: Nix will say so better."""
    try:
        lock = msgspec.json.decode(text, type=_Lock)
    except (msgspec.DecodeError, RecursionError):
        return ()
    locked = [node.locked for node in list(lock.nodes.values())[:INPUTS_MAX] if node.locked is not None]
    found = [_input(one, store_dir) for one in locked]
    return tuple(dict.fromkeys(one for one in found if one is not None))


def _input(locked: _Locked, store_dir: str) -> LockedInput | None:
    try:
        wanted = hashes.parse(locked.nar_hash, "sha256")
    except ValueError:
        return None
    if wanted.algorithm != "sha256":
        return None
    address = ContentAddress(METHODS["fixed:r:sha256"], wanted.digest)
    return LockedInput(path_of(address, _SOURCE, (), store_dir), _is_open(locked))


def _is_open(locked: _Locked) -> bool:
    if locked.type not in _OPEN:
        return False
    return not locked.url or urlsplit(locked.url).scheme in _OPEN_SCHEMES
