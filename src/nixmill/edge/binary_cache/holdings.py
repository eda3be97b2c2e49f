"""The door Holdings over several caches: what they hold is asked anew each time, and proved before it counts.

A narinfo counts when a key of its cache signed it (or the cache may be unsigned, because only we write there); a NAR
counts when all of it came and has the hash and size that its narinfo says. A cache that gives no answer is left out
for now; one that lied of a path is asked for that path after all others, and after a second lie no more in this run.
"""

import asyncio
import base64
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from nixmill.core.terminal_text import sanitise
from nixmill.doors import DoorError
from nixmill.edge.binary_cache import holdings_trust
from nixmill.edge.binary_cache.holdings_unpack import ArchiveError, UnknownCompressionError, Unpacking
from nixmill.nix import narinfo, store_path
from nixmill.nix.narinfo import NarInfo, NarInfoError
from nixmill.nix.signature import PublicKey
from nixmill.nix.store_path import StorePath

PARALLEL: Final = 50
"""Narinfos that one cache is asked for at a time."""
ANSWER_S: Final = 5.0
"""A narinfo that takes longer is no answer."""
REST_S: Final = 10.0
"""How long a cache that hung is left alone: else every look would wait for it."""
STALL_S: Final = 30.0
"""How long an archive may pause."""
SLOWEST: Final = 20_000
"""Bytes a second that a whole archive must come at, on average."""
INLINE_BYTES: Final = 1024 * 1024
"""Smaller NARs are unpacked on the event loop."""
LIES_MAX: Final = 2
"""After so many lies of a cache about a path, it is not asked for it again in this run."""
TOLD_MAX: Final = 10
"""Sentences about one cache in one run."""


class Readable(Protocol):
    """Files by name; every `Objects` is one."""

    def read(self, name: str) -> AsyncIterator[bytes]:
        """Yield a file; nothing where there is none; raise `DoorError` where that cannot be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCache:
    """A cache to read from."""

    name: str
    """As the settings call it."""
    files: Readable
    keys: tuple[PublicKey, ...] = ()
    """What it is signed with, those of the past included."""
    unsigned: bool = False
    """Whether what nobody signed is believed, because only we can write there."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How long to wait, in seconds."""

    answer_s: float = ANSWER_S
    rest_s: float = REST_S
    stall_s: float = STALL_S


class _Held(NarInfo, frozen=True, kw_only=True):
    """What one cache holds."""

    cache: int
    """Its place among the caches."""


