"""The doors of binary caches: objects, caches as places to publish to and to read from, and the queue of uploads.

The rules of `nixmill.doors` hold.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from nixmill.core.upload import Made, Upload, UploadState
from nixmill.doors import BuildLimits, BuildObserver
from nixmill.nix.build_result import BuildResult
from nixmill.nix.narinfo import NarInfo
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath


class StoredObject(msgspec.Struct, frozen=True):
    """An object of a cache as a listing shows it."""

    name: str
    size: int
    modified_at: float


class Objects(Protocol):
    """Files of a binary cache by name (`nar/….nar.zst`), in a directory or a bucket.

    Names are relative, of letters, digits and `._+-!=/`; anything else raises `ValueError`. An object appears whole or
    not at all, and never changes unless `replace` says so.
    """

    async def size(self, name: str) -> int | None:
        """Return the bytes of an object; None where there is none."""

    def read(self, name: str, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """Yield (a part of) an object; nothing where there is none."""

    async def put(self, name: str, content: bytes | Path, *, replace: bool = False) -> bool:
        """Store an object, durable on return; False where there was one, which stays unless `replace`."""

    async def delete(self, names: Collection[str]) -> None:
        """Delete objects; those that are not there are none the worse for it."""

    def names(self, prefix: str = "") -> AsyncIterator[Sequence[StoredObject]]:
        """Yield all objects whose names begin so, many at a time, in no order."""


class Contents(Protocol):
    """What store paths hold."""

    def nar(self, path: StorePath) -> AsyncIterator[bytes]:
        """Yield the NAR of a valid path; raise `DoorError` where it is not there."""


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a push."""

    new: frozenset[StorePath] = frozenset()
    """Paths that were uploaded."""
    known: frozenset[StorePath] = frozenset()
    """Paths that the cache had already."""
    faults: Mapping[StorePath, str] = {}
    """Paths that could not be, with the reason; whatever refers to them was not published either."""
    sent_bytes: int = 0


class Destination(Protocol):
    """A cache that results are published to. Publishing again what is there changes nothing."""

    async def lacks(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Return those of `paths` that the cache does not hold, asked of it now; all where it cannot be asked."""

    async def push(self, infos: Sequence[PathInfo], contents: Contents) -> Pushed:
        """Publish paths, of which each comes after what it refers to; what they refer to beside them is there.

        A narinfo never appears before what it refers to. Broken off at any point, a second push goes on.
        """


@runtime_checkable
class TakesRealisations(Protocol):
    """A destination that also tells what derivations came out as."""

    async def realise(self, paths: Collection[StorePath]) -> None:
        """Publish all realisations whose path is one of `paths`, which the cache holds with their closures."""


class Holdings(Protocol):
    """Caches as places to read from: our destination caches, whatever the daemon's substituters are."""

    async def narinfos(self, paths: Collection[StorePath]) -> Mapping[StorePath, NarInfo]:
        """Return what some cache holds of `paths`, asked anew and verified to be signed by a key of that cache.

        What a cache does not answer for is left out, and asked again the next time: no answer is remembered.
        """

    def nar(self, info: NarInfo) -> AsyncIterator[bytes]:
        """Yield the NAR of one of `narinfos`, decompressed; raise `DoorError` where the cache lied or broke off."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A path on the shelves of a cache of ours."""

    narinfo: NarInfo
    objects: tuple[str, ...] = ()
    """Names of its objects beside the narinfo: archive, listing; blobs that others may share are not among them."""
    size: int
    """Bytes that deleting it would free, as far as that is known."""
    published_at: float


class Stock(Protocol):
    """A cache of ours as its collector and those who verify it see it."""

    def entries(self) -> AsyncIterator[Sequence[Entry]]:
        """Yield everything that is published, many at a time; what is no narinfo is told by `verify`, not here."""

    async def entry(self, hash_part: str) -> Entry | None:
        """Return what is published of a path."""

    async def verify(self, entry: Entry) -> Sequence[str]:
        """Return what is wrong with an entry, in sentences: signature, archive, hashes, sizes. Reads all of it."""

    async def remove(self, entries: Sequence[Entry]) -> None:
        """Unpublish paths: narinfos go at once, referrers first, and archives with `sweep`."""

    async def sweep(self, grace_s: float, now: float) -> int:
        """Delete objects that no narinfo has named for `grace_s`; return the bytes that were freed."""

    async def sign(self, entry: Entry) -> bool:
        """Sign an entry with the keys of today where it is not; say whether anything was to be done."""


class Published(Protocol):
    """What our caches hold, as far as we published it."""

    async def where(self, paths: Collection[StorePath]) -> Mapping[StorePath, str]:
        """Return, for those of `paths` that were published, the name of a cache that they were published to."""


class Uploads(Protocol):
    """The queue of what is to be published, in the database. A run records its uploads with its outcomes."""

    async def due(
        self, cache: str, now: float, limit: int, state: UploadState = UploadState.WAITING
    ) -> Sequence[Upload]:
        """Return what waits for a cache (or is in another `state`) and whose time has come, the oldest first."""

    async def save(self, uploads: Sequence[Upload]) -> None:
        """Record how uploads stand."""

    async def made(self, paths: Collection[StorePath]) -> Mapping[StorePath, Made]:
        """Return who built paths; those that were not built here are left out."""

    async def vouch(self, made: Sequence[Made]) -> None:
        """Record that paths were built again under another tier, with the same result."""

    async def again(self, cache: str, paths: Collection[StorePath] | None) -> int:
        """Try again what was given up or refused, all of it where `paths` is None; return how many."""

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Count uploads by cache, then by state."""


class Rebuilder(Protocol):
    """What builds again what is in the store already. Cancelling a call kills its builder."""

    async def check(self, drv_path: StorePath, limits: BuildLimits, observer: BuildObserver) -> BuildResult:
        """Build a derivation whose outputs are valid once more, and compare; the store keeps what it has.

        A good result: they are the same. `BuildStatus.NOT_DETERMINISTIC`: they are not. `DoorError` is our trouble.
        """
