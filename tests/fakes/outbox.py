"""The door `Outbox` in memory: what desks need of it."""

import asyncio
from collections.abc import Sequence

import msgspec

from nixmill.core.hook import HookRun, HookState
from nixmill.core.message import Delivered, Parcel, Rule
from nixmill.doors import DoorError


class FakeOutbox:
    """Keeps parcels and hook runs in dictionaries, and every outcome in a list.

    So many calls as `trouble` says fail; recording the parcel `hangs_at` never ends.
    """

    def __init__(self, *parcels: Parcel) -> None:
        self.parcels = {parcel.id: parcel for parcel in parcels}
        self.due_at = {parcel.id: parcel.created_at for parcel in parcels}
        self.outcomes: list[Delivered] = []
        self.hooks: dict[str, HookRun] = {}
        self.saved: list[HookRun] = []
        self.trouble = 0
        self.hangs_at = 0
        self.hanging = False

    def add(self, parcel: Parcel) -> None:
        self.parcels[parcel.id] = parcel
        self.due_at[parcel.id] = parcel.created_at

    async def rules(self, project: int) -> Sequence[Rule]:
        return ()

    async def save_rules(self, project: int, rules: Sequence[Rule]) -> Sequence[Rule]:
        return rules

    async def due(self, now: float, limit: int) -> Sequence[Parcel]:
        self._troubled()
        due = sorted((number for number, at in self.due_at.items() if at <= now))
        return [self.parcels[number] for number in due[:limit]]

    async def delivered(self, outcome: Delivered) -> None:
        self._troubled()
        if outcome.id == self.hangs_at:
            self.hanging = True
            await asyncio.Event().wait()
        self.outcomes.append(outcome)
        parcel = self.parcels[outcome.id]
        if outcome.again_at is None:
            del self.due_at[outcome.id]
        else:
            self.due_at[outcome.id] = outcome.again_at
            self.parcels[outcome.id] = msgspec.structs.replace(parcel, tries=parcel.tries + 1)

    async def replay(self, parcel: int) -> bool:
        return False

    async def hook_runs(self, *, save: HookRun | None = None, waiting: bool = True) -> Sequence[HookRun]:
        self._troubled()
        if save is not None:
            self.hooks[save.id] = save
            self.saved.append(save)
        wanted = HookState.WAITING if waiting else HookState.RUNNING
        return [run for run in self.hooks.values() if run.state is wanted]

    def _troubled(self) -> None:
        if self.trouble:
            self.trouble -= 1
            raise DoorError("The database is away.", door="outbox", action="ask", retryable=True)
