"""Finds repositories on forges that should be projects: by topic and allow-lists; keeps what is known of them true.

A repository that was renamed or moved stays the same project. One that became private is hidden at once; one that
became public stays hidden until a person says otherwise. What a forge does not show any more is left alone.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import structlog

from nixmill.config.forges import ForgeSettings
from nixmill.core.access import Visibility
from nixmill.core.discovery import free_name, is_chosen
from nixmill.core.errors import InputError
from nixmill.core.forge import ForgeKind, Repository
from nixmill.core.project import FIRST_JOBSET, Jobset, Project, check_url
from nixmill.doors import DoorError
from nixmill.engine.courier import first_of
from nixmill.engine.known_projects import project_of_repository
from nixmill.engine.project_checks import schemes
from nixmill.engine.server_doors import ServerDoors

EVERY_S: Final = 12 * 3600.0
AGAIN_S: Final = 300.0
"""After a fault."""
GATHER_S: Final = 2.0

log = structlog.get_logger("nixmill.discovery")


class Discovery:
    """All forges'."""

    def __init__(self, doors: ServerDoors, changed: asyncio.Event, added: Callable[[int], None]) -> None:
        """Look again when `changed` is set; call `added` with the id of every new project."""
        self._doors = doors
        self._changed = changed
        self._added = added

    async def run(self) -> None:
        """Look, for ever."""
        if not self._doors.forges:
            await asyncio.Event().wait()
        while True:
            self._changed.clear()
            good = [await self._safely(settings) for settings in self._doors.settings.forges]
            await first_of(self._changed.wait(), self._doors.clock.sleep(EVERY_S if all(good) else AGAIN_S))
            await self._doors.clock.sleep(GATHER_S)

    async def _safely(self, settings: ForgeSettings) -> bool:
        try:
            await self.look(settings)
        except (DoorError, InputError) as error:
            log.warning("repositories could not be asked for", forge=settings.name, fault=str(error))
            return False
        return True

    async def look(self, settings: ForgeSettings) -> None:
        """Ask one forge for its repositories and make projects as they should be."""
        repositories = await self._doors.forges[settings.name].repositories()
        for repository in repositories:
            projects = await self._doors.projects.projects()
            known = project_of_repository(projects, settings.name, repository.id, repository.path)
            if known is not None:
                await self._update(known, repository)
            elif is_chosen(settings.topic, settings.owners, settings.repositories, repository):
                await self._add(settings, repository, projects)

    async def _update(self, project: Project, repository: Repository) -> None:
        wanted = msgspec.structs.replace(project, repository=repository.path, repository_id=repository.id)
        if repository.private and project.visibility is Visibility.PUBLIC:
            wanted = msgspec.structs.replace(wanted, visibility=Visibility.PRIVATE)
        if wanted != project:
            await self._doors.projects.save_project(wanted)
            log.info("a project follows its repository", project=project.name, repository=repository.path)

    async def _add(self, settings: ForgeSettings, repository: Repository, projects: Sequence[Project]) -> None:
        check_url(repository.clone_url, schemes(self._doors.settings))
        made = await self._doors.projects.save_project(
            Project(
                name=free_name(repository.path, [project.name for project in projects]),
                title=repository.path,
                url=repository.clone_url,
                visibility=Visibility.PRIVATE if repository.private else Visibility.PUBLIC,
                poll_s=0 if settings.kind is ForgeKind.GITHUB else 600,
                forge=settings.name,
                repository=repository.path,
                repository_id=repository.id,
                created_at=self._doors.clock.now(),
            )
        )
        await self._doors.projects.save_jobsets(made.id, [Jobset(name=FIRST_JOBSET)])
        self._added(made.id)
        log.info("a repository became a project", forge=settings.name, repository=repository.path, project=made.name)
