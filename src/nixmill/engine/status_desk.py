"""Posts statuses: what should stand on a forge and does not, several forges and commits at once.

What should stand is in the database before it is posted, and that it stands afterwards: a crash between the two posts
the same again. Of several states that one status went through while its forge was away only the newest is posted, and
one of an older generation never takes the place of a newer one (semantics §10).
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from nixmill.core.posting import Posting, PostOutcome
from nixmill.doors import DoorError
from nixmill.doors.forge import AnyForge
from nixmill.doors.server import RetryLaterError
from nixmill.engine.courier import JITTER, back_off_s, first_of
from nixmill.engine.holds import Holds
from nixmill.engine.insist import insist
from nixmill.engine.server_doors import ServerDoors

AT_ONCE: Final = 4
READ: Final = 200
LOOK_AGAIN_S: Final = 15.0
TRIES: Final = 60
"""About two days with pauses of up to 34 minutes: longer than a forge is usually away."""
REFUSED_TRIES: Final = 14
"""Of what a forge refuses: nearly three hours, in which somebody may mend a token or give a right back."""
AGAIN_S: Final = 7 * 86_400.0
"""What was given up so long ago at most is tried again when the server starts."""
PAUSE_MAX_EXPONENT: Final = 11

log = structlog.get_logger("nixmill.status")


class StatusDesk:
    """Makes forges say what they should."""

    def __init__(self, doors: ServerDoors, chance: Callable[[], float]) -> None:
        """Post through the forges of `doors`; `chance` returns numbers from 0 to 1."""
        self._doors = doors
        self._forges: Mapping[str, AnyForge] = doors.forges
        self._chance = chance
        self._woken = asyncio.Event()
        self._holds = Holds()
        self._again: set[float] = set()
        """When statuses that were not taken are due again."""
        self.posted = 0
        self.failed = 0

    def wake(self) -> None:
        """Say that something changed."""
        self._woken.set()

    async def run(self) -> None:
        """Post, for ever; at first also what was given up lately, as a token may have been mended since."""
        try:
            await self._doors.statuses.again(self._doors.clock.now() - AGAIN_S)
        except DoorError as error:
            log.warning("statuses that were given up are left so", fault=str(error))
        while True:
            self._woken.clear()
            busy = False
            try:
                busy = await self._look()
            except DoorError as error:
                log.warning("statuses cannot be read", fault=str(error))
            if not busy:
                await first_of(self._woken.wait(), self._doors.clock.sleep(self._pause_s()))

    async def _look(self) -> bool:
        """Post what is due; say whether something was."""
        now = self._doors.clock.now()
        self._again = {at for at in self._again if at > now}
        due = [one for one in await self._doors.statuses.due(now, READ) if not self._is_held(one)]
        places = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._commit(postings, places) for postings in _by_commit(due).values()))
        return bool(due)

    async def _commit(self, postings: list[Posting], places: asyncio.Semaphore) -> None:
        """Post the statuses of one commit, one after another: the required one first."""
        for posting in sorted(postings, key=lambda one: not one.required):
            async with places:
                if self._is_held(posting):
                    return
                outcome = await self._tried(posting)
            await insist(lambda outcome=outcome: self._doors.statuses.posted(outcome))  # type: ignore[misc]

    def _is_held(self, posting: Posting) -> bool:
        return bool(self._holds.until(posting.forge, posting.repository, self._doors.clock.now()))

    async def _tried(self, posting: Posting) -> PostOutcome:
        forge = self._forges.get(posting.forge)
        if forge is None:
            return self._failed(posting, _no_forge(posting))
        try:
            called = await forge.post(posting)
        except DoorError as error:
            return self._failed(posting, error)
        except Exception as error:
            log.exception("a fault of nixmill while it posted a status", run=posting.run)
            fault = DoorError(f"A fault of nixmill: {error!r}", door="forge", action="post", retryable=True)
            return self._failed(posting, fault)
        self.posted += 1
        self._holds.went_well(posting.forge, posting.repository)
        return _outcome(posting, self._doors.clock.now(), external_id=called)

    def _failed(self, posting: Posting, error: DoorError) -> PostOutcome:
        self.failed += 1
        now, tries = self._doors.clock.now(), posting.tries + 1
        if tries >= (TRIES if error.retryable else REFUSED_TRIES):
            log.warning("a status is given up", run=posting.run, context=posting.context, fault=str(error))
            return _outcome(posting, now, fault=str(error))
        if tries == 1:
            log.warning("a status has to wait", run=posting.run, context=posting.context, fault=str(error))
        pause = back_off_s(min(tries, PAUSE_MAX_EXPONENT)) * (1 + JITTER * self._chance())
        if isinstance(error, RetryLaterError):
            pause = max(pause, error.after_s)
        if error.retryable:
            self._holds.failed(posting.forge, posting.repository, error, pause, now)
        self._again.add(now + pause)
        return _outcome(posting, now, fault=str(error), again_at=now + pause)

    def _pause_s(self) -> float:
        now = self._doors.clock.now()
        return min([LOOK_AGAIN_S, *(max(0.1, at - now) for at in (*self._holds.pauses(now), *self._again))])


def _outcome(
    posting: Posting, at: float, *, external_id: str = "", fault: str = "", again_at: float | None = None
) -> PostOutcome:
    return PostOutcome(
        project=posting.project,
        commit=posting.commit,
        context=posting.context,
        generation=posting.generation,
        at=at,
        external_id=external_id or posting.external_id,
        fault=fault,
        again_at=again_at,
    )


def _by_commit(postings: list[Posting]) -> dict[tuple[int, str], list[Posting]]:
    found: dict[tuple[int, str], list[Posting]] = {}
    for posting in postings:
        found.setdefault((posting.project, posting.commit), []).append(posting)
    return found


def _no_forge(posting: Posting) -> DoorError:
    return DoorError(
        f"The server's settings have no forge {posting.forge!r} any more.",
        door="forge",
        action="post",
        subject=posting.repository,
        retryable=False,
    )
