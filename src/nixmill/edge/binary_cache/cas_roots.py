"""What a cache by content keeps of each path beside its narinfo: the root of its tree, and what publishing it added.

It is protected by a digest of its own in front, as nothing else names it.
"""

from typing import Final

import msgspec

from nixmill.edge.binary_cache.cas_objects import ROOTS, refused
from nixmill.edge.binary_cache.names import ARCHIVES, TOMBSTONES
from nixmill.nix import castore
from nixmill.nix.castore import DIGEST_BYTES, CastoreError
from nixmill.nix.narinfo import base32
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import HASH_LENGTH, hash_part

ARCHIVE_END: Final = ".nar"
_SIZE_BYTES: Final = 8


class Root(msgspec.Struct, frozen=True):
    """The tree of a path."""

    node: castore.Node
    added: int
    """Bytes of the objects that publishing it brought, as they are kept; what earlier paths have too is theirs."""


def key(info: PathInfo) -> str:
    """Return what names a path's tree in the cache: the hash of its NAR and the path's own.

    With the path alone, a push that was broken off and came again after another build could not be told apart.
    """
    return f"{base32(info.nar_hash).removeprefix('sha256:')}-{hash_part(info.path)}"


def archive_name(info: PathInfo) -> str:
    """Return where clients find the NAR of a path, which is made when it is asked for."""
    return f"{ARCHIVES}{key(info)}{ARCHIVE_END}"


def key_of_archive(name: str) -> str:
    """Return the key within the name of an archive; empty where it is none of ours."""
    return name[len(ARCHIVES) : -len(ARCHIVE_END)] if name.startswith(ARCHIVES) and name.endswith(ARCHIVE_END) else ""


def hash_part_of(root_key: str) -> str:
    """Return the hash part of the path that a key is of."""
    return root_key[-HASH_LENGTH:]


def root_name(root_key: str) -> str:
    """Return where the root of a path is."""
    return ROOTS + root_key


def tombstone_name(root_key: str) -> str:
    """Return where it is noted that a path was taken off."""
    return TOMBSTONES + root_key


def encode(root: Root) -> bytes:
    """Return the bytes of a root."""
    data = root.added.to_bytes(_SIZE_BYTES, "little") + castore.encode_root(root.node)
    return castore.digest(data) + data


def decode(name: str, content: bytes) -> Root:
    """Read a root; raise `DoorError` where it is damaged."""
    data = content[DIGEST_BYTES:]
    try:
        if castore.digest(data) != content[:DIGEST_BYTES]:
            raise CastoreError("Its bytes do not have the digest in front of them.")  # noqa: TRY301
        return Root(castore.decode_root(data[_SIZE_BYTES:]), int.from_bytes(data[:_SIZE_BYTES], "little"))
    except CastoreError as error:
        raise refused(name, error) from error
