"""Whose turn it is where several runs want the same machine: by class first, then by each project's share.

Every run offers what its own schedule puts first (`nixmill.core.schedule`); this decides between runs. A project's use
is counted in machine seconds, divided by its weight; who has had least is next. Waiting lifts a build into the next
better class every `CLASS_STEP_S`, so that nothing starves. What it does not know: machines, time.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from nixmill.core.change import BuildClass
from nixmill.core.trust import Tier
from nixmill.nix.store_path import StorePath

CLASS_STEP_S: Final = 1800.0
EXPECTED_S: Final = 30.0
"""What a build without history counts as while it runs."""
_RANK: Final = {each: rank for rank, each in enumerate(BuildClass)}


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """On whose behalf something is built."""

    run: int = 0
    project: int = 0
    name: str = ""
    """Of the project."""
    weight: int = 1
    build_class: BuildClass = BuildClass.BRANCH
    tier: Tier = Tier.BRANCH


class Ticket(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Something that waits for a place, or has one."""

    party: Party
    drv_path: StorePath
    name: str
    machine: str
    since: float
    about_s: float | None


class Shares:
    """How much each project has had lately."""

    def __init__(self) -> None:
        """Begin with nothing used."""
        self._used: dict[int, float] = {}

    def first(self, waiting: Iterable[Ticket], now: float) -> Ticket | None:
        """Return who is next; None where nobody waits."""
        return min(waiting, key=lambda ticket: self._order(ticket, now), default=None)

    def order(self, waiting: Iterable[Ticket], now: float) -> list[Ticket]:
        """Return all in the order in which they would go if nothing else happened."""
        return sorted(waiting, key=lambda ticket: self._order(ticket, now))

    def started(self, ticket: Ticket) -> None:
        """Count what a build is expected to use. A project that was away begins where the least used one is."""
        least = min(self._used.values(), default=0.0)
        used = max(self._used.get(ticket.party.project, least), least)
        self._used[ticket.party.project] = used + _expected(ticket) / ticket.party.weight

    def ended(self, ticket: Ticket, seconds: float) -> None:
        """Put what was used in the place of what was expected."""
        more = (seconds - _expected(ticket)) / ticket.party.weight
        self._used[ticket.party.project] = self._used.get(ticket.party.project, 0.0) + more

    def forget(self, project: int) -> None:
        """Forget a project that wants nothing any more: past use is not held against it for ever."""
        self._used.pop(project, None)

    def _order(self, ticket: Ticket, now: float) -> tuple[float, float, float]:
        rank = _RANK[ticket.party.build_class] - int((now - ticket.since) / CLASS_STEP_S)
        return rank, self._used.get(ticket.party.project, 0.0), ticket.since


def _expected(ticket: Ticket) -> float:
    return EXPECTED_S if ticket.about_s is None else ticket.about_s
