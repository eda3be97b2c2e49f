"""An office whose part for projects is the real one, on the doors of a `web_world`; what runs builds only records."""

from types import SimpleNamespace
from typing import Any

from nixmill.core.account import AuditEntry
from nixmill.edge.database.refs import SqlRefs
from nixmill.engine.office_projects import ProjectOffice
from tests.fakes.office import FakeOffice
from tests.support.web import WebWorld


class HalfOffice(FakeOffice):
    """Becomes real for projects once `join` was called; `hurried` holds the projects that were to be looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.hurried: list[int] = []
        self.real: Any = None

    def join(self, world: WebWorld) -> None:
        """Work on the doors of a world."""
        site = world.site
        doors: Any = SimpleNamespace(
            settings=site.settings,
            clock=site.clock,
            projects=site.projects,
            refs=SqlRefs(world.database, site.clock.now),
            failures=site.failures,
            members=self,
            webhook_key=b"key of the tests",
        )
        watch: Any = SimpleNamespace(hurry=self.hurried.append)
        self.real = ProjectOffice(doors, watch)
        for name in ("add_project", "change_project", "pushed", "webhook_secret", "look", "forget_failures"):
            setattr(self, name, getattr(self.real, name))
        self._site = site

    async def audit(self, entry: AuditEntry) -> None:
        """Keep what was done, here and in the database."""
        await super().audit(entry)
        if self.real is not None:
            await self._site.members.audit(entry)

    async def delete_project(self, asker: Any, project: Any) -> None:  # noqa: ANN401 - as the office has it
        """Delete a project."""
        self._did("delete_project", asker, project)
        await self._site.projects.delete_project(project.id)
