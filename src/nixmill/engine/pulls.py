"""Looks at pull requests: asks their forge for the truth, accepts the changes that follow, withdraws what nobody needs.

A look may come from a webhook, the reconciler or a person; it is always the same look, so events that come twice, late
or not at all end in the same state.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec
import structlog

from nixmill.core.change import Change, ChangeState, Origin
from nixmill.core.project import Project
from nixmill.core.pull_request import Approval, Known, PullRequest, PullState, decide, is_stale, tier_of
from nixmill.doors import DoorError
from nixmill.doors.forge import AnyForge
from nixmill.engine.server_doors import ServerDoors

AT_ONCE: Final = 4
"""Projects of which pull requests are asked for at the same time."""
ALL_OFF: Final = "all jobsets of the project are switched off"

log = structlog.get_logger("nixmill.pulls")


class Pulls:
    """All projects'."""

    def __init__(
        self,
        doors: ServerDoors,
        accepted: Callable[[Project, list[int]], Awaitable[None]],
        cancel: Callable[[Change, str], Awaitable[None]],
    ) -> None:
        """Announce new changes by `accepted`, stop those that nobody needs by `cancel` (change, why)."""
        self._doors = doors
        self._accepted = accepted
        self._cancel = cancel
        self._turns: dict[tuple[int, int], asyncio.Lock] = {}
        self._places = asyncio.Semaphore(AT_ONCE)

    def forge_of(self, project: Project) -> AnyForge | None:
        """Return the forge of a project; None for a plain git repository, or where the settings have it no more."""
        return self._doors.forges.get(project.forge) if project.forge and project.repository else None

    async def look(self, project: Project, number: int, *, insist: bool = False) -> None:
        """Look at one pull request now; with `insist` it is run though it would be left alone.

        Raises `DoorError` where its forge cannot be asked.
        """
        forge = self.forge_of(project)
        if forge is None or not project.enabled:
            return
        project = await self._identified(project, forge)
        seen = await forge.pull_request(project.repository, number)
        if seen is not None:
            await self.take(project, seen, insist=insist)

    async def take(self, project: Project, seen: PullRequest, *, backlog: bool = False, insist: bool = False) -> None:
        """Do what follows from what a forge says of a pull request; one after another for each."""
        async with self._turn(project.id, seen.number):
            known = await self._doors.pulls.pull_request(project.id, seen.number)
            if is_stale(known, seen):
                return
            await self._follow(project, known, seen, backlog=backlog, insist=insist)

    async def _follow(
        self, project: Project, known: Known | None, seen: PullRequest, *, backlog: bool, insist: bool
    ) -> None:
        jobsets = await self._doors.projects.jobsets(project.id)
        jobset = next((one for one in jobsets if one.enabled), None)
        tier = tier_of(seen, project.repository_id)
        decision = decide(
            known,
            seen,
            project=project.id,
            jobset=jobset.id if jobset else None,
            tier=tier,
            drafts=project.drafts,
            backlog=backlog,
            insist=insist,
            off=ALL_OFF if jobsets and jobset is None else "",
        )
        now = self._doors.clock.now()
        targets, systems = (jobset.targets, jobset.systems) if jobset else ((), ())
        changes = [
            msgspec.structs.replace(change, requested_at=now, targets=targets, systems=systems)
            for change in decision.changes
        ]
        numbers = await self._doors.pulls.saw(project.id, seen, changes)
        if decision.withdraw:
            await self._withdraw(decision.withdraw, decision.why)
        await self._accepted(project, numbers)

    async def _withdraw(self, numbers: Iterable[int], why: str) -> None:
        for number in await self._doors.pulls.withdraw(tuple(numbers), why):
            change = await self._doors.changes.change(number)
            if change is not None:
                await self._cancel(change, why)

    async def approve(self, project: Project, approval: Approval) -> list[int]:
        """Record an approval and let go on what waits for it; return the numbers of those runs."""
        async with self._turn(project.id, approval.pull_request):
            numbers = await self._doors.pulls.approve(approval)
            numbers = numbers or await self._anew(project, approval)
        await self._accepted(project, numbers)
        return numbers

    async def _anew(self, project: Project, approval: Approval) -> list[int]:
        """Begin again what was cancelled while it waited for this approval; return its number."""
        known = await self._doors.pulls.pull_request(project.id, approval.pull_request)
        if known is None or known.pull.state is not PullState.OPEN or known.pull.head_commit != approval.commit:
            return []
        newest = next((change for change in known.changes if change.commit == approval.commit), None)
        if newest is None or not newest.cancel_asked or newest.tested or newest.state is not ChangeState.DONE:
            return []
        again = {"origin": Origin.RETRY, "retry_of": newest.number, "requested_at": self._doors.clock.now()}
        fresh = {"number": 0, "state": ChangeState.WAITING, "cancel_asked": False, "withdrawn": False}
        change = msgspec.structs.replace(newest, **again, **fresh, superseded_by=None)
        return list(await self._doors.changes.accept([change]))

    async def reconcile(self, project: Project) -> None:
        """Ask what was missed: everything that is open, and what was open and is no longer."""
        forge = self.forge_of(project)
        if forge is None or not project.enabled:
            return
        async with self._places:
            project = await self._identified(project, forge)
            before = {pull.number for pull in await self._doors.pulls.open_pull_requests(project.id)}
            backlog = await self._doors.members.setting(_reconciled(project)) is None
            open_ = await forge.pull_requests(project.repository)
            if not open_ and before and await forge.repository(project.repository) is None:
                raise DoorError(
                    f"{project.forge} does not show us {project.repository} any more: was our access taken away?",
                    door="forge",
                    action="ask for pull requests",
                    subject=project.repository,
                    retryable=False,
                )
            for seen in open_:
                await self.take(project, seen, backlog=backlog)
            for number in sorted(before - {seen.number for seen in open_}):
                await self._gone(project, forge, number)
            if backlog:
                await self._doors.members.save_setting(_reconciled(project), "true")
            await self._doors.merging.keep_heads(project.id, [seen.fetch_ref for seen in open_])

    async def _identified(self, project: Project, forge: AnyForge) -> Project:
        """Return a project with the forge's own id of its repository, which trust hangs on; where unknown, ask."""
        if project.repository_id:
            return project
        repository = await forge.repository(project.repository)
        if repository is None:
            return project
        known = {"repository": repository.path, "repository_id": repository.id}
        return await self._doors.projects.save_project(msgspec.structs.replace(project, **known))

    async def _gone(self, project: Project, forge: AnyForge, number: int) -> None:
        """Close what is open no more; one that its forge does not know at all was deleted."""
        seen = await forge.pull_request(project.repository, number)
        known = await self._doors.pulls.pull_request(project.id, number)
        if seen is None and known is not None:
            seen = msgspec.structs.replace(known.pull, state=PullState.CLOSED)
        if seen is not None:
            await self.take(project, seen)

    async def held(self, project: int, number: int) -> list[Change]:
        """Return the changes of a pull request that wait for approval, the newest first."""
        known = await self._doors.pulls.pull_request(project, number)
        return [change for change in known.changes if change.state is ChangeState.HELD] if known else []

    def _turn(self, project: int, number: int) -> asyncio.Lock:
        """Return the lock of a pull request; those that nobody holds are forgotten when there are many."""
        if len(self._turns) > 10_000:
            self._turns = {key: lock for key, lock in self._turns.items() if lock.locked()}
        return self._turns.setdefault((project, number), asyncio.Lock())


def _reconciled(project: Project) -> str:
    """Return the name of the setting by which it is known that a project's backlog was recorded."""
    return f"pull requests of project {project.id} were recorded"


async def quietly(what: str, project: Project, work: Awaitable[None]) -> bool:
    """Do work for one project; what goes wrong is logged, so that others go on. Say whether it went well."""
    try:
        await work
    except DoorError as error:
        log.warning("something has to wait", what=what, project=project.name, fault=str(error))
        return False
    except Exception:
        log.exception("a fault of nixmill", what=what, project=project.name)
        return False
    return True
