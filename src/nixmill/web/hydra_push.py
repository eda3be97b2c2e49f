"""Hydra's ways to make jobsets look again: by name or address with rights, and by webhooks of GitHub and Gitea.

What Hydra does wrong is not done: a repository matches as a whole and on its own host, never as a part of another's
name, and a push triggers only jobsets that its branch or tag belongs to.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from fastapi import APIRouter, Query, Request, Response

from nixmill.config.forges import ForgeSettings
from nixmill.core.access import Action
from nixmill.core.forge import Event, ForgeKind, ForgeryError, Hint, HintKind, MalformedEventError
from nixmill.core.project import Jobset, Project
from nixmill.web.asking import Ask, Asked
from nixmill.web.finding import find_project
from nixmill.web.refusal import RefusalError, not_there
from nixmill.web.showing import as_json
from nixmill.web.site import Site

router: Final = APIRouter()
JOBSETS_MAX: Final = 100
"""Named by one request."""
_SCP: Final = re.compile(r"(?:[^@/:]+@)?([^@/:]+):(?!//)(.+)")
_SIGNATURES: Final = {
    ForgeKind.GITHUB: ("x-hub-signature-256",),
    ForgeKind.GITEA: ("x-gitea-signature", "x-forgejo-signature", "x-hub-signature-256"),
}
Text = Annotated[str, Query(max_length=20_000, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Triggered(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Which jobsets look again, as `PROJECT:JOBSET`."""

    jobsets_triggered: tuple[str, ...]


@router.post("/api/push")
async def push(ask: Asked, jobsets: Text = "", repos: Text = "", force: Text = "") -> Response:
    """Let jobsets look again, named as PROJECT:JOBSET or by the address of their repository; `force`: evaluate anew."""
    if not ask.viewer.signed_in:
        raise RefusalError(403, f"Strangers may not {Action.START.value}.", "Send an API token.", sign_in=True)
    found = await _named(ask, _split(jobsets)) + await _at(ask, _split(repos))
    once = {(project.id, jobset.id): (project, jobset) for project, jobset in found}
    for project, jobset in once.values():
        await ask.site.office.trigger(ask.asker, project, jobset, force=force not in {"", "0"})
    return _answer(once.values())


@router.post("/api/push-github")
async def push_github(request: Request) -> Response:
    """Take a webhook of GitHub, signed with a secret of one of the forges of that kind."""
    return await _hook(request, ForgeKind.GITHUB)


@router.post("/api/push-gitea")
async def push_gitea(request: Request) -> Response:
    """Take a webhook of Gitea or Forgejo, signed with a secret of one of the forges of that kind."""
    return await _hook(request, ForgeKind.GITEA)


def place_of(url: str) -> tuple[str, str]:
    """Return host and path of a repository's address, in lower case, without `.git`; empty ones where it has none."""
    if "://" not in url:
        found = _SCP.fullmatch(url)
        host, path = (found[1], found[2]) if found else ("", "")
    else:
        host, path = _host_and_path(url)
    return host.lower(), path.strip("/").removesuffix(".git").lower()


def _host_and_path(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.hostname or "", parts.path


def _split(names: str) -> list[str]:
    found = [name.strip() for name in names.split(",") if name.strip()]
    if len(found) > JOBSETS_MAX:
        raise RefusalError(422, f"More than {JOBSETS_MAX} are named.", "Ask in several requests.")
    return found


async def _named(ask: Ask, names: Sequence[str]) -> list[tuple[Project, Jobset]]:
    """Return jobsets by name; all rights are looked at before anything is done."""
    found = []
    for name in names:
        of, _, stream = name.rpartition(":")
        project = await find_project(ask.site.projects, of)
        if project is None:
            raise not_there("project of that name")
        ask.require(Action.START, project.id, project.visibility)
        jobset = next((one for one in await ask.site.projects.jobsets(project.id) if one.name == stream), None)
        if jobset is None:
            raise not_there(f"jobset of that name in {project.name}")
        found.append((project, jobset))
    return found


async def _at(ask: Ask, urls: Sequence[str]) -> list[tuple[Project, Jobset]]:
    """Return the enabled jobsets of projects with just these addresses that whoever asks may start."""
    places = {place for url in urls if all(place := place_of(url))}
    found: list[tuple[Project, Jobset]] = []
    for project in await ask.site.projects.projects() if places else ():
        mine = project.enabled and place_of(project.url) in places
        if mine and ask.may(Action.START, project.id, project.visibility):
            found += [(project, one) for one in await ask.site.projects.jobsets(project.id) if one.enabled]
    return found


async def _hook(request: Request, kind: ForgeKind) -> Response:
    site: Site = request.app.state.site
    settings, event = await _verified(request, site, kind)
    triggered: list[tuple[Project, Jobset]] = []
    await site.office.took(settings.name, event)
    for hint in event.hints:
        if hint.kind is HintKind.PUSH:
            triggered += await _hinted(site, settings, event, hint)
    return _answer(triggered)


async def _verified(request: Request, site: Site, kind: ForgeKind) -> tuple[ForgeSettings, Event]:
    """Return the forge whose secret a delivery was signed with, and what it says."""
    body, headers = await request.body(), {key.lower(): value for key, value in request.headers.items()}
    if not any(headers.get(name) for name in _SIGNATURES[kind]):
        raise RefusalError(
            401, "Missing webhook signature.", "Give the hook the secret that the server's settings name."
        )
    for settings in site.settings.forges:
        if settings.kind is not kind or settings.name not in site.forges:
            continue
        try:
            return settings, site.forges[settings.name].event(headers, body)
        except ForgeryError:
            continue
        except MalformedEventError as error:
            raise RefusalError(400, str(error), "Is this hook of the right kind of forge?") from error
    raise RefusalError(401, "Invalid webhook signature.", "Give the hook the secret that the server's settings name.")


async def _hinted(site: Site, settings: ForgeSettings, event: Event, hint: Hint) -> list[tuple[Project, Jobset]]:
    """Return the jobsets that a pushed ref belongs to; projects that belong to no forge are made to look as well."""
    found: list[tuple[Project, Jobset]] = []
    for project in await site.projects.projects():
        if not project.enabled or not _is_of(project, settings, hint):
            continue
        if not project.forge:
            await site.office.pushed(project, event.delivery)
        found += [(project, jobset) for jobset in await site.office.streams(project, hint.ref)]
    return found


def _is_of(project: Project, settings: ForgeSettings, hint: Hint) -> bool:
    path = hint.repository.lower()
    if project.forge:
        by_id = bool(project.repository_id) and project.repository_id == hint.repository_id
        return project.forge == settings.name and (by_id or (bool(path) and project.repository.lower() == path))
    host, _ = place_of(settings.url)
    return bool(path) and bool(host) and place_of(project.url) == (host, path)


def _answer(found: Iterable[tuple[Project, Jobset]]) -> Response:
    names = [f"{project.name}:{jobset.name}" for project, jobset in found]
    return as_json(Triggered(jobsets_triggered=tuple(dict.fromkeys(names))))
