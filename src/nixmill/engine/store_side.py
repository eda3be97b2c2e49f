"""The server's own store, its roots, and the caches it is published to: opened once, by `nixmill.app`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nixmill.doors import Builder, Store
from nixmill.doors.cache import Contents, Destination, Rebuilder
from nixmill.doors.roots import Collector, Roots
from nixmill.engine.cache_keeper import OwnCache
from nixmill.engine.cache_locks import CacheLocks
from nixmill.nix.signature import PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSide:
    """What works on the server's store for as long as it runs."""

    store: Store
    builder: Builder
    """Fetches and builds on that store."""
    rebuilder: Rebuilder
    collector: Collector
    contents: Contents
    roots: Roots
    destinations: Mapping[str, Destination]
    """Caches that results are published to, by name."""
    own: Sequence[OwnCache]
    """Those of them that are ours to keep."""
    public_keys: Mapping[str, Sequence[str]]
    """By cache, as they stand in `trusted-public-keys`."""
    trusted_keys: Sequence[PublicKey]
    """What Nix itself believes (`trusted-public-keys`)."""
    locks: CacheLocks
