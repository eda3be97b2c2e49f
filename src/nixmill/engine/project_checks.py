"""What a project may be: checks of what people type, one function a field, and what only administrators may choose.

A credential opens somebody's repositories. An owner who could name any, or send one to an address of their own, would
have it: so its name must begin with `CREDENTIAL_PREFIX`, and who it is sent to is an administrator's to decide.
"""

from collections.abc import Sequence
from typing import Final

from nixmill.config.server import ServerSettings
from nixmill.core.errors import InputError
from nixmill.core.project import SCHEMES, SECURE_SCHEMES, Jobset, Project, check_name, check_url
from nixmill.engine.timers import check_schedule

CREDENTIAL_PREFIX: Final = "git-"
"""What the names of credentials for repositories begin with."""
JOBSETS_MAX: Final = 100
WEIGHT_MAX: Final = 100
POLL_S_MAX: Final = 86_400


def schemes(settings: ServerSettings) -> list[str]:
    """Return how repositories may be fetched here."""
    known = SCHEMES if settings.insecure_git else SECURE_SCHEMES
    return [scheme for scheme in known if settings.local_git or scheme != "file"]


def credentials(settings: ServerSettings) -> list[str]:
    """Return the names of the credentials that projects may use."""
    return sorted(name for name in settings.credentials if name.startswith(CREDENTIAL_PREFIX))


def check_credential(settings: ServerSettings, name: str) -> str:
    """Return the name of a credential, or the empty one; raise `InputError` where no project may use it."""
    if name and not name.startswith(CREDENTIAL_PREFIX):
        raise InputError(
            f"A project cannot use the credential {name!r}.",
            f"Credentials for repositories have names that begin with {CREDENTIAL_PREFIX!r}.",
        )
    if name and name not in settings.credentials:
        raise InputError(f"The server has no credential {name!r}.", "Add it to `credentials` in its settings file.")
    return name


def check_weight(weight: int) -> int:
    """Return a weight; raise `InputError` where it is out of bounds."""
    if not 1 <= weight <= WEIGHT_MAX:
        raise InputError(f"A weight is 1 to {WEIGHT_MAX}, not {weight}.")
    return weight


def check_poll_s(seconds: int) -> int:
    """Return a poll interval; raise `InputError` where it is out of bounds."""
    if not 0 <= seconds <= POLL_S_MAX:
        raise InputError(f"A poll interval is 0 to {POLL_S_MAX:,} seconds, not {seconds}.")
    return seconds


def check_jobsets(jobsets: Sequence[Jobset]) -> None:
    """Raise `InputError` where one of them cannot be, two have one name, or there are too many."""
    if len(jobsets) > JOBSETS_MAX:
        raise InputError(f"A project has at most {JOBSETS_MAX} jobsets, not {len(jobsets)}.")
    for jobset in jobsets:
        check_name(jobset.name, "jobset")
        check_schedule(jobset.schedule or "0 0 * * *", jobset.time_zone)
    if len({jobset.name for jobset in jobsets}) != len(jobsets):
        raise InputError("Two jobsets have the same name.", "Give each its own.")


def check_project(settings: ServerSettings, project: Project, before: Project | None = None) -> None:
    """Raise `InputError` for the first thing that a project cannot be; a credential that it had `before` may stay."""
    check_name(project.name)
    check_url(project.url, schemes(settings))
    if before is None or project.credential != before.credential:
        check_credential(settings, project.credential)
    check_weight(project.weight)
    check_poll_s(project.poll_s)


def for_administrators(before: Project | None, after: Project) -> dict[str, str]:
    """Return, by field, why only an administrator may make this change; empty where every owner may."""
    said = {}
    url = before.url if before else ""
    if after.url != url and after.url.lower().startswith("file:"):
        said["url"] = "Only administrators add repositories of the server's own disk."
    elif before is not None and before.credential and after.credential and after.url != url:
        said["url"] = "Only administrators change the URL of a project that has a credential."
    if after.weight > max(1, before.weight if before else 1):
        said["weight"] = "Only administrators give a project a larger share of the machines."
    if after.credential and after.credential != (before.credential if before else ""):
        said["credential"] = "Only administrators give a project a credential."
    return said
