"""The office as a recorder: says yes to everything and keeps what was asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nixmill.core.access import Role, Sight
from nixmill.core.account import AuditEntry, User
from nixmill.core.errors import InputError
from nixmill.core.forge import Event
from nixmill.core.history import Pruned
from nixmill.core.project import Jobset, Project
from nixmill.core.view.pages import ChecklistItem, Forecast, MachinesPage, Need, QueuePage
from nixmill.core.view.pulls import ToApprove
from nixmill.engine.office import Again, Asker
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


@dataclass
class FakeOffice:
    """`calls` holds (method, arguments) in order; `audited` the audit log; `fault` is raised by whatever is done."""

    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    audited: list[AuditEntry] = field(default_factory=list)
    deliveries: set[tuple[int, str]] = field(default_factory=set)
    fault: Exception | None = None
    number: int = 7
    events: set[tuple[str, str]] = field(default_factory=set)
    look_at: ToApprove | None = None
    """What there is to approve; its commit is the only one that may be."""
    forge_roles: dict[tuple[int, str], Role] = field(default_factory=dict)
    """By the user's id and the repository."""
    forge_fault: Exception | None = None
    of_push: dict[int, tuple[Jobset, ...]] = field(default_factory=dict)
    """By project, the jobsets that run when something is pushed."""

    def _did(self, method: str, *arguments: object) -> None:
        if self.fault is not None:
            raise self.fault
        self.calls.append((method, arguments))

    async def add_project(self, asker: Asker, project: Project, jobsets: Sequence[Jobset]) -> Project:
        self._did("add_project", asker, project, tuple(jobsets))
        return msgspec.structs.replace(project, id=project.id or 1)

    async def change_project(self, asker: Asker, project: Project, jobsets: Sequence[Jobset] | None) -> Project:
        self._did("change_project", asker, project, None if jobsets is None else tuple(jobsets))
        return project

    async def delete_project(self, asker: Asker, project: Project) -> None:
        self._did("delete_project", asker, project)

    async def start(
        self, asker: Asker, project: Project, ref: str, targets: Sequence[str] = (), commit: str = ""
    ) -> int:
        self._did("start", asker, project, ref, tuple(targets), commit)
        return self.number

    async def trigger(self, asker: Asker, project: Project, jobset: Jobset, *, force: bool) -> Sequence[int]:
        self._did("trigger", asker, project, jobset, force)
        return [self.number] if force else []

    async def streams(self, project: Project, ref: str) -> Sequence[Jobset]:
        self._did("streams", project, ref)
        return self.of_push.get(project.id, ())

    async def retry(self, asker: Asker, number: int, what: Again, path: AttrPath | None = None) -> int:
        self._did("retry", asker, number, what, path)
        return self.number

    async def cancel(self, asker: Asker, number: int) -> bool:
        self._did("cancel", asker, number)
        return True

    async def forget_failures(self, asker: Asker, project: Project, drv_paths: Sequence[StorePath] | None) -> int:
        self._did("forget_failures", asker, project, None if drv_paths is None else tuple(drv_paths))
        return 3

    async def look(self, asker: Asker, project: Project) -> None:
        self._did("look", asker, project)

    async def pushed(self, project: Project, delivery: str) -> bool:
        self._did("pushed", project, delivery)
        known = (project.id, delivery) in self.deliveries
        self.deliveries.add((project.id, delivery))
        return not known

    async def took(self, forge: str, event: Event) -> bool:
        self._did("took", forge, event)
        known = (forge, event.delivery) in self.events
        self.events.add((forge, event.delivery))
        return not known

    async def to_approve(self, project: Project, number: int) -> ToApprove | None:
        self._did("to_approve", project, number)
        return self.look_at

    async def approve(self, asker: Asker, project: Project, number: int, commit: str, via: str) -> list[int]:
        self._did("approve", asker, project, number, commit, via)
        if self.look_at is not None and commit != self.look_at.commit:
            raise InputError("The head has moved on.", "Look at what changed, then approve that.")
        return [self.number]

    async def forge_role(self, user: User, project: Project) -> Role:
        self._did("forge_role", user, project)
        if self.forge_fault is not None:
            raise self.forge_fault
        return self.forge_roles.get((user.id, project.repository), Role.STRANGER)

    def webhook_secret(self, project: int) -> str:
        return f"secret of project {project}"

    async def audit(self, entry: AuditEntry) -> None:
        self.audited.append(entry)

    async def queue(self, sight: Sight) -> QueuePage:
        self._did("queue", sight)
        return QueuePage(runs=(), lines=(), waiting=0)

    async def machines(self, sight: Sight) -> MachinesPage:
        self._did("machines", sight)
        return MachinesPage(machines=())

    async def wait_reason(self, number: int) -> str:
        self._did("wait_reason", number)
        return "waits for a machine"

    async def why(self, number: int, path: AttrPath) -> Sequence[str]:
        self._did("why", number, path)
        return ["It changed."]

    async def needs(self, sight: Sight) -> Sequence[Need]:
        self._did("needs", sight)
        return []

    async def checklist(self) -> Sequence[ChecklistItem]:
        self._did("checklist")
        return []

    async def numbers(self, sight: Sight) -> Mapping[str, float]:
        self._did("numbers", sight)
        return {"derivations.waiting": 3.0}

    async def forecasts(self) -> Sequence[Forecast]:
        self._did("forecasts")
        return []

    async def prune(self, asker: Asker, *, dry_run: bool) -> Pruned:
        self._did("prune", asker, dry_run)
        return Pruned(runs=(), evaluations=0, attempts=())

    async def replay(self, asker: Asker, parcel: int) -> bool:
        self._did("replay", asker, parcel)
        return True
