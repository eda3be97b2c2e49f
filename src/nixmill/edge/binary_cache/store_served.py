"""A cache that is served straight from a store: narinfos are signed when they are asked for, archives made on the way.

Nothing but what was published is served, never the whole store. What was published is known elsewhere: whatever is a
member is kept alive (`store_destination`).
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from nixmill.doors.serving import CacheInfo, ServedObject
from nixmill.edge import tree_reader
from nixmill.edge.binary_cache.names import ARCHIVES, LISTING, LOGS, NARINFO, REALISATION_END, REALISATIONS
from nixmill.edge.binary_cache.objects_served import ARCHIVE_TYPE, small
from nixmill.edge.binary_cache.signer import Signer
from nixmill.edge.binary_cache.store_infos import REMEMBERED_MAX, Member, StoreInfos
from nixmill.edge.binary_cache.store_listing import listing
from nixmill.edge.binary_cache.store_logs import AttemptLogs
from nixmill.nix import narinfo, realisation
from nixmill.nix.narinfo import NarInfo
from nixmill.nix.path_info import PathInfo
from nixmill.nix.realisation import Realisation
from nixmill.nix.signature import SecretKey
from nixmill.nix.store_path import HASH_LENGTH, StorePath, hash_part

_ARCHIVE_END: Final = ".nar"

RealisedAs = Callable[[str], Awaitable[Realisation | None]]
"""Returns the realisation with an id that readers of the cache may have."""


class ServingStore(Protocol):
    """The part of a store that is needed; its files can be read here."""

    async def valid(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Return those of `paths` that are valid here now."""

    async def path_infos(self, paths: Collection[StorePath]) -> Mapping[StorePath, PathInfo]:
        """Return size, references and so on of those that are valid."""


class StoreServed:
    """Implements `nixmill.doors.serving.Served`."""

    def __init__(
        self,
        store: ServingStore,
        member: Member,
        keys: Sequence[SecretKey],
        info: CacheInfo,
        *,
        monotonic: Callable[[], float],
        logs: AttemptLogs | None = None,
        realised: RealisedAs | None = None,
    ) -> None:
        """Serve the members among a store's paths, signed with `keys`."""
        self._realised = realised
        self._signer = Signer(keys)
        self._store = store
        self._member = member
        self._keys = keys
        self._info = info
        self._logs = logs
        self._infos = StoreInfos(store, member, monotonic)
        self._signed: OrderedDict[PathInfo, bytes] = OrderedDict()

    @property
    def info(self) -> CacheInfo:
        """See `Served`."""
        return self._info

    async def open(self, name: str) -> ServedObject | None:
        """See `Served`."""
        if name.endswith(NARINFO):
            info = await self._infos.info(name.removesuffix(NARINFO))
            return small(name, self._narinfo(info)) if info is not None else None
        if name.startswith(ARCHIVES) and name.endswith(_ARCHIVE_END):
            return await self._archive(name)
        if name.endswith(LISTING):
            info = await self._infos.info(name.removesuffix(LISTING))
            data = await listing(Path(info.path)) if info is not None else None
            return small(name, data) if data is not None else None
        if name.startswith(LOGS) and self._logs is not None:
            return await self._logs.open(name.removeprefix(LOGS))
        if name.startswith(REALISATIONS) and self._realised is not None:
            return await self._realisation(name, self._realised)
        return None

    async def _realisation(self, name: str, realised: RealisedAs) -> ServedObject | None:
        """Return a realisation whose path is a member."""
        found = await realised(name.removeprefix(REALISATIONS).removesuffix(REALISATION_END))
        info = await self._infos.info(hash_part(found.out_path)) if found is not None else None
        if found is None or info is None or info.path != found.out_path:
            return None
        return small(name, realisation.write(self._signer.realised(found)))

    async def _archive(self, name: str) -> ServedObject | None:
        """Return an archive; its name holds the hash of its bytes, so that a path built anew is another object."""
        part = name.removesuffix(_ARCHIVE_END)[-HASH_LENGTH:]
        info = await self._infos.info(part)
        if info is None or name != _url(info):
            return None
        path = Path(info.path)
        return ServedObject(
            size=info.nar_size,
            media_type=ARCHIVE_TYPE,
            content=lambda start, length: tree_reader.nar(path, start, length),
            etag=_digest(info),
            immutable=True,
        )

    def _narinfo(self, info: PathInfo) -> bytes:
        known = self._signed.get(info)
        if known is None:
            known = self._signed[info] = self._sign(info)
            while len(self._signed) > REMEMBERED_MAX:
                self._signed.popitem(last=False)
        return known

    def _sign(self, info: PathInfo) -> bytes:
        """Return a narinfo with our signatures before those of others; no name of a key twice."""
        ours = [key.sign(info) for key in self._keys]
        names = {key.name for key in self._keys}
        others = [one for one in info.signatures if one.partition(":")[0] not in names]
        signed = msgspec.structs.replace(info, signatures=(*ours, *others))
        return narinfo.write(NarInfo(info=signed, url=_url(info))).encode()


def _digest(info: PathInfo) -> str:
    return narinfo.base32(info.nar_hash).partition(":")[2]


def _url(info: PathInfo) -> str:
    return f"{ARCHIVES}{_digest(info)}-{hash_part(info.path)}{_ARCHIVE_END}"
