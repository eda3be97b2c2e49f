"""What a store knows of a valid path."""

import msgspec

from nixmill.nix.store_path import StorePath


class PathInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One valid path. Times are seconds since 1970, sizes bytes."""

    path: StorePath
    deriver: StorePath | None
    nar_hash: str
    """`sha256:` and the hash in hexadecimal."""
    nar_size: int
    references: tuple[StorePath, ...]
    registered_at: int = 0
    ultimate: bool = False
    signatures: tuple[str, ...] = ()
    content_address: str = ""
