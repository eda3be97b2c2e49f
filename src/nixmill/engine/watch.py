"""Watches remotes: looks when a poll is due or a webhook hints, and accepts the changes that follow."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import msgspec
import structlog

from nixmill.config import ProjectConfig
from nixmill.core.change import Change, Origin, supersedes
from nixmill.core.errors import InputError
from nixmill.core.project import Polled, Project, Ref, short
from nixmill.core.source import TreeRequest
from nixmill.core.trust import Tier, tier_of_ref
from nixmill.core.watching import Watched, changes_from, effective, vanished
from nixmill.doors import DoorError
from nixmill.engine.live import project_topic, run_topic
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.server_request import config_of

AT_ONCE: Final = 8
"""Remotes looked at at the same time."""
FAULT_MAX_S: Final = 3600.0
"""A remote that cannot be reached is looked at this seldom at most."""
LOOK_ROUND_S: Final = 1.0

log = structlog.get_logger("nixmill.watch")


class Watch:
    """All projects'."""

    def __init__(
        self,
        doors: ServerDoors,
        supersede: Callable[[Change, int], Awaitable[None]],
        cancel: Callable[[Change, str], Awaitable[None]],
        told: Callable[[int], None],
    ) -> None:
        """Stop runs through `supersede` (older, newer) and `cancel` (change, why); report new ones by `told`."""
        self._doors = doors
        self._stop = supersede
        self._cancel = cancel
        self._told = told
        self._hurry: set[int] = set()
        self._wake = asyncio.Event()
        self._at_first = True
        self._due: dict[int, float] = {}
        self._faults: dict[int, int] = {}
        self._looking: set[int] = set()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._watched: dict[int, tuple[str, Watched]] = {}

    def hurry(self, project: int) -> None:
        """Look at a project's remote now."""
        self._hurry.add(project)
        self._wake.set()

    async def run(self) -> None:
        """Watch, for ever. At first every remote is looked at: hints that came before a crash are gone."""
        self._at_first = True
        async with asyncio.TaskGroup() as group:
            while True:
                for project in await self._due_now():
                    self._looking.add(project.id)
                    group.create_task(self._look_safely(project))
                await self._pause()

    async def _due_now(self) -> list[Project]:
        try:
            projects = await self._doors.projects.projects()
        except DoorError as error:
            log.warning("projects could not be read", fault=str(error))
            return []
        now = self._doors.clock.monotonic()
        hurried, self._hurry = self._hurry, set()
        if self._at_first:
            hurried |= {project.id for project in projects if project.enabled}
            self._at_first = False
        due = [one for one in projects if one.id in hurried or self._is_due(one, now)]
        self._hurry |= {one.id for one in due if one.id in self._looking and one.id in hurried}
        return [one for one in due if one.id not in self._looking]

    def _is_due(self, project: Project, now: float) -> bool:
        return project.enabled and project.poll_s > 0 and self._due.get(project.id, 0.0) <= now

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(LOOK_ROUND_S):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _look_safely(self, project: Project) -> None:
        """Look; nothing that goes wrong with one project stops the watching of others."""
        try:
            async with self._places:
                good = await self.look(project)
        except DoorError as error:
            good = False
            log.warning("a look could not be recorded", project=project.name, fault=str(error))
        except Exception:
            good = False
            log.exception("a fault of nixmill while looking at a remote", project=project.name)
        finally:
            self._looking.discard(project.id)
        faults = self._faults[project.id] = 0 if good else self._faults.get(project.id, 0) + 1
        pause = min(project.poll_s * 2.0**faults, FAULT_MAX_S) if faults else project.poll_s
        self._due[project.id] = self._doors.clock.monotonic() + pause
        self._wake.set()

    async def look(self, project: Project) -> bool:
        """Look at a remote and accept what follows; say whether it could be reached."""
        now = self._doors.clock.now()
        try:
            refs, default = await self._doors.remote.look(project)
            before = {ref.name: ref.commit for ref in await self._doors.refs.refs(project.id)}
            changes = await self._changes(project, before, refs, project.default_branch or default)
        except (DoorError, InputError) as error:
            await self._doors.refs.saw(project.id, Polled(at=now, fault=str(error)), None, [])
            self._doors.live.tell(project_topic(project.id))
            return False
        numbers = await self._doors.refs.saw(project.id, Polled(at=now, default_branch=default), refs, changes)
        await self.accepted(project, numbers)
        await self._stop_vanished(project, vanished(before, refs))
        return True

    async def _stop_vanished(self, project: Project, gone: set[str]) -> None:
        """Stop runs of pushes and merge queues whose branch was deleted: nobody waits for them."""
        if not gone:
            return
        for change in await self._doors.changes.open_changes():
            mine = change.project == project.id and change.ref in gone
            if (
                mine
                and change.origin in {Origin.PUSH, Origin.MERGE_QUEUE}
                and await self._doors.changes.stop(change.number)
            ):
                await self._cancel(change, f": {short(change.ref)} was deleted")

    async def tier(self, project: Project, ref: str, default: str) -> Tier:
        """Return how far a branch or tag is trusted, asking the project's forge what it protects."""
        if ref == f"refs/heads/{default}":
            return Tier.PROTECTED
        forge = self._doors.forges.get(project.forge)
        if forge is None or not ref.startswith("refs/heads/"):
            return Tier.BRANCH
        try:
            protected = await forge.protects(project.repository, short(ref))
        except DoorError as error:
            log.warning("a branch counts as unprotected: the forge cannot be asked", ref=ref, fault=str(error))
            protected = False
        return tier_of_ref(default=False, protected=protected)

    async def accepted(self, project: Project, numbers: Sequence[int]) -> None:
        """Tell pages of new changes, and stop what they supersede."""
        for number in numbers:
            self._doors.live.tell(run_topic(number), project_topic(project.id))
            self._told(number)
            change = await self._doors.changes.change(number)
            if change is not None:
                await self.supersede_earlier(change)

    async def supersede_earlier(self, newer: Change) -> None:
        """Stop what a change makes pointless."""
        for older in await self._doors.past.earlier(newer):
            if supersedes(newer, older) and await self._doors.changes.stop(older.number, newer.number):
                await self._stop(older, newer.number)

    async def _changes(
        self, project: Project, before: Mapping[str, str], refs: Sequence[Ref], default: str
    ) -> list[Change]:
        jobsets = await self._doors.projects.jobsets(project.id)
        watched = await self._watched_by(project, refs, default)
        polled = await self._doors.refs.polled(project.id)
        known = before if before or (polled and not polled.fault) else None
        changes = changes_from(project, [effective(one, watched) for one in jobsets], known, refs, default)
        now = self._doors.clock.now()
        return [await self._trusted(project, change, default, now) for change in changes]

    async def _trusted(self, project: Project, change: Change, default: str, now: float) -> Change:
        """Return a change with its tier; a merge queue's is that of any branch, whatever its name is protected as."""
        queued = change.origin is Origin.MERGE_QUEUE
        tier = change.tier if queued else await self.tier(project, change.ref, default)
        return msgspec.structs.replace(change, requested_at=now, tier=tier)

    async def _watched_by(self, project: Project, refs: Sequence[Ref], default: str) -> Watched:
        """Return what `nixmill.toml` of the default branch says of branches; read anew when that branch moves."""
        head = next((ref for ref in refs if ref.name == f"refs/heads/{default}"), None)
        if head is None:
            return Watched()
        commit, watched = self._watched.get(project.id, ("", Watched()))
        if commit != head.commit:
            watched = await self._read(project, head)
            self._watched[project.id] = head.commit, watched
        return watched

    async def _read(self, project: Project, head: Ref) -> Watched:
        doors = self._doors
        try:
            await doors.remote.fetch(project, head.name, head.commit)
            request = TreeRequest(directory=doors.remote.mirror(project.id), revision=head.commit)
            config = await config_of(doors.source, await doors.source.tree(request), "the default branch")
        except InputError:
            config = ProjectConfig()  # the run of this commit says what is wrong with the file
        return Watched(branches=config.watch.branches, tags=config.watch.tags)
