"""What somebody may do in a project because its forge says so, beside the role that was given to them here.

Asked for the one project that an address names, never for lists, and only about people who are signed in and proved
who they are on that forge. A forge that does not answer gives nobody a role, and pages answer all the same.
"""

import asyncio
from typing import Final

import msgspec
import structlog
from starlette.requests import Request

from nixmill.core.access import EVERYTHING, ROLES, Role, Viewer
from nixmill.core.project import Project
from nixmill.doors import DoorError
from nixmill.web.finding import find_project
from nixmill.web.site import Site

WAIT_S: Final = 3.0
"""How long a page waits for a forge."""
AWAY_S: Final = 30.0
"""How long a forge that did not answer is not asked again by pages."""
_NUMBER_MAX: Final = 2**53
log = structlog.get_logger("nixmill")


class ForgeRoles:
    """Asks forges about people, at most as often as they can bear."""

    def __init__(self, site: Site) -> None:
        """Work on a site."""
        self._site = site
        self._away: dict[str, float] = {}

    async def widened(self, viewer: Viewer, request: Request) -> Viewer:
        """Return whoever asks with what forges let them do in the projects that the address names."""
        if not viewer.signed_in or viewer.admin or not self._site.forges:
            return viewer
        for project in await self._named(request):
            role = await self.role(viewer, project)
            if role is not Role.STRANGER:
                viewer = msgspec.structs.replace(viewer, roles={**viewer.roles, project.id: role})
        return viewer

    async def role(self, viewer: Viewer, project: Project) -> Role:
        """Return the stronger one of the role that was given here and the forge's."""
        given = viewer.roles.get(project.id, Role.STRANGER)
        if given is Role.OWNER or viewer.user is None or project.forge not in self._site.forges:
            return given
        return max(given, await self.on_forge(viewer.user, project), key=ROLES.index)

    async def on_forge(self, user: int, project: Project) -> Role:
        """Return what a user is on the project's forge; a stranger where it does not answer."""
        if self._site.clock.monotonic() < self._away.get(project.forge, 0.0):
            return Role.STRANGER
        found = await self._site.accounts.user(user)
        if found is None:
            return Role.STRANGER
        try:
            async with asyncio.timeout(WAIT_S):
                return await self._site.office.forge_role(found, project)
        except (DoorError, TimeoutError) as error:
            self._away[project.forge] = self._site.clock.monotonic() + AWAY_S
            log.warning("a forge did not say who somebody is", forge=project.forge, error=str(error) or "too slow")
            return Role.STRANGER

    async def _named(self, request: Request) -> list[Project]:
        """Return the projects that an address is about."""
        first, _, rest = request.scope["path"].removeprefix("/").partition("/")
        values = request.path_params
        match first:
            case "p" if rest and isinstance(name := values.get("name"), str):
                return await self._projects(name)
            case "r":
                return await self._of_runs(values.get("number"))
            case "compare":
                return await self._of_runs(values.get("before"), values.get("after"))
            case "hooks":
                return await self._of_runs(request.query_params.get("run"))
            case "log":
                return await self._of_attempt(values.get("attempt"))
            case _:
                return []

    async def _projects(self, *names: str) -> list[Project]:
        found = [await find_project(self._site.projects, name) for name in dict.fromkeys(names)]
        return [project for project in found if project is not None and project.forge in self._site.forges]

    async def _of_runs(self, *numbers: object) -> list[Project]:
        wanted = [number for number in map(_number, numbers) if number is not None]
        runs = [await self._site.run_pages.run(EVERYTHING, number) for number in wanted]
        return await self._projects(*(run.project.name for run in runs if run is not None))

    async def _of_attempt(self, attempt: object) -> list[Project]:
        number = _number(attempt)
        page = await self._site.build_pages.log(EVERYTHING, number) if number is not None else None
        return await self._projects(page.run.project.name) if page is not None and page.run is not None else []


def _number(value: object) -> int | None:
    """Return a number out of an address; None where it can be nobody's."""
    text = str(value)
    if not text.isascii() or not text.isdecimal() or len(text) > len(str(_NUMBER_MAX)):
        return None
    return int(text) if int(text) <= _NUMBER_MAX else None
