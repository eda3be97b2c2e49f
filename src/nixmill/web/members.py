"""`/p/NAME/members`: who has which role in a project."""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from nixmill.core.access import PROJECT_ROLES, Action, Role
from nixmill.core.account import Member
from nixmill.core.errors import InputError
from nixmill.core.project import Project
from nixmill.web import urls
from nixmill.web.asking import Ask, Asked
from nixmill.web.finding import find_user
from nixmill.web.project_bodies import refuse_declared
from nixmill.web.showing import as_json, see_other, show

router: Final = APIRouter()
NOBODY: Final = "none"


class MembersPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/p/NAME/members`."""

    project: str
    members: tuple[Member, ...]
    roles: tuple[Role, ...] = PROJECT_ROLES


class MemberForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A role for a user; `none`, empty or null takes it away."""

    user: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    role: str | None = None


@router.get("/p/{name}/members")
async def page(asked: Asked, name: str) -> Response:
    """Show who has a role."""
    project = await asked.project(name, Action.CHANGE_MEMBERS)
    return show(asked, "members.html", await _members(asked, project), title=f"Members of {project.name}")


@router.post("/p/{name}/members")
async def change(asked: Asked, name: str) -> Response:
    """Give a role, or take it away."""
    project = await asked.project(name, Action.CHANGE_MEMBERS)
    form = await asked.take(MemberForm)
    refuse_declared(asked, project)
    role = _role(form.role)
    user = await find_user(asked.site.accounts, form.user)
    if user is None:
        raise InputError(f"There is no user {form.user!r}.", "An administrator can add one at /admin/users.")
    await asked.site.members.set_member(project.id, user.id, role)
    await asked.audit("change members", project.name, project=project.id, detail=f"{user.name}: {role or NOBODY}")
    if asked.wants_json:
        return as_json(await _members(asked, project))
    keeps = asked.viewer.user != user.id or asked.viewer.admin or role is Role.OWNER
    return see_other(urls.project_do(project.name, "members") if keeps else urls.home())


async def _members(asked: Ask, project: Project) -> MembersPage:
    return MembersPage(project=project.name, members=tuple(await asked.site.members.members(project.id)))


def _role(text: str | None) -> Role | None:
    if text in {None, "", NOBODY}:
        return None
    known = {role.value: role for role in PROJECT_ROLES}
    if text not in known:
        raise InputError(f"{text!r} is no role in a project.", f"Choose one of: {', '.join([*known, NOBODY])}.")
    return known[text]
