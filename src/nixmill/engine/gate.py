"""The places of machines, shared by all runs of a server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from nixmill.core.fairness import Shares, Ticket
from nixmill.core.machine import Machine
from nixmill.doors import Clock


class Gate:
    """Lets as many builds through as each machine has places; who is next is decided by `core.fairness`."""

    def __init__(self, clock: Clock) -> None:
        """Begin without machines: those that are not known have room for everything."""
        self._clock = clock
        self._places: dict[str, int] = {}
        self._shares = Shares()
        self._waiting: dict[Ticket, asyncio.Event] = {}
        self.inside: dict[Ticket, float] = {}
        """What has a place, and since when (monotonic)."""
        self._closed = ""

    def close(self, why: str) -> None:
        """Let nothing more through, and say why; with an empty reason, let through again."""
        self._closed = why
        self._admit()

    def set_places(self, machines: Sequence[Machine]) -> None:
        """Learn how many builds each machine takes at once."""
        self._places = {machine.address: machine.max_jobs for machine in machines}
        self._admit()

    @contextlib.asynccontextmanager
    async def place(self, ticket: Ticket) -> AsyncIterator[None]:
        """Wait for a place and keep it while the context lasts."""
        admitted = asyncio.Event()
        self._waiting[ticket] = admitted
        self._admit()
        try:
            await admitted.wait()
            yield
        finally:
            self._leave(ticket)

    def now(self) -> float:
        """Return the time that tickets are stamped with."""
        return self._clock.monotonic()

    def waiting(self) -> list[Ticket]:
        """Return what waits, in the order in which it will go on."""
        return self._shares.order(self._waiting, self._clock.monotonic())

    def reason(self, ticket: Ticket) -> str:
        """Say why something waits here."""
        if self._closed:
            return self._closed
        busy = [other for other in self.inside if other.machine == ticket.machine]
        before = sum(1 for other in self.waiting() if other.machine == ticket.machine and other is not ticket)
        names = ", ".join(sorted({f"{other.name} of {other.party.name}" for other in busy})[:2])
        where = "this machine" if ticket.machine == "local" else ticket.machine
        return f"all {len(busy)} places of {where} are busy with {names}; {before} others want one too"

    def _leave(self, ticket: Ticket) -> None:
        self._waiting.pop(ticket, None)
        began = self.inside.pop(ticket, None)
        if began is not None:
            self._shares.ended(ticket, self._clock.monotonic() - began)
        project = ticket.party.project
        if all(other.party.project != project for other in (*self.inside, *self._waiting)):
            self._shares.forget(project)
        self._admit()

    def _admit(self) -> None:
        """Let through whoever can go. Called whenever something came, left, or machines changed."""
        now = self._clock.monotonic()
        while ticket := self._shares.first(filter(self._has_room, self._waiting), now):
            admitted = self._waiting.pop(ticket)
            self.inside[ticket] = now
            self._shares.started(ticket)
            admitted.set()

    def _has_room(self, ticket: Ticket) -> bool:
        if self._closed:
            return False
        places = self._places.get(ticket.machine)
        return places is None or sum(1 for other in self.inside if other.machine == ticket.machine) < places
