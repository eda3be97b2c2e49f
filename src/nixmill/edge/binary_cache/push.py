"""One push: paths are packed in parallel, and published in the order they came in.

What is packed waits for what came before it; once that is published, all that is ready goes up as one batch: archives
first, then narinfos, referrers last. So the slower the disk or the service is, the larger are the batches.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias

from nixmill.doors.cache import Contents, Pushed
from nixmill.edge.binary_cache import names, pack
from nixmill.edge.binary_cache.batches import Batches, Layer, by_depth
from nixmill.edge.binary_cache.claims import Claims
from nixmill.edge.binary_cache.contents import StoreContents
from nixmill.edge.binary_cache.faults import explained
from nixmill.edge.binary_cache.pack import Fault, Packed, Packer
from nixmill.nix import narinfo
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

TOGETHER: Final = 128
TOGETHER_BYTES: Final = 4 * 1024 * 1024
"""Most small paths, and bytes of their NARs, that one thread packs at a time."""
AHEAD: Final = 16
"""Parcels that may be packed while those before them are published: 64 MiB in memory, or so many files."""
Result: TypeAlias = Packed | Fault


class Push:
    """Publishes paths once; made for each push."""

    def __init__(
        self, objects: Batches, packer: Packer, claims: Claims, threads: ThreadPoolExecutor, contents: Contents
    ) -> None:
        """Publish to `objects` what `contents` has."""
        self._objects = objects
        self._packer = packer
        self._claims = claims
        self._threads = threads
        self._contents = contents
        self._streams = asyncio.Semaphore(pack.THREADS)
        self._new: set[StorePath] = set()
        self._known: set[StorePath] = set()
        self._faults: dict[StorePath, str] = {}
        self._bytes = 0

    async def run(self, infos: Sequence[PathInfo], write: Callable[[PathInfo], PathInfo]) -> Pushed:
        """Publish paths, each after what it refers to; `write` says what is written of one (its signatures)."""
        waiting = deque(_parcels(infos, self._location))
        packing: deque[asyncio.Task[list[Result]]] = deque()
        try:
            while waiting or packing:
                while waiting and len(packing) < AHEAD:
                    packing.append(asyncio.create_task(self._pack(waiting.popleft(), write)))
                await asyncio.wait([packing[0]])
                await self._publish(list(_ready(packing)))
        finally:
            await _abandon(packing)
        return Pushed(
            new=frozenset(self._new), known=frozenset(self._known), faults=self._faults, sent_bytes=self._bytes
        )

    def _location(self, path: StorePath) -> Path | None:
        return self._contents.location(path) if isinstance(self._contents, StoreContents) else None

    async def _pack(self, infos: Sequence[PathInfo], write: Callable[[PathInfo], PathInfo]) -> list[Result]:
        signed = [write(info) for info in infos]
        placed = [(info, place) for info in signed if (place := self._location(info.path)) is not None]
        with explained("pack archives for", str(self._packer.scratch)):
            if not placed:
                async with self._streams:
                    return [await self._packer.pack_stream(info, self._contents.nar(info.path)) for info in signed]
            if placed[0][0].nar_size <= pack.SMALL_MAX:
                return await self._on_thread(lambda: self._packer.pack_small(placed))
            return await self._on_thread(lambda: [self._packer.pack_large(*one) for one in placed])

    async def _on_thread(self, work: Callable[[], list[Result]]) -> list[Result]:
        """Pack on a thread, which goes on when this is cancelled; what it makes is deleted then."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_discard_late)
            raise

    async def _publish(self, results: Sequence[Result]) -> None:
        """Publish what was packed, less what refers to something that was not."""
        try:
            good = list(self._sound(results))
            layers = _layers(good)
            async with self._claims.holding({one.narinfo.url for one in good}):
                archives, *narinfos = await self._objects.put_all(layers)
                await self._mend(layers[0], archives)
            self._count(good, layers, archives, narinfos)
        finally:
            await asyncio.to_thread(pack.discard, results)

    def _sound(self, results: Sequence[Result]) -> Iterator[Packed]:
        for result in results:
            if isinstance(result, Fault):
                self._faults[result.info.path] = result.reason
                continue
            info = result.narinfo.info
            lacking = next((r for r in info.references if r in self._faults and r != info.path), None)
            if lacking is None:
                yield result
            else:
                self._faults[info.path] = f"It refers to {lacking}, which could not be published."

    async def _mend(self, layer: Layer, new: Sequence[bool]) -> None:
        """Replace archives that stand under the right name with another length: something cut them off."""
        for (name, content), is_new in zip(layer, new, strict=True):
            if not is_new and name.startswith(names.ARCHIVES):
                size = content.stat().st_size if isinstance(content, Path) else len(content)
                if await self._objects.size(name) != size:
                    await self._objects.put(name, content, replace=True)

    def _count(
        self,
        good: Sequence[Packed],
        layers: Sequence[Layer],
        archives: Sequence[bool],
        narinfos: Sequence[Sequence[bool]],
    ) -> None:
        fresh = {
            name
            for layer, answers in zip(layers, [archives, *narinfos], strict=True)
            for (name, _), is_new in zip(layer, answers, strict=True)
            if is_new
        }
        for one in good:
            path = one.narinfo.info.path
            (self._new if names.narinfo_name(path) in fresh else self._known).add(path)
            self._bytes += one.narinfo.file_size if one.narinfo.url in fresh else 0