class CacheHoldings:
    """Caches as one run sees them; the first one that holds a path is taken."""

    def __init__(
        self,
        caches: Sequence[ReadCache],
        store_dir: str,
        notice: Callable[[str], None],
        limits: Limits | None = None,
    ) -> None:
        """Read `caches`; tell `notice` of lies and silence, in sentences and not too often."""
        self._caches = caches
        self._store_dir = store_dir
        self._notice = notice
        self._limits = limits or Limits()
        self._places = [asyncio.Semaphore(PARALLEL) for _ in caches]
        self._lies: Counter[tuple[int, StorePath]] = Counter()
        self._told: Counter[int] = Counter()
        self._silent: set[int] = set()
        self._rests_until: dict[int, float] = {}

    @property
    def public_keys(self) -> Mapping[str, str]:
        """The public keys of all caches by their names, as they stand in `trusted-public-keys`."""
        return {key.name: _text(key) for cache in self._caches for key in cache.keys}

    async def narinfos(self, paths: Collection[StorePath]) -> Mapping[StorePath, NarInfo]:
        """Return what some cache holds of `paths`: see `Holdings`."""
        asked = [self._ask(number, paths) for number in range(len(self._caches))]
        found: dict[StorePath, _Held] = {}
        for held in await asyncio.gather(*asked):
            for path, info in held.items():
                before = found.get(path)
                if before is None or self._lies[info.cache, path] < self._lies[before.cache, path]:
                    found[path] = info
        return found

    async def nar(self, info: NarInfo) -> AsyncIterator[bytes]:
        """Yield the NAR of one of `narinfos`. Only the end of it says that it was good."""
        if not isinstance(info, _Held):
            raise TypeError("Only what `narinfos` returned can be read.")
        cache = self._caches[info.cache]
        try:
            async with contextlib.aclosing(self._unpacked(cache, info)) as pieces:
                async for piece in pieces:
                    yield piece
        except ArchiveError as error:
            raise self._lied(info, str(error), strange=isinstance(error, UnknownCompressionError)) from None
        except DoorError as error:
            raise self._broke_off(info, str(error)) from error

    async def _ask(self, number: int, paths: Collection[StorePath]) -> dict[StorePath, _Held]:
        """Ask one cache for narinfos; once it hangs, those that are not asked for yet are left out."""
        if self._rests_until.get(number, 0.0) > _now():
            return {}
        wanted = [path for path in paths if self._lies[number, path] < LIES_MAX]
        found = await asyncio.gather(*(self._look(number, path) for path in wanted))
        return {info.info.path: info for info in found if info is not None}

    async def _look(self, number: int, path: StorePath) -> _Held | None:
        async with self._places[number]:
            if self._rests_until.get(number, 0.0) > _now():
                return None
            try:
                async with asyncio.timeout(self._limits.answer_s):
                    text = await self._small(self._caches[number], store_path.hash_part(path) + ".narinfo")
            except TimeoutError:
                self._rests_until[number] = _now() + self._limits.rest_s
                self._no_answer(number, f"it did not answer within {self._limits.answer_s:g} s")
                return None
            except DoorError as error:
                self._no_answer(number, str(error))
                return None
        return self._believed(number, path, text) if text else None

    async def _small(self, cache: ReadCache, name: str) -> bytes:
        """Return a narinfo, empty where there is none; what is longer than any is cut."""
        text = bytearray()
        async with _closing(cache.files.read(name)) as chunks:
            async for chunk in chunks:
                text += chunk
                if len(text) > narinfo.SIZE_MAX:
                    break
        return bytes(text)

    def _believed(self, number: int, path: StorePath, text: bytes) -> _Held | None:
        cache = self._caches[number]
        try:
            read = holdings_trust.read(text, path, self._store_dir, cache.keys, unsigned=cache.unsigned)
        except NarInfoError as error:
            said = sanitise(str(error), colour=False, limit=400)
            self._tell(number, f"The narinfo of {path} in the cache {cache.name} is not believed: {said}")
            return None
        return _Held(**{name: getattr(read, name) for name in NarInfo.__struct_fields__}, cache=number)

    async def _unpacked(self, cache: ReadCache, info: NarInfo) -> AsyncGenerator[bytes, None]:
        """Yield the NAR; raise `ArchiveError` for a lie.

        The last piece comes when all was proved: a daemon registers a path as soon as it has the end of the NAR.
        """
        unpacking = Unpacking(info)
        inline = info.info.nar_size <= INLINE_BYTES
        last = b""
        async with contextlib.aclosing(self._archive(cache, info)) as chunks:
            async for chunk in chunks:
                pieces = unpacking.pieces(chunk)
                while piece := next(pieces, b"") if inline else await asyncio.to_thread(next, pieces, b""):
                    if last:
                        yield last
                    last = piece
        unpacking.finish()
        yield last

    async def _archive(self, cache: ReadCache, info: NarInfo) -> AsyncGenerator[bytes, None]:
        """Yield the archive as it comes; raise `DoorError` where it pauses or crawls."""
        left = self._limits.stall_s + (info.file_size or info.info.nar_size) / SLOWEST
        try:
            async with _closing(cache.files.read(info.url)) as chunks:
                while True:
                    began = _now()
                    async with asyncio.timeout(min(self._limits.stall_s, left)):
                        chunk = await anext(chunks, None)
                    left -= _now() - began
                    if chunk is None:
                        return
                    yield chunk
        except TimeoutError:
            raise DoorError(f"The cache {cache.name} stopped.", door="cache", action="read", retryable=True) from None
        except ValueError as error:
            raise ArchiveError(f"the name of an archive that is none ({error})") from None

    def _lied(self, info: _Held, what: str, *, strange: bool) -> DoorError:
        """Return the error for what was announced and is not there, or is something else."""
        self._lies[info.cache, info.info.path] += LIES_MAX if strange else 1
        name = self._caches[info.cache].name
        text = f"The cache {name} announced {info.info.path}, but delivered {sanitise(what, colour=False, limit=300)}."
        self._tell(info.cache, f"{text} It is taken from elsewhere, or built.")
        return DoorError(text, door="cache", action="read", subject=info.info.path, retryable=False)

    def _broke_off(self, info: _Held, why: str) -> DoorError:
        """Return the error for a cache that could not deliver just now."""
        self._lies[info.cache, info.info.path] += 1
        name = self._caches[info.cache].name
        text = f"The cache {name} announced {info.info.path}, but did not deliver it: {why}"
        self._tell(info.cache, text)
        return DoorError(text, door="cache", action="read", subject=info.info.path, retryable=True)

    def _no_answer(self, number: int, why: str) -> None:
        """Tell once that a cache does not answer."""
        if number not in self._silent:
            self._silent.add(number)
            name = self._caches[number].name
            self._notice(f"The cache {name} gives no answer, so this run does without it where it must: {why}")

    def _tell(self, number: int, sentence: str) -> None:
        self._told[number] += 1
        if self._told[number] <= TOLD_MAX:
            self._notice(sentence)
        elif self._told[number] == TOLD_MAX + 1:
            name = self._caches[number].name
            self._notice(f"The cache {name} has more such faults, which are not told one by one. Verify it.")


@contextlib.asynccontextmanager
async def _closing(chunks: AsyncIterator[bytes]) -> AsyncGenerator[AsyncIterator[bytes], None]:
    """Let go of what is read, also in the middle."""
    try:
        yield chunks
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def _text(key: PublicKey) -> str:
    return f"{key.name}:{base64.b64encode(key.data).decode()}"


def _now() -> float:
    return asyncio.get_running_loop().time()
