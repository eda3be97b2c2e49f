"""Whether an entry of a cache is what it says it is."""

import asyncio
from collections.abc import Sequence

from nixmill.edge.binary_cache import names
from nixmill.edge.binary_cache.batches import Batches
from nixmill.edge.binary_cache.holdings_unpack import ArchiveError, Unpacking
from nixmill.nix import nar_listing
from nixmill.nix.nar_listing import Listener
from nixmill.nix.narinfo import NarInfo
from nixmill.nix.signature import PublicKey, signed_by
from nixmill.nix.wire import ProtocolError


async def verify(objects: Batches, found: NarInfo, keys: Sequence[PublicKey]) -> list[str]:
    """Return what is wrong, in sentences. Reads the whole archive; `keys` are those of which one has to have signed."""
    wrong = []
    path = found.info.path
    if keys and not found.info.content_address and not signed_by(found.info, keys):
        wrong.append(f"No key of this cache ({', '.join(key.name for key in keys)}) has signed {path} truly.")
    return wrong + await _archive(objects, found)


async def _archive(objects: Batches, found: NarInfo) -> list[str]:
    path = found.info.path
    if await objects.size(found.url) is None:
        return [f"The archive of {path}, {found.url}, is not there."]
    listener = Listener()
    try:
        unpacking = Unpacking(found)
        async for chunk in objects.read(found.url):
            await asyncio.to_thread(_feed, unpacking, listener, chunk)
        unpacking.finish()
    except ArchiveError as error:
        return [f"For {path} the cache holds {error} ({found.url})."]
    except ProtocolError as error:
        return [f"The archive of {path}, {found.url}, is none: {error}"]
    return await _listing(objects, found, listener)


async def _listing(objects: Batches, found: NarInfo, listener: Listener) -> list[str]:
    name = names.listing_name(found.info.path)
    if await objects.size(name) is None or listener.root is None:
        return []
    text = b"".join([chunk async for chunk in objects.read(name)])
    if nar_listing.same(text, listener.root):
        return []
    return [f"The listing of {found.info.path}, {name}, is not what its archive holds."]


def _feed(unpacking: Unpacking, listener: Listener, chunk: bytes) -> None:
    for piece in unpacking.pieces(chunk):
        listener.feed(piece)
