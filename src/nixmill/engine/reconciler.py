"""Asks forges, now and then, for what their webhooks did not tell; keeps webhooks as they should be.

At the start everything is asked: what happened while the server was down came to nobody. A repository that is looked
at for the first time has its open pull requests recorded and not run.
"""

import asyncio
from typing import Final

import structlog

from nixmill.core.project import Project
from nixmill.doors import DoorError
from nixmill.engine.pulls import Pulls, quietly
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.watch import Watch

ROUND_S: Final = 5.0
HOOKS_S: Final = 86_400.0
"""Between two looks at whether a webhook is as it should be."""
AGAIN_S: Final = 60.0
"""After a fault."""

log = structlog.get_logger("nixmill.reconciler")


class Reconciler:
    """All projects that belong to a forge."""

    def __init__(self, doors: ServerDoors, pulls: Pulls, watch: Watch) -> None:
        """Look at pull requests through `pulls`, at branches through `watch`."""
        self._doors = doors
        self._watch = watch
        self._pulls = pulls
        self._due: dict[int, float] = {}
        self._hooks_due: dict[int, float] = {}
        self._intervals = {forge.name: float(forge.reconcile_s) for forge in doors.settings.forges}
        self._makes_hooks = {forge.name for forge in doors.settings.forges if forge.create_hooks}
        self._wake = asyncio.Event()

    def hurry(self, project: int) -> None:
        """Ask for a project's pull requests soon."""
        self._due.pop(project, None)
        self._hooks_due.pop(project, None)
        self._wake.set()

    async def run(self) -> None:
        """Ask, for ever."""
        while True:
            try:
                await self._round()
            except DoorError as error:
                log.warning("projects could not be read", fault=str(error))
            try:
                async with asyncio.timeout(ROUND_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _round(self) -> None:
        now = self._doors.clock.monotonic()
        projects = [one for one in await self._doors.projects.projects() if self._pulls.forge_of(one) is not None]
        due = [one for one in projects if one.enabled and self._due.get(one.id, 0.0) <= now]
        await asyncio.gather(*(self._project(project) for project in due))

    async def _project(self, project: Project) -> None:
        self._watch.hurry(project.id)
        good = await quietly("asking for pull requests", project, self._pulls.reconcile(project))
        if self._hooks_due.get(project.id, 0.0) <= self._doors.clock.monotonic():
            good &= await quietly("looking at the webhook", project, self._hook(project))
        pause = self._intervals[project.forge] if good else AGAIN_S
        self._due[project.id] = self._doors.clock.monotonic() + pause

    async def _hook(self, project: Project) -> None:
        self._hooks_due[project.id] = self._doors.clock.monotonic() + HOOKS_S
        forge = self._pulls.forge_of(project)
        if forge is None or project.forge not in self._makes_hooks:
            return
        repository = await forge.repository(project.repository)
        if repository is None:
            log.warning("the forge does not show us a repository", project=project.name, repository=project.repository)
            return
        said = await forge.ensure_hook(repository, f"{self._doors.settings.url}/hook/forge/{project.forge}")
        if said:
            log.info(said, project=project.name, forge=project.forge)
