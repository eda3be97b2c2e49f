"""What a store knows of a valid path, and how that looks on the wire (the form of protocol 1.16 and newer)."""

from typing import Final

import msgspec

from nixmill.nix import wire
from nixmill.nix.store_path import StorePath
from nixmill.nix.wire import Parser, ProtocolError, Reader

_PREFIX: Final = "sha256:"


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


def read(reader: Reader, path: StorePath) -> Parser[PathInfo]:
    """Read everything but the path, which the asker knows."""
    deriver = yield from reader.text()
    nar_hash = yield from reader.text()
    if len(nar_hash) != 64:
        raise ProtocolError(f"The hash of {path} is {nar_hash[:80]!r}; 64 hexadecimal digits were expected.")
    references = yield from reader.texts()
    registered_at = yield from reader.u64()
    nar_size = yield from reader.u64()
    ultimate = yield from reader.boolean()
    signatures = yield from reader.texts()
    content_address = yield from reader.text()
    return PathInfo(
        path=path,
        deriver=StorePath(deriver) if deriver else None,
        nar_hash=_PREFIX + nar_hash,
        nar_size=nar_size,
        references=tuple(map(StorePath, references)),
        registered_at=registered_at,
        ultimate=ultimate,
        signatures=tuple(signatures),
        content_address=content_address,
    )


def write(info: PathInfo) -> bytes:
    """Return the path and everything else as bytes."""
    return b"".join(
        (
            wire.string(info.path),
            wire.string(info.deriver or ""),
            wire.string(info.nar_hash.removeprefix(_PREFIX)),
            wire.strings(info.references),
            wire.u64(info.registered_at),
            wire.u64(info.nar_size),
            wire.u64(info.ultimate),
            wire.strings(info.signatures),
            wire.string(info.content_address),
        )
    )
