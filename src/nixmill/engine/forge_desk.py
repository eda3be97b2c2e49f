"""Takes what forges' webhooks hint at, and sees to it: one hint of each thing is enough for many.

A webhook is recorded before it is acknowledged, and looked into here afterwards. What a hint says is only where to look
and who pressed a button.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import structlog

from nixmill.core.errors import InputError
from nixmill.core.forge import Event, Hint, HintKind
from nixmill.core.message import Parcel
from nixmill.core.project import Project
from nixmill.doors import DoorError
from nixmill.doors.server import RetryLaterError
from nixmill.engine.commands import Commands
from nixmill.engine.courier import back_off_s, first_of
from nixmill.engine.holds import Holds
from nixmill.engine.known_projects import project_of_repository
from nixmill.engine.pulls import Pulls
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.watch import Watch

READ: Final = 500
AT_ONCE: Final = 8
TRIES: Final = 12
"""After so many a hint is given up; the reconciler asks for the truth anyway."""
LOOK_AGAIN_S: Final = 10.0

log = structlog.get_logger("nixmill.forge")


class Taken(NamedTuple):
    """Hints that are seen to together, as they are about the same thing."""

    ids: tuple[int, ...]
    forge: str
    hint: Hint
    tries: int

    @property
    def about(self) -> tuple[str, str]:
        """Return the forge and the repository that they are about."""
        return self.forge, self.hint.repository_id or self.hint.repository


class ForgeDesk:
    """Empties the inbox."""

    def __init__(self, doors: ServerDoors, watch: Watch, pulls: Pulls, commands: Commands) -> None:
        """See to hints through these."""
        self._doors = doors
        self._watch = watch
        self._pulls = pulls
        self._commands = commands
        self._woken = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._holds = Holds()
        self._again: set[float] = set()
        """When hints that could not be seen to are due again."""
        self.repositories_changed = asyncio.Event()
        """Set when a forge says that repositories came, went or changed."""

    async def took(self, forge: str, event: Event) -> bool:
        """Record a verified event; False where its delivery was seen before."""
        new = await self._doors.inbox.put(forge, event, self._doors.clock.now())
        if new:
            self._woken.set()
        return new

    async def run(self) -> None:
        """See to hints, for ever."""
        while True:
            self._woken.clear()
            try:
                busy = await self._look()
            except DoorError as error:
                busy = False
                log.warning("the inbox cannot be read", fault=str(error))
            if not busy:
                await first_of(self._woken.wait(), self._doors.clock.sleep(self._pause_s()))

    async def _look(self) -> bool:
        """See to what is due; say whether there may be more."""
        now = self._doors.clock.now()
        self._again = {at for at in self._again if at > now}
        due = await self._doors.inbox.due(now, READ)
        projects = await self._doors.projects.projects() if due else ()
        await asyncio.gather(*(self._in_turn(chain, projects) for chain in in_chains(together(due))))
        return len(due) == READ

    def _pause_s(self) -> float:
        now = self._doors.clock.now()
        return min([LOOK_AGAIN_S, *(max(0.1, at - now) for at in self._again)])

    async def _in_turn(self, chain: Sequence[Taken], projects: Sequence[Project]) -> None:
        for taken in chain:
            await self._see_to(taken, projects)

    async def _see_to(self, taken: Taken, projects: Sequence[Project]) -> None:
        replies: list[Parcel] = []
        async with self._places:
            if held := self._holds.until(*taken.about, self._doors.clock.now()):
                self._again.add(held)
                return await self._doors.inbox.handled(taken.ids, again_at=held)
            try:
                replies = await self._do(taken, projects)
            except DoorError as error:
                return await self._failed(taken, error)
            except InputError as error:
                log.info("an event asks for what cannot be", forge=taken.forge, why=str(error))
            except Exception as error:
                log.exception("a fault of nixmill while it looked into an event", forge=taken.forge)
                trouble = DoorError(f"A fault of nixmill: {error!r}", door="forge", action="look", retryable=True)
                return await self._failed(taken, trouble)
            self._holds.went_well(*taken.about)
            await self._doors.inbox.handled(taken.ids, replies=replies)
        return None

    async def _failed(self, taken: Taken, error: DoorError) -> None:
        now, tries = self._doors.clock.now(), taken.tries + 1
        if not error.retryable or tries >= TRIES:
            log.warning("an event is given up", forge=taken.forge, hint=taken.hint.kind.value, fault=str(error))
            return await self._doors.inbox.handled(taken.ids, fault=str(error))
        if tries == 1:
            log.warning("an event has to wait", forge=taken.forge, hint=taken.hint.kind.value, fault=str(error))
        pause = back_off_s(tries)
        if isinstance(error, RetryLaterError):
            pause = max(pause, error.after_s)
        self._holds.failed(*taken.about, error, pause, now)
        self._again.add(now + pause)
        return await self._doors.inbox.handled(taken.ids, fault=str(error), again_at=now + pause)

    async def _do(self, taken: Taken, projects: Sequence[Project]) -> list[Parcel]:
        """Do what a hint hints at; return what is to be answered."""
        hint = taken.hint
        if hint.kind is HintKind.REPOSITORY:
            self.repositories_changed.set()
            return []
        project = project_of_repository(projects, taken.forge, hint.repository_id, hint.repository)
        if project is None or not project.enabled:
            return []
        match hint.kind:
            case HintKind.PUSH | HintKind.MERGE_QUEUE:
                self._watch.hurry(project.id)
            case HintKind.PULL_REQUEST:
                await self._pulls.look(project, hint.pull_request)
            case HintKind.COMMENT:
                return await self._commands.comment(project, hint)
            case HintKind.RERUN | HintKind.APPROVE:
                return await self._commands.button(project, hint)
            case HintKind.NOTHING:
                pass
        return []


def together(due: Iterable[tuple[int, str, Hint, int]]) -> list[Taken]:
    """Join hints that say "look there" about the same thing; what people did is seen to one by one, in order."""
    found: dict[object, Taken] = {}
    for number, forge, hint, tries in due:
        key: object = number
        if hint.kind in {HintKind.PUSH, HintKind.PULL_REQUEST, HintKind.MERGE_QUEUE, HintKind.REPOSITORY}:
            key = forge, hint.kind, hint.repository_id or hint.repository, hint.pull_request
        before = found.get(key)
        found[key] = Taken((*(before.ids if before else ()), number), forge, hint, tries)
    return list(found.values())


def in_chains(found: Iterable[Taken]) -> list[list[Taken]]:
    """Put what is about one pull request one after another: a command may undo the one before it."""
    chains: dict[object, list[Taken]] = {}
    for taken in found:
        hint = taken.hint
        about = (*taken.about, hint.pull_request)
        chains.setdefault(about if hint.pull_request else taken.ids, []).append(taken)
    return list(chains.values())
