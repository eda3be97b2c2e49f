"""What people may ask about pull requests: the part of the office that approves, and that forges knock at."""

from typing import Final, NamedTuple

from nixmill.core.access import Role
from nixmill.core.account import User
from nixmill.core.errors import InputError
from nixmill.core.forge import Event, ForgeUser
from nixmill.core.project import Project
from nixmill.core.pull_request import Approval, PullState
from nixmill.core.trust import Permission
from nixmill.core.view.pulls import ToApprove
from nixmill.doors import DoorError
from nixmill.doors.forge import AnyForge
from nixmill.engine.commands import Commands
from nixmill.engine.discovery import Discovery
from nixmill.engine.forge_desk import ForgeDesk
from nixmill.engine.gate import Gate
from nixmill.engine.journey import Journey
from nixmill.engine.office import Asker
from nixmill.engine.office_why import WhyOffice
from nixmill.engine.pulls import Pulls
from nixmill.engine.reconciler import Reconciler
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.to_approve import to_approve
from nixmill.engine.watch import Watch

ROLE_S: Final = 300.0
"""How long a forge's word about somebody is believed, good or bad."""
ROLES_MAX: Final = 10_000
_ROLE: Final = {
    Permission.NONE: Role.STRANGER,
    Permission.READ: Role.VIEWER,
    Permission.WRITE: Role.MEMBER,
    Permission.ADMIN: Role.OWNER,
}


class _Believed(NamedTuple):
    role: Role
    until: float


class PullOffice(WhyOffice):
    """See `nixmill.engine.office.Office`."""

    def __init__(self, doors: ServerDoors, watch: Watch, journey: Journey, gate: Gate) -> None:
        """Make what looks after pull requests; nothing happens before their `run` runs."""
        super().__init__(doors, watch, journey, gate)
        self.pulls = Pulls(doors, watch.accepted, journey.cancel)
        self.desk = ForgeDesk(doors, watch, self.pulls, Commands(doors, self.pulls, self))
        self.reconciler = Reconciler(doors, self.pulls, watch)
        self.discovery = Discovery(doors, self.desk.repositories_changed, self.reconciler.hurry)
        self._roles: dict[tuple[str, str, str], _Believed] = {}

    async def took(self, forge: str, event: Event) -> bool:
        """See `Office`."""
        return await self.desk.took(forge, event)

    async def to_approve(self, project: Project, number: int) -> ToApprove | None:
        """See `Office`."""
        known = await self._doors.pulls.pull_request(project.id, number)
        if known is None or known.pull.head_commit in known.approved:
            return None
        return await to_approve(self._doors, project, known)

    async def approve(self, asker: Asker, project: Project, number: int, commit: str, via: str) -> list[int]:
        """See `Office`."""
        await self._look_first(project, number)
        known = await self._doors.pulls.pull_request(project.id, number)
        if known is None:
            raise InputError(f"{project.name} has no pull request {number}.")
        if known.pull.state is not PullState.OPEN:
            raise InputError(f"Pull request {number} is {known.pull.state.value}.", "There is nothing to approve.")
        if known.pull.head_commit != commit:
            raise InputError(
                f"The head of pull request {number} is {known.pull.head_commit[:12]} now, not {commit[:12]}.",
                "Somebody has pushed meanwhile: look at what changed, then approve that.",
            )
        approval = Approval(
            project=project.id,
            pull_request=number,
            commit=commit,
            user=asker.user,
            who=asker.name,
            via=via,
            at=self._doors.clock.now(),
        )
        numbers = await self.pulls.approve(project, approval)
        await self.note(asker, "approve a commit", f"{project.name} #{number}", project.id, f"{commit[:12]} by {via}")
        return numbers

    async def forge_role(self, user: User, project: Project) -> Role:
        """See `Office`."""
        forge = self.pulls.forge_of(project)
        identity = await self._doors.members.identity(user.id, project.forge) if forge is not None else None
        if forge is None or identity is None:
            return Role.STRANGER
        key, now = (project.forge, project.repository, identity.subject), self._doors.clock.monotonic()
        believed = self._roles.get(key)
        if believed is None or believed.until < now:
            who = ForgeUser(id=identity.subject, login=identity.login)
            role = await _role(forge, project.repository, who)
            if len(self._roles) > ROLES_MAX:
                self._roles.clear()
            believed = self._roles[key] = _Believed(role, now + ROLE_S)
        return believed.role

    async def look(self, asker: Asker, project: Project) -> None:
        """See `Office`."""
        await super().look(asker, project)
        self.reconciler.hurry(project.id)

    async def _look_first(self, project: Project, number: int) -> None:
        """Ask the forge once more: nothing is approved that has moved on. One that is away is not waited for."""
        try:
            await self.pulls.look(project, number)
        except DoorError:
            return


async def _role(forge: AnyForge, path: str, who: ForgeUser) -> Role:
    """Return what somebody is here by what a forge lets them do.

    Everybody may read a repository that is public: that says nothing of who may see a project that is hidden here.
    """
    permission = await forge.permission(path, who)
    if permission is Permission.READ:
        found = await forge.repository(path)
        return Role.VIEWER if found is not None and found.private else Role.STRANGER
    return _ROLE[permission]
