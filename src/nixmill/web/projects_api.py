"""Projects for programs: add, replace, change, delete, in JSON."""

from typing import Final

import msgspec
from fastapi import APIRouter, Response

from nixmill.core.access import Action, Role, Scope
from nixmill.core.project import Project
from nixmill.web.actions import Nothing
from nixmill.web.asking import Ask, Asked
from nixmill.web.forge_choice import refuse_forge
from nixmill.web.project_bodies import (
    PartOfProject,
    WholeProject,
    changed,
    jobsets_of,
    refuse_declared,
    refuse_powers,
)
from nixmill.web.showing import as_json

router: Final = APIRouter()


@router.post("/p")
async def add(ask: Asked) -> Response:
    """Add a project with its jobsets; without any it gets one for its default branch."""
    require_adding(ask)
    body = await ask.take(WholeProject)
    project = Project(**msgspec.structs.asdict(body.project))
    refuse_powers(ask, None, project)
    await refuse_forge(ask, None, project)
    made = await ask.site.office.add_project(ask.asker, project, jobsets_of(body.jobsets, ()))
    await own(ask, made)
    return as_json(made, 201)


@router.put("/p/{name}")
async def replace(ask: Asked, name: str) -> Response:
    """Make a project and its jobsets as they are sent; jobsets that are not sent go."""
    project = await ask.project(name, Action.CHANGE_PROJECT)
    body = await ask.take(WholeProject)
    return as_json(await _save(ask, project, PartOfProject(jobsets=body.jobsets), changed(project, body.project)))


@router.patch("/p/{name}")
async def change(ask: Asked, name: str) -> Response:
    """Change what is sent and leave the rest."""
    project = await ask.project(name, Action.CHANGE_PROJECT)
    body = await ask.take(PartOfProject)
    return as_json(await _save(ask, project, body, changed(project, body.project)))


@router.delete("/p/{name}")
async def delete(ask: Asked, name: str) -> Response:
    """Delete a project with all its runs and logs."""
    project = await ask.project(name, Action.DELETE_PROJECT)
    await ask.take(Nothing)
    refuse_declared(ask, project)
    await ask.site.office.delete_project(ask.asker, project)
    return as_json({})


def require_adding(ask: Ask) -> None:
    """Raise 403 for whoever may not add projects: everybody with an account may where the settings say so."""
    if not may_add(ask):
        ask.require(Action.ADD_PROJECT)


def may_add(ask: Ask) -> bool:
    """Say whether whoever asks may add projects."""
    by_setting = ask.site.settings.users_add_projects and ask.viewer.signed_in
    limited = ask.token is not None and (Scope.MANAGE not in ask.token.scopes or ask.token.project is not None)
    return ask.may(Action.ADD_PROJECT) or (by_setting and not limited)


async def own(ask: Ask, project: Project) -> None:
    """Make whoever added a project its owner; administrators may do everything without."""
    if ask.viewer.user is not None and not ask.viewer.admin:
        await ask.site.members.set_member(project.id, ask.viewer.user, Role.OWNER)


async def _save(ask: Ask, before: Project, body: PartOfProject, after: Project) -> Project:
    refuse_declared(ask, before)
    refuse_powers(ask, before, after)
    await refuse_forge(ask, before, after)
    known = await ask.site.projects.jobsets(before.id)
    jobsets = None if body.jobsets is None else jobsets_of(body.jobsets, known)
    return await ask.site.office.change_project(ask.asker, after, jobsets)
