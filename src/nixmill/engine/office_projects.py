"""What people may ask about projects: the part of the office that adds, changes, deletes and looks."""

import hashlib
import hmac
from collections.abc import Sequence

import msgspec

from nixmill.core.account import AuditEntry
from nixmill.core.project import FIRST_JOBSET, Jobset, Project
from nixmill.engine.office import Asker
from nixmill.engine.project_checks import check_jobsets, check_project
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.watch import Watch
from nixmill.nix.store_path import StorePath


class ProjectOffice:
    """See `nixmill.engine.office.Office`."""

    def __init__(self, doors: ServerDoors, watch: Watch) -> None:
        """Look at remotes through `watch`."""
        self._doors = doors
        self._watch = watch

    async def add_project(self, asker: Asker, project: Project, jobsets: Sequence[Jobset]) -> Project:
        """See `Office`."""
        check_project(self._doors.settings, project)
        check_jobsets(jobsets)
        now = self._doors.clock.now()
        made = await self._doors.projects.save_project(msgspec.structs.replace(project, id=0, created_at=now))
        await self._doors.projects.save_jobsets(made.id, jobsets or [Jobset(name=FIRST_JOBSET)])
        await self.note(asker, "add a project", made.name, made.id, made.url)
        self._watch.hurry(made.id)
        return made

    async def change_project(self, asker: Asker, project: Project, jobsets: Sequence[Jobset] | None) -> Project:
        """See `Office`."""
        check_project(self._doors.settings, project, await self._before(project.id))
        check_jobsets(jobsets or ())
        saved = await self._doors.projects.save_project(project)
        if jobsets is not None:
            await self._doors.projects.save_jobsets(saved.id, jobsets)
        await self.note(asker, "change a project", saved.name, saved.id)
        self._watch.hurry(saved.id)
        return saved

    async def look(self, asker: Asker, project: Project) -> None:
        """See `Office`."""
        await self.note(asker, "look at a remote", project.name, project.id)
        self._watch.hurry(project.id)

    async def pushed(self, project: Project, delivery: str) -> bool:
        """See `Office`."""
        new = await self._doors.refs.first_delivery(project.id, delivery, self._doors.clock.now())
        if new:
            self._watch.hurry(project.id)
        return new

    def webhook_secret(self, project: int) -> str:
        """See `Office`. Derived from a key, so that no database and no backup of one holds secrets of webhooks."""
        return hmac.new(self._doors.webhook_key, b"webhook %d" % project, hashlib.sha256).hexdigest()

    async def forget_failures(self, asker: Asker, project: Project, drv_paths: Sequence[StorePath] | None) -> int:
        """See `Office`."""
        count = await self._doors.failures.forget(project.id, drv_paths)
        await self.note(asker, "clear a remembered failure", project.name, project.id, f"{count} derivations")
        return count

    async def audit(self, entry: AuditEntry) -> None:
        """See `Office`."""
        await self._doors.members.audit(entry)

    async def note(self, asker: Asker, action: str, subject: str, project: int | None, detail: str = "") -> None:
        """Write what somebody did to the audit log."""
        entry = AuditEntry(
            at=self._doors.clock.now(),
            user=asker.user,
            who=asker.name,
            action=action,
            subject=subject,
            project=project,
            detail=detail,
            address=asker.address,
        )
        await self._doors.members.audit(entry)

    async def _before(self, number: int) -> Project | None:
        return next((one for one in await self._doors.projects.projects() if one.id == number), None)
