"""What somebody means at a server: a run, or a pull request (`'#7'`, `mill#7`, `pull/7`) of a project or the checkout.

In a shell a `#` at the beginning of a word begins a comment: `'#7'` is quoted, `mill#7` and `pull/7` need not be.
"""

import os
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from nixmill.cli.client import Client
from nixmill.cli.watch import project_path
from nixmill.cli.wiring import Wiring
from nixmill.core.errors import InputError
from nixmill.core.view.pages import EvaluationPage, HomePage, ProjectPage
from nixmill.core.view.pulls import PullPage

PROJECTS_LOOKED_AT: Final = 200
_SCP: Final = re.compile(r"(?:[^@/]+@)?([^:/]+):(?!//)(.*)")
_URL: Final = re.compile(r"[a-z+]+://(?:[^@/]*@)?([^/]*)(/.*)?")
_PULL: Final = re.compile(
    r"(?:(?P<project>[A-Za-z][A-Za-z0-9_.-]{0,63})(?:#|/pull/)|#|pull/)(?P<number>[1-9][0-9]{0,15})"
)


class Pull(NamedTuple):
    """A pull request of a project."""

    project: str
    number: int

    @property
    def path(self) -> str:
        """Its page."""
        return f"{project_path(self.project)}/pull/{self.number}"


def is_pull(what: str) -> bool:
    """Say whether a word names a pull request."""
    return _PULL.fullmatch(what) is not None


async def pull_named(client: Client, wiring: Wiring, what: str, project: str | None = None) -> Pull:
    """Return the pull request that a word names; that of a run, where it is the number of one."""
    found = _PULL.fullmatch(what)
    if found is not None:
        name = found["project"] or project or await project_here(client, wiring)
        return Pull(name, int(found["number"]))
    number = run_number(what)
    run = (await client.page(f"/r/{number}", EvaluationPage, size=1)).run
    if run.pull_request is None:
        raise InputError(f"Run {number} is not one of a pull request.", "Name the pull request: '#7', mill#7 or pull/7")
    return Pull(run.project.name, run.pull_request)


async def run_named(client: Client, wiring: Wiring, what: str, project: str | None = None) -> int:
    """Return the number of the run that a word names: itself, or the newest run of a pull request."""
    if not is_pull(what):
        return run_number(what)
    pull = await pull_named(client, wiring, what, project)
    runs = (await client.page(pull.path, PullPage)).runs
    if not runs:
        raise InputError(f"Nothing has run for #{pull.number} of {pull.project} yet.", "Look at it: nixmill pulls")
    return runs[0].number


def run_number(what: str) -> int:
    """Return a run's number; raise `InputError` where it is none."""
    if what.isascii() and what.isdecimal() and len(what) <= len(str(2**53)):
        return int(what)
    raise InputError(f"{what!r} is no run.", "Give its number, or a pull request: '#7', mill#7 or pull/7")


async def project_here(client: Client, wiring: Wiring) -> str:
    """Return the project of the checkout one stands in."""
    try:
        standing = await wiring.standing(os.getcwd())  # noqa: PTH109 - a text is wanted
    except InputError as error:
        remedy = "Name one, as in: nixmill pulls mill, nixmill approve mill#7, --project mill"
        raise InputError(f"No project is named, and {error}", remedy) from error
    return await project_of(client, [url for _, url in standing.remotes])


async def project_of(client: Client, urls: Sequence[str]) -> str:
    """Return the project whose repository one of `urls` is; those that are called alike are asked first."""
    home = await client.page("/", HomePage)
    names = [line.project.name for line in home.projects]
    likely = {_place(url)[1].rpartition("/")[2].lower() for url in urls}
    names.sort(key=lambda name: name.lower() not in likely)
    for name in names[:PROJECTS_LOOKED_AT]:
        project = (await client.page(project_path(name), ProjectPage)).project
        if any(same_repository(project.url, url) for url in urls):
            return name
    known = ", ".join(names[:10]) or "none"
    raise InputError(
        f"{client.server} has no project of this repository ({', '.join(urls) or 'which has no remote'}).",
        f"Name one: --project NAME (there are: {known}), or add it: nixmill projects add NAME URL",
    )


def same_repository(one: str, other: str) -> bool:
    """Say whether two URLs name the same repository, whichever way it is fetched."""
    return _place(one) == _place(other)


def _place(url: str) -> tuple[str, str]:
    found = _URL.fullmatch(url) or _SCP.fullmatch(url)
    host, path = (found[1], found[2] or "") if found else ("", url)
    return host.partition(":")[0].lower(), path.strip("/").removesuffix(".git")
