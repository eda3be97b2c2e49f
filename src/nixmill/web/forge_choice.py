"""Which repository of a forge a project may be joined with, and by whom.

A project of a forge is fetched with the server's own access to that forge, and answers to people whom the forge lets
in. So an owner joins it only with a repository that is theirs to administer there, and only at its own address.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from nixmill.config.forges import ForgeSettings
from nixmill.core.access import Role
from nixmill.core.project import Project
from nixmill.web.asking import Ask
from nixmill.web.guard import guard_of
from nixmill.web.refusal import RefusalError

_PATH: Final = re.compile(r"[A-Za-z0-9_.~-]+(?:/[A-Za-z0-9_.~-]+)*")
_PARTS_MAX: Final = 20


async def forge_mistakes(ask: Ask, before: Project | None, after: Project) -> dict[str, str]:
    """Return, by field, why a project may not be joined with that repository, or not by whoever asks."""
    if not after.forge:
        return {"repository": "Choose the forge that it is on, or leave it empty."} if after.repository else {}
    if before is not None and _joined(before) == _joined(after):
        return {}
    settings = next((one for one in ask.site.settings.forges if one.name == after.forge), None)
    if settings is None:
        return {"forge": f"The server's settings have no forge called {after.forge!r}."}
    if not _is_path(after.repository):
        return {"repository": "Write the path of the repository there, such as owner/name."}
    return {} if ask.viewer.admin else await _of_owner(ask, settings, after)


async def refuse_forge(ask: Ask, before: Project | None, after: Project) -> None:
    """Raise 403 for what `forge_mistakes` says."""
    said = await forge_mistakes(ask, before, after)
    if said:
        raise RefusalError(403, " ".join(said.values()), "Mend that, or ask an administrator.")


async def _of_owner(ask: Ask, settings: ForgeSettings, after: Project) -> dict[str, str]:
    role = Role.STRANGER
    if ask.viewer.user is not None:
        role = await guard_of(ask.request).forge_roles.on_forge(ask.viewer.user, after)
    if role is not Role.OWNER:
        said = f"Only server administrators, and those who administer {after.repository} on {after.forge} and have "
        return {"repository": said + "signed in here with their account there, may join a project with it."}
    if not is_address_of(after.url, settings.url, after.repository):
        said = f"For a project of {after.forge} it has to be the address of {after.repository} there: "
        return {"url": f"{said}{settings.url.rstrip('/')}/{after.repository}.git"}
    return {}


def is_address_of(url: str, forge: str, repository: str) -> bool:
    """Say whether a URL, by https, is that of a repository at a forge."""
    given, there = urlsplit(url), urlsplit(forge)
    wanted = f"{there.path.rstrip('/')}/{repository}".lower()
    return (given.scheme, given.netloc.lower()) == (there.scheme, there.netloc.lower()) and (
        given.path.rstrip("/").removesuffix(".git").lower() == wanted
    )


def _joined(project: Project) -> tuple[str, str, str]:
    return project.forge, project.repository, project.url


def _is_path(text: str) -> bool:
    parts = text.split("/")
    return _PATH.fullmatch(text) is not None and len(parts) <= _PARTS_MAX and not {".", ".."} & set(parts)
