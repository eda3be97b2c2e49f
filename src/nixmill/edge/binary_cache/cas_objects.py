"""Blobs and directories as objects of a cache: their names, their bytes, and reading many at once.

    blob/HEX          a file's contents, or a chunk of it: `r` and the bytes, or `z` and one zstd frame of them
    chunks/HEX        of a larger file, the list of its chunks (`nixmill.nix.castore_chunks`)
    directory/HEX     a directory's encoding, as a blob
    castore/KEY       the root of a store path (`cas_roots`)

HEX is the BLAKE3 of what they hold. What does not have its name's digest is refused before a byte of it is handed on.
"""

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from nixmill.doors import DoorError
from nixmill.doors.cache import Objects
from nixmill.edge.binary_cache.faults import explained, fault
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.nix import castore
from nixmill.nix.castore import DIRECTORY_BYTES_MAX, CastoreError
from nixmill.nix.castore_chunks import CHUNK_BYTES_MAX

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOBS: Final = "blob/"
LISTS: Final = "chunks/"
DIRECTORIES: Final = "directory/"
ROOTS: Final = "castore/"
TOGETHER: Final = 32
"""Requests to a bucket that are under way at once."""
_PLAIN: Final = b"r"
_ZSTD: Final = b"z"


def blob_name(digest: bytes) -> str:
    """Return where a blob is, or a chunk."""
    return BLOBS + digest.hex()


def list_name(digest: bytes) -> str:
    """Return where the list of a blob's chunks is."""
    return LISTS + digest.hex()


def directory_name(digest: bytes) -> str:
    """Return where a directory is."""
    return DIRECTORIES + digest.hex()


def packed(objects: Mapping[str, bytes], level: int) -> dict[str, bytes]:
    """Return what objects hold for these bytes: compressed where that is smaller. The tables of zstd are made once."""
    compressor = zstd.ZstdCompressor(level=level)
    return {name: _packed(data, compressor) for name, data in objects.items()}


def _packed(data: bytes, compressor: zstd.ZstdCompressor) -> bytes:
    compressor.set_pledged_input_size(len(data))
    small = compressor.compress(data, mode=zstd.ZstdCompressor.FLUSH_FRAME)
    return _ZSTD + small if len(small) < len(data) else _PLAIN + data


def unpacked(name: str, content: bytes | None) -> bytes:
    """Return the bytes that an object holds; raise `DoorError` where it is missing or they do not have its digest."""
    if content is None:
        raise damaged(name, "it is missing")
    kind, rest = content[:1], memoryview(content)[1:]
    if kind not in {_PLAIN, _ZSTD}:
        raise damaged(name, f"it begins with {kind!r}")
    try:
        data = _expanded(name, rest) if kind == _ZSTD else bytes(rest)
    except zstd.ZstdError as error:
        raise damaged(name, "it cannot be decompressed") from error
    if castore.digest(data).hex() != name.rpartition("/")[2]:
        raise damaged(name, "its bytes do not have the digest that it is named by")
    return data


def _expanded(name: str, frame: memoryview) -> bytes:
    """Decompress one frame, never to more than such an object may hold."""
    most = DIRECTORY_BYTES_MAX if name.startswith(DIRECTORIES) else CHUNK_BYTES_MAX
    decompressor = zstd.ZstdDecompressor()
    data = decompressor.decompress(frame, max_length=most + 1)
    if len(data) > most or not decompressor.eof or decompressor.unused_data:
        raise zstd.ZstdError("not one frame of a blob")
    return data


def damaged(name: str, why: str) -> DoorError:
    """Return the error for an object that cannot be what it ought to be."""
    return fault(
        f"The object {name} of the cache is damaged: {why}. Verify the cache, and publish again what refers to it.",
        action="read",
        subject=name,
    )


def refused(name: str, error: CastoreError) -> DoorError:
    """Return the error for an object that breaks the rules of castore."""
    return damaged(name, f"{error}".rstrip("."))


async def contents(objects: Objects, names: Sequence[str]) -> list[bytes | None]:
    """Return what objects hold, None for one that is not there.

    From a disk they come all at once, as a visit to a thread costs more than a small file.
    """
    if isinstance(objects, DiskObjects):
        with explained("read from", str(objects.directory)):
            return await asyncio.to_thread(_files, objects, names)
    turns = asyncio.Semaphore(TOGETHER)
    return list(await asyncio.gather(*(_content(objects, name, turns) for name in names)))


def _files(objects: DiskObjects, names: Iterable[str]) -> list[bytes | None]:
    found: list[bytes | None] = []
    for name in names:
        try:
            found.append(objects.location(name).read_bytes())
        except FileNotFoundError:
            found.append(None)
    return found


async def _content(objects: Objects, name: str, turns: asyncio.Semaphore) -> bytes | None:
    async with turns:
        return b"".join([piece async for piece in objects.read(name)]) or None  # no object of ours is empty


async def absent(objects: Objects, names: Sequence[str]) -> set[str]:
    """Return those of `names` that are not there."""
    if isinstance(objects, DiskObjects):
        with explained("look into", str(objects.directory)):
            return set(await asyncio.to_thread(_absent, objects, names))
    turns = asyncio.Semaphore(TOGETHER)
    there = await asyncio.gather(*(_is_there(objects, name, turns) for name in names))
    return {name for name, known in zip(names, there, strict=True) if not known}


def _absent(objects: DiskObjects, names: Iterable[str]) -> list[str]:
    return [name for name in names if not objects.location(name).exists()]


async def _is_there(objects: Objects, name: str, turns: asyncio.Semaphore) -> bool:
    async with turns:
        return await objects.size(name) is not None
