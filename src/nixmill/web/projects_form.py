"""`/p/new` and `/p/NAME/settings`: a project as people add and change it, and its end."""

from typing import Final

import msgspec
from fastapi import APIRouter, Response

from nixmill.core.access import Action, Visibility
from nixmill.core.change import BuildClass
from nixmill.core.errors import InputError
from nixmill.core.project import Jobset, Project
from nixmill.engine import project_checks as checks
from nixmill.web import urls
from nixmill.web.asking import Ask, Asked
from nixmill.web.finding import find_project
from nixmill.web.forge_choice import forge_mistakes
from nixmill.web.project_bodies import refuse_declared
from nixmill.web.projects_api import own, require_adding
from nixmill.web.settings_form import EMPTY, SettingsForm, Typed, form_of, jobsets_of, project_of, typed
from nixmill.web.showing import see_other, show

router: Final = APIRouter()
BLANK: Final = Project(name="", url="")


class SettingsPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/p/NAME/settings`, and `/p/new` where `project` is None."""

    project: Project | None
    jobsets: tuple[Jobset, ...]
    credentials: tuple[str, ...]
    """Names of those that may be chosen."""
    schemes: tuple[str, ...]
    """Of URLs."""
    forges: tuple[str, ...]
    """Names of those that may be chosen."""
    webhook_url: str
    webhook_secret: str
    forge_hook_url: str = ""
    """Where the project's forge sends its events, with the secret of the server's settings."""


class DeleteForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A project to delete: its name, typed, so that it is not done by accident."""

    name: str


@router.get("/p/new")
async def new(ask: Asked) -> Response:
    """Show the form for a new project."""
    require_adding(ask)
    return _shown(ask, None, (), form_of(BLANK, ()))


@router.post("/p/new")
async def add(ask: Asked) -> Response:
    """Add a project from the form; what is wrong with it is told at its fields."""
    require_adding(ask)
    told = typed(await ask.take(SettingsForm))
    project, jobsets = await _read(ask, told, None)
    if not told.mistakes:
        try:
            made = await ask.site.office.add_project(ask.asker, project, jobsets)
        except InputError as error:
            told.mistakes.note("", error)
        else:
            await own(ask, made)
            return see_other(urls.project(made.name))
    return _shown(ask, None, (), told)


@router.get("/p/{name}/settings")
async def settings(ask: Asked, name: str) -> Response:
    """Show a project's settings, with the secret of its webhook."""
    project = await ask.project(name, Action.CHANGE_PROJECT)
    jobsets = await ask.site.projects.jobsets(project.id)
    return _shown(ask, project, tuple(jobsets), form_of(project, jobsets))


@router.post("/p/{name}/settings")
async def change(ask: Asked, name: str) -> Response:
    """Change a project from the form; what is wrong with it is told at its fields."""
    project = await ask.project(name, Action.CHANGE_PROJECT)
    told = typed(await ask.take(SettingsForm))
    refuse_declared(ask, project)
    wanted, jobsets = await _read(ask, told, project)
    if not told.mistakes:
        try:
            saved = await ask.site.office.change_project(ask.asker, wanted, jobsets)
        except InputError as error:
            told.mistakes.note("", error)
        else:
            return see_other(urls.project_do(saved.name, "settings"))
    return _shown(ask, project, tuple(await ask.site.projects.jobsets(project.id)), told)


@router.post("/p/{name}/delete")
async def delete(ask: Asked, name: str) -> Response:
    """Delete a project with everything that belongs to it."""
    project = await ask.project(name, Action.DELETE_PROJECT)
    form = await ask.take(DeleteForm)
    refuse_declared(ask, project)
    if form.name.strip() != project.name:
        raise InputError("The name does not match the project.", f"Type {project.name!r} to delete that project.")
    await ask.site.office.delete_project(ask.asker, project)
    return see_other(urls.home())


async def _read(ask: Ask, told: Typed, before: Project | None) -> tuple[Project, list[Jobset]]:
    """Return what the form says; mistakes, also those that only whoever asks makes, are noted in `told`."""
    project = project_of(told, ask.site.settings, before or BLANK)
    jobsets = jobsets_of(told)
    if not ask.viewer.admin:
        told.mistakes.update(checks.for_administrators(before, project))
    told.mistakes.update(await forge_mistakes(ask, before, project))
    taken = await find_project(ask.site.projects, project.name)
    if taken is not None and taken.name == project.name and taken.id != project.id:
        told.mistakes.setdefault("name", f"There is a project called {project.name!r} already. Choose another name.")
    return project, jobsets


def _shown(ask: Ask, project: Project | None, jobsets: tuple[Jobset, ...], told: Typed) -> Response:
    if ask.wants_json:
        told.mistakes.refuse()
    url = ask.site.settings.url
    page = SettingsPage(
        project=project,
        jobsets=jobsets,
        credentials=tuple(checks.credentials(ask.site.settings)) if ask.viewer.admin else (),
        schemes=tuple(checks.schemes(ask.site.settings)),
        forges=tuple(one.name for one in ask.site.settings.forges),
        forge_hook_url=url + urls.hook_forge(project.forge) if project and project.forge else "",
        webhook_url=url + urls.hook(project.name) if project else "",
        webhook_secret=ask.site.office.webhook_secret(project.id) if project else "",
    )
    title = f"Settings of {project.name}" if project else "A new project"
    code = 422 if told.mistakes else 200
    shown = show(
        ask,
        "settings.html",
        page,
        title=title,
        code=code,
        form=told.form,
        mistakes=told.mistakes,
        rows=[*told.rows, EMPTY],
        visibilities=tuple(Visibility),
        classes=tuple(BuildClass),
        poll_s_max=checks.POLL_S_MAX,
        weight_max=checks.WEIGHT_MAX,
    )
    shown.headers["Cache-Control"] = "no-store"
    return shown
