"""Sends what is in the outbox: several targets at once, each in order, again and again until it arrives or cannot.

A message is durable before it is sent and its end is recorded after: a crash between the two sends that one message
again, and targets that look at its key show it once. While a message waits to be tried again, later ones to the same
target wait behind it (until the server restarts): "fixed" does not arrive before "failed".
What this file does not know: how a message travels (`nixmill.edge.notify`), and what is said (`core.message_text`).
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from structlog.typing import FilteringBoundLogger

from nixmill.core.message import ChannelKind, Delivered, Parcel
from nixmill.doors import Clock, DoorError
from nixmill.doors.server import Courier, Outbox, RetryLaterError

TRIES: Final = 10
"""After so many a message is a dead letter."""
BACK_OFF_MAX_EXPONENT: Final = 10
JITTER: Final = 0.25
"""How much of a pause is left to chance, so that what failed together does not come back together."""
AT_ONCE: Final = 8
READ: Final = 100
"""Messages read at once; more only where all of them belong to targets that wait."""
READ_MAX: Final = 6400
LOOK_AGAIN_S: Final = 30.0

Target = tuple[ChannelKind, str]
T = TypeVar("T")


def back_off_s(failures: int) -> float:
    """Return the pause after so many failed tries in a row: 1 without any, then 2, 4, 8 … up to 1024 seconds."""
    return float(2 ** min(failures, BACK_OFF_MAX_EXPONENT))


class CourierDesk:
    """Empties the outbox for as long as `run` runs. One at a time."""

    def __init__(
        self,
        outbox: Outbox,
        couriers: Mapping[ChannelKind, Courier],
        clock: Clock,
        log: FilteringBoundLogger,
        *,
        chance: Callable[[], float],
    ) -> None:
        """Send by these couriers; `chance` returns numbers from 0 to 1."""
        self._outbox = outbox
        self._couriers = couriers
        self._clock = clock
        self._log = log
        self._chance = chance
        self._lanes: dict[Target, asyncio.Task[None]] = {}
        self._held: dict[Target, float] = {}
        """Until when a target is left alone."""
        self._room = asyncio.Semaphore(AT_ONCE)
        self._woken = asyncio.Event()
        self.delivered = 0
        self.retried = 0
        """Tries that failed and are followed by another."""
        self.dead = 0

    def wake(self) -> None:
        """Say that something new is in the outbox."""
        self._woken.set()

    async def run(self) -> None:
        """Send until cancelled; deliveries under way are cancelled too, and tried again after the next start."""
        try:
            while True:
                self._woken.clear()
                pause_s = LOOK_AGAIN_S
                try:
                    await self._look()
                    pause_s = self._pause_s()
                except DoorError as error:
                    self._log.warning("the outbox cannot be read", reason=str(error))
                await first_of(self._woken.wait(), self._clock.sleep(pause_s))
        finally:
            await cancelled(self._lanes.values())

    async def _look(self) -> None:
        """Start a lane for every target that has something due and is not busy."""
        busy = set(self._lanes)  # a lane that ends while we read may leave what it sent in our answer
        now = self._clock.now()
        self._held = {target: until for target, until in self._held.items() if until > now}
        for target, parcels in (await self._due(now, busy)).items():
            self._lanes[target] = asyncio.create_task(self._lane(target, parcels))

    async def _due(self, now: float, busy: set[Target]) -> dict[Target, list[Parcel]]:
        """Return what can be sent now, by target; reads further where the oldest all belong to targets that wait."""
        limit = READ
        while True:
            due = await self._outbox.due(now, limit)
            shut = busy | set(self._lanes) | set(self._held)
            free = _by_target([parcel for parcel in due if _target(parcel) not in shut])
            if free or len(due) < limit or limit >= READ_MAX:
                return free
            limit *= 4

    async def _lane(self, target: Target, parcels: Sequence[Parcel]) -> None:
        """Send what is due for one target, in order, up to the first that has to be tried again."""
        try:
            for parcel in parcels:
                async with self._room:
                    outcome = await self._tried(parcel)
                await self._record(outcome)
                self._count(outcome)
                if outcome.again_at is not None:
                    self._held[target] = outcome.again_at
                    return
        finally:
            del self._lanes[target]
            self.wake()

    async def _tried(self, parcel: Parcel) -> Delivered:
        try:
            await self._courier(parcel).deliver(parcel)
        except DoorError as error:
            return self._failed(parcel, error)
        except Exception as error:  # noqa: BLE001 - whatever it was, this message must not stop the others
            self._log.exception("a courier failed", parcel=parcel.id, channel=parcel.channel.value)
            fault = f"This is a mistake in nixmill; its log says more ({type(error).__name__})."
            return self._failed(parcel, DoorError(fault, door="notify", action="deliver", retryable=True))
        return Delivered(id=parcel.id, at=self._clock.now())

    def _courier(self, parcel: Parcel) -> Courier:
        if (courier := self._couriers.get(parcel.channel)) is not None:
            return courier
        raise DoorError(
            f"This server cannot send by {parcel.channel.value}: add it to the settings, then send the message again.",
            door="notify",
            action="deliver",
            subject=parcel.target,
            retryable=False,
        )

    def _failed(self, parcel: Parcel, error: DoorError) -> Delivered:
        now, failures = self._clock.now(), parcel.tries + 1
        if not error.retryable or failures >= TRIES:
            self._log.warning("a message is a dead letter", parcel=parcel.id, tries=failures, reason=str(error))
            return Delivered(id=parcel.id, at=now, fault=str(error))
        asked_s = error.after_s if isinstance(error, RetryLaterError) else 0.0
        pause_s = max(asked_s, back_off_s(failures)) + self._chance() * JITTER * back_off_s(failures)
        return Delivered(id=parcel.id, at=now, fault=str(error), again_at=now + pause_s)

    async def _record(self, outcome: Delivered) -> None:
        """Record how a try ended, however long the database takes: what is not recorded is sent again."""
        failures = 0
        while True:
            try:
                return await self._outbox.delivered(outcome)
            except DoorError as error:
                failures += 1
                self._log.warning("a delivery cannot be recorded", parcel=outcome.id, reason=str(error))
                await self._clock.sleep(back_off_s(min(failures, 5)))

    def _count(self, outcome: Delivered) -> None:
        if not outcome.fault:
            self.delivered += 1
        elif outcome.again_at is not None:
            self.retried += 1
        else:
            self.dead += 1

    def _pause_s(self) -> float:
        return min([LOOK_AGAIN_S, *(max(0.0, until - self._clock.now()) for until in self._held.values())])


def _target(parcel: Parcel) -> Target:
    return parcel.channel, parcel.target


def _by_target(parcels: Sequence[Parcel]) -> dict[Target, list[Parcel]]:
    """Sort messages by target, each target's in the order in which they were put in: a later one may be due first."""
    found: dict[Target, list[Parcel]] = {}
    for parcel in sorted(parcels, key=lambda parcel: parcel.id):
        found.setdefault(_target(parcel), []).append(parcel)
    return found


async def first_of(*waits: Coroutine[object, object, object]) -> None:
    """Return once the first of several waits is over; the others are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await cancelled(tasks)


async def cancelled(tasks: Iterable[asyncio.Future[T]]) -> None:
    """Cancel tasks and wait for their end."""
    known = list(tasks)
    for task in known:
        task.cancel()
    await asyncio.gather(*known, return_exceptions=True)