def _parcels(infos: Sequence[PathInfo], location: Callable[[StorePath], Path | None]) -> Iterator[Sequence[PathInfo]]:
    """Divide paths, in their order: neighbours that are small and on this machine together, any others alone."""
    parcel: list[PathInfo] = []
    size = 0
    for info in infos:
        alone = info.nar_size > pack.SMALL_MAX or location(info.path) is None
        if parcel and (alone or len(parcel) == TOGETHER or size + info.nar_size > TOGETHER_BYTES):
            yield parcel
            parcel, size = [], 0
        if alone:
            yield [info]
        else:
            parcel.append(info)
            size += info.nar_size
    if parcel:
        yield parcel


def _ready(packing: deque[asyncio.Task[list[Result]]]) -> Iterator[Result]:
    while packing and packing[0].done():
        yield from packing[0].result()
        packing.popleft()


async def _abandon(packing: Sequence[asyncio.Task[list[Result]]]) -> None:
    """End what nobody waits for any more, and delete what it made."""
    for task in packing:
        task.cancel()
    for answer in await asyncio.gather(*packing, return_exceptions=True):
        if not isinstance(answer, BaseException):
            await asyncio.to_thread(pack.discard, answer)


def _layers(good: Sequence[Packed]) -> list[Layer]:
    """Return archives and what belongs to them, then narinfos so that references come in earlier layers."""
    beside = {name: content for one in good for name, content in _beside(one)}  # equal contents, equal names
    texts = {one.narinfo.info.path: narinfo.write(one.narinfo).encode() for one in good}
    groups = by_depth(one.narinfo.info for one in good)
    return [list(beside.items()), *([(names.narinfo_name(path), texts[path]) for path in group] for group in groups)]


def _beside(one: Packed) -> Iterator[tuple[str, bytes | Path]]:
    """Yield a path's objects other than its narinfo."""
    yield one.narinfo.url, one.archive
    if one.listing is not None:
        yield names.listing_name(one.narinfo.info.path), one.listing
    for build_id, member in one.debug_files:
        yield names.DEBUG_INFO + build_id, _index(one.narinfo.url, member)


def _index(url: str, member: str) -> bytes:
    index: Mapping[str, str] = {"archive": f"../{url}", "member": member}
    return json.dumps(index, separators=(",", ":")).encode()


def _discard_late(future: "asyncio.Future[list[Result]]") -> None:
    if not future.cancelled() and future.exception() is None:
        pack.discard(future.result())
