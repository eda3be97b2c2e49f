"""Puts closures from caches into a store: references first, each NAR verified, each path once however many want it.

Small NARs are fetched ahead and verified before the daemon hears of them; a large one streams, and when it turns out
to be false the connection is dropped, so that the daemon drops it too.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from nixmill.doors import DoorError, NotAllowedError
from nixmill.doors.cache import Holdings
from nixmill.edge.daemon import copying, errors
from nixmill.edge.daemon.builder import DaemonBuilder
from nixmill.edge.daemon.connection import Connection
from nixmill.edge.daemon.errors import ConnectionLostError, DaemonError
from nixmill.edge.daemon.store import DaemonStore
from nixmill.edge.daemon.with_caches_ahead import SMALL_BYTES, Ahead
from nixmill.nix import operations
from nixmill.nix.narinfo import NarInfo
from nixmill.nix.store_path import StorePath

ROUNDS: Final = 4
"""A cache that lied is asked again once, and then others are."""
NOWHERE: Final = "No cache of ours holds it."

Say = Callable[[str], None]


class _BrokenOffError(Exception):
    """An archive turned out to be false when the daemon had part of it: its connection is of no use any more."""


@dataclass(slots=True)
class _Load:
    """What one round brings."""

    say: Say
    waiting: deque[NarInfo] = field(default_factory=deque)
    """What is still to be sent, references first."""
    faults: dict[StorePath, str] = field(default_factory=dict)
    """What cannot be brought, and why."""
    broken: int = 0
    """How many archives did not come as they should; other caches may have them."""
    answers: list[asyncio.Future[None]] = field(default_factory=list)


class Restorer:
    """Restores into one store for one run."""

    def __init__(self, store: DaemonStore, holdings: Holdings, public_keys: Mapping[str, str]) -> None:
        """Restore from `holdings`; `public_keys`, by name, are what to trust."""
        self._store = store
        self._holdings = holdings
        self._public_keys = public_keys
        self._underway: dict[StorePath, asyncio.Future[None]] = {}
        self.refused = False
        """Whether the daemon takes nothing from us: then nothing more is offered in this run."""

    async def restore(self, paths: Collection[StorePath], say: Say = lambda _: None) -> dict[StorePath, str]:
        """Make paths with their closures valid, and hold them; return those that could not be, each with the reason.

        `say` hears of each path. Raise `NotAllowedError` where the daemon wants a signature that it trusts.
        """
        lacking = set(paths)
        faults: dict[StorePath, str] = {}
        for _ in range(ROUNDS):
            load = await self._look(lacking, say)
            await self._bring(load)
            faults = load.faults | faults  # the first fault says most: a cache that lied is not asked for ever
            lacking -= await self._store.hold(lacking)
            if not (lacking and load.broken):
                break
        return {path: faults.get(path, NOWHERE) for path in lacking}

    async def _look(self, paths: set[StorePath], say: Say) -> _Load:
        """Walk references, from caches of ours down to what is valid; have the daemon substitute what we have not."""
        infos: dict[StorePath, NarInfo] = {}
        seen: set[StorePath] = set()
        absent: set[StorePath] = set()
        level = set(paths)
        while level:
            seen |= level
            level -= await self._store.hold(level)
            found = await self._holdings.narinfos(level)
            infos |= found
            absent |= level - found.keys()
            level = {reference for info in found.values() for reference in info.info.references} - seen
        absent -= await self._substituted(absent - paths)
        ordered = copying.in_order({path: info.info for path, info in infos.items()})
        return _Load(say, deque(infos[info.path] for info in ordered), dict.fromkeys(absent, NOWHERE))

    async def _substituted(self, paths: Collection[StorePath]) -> set[StorePath]:
        if not paths:
            return set()
        try:
            results = await DaemonBuilder(self._store).fetch(paths, _Deaf())
        except DaemonError:
            return set()  # whatever needs them says that they are nowhere
        return {path for path, result in results.items() if result.good}

    async def _bring(self, load: _Load) -> None:
        """Send everything, on a new connection whenever one is lost to a false archive."""
        sample = load.waiting[0] if load.waiting else None
        async with Ahead(self._holdings, load.waiting) as ahead:
            while load.waiting:
                try:
                    with errors.explained("take paths of a cache into", self._store.name):
                        async with self._store.queries.use(self._store.query_options) as connection:
                            await self._send_all(connection, load, ahead)
                except _BrokenOffError:
                    continue
                except NotAllowedError as error:
                    self.refused = True
                    raise self._not_allowed(sample, error) from error

    async def _send_all(self, connection: Connection, load: _Load, ahead: Ahead) -> None:
        load.answers = []
        try:
            while load.waiting and connection.usable:
                await self._send(connection, load.waiting.popleft(), load, ahead)
        except (_BrokenOffError, ConnectionLostError):
            await asyncio.gather(*load.answers)  # what was sent whole is taken first, or says better what happened
            raise
        await asyncio.gather(*load.answers)

    async def _send(self, connection: Connection, info: NarInfo, load: _Load, ahead: Ahead) -> None:
        """Send one path, unless it cannot be used or somebody else has brought it."""
        path = info.info.path
        lost = next((r for r in info.info.references if r in load.faults and r != path), None)
        if lost is not None:
            load.faults[path] = f"It needs {lost}. {load.faults[lost]}"
        if lost is not None or await self._brought(path):
            ahead.drop(path)
            return
        underway = self._underway[path] = asyncio.get_running_loop().create_future()
        underway.add_done_callback(lambda _: self._underway.pop(path, None))
        try:
            load.answers.append(await self._offer(connection, info, ahead, underway))
        except BaseException as error:
            _settle(underway)
            if not isinstance(error, DoorError) or isinstance(error, ConnectionLostError):
                raise
            load.faults[path] = str(error)
            load.broken += 1
            if info.info.nar_size > SMALL_BYTES:
                raise _BrokenOffError from error
            return
        load.say(f"took {path} from a cache")

    async def _offer(
        self, connection: Connection, info: NarInfo, ahead: Ahead, underway: asyncio.Future[None]
    ) -> asyncio.Future[None]:
        """Send a path and its contents; return the answer to come."""
        small = info.info.nar_size <= SMALL_BYTES
        contents = _once(await ahead.take(info.info.path)) if small else self._holdings.nar(info)
        try:
            answer = await connection.send_framed(operations.add_to_store_nar(info.info), contents)
        finally:
            if isinstance(contents, AsyncGenerator):
                await contents.aclose()

        def heard(answer: asyncio.Future[None]) -> None:
            _settle(underway)
            if not answer.cancelled():
                answer.exception()  # of many answers that fail together, the first is told

        answer.add_done_callback(heard)
        return answer

    async def _brought(self, path: StorePath) -> bool:
        """Wait while somebody else brings a path; say whether it is there now."""
        while (underway := self._underway.get(path)) is not None:
            await asyncio.wait([underway])
            if await self._store.hold([path]):
                return True
        return False

    def _not_allowed(self, sample: NarInfo | None, error: NotAllowedError) -> NotAllowedError:
        names = [signature.partition(":")[0] for signature in (sample.info.signatures if sample else ())]
        lines = " ".join(self._public_keys[name] for name in names if name in self._public_keys)
        key = f"the public key of {names[0]} to the `trusted-public-keys` of" if names else ""
        line = f"`extra-trusted-public-keys = {lines}` to" if lines else key
        trust = f"add {line} that machine's nix.conf, or " if line else ""
        return NotAllowedError(
            f"The Nix daemon ({self._store.name}) takes nothing from a cache that it does not know, because this user "
            f"is not trusted ({error.__cause__}). To let it, {trust}add this user to its `trusted-users`. "
            "Until then what only that cache holds is built.",
            door=errors.DOOR,
            action="restore",
            subject=sample.info.path if sample else "",
            retryable=False,
        )


class _Deaf:
    """Hears nothing."""

    def started(self) -> None:
        """Ignore it."""

    def line(self, text: str) -> None:
        """Ignore it."""

    def phase(self, name: str) -> None:
        """Ignore it."""

    def kept(self, directory: str) -> None:
        """Ignore it."""


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
