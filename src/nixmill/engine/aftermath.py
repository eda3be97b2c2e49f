"""What follows from the end of a run: messages into the outbox, hooks that are to run. Recorded once, sent later."""

import uuid

from nixmill.core import hook, message_text
from nixmill.core.change import Change
from nixmill.core.hook import HookRun
from nixmill.core.message import Ended, Parcel
from nixmill.core.trust import is_untrusted
from nixmill.engine.server_doors import ServerDoors


class Aftermath:
    """Decides with `core.message_text` and `core.hook`, records through the door `Changes`."""

    def __init__(self, doors: ServerDoors) -> None:
        """Use the server's doors."""
        self._doors = doors

    async def of(self, change: Change) -> None:
        """Record what follows from a finished change. Doing so again changes nothing: keys are the same."""
        told = await self._doors.story.told(change.number)
        if told is None:
            return
        parcels = await self._parcels(change, told)
        hooks = await self._hooks(change, told)
        if parcels or hooks:
            await self._doors.changes.ended(change.number, parcels, hooks)

    async def _parcels(self, change: Change, told: Ended) -> list[Parcel]:
        """Return what people are told; of what nobody vouches for they are told nothing, whoever started it."""
        if is_untrusted(change.tier):
            return []
        rules = await self._doors.outbox.rules(change.project)
        url, now = f"{self._doors.settings.url}/r/{change.number}", self._doors.clock.now()
        return message_text.parcels(told, rules, url, project=change.project, now=now) if rules else []

    async def _hooks(self, change: Change, told: Ended) -> list[HookRun]:
        if not self._doors.settings.hooks:
            return []
        attributes = await self._doors.story.attributes_for_hooks(change.number)
        return hook.started_by(
            self._doors.settings.hooks,
            [(name, good) for name, good, _ in attributes],
            run=change.number,
            project=change.project,
            names=(told.project, told.jobset),
            new_id=lambda: str(uuid.uuid4()),
            now=self._doors.clock.now(),
        )
