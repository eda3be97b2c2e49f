"""Keeps the roots in the store equal to what should stand, so that a crash at any point heals (semantics §5).

What should stand is what the database says (`core.roots.wanted`), and what runs under way have named (`hold`). Roots
are added before anything relies on them, and removed only here: by a pass that looked at the directory first, then at
the database, and only where a root has been unwanted for some time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from nixmill.config.roots import RootSettings
from nixmill.core import roots as rules
from nixmill.core.roots import RootRules
from nixmill.doors import Clock, DoorError
from nixmill.doors.roots import PinBook, Roots
from nixmill.nix.store_path import StorePath

PASS_S: Final = 300.0
"""Between two passes that nobody asked for."""
PAUSE_S: Final = 5.0
"""Between two passes, however many runs end."""
GRACE_S: Final = 600.0
"""How long a root stands that nothing wants: a run that a crash broke off may be about to want it again."""
FAULTS_MAX: Final = 50

log = structlog.get_logger("nixmill.keeper")


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What the last pass found."""

    standing: int = 0
    wanted: int = 0
    added: int = 0
    removed: int = 0
    faults: Sequence[tuple[StorePath, str]] = ()
    """Roots that could not be made, the first few."""
    fault: str = ""
    """Why the pass could not be made at all."""
    checked_at: float = 0.0


class Keeper:
    """Keeps the roots of one store; implements `nixmill.doors.roots.Leases`."""

    def __init__(
        self,
        roots: Roots,
        book: PinBook,
        clock: Clock,
        root_rules: RootRules,
        *,
        tidy: Callable[[], Awaitable[None]] | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        """Begin with nothing leased; `tidy` brings the book up to date before each pass."""
        self._roots = roots
        self._book = book
        self._clock = clock
        self._rules = root_rules
        self._tidy = tidy
        self._grace_s = grace_s
        self._leases: dict[int, set[StorePath]] = {}
        self._leaving: set[int] = set()
        self._unwanted_since: dict[str, float] = {}
        self._moving = asyncio.Lock()
        self._woken = asyncio.Event()
        self.last = Standing()

    async def hold(self, run: int, paths: Collection[StorePath]) -> dict[StorePath, str]:
        """See `Leases`."""
        self._leaving.discard(run)
        self._leases.setdefault(run, set()).update(paths)  # before its roots stand: a pass under way leaves them alone
        async with self._moving:
            return await self._roots.add(paths)

    async def hold_now(self, paths: Collection[StorePath]) -> dict[StorePath, str]:
        """Make roots stand for paths that the database wants already; return those that could not be made."""
        async with self._moving:
            return await self._roots.add(paths)

    async def standing(self) -> Standing:
        """Return what the last pass found."""
        return self.last

    def let_go(self, run: int) -> None:
        """Hear that what a run leased is either recorded by now or not wanted any more."""
        if run in self._leases:
            self._leaving.add(run)
            self.wake()

    def wake(self) -> None:
        """Look soon whether the right roots stand."""
        self._woken.set()

    async def run(self) -> None:
        """Keep for ever."""
        while True:
            self._woken.clear()
            try:
                await self.once()
            except DoorError as error:
                self.last = msgspec.structs.replace(self.last, fault=str(error), checked_at=self._clock.now())
                log.warning("roots could not be looked after", fault=str(error))
            await self._clock.sleep(PAUSE_S)
            await self._until_woken()

    async def once(self) -> Standing:
        """Make one pass: the directory first, then the database, then what differs."""
        standing = await self._roots.standing()
        for run in self._leaving:
            self._leases.pop(run, None)  # what it recorded is in the facts that are asked for now
        self._leaving.clear()
        if self._tidy is not None:
            await self._tidy()
        now = self._clock.now()
        wanted = rules.wanted(await self._book.facts(now), self._rules, now)
        async with self._moving:
            live = {path for paths in self._leases.values() for path in paths}
            lacking, surplus = rules.changes(standing, wanted | live)
            faults = await self._roots.add(lacking) if lacking else {}
            doomed = self._ripe(surplus, now)
            if doomed:
                await self._roots.remove(doomed)
        self.last = _standing(standing, wanted, len(lacking), len(doomed), faults, now)
        return self.last

    def _ripe(self, surplus: Collection[str], now: float) -> set[str]:
        """Return what has been unwanted for long enough, and remember since when the rest is."""
        self._unwanted_since = {name: self._unwanted_since.get(name, now) for name in surplus}
        doomed = {name for name, since in self._unwanted_since.items() if now - since >= self._grace_s}
        for name in doomed:
            del self._unwanted_since[name]
        return doomed

    async def _until_woken(self) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(PASS_S))
        waking = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait({sleeping, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            waking.cancel()


def root_rules(settings: RootSettings) -> RootRules:
    """Return what of the settings decides how long what is kept."""
    return RootRules(
        gone_days=settings.gone_days,
        pull_request_days=settings.pull_request_days,
        pull_request_open_days=settings.pull_request_open_days,
        pull_request_runs=settings.pull_request_runs,
    )


def _standing(
    standing: Collection[str],
    wanted: Collection[StorePath],
    added: int,
    removed: int,
    faults: Mapping[StorePath, str],
    now: float,
) -> Standing:
    return Standing(
        standing=len(standing) + added - len(faults) - removed,
        wanted=len(wanted),
        added=added - len(faults),
        removed=removed,
        faults=tuple(sorted(faults.items())[:FAULTS_MAX]),
        checked_at=now,
    )
