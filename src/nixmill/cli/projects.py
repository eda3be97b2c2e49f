"""`nixmill projects`: the projects of a server, by its API, or in the database directly on the server's own machine."""

import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from nixmill.cli.client import Client, connect
from nixmill.cli.serve import read_settings
from nixmill.cli.standard_streams import say
from nixmill.cli.user import audit, confirm
from nixmill.cli.watch import project_path
from nixmill.cli.wiring import Wiring
from nixmill.config.projects_file import Declared, DeclaredProject, parse, render
from nixmill.config.server import ServerSettings
from nixmill.core.account import Member
from nixmill.core.errors import InputError
from nixmill.core.message import Rule
from nixmill.core.project import SCHEMES, Jobset, Project, check_name, check_url
from nixmill.core.view.pages import HomePage, ProjectPage
from nixmill.engine.books import Books
from nixmill.engine.declaring import apply, gathered
from nixmill.engine.project_checks import check_jobsets, check_project

_OF_THE_DATABASE: Final = ("id", "project", "created_at", "declared", "repository_id")


class MembersPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/p/NAME/members`, as far as it is needed here."""

    members: tuple[Member, ...]


class RulesPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/p/NAME/rules`, as far as it is needed here."""

    rules: tuple[Rule, ...]


class Register(Protocol):
    """Where projects are: a database or a server."""

    async def gathered(self, names: Sequence[str]) -> Declared:
        """Return projects: those named, else all."""

    async def apply(self, declared: Declared, *, dry_run: bool) -> list[str]:
        """Make projects as declared; return what changed, or would."""

    async def add(self, one: DeclaredProject) -> None:
        """Add a project. Raises `InputError` where the name is taken."""

    async def remove(self, name: str) -> None:
        """Delete a project with everything that belongs to it."""


class DatabaseRegister:
    """The database of the settings. Implements `Register`."""

    def __init__(self, books: Books, settings: ServerSettings) -> None:
        """Work on open books; what a project may be is up to the settings."""
        self._books = books
        self._settings = settings

    async def gathered(self, names: Sequence[str]) -> Declared:
        """See `Register`."""
        return await gathered(self._books, names)

    async def apply(self, declared: Declared, *, dry_run: bool) -> list[str]:
        """See `Register`."""
        for one in declared.projects:
            check_project(self._settings, one.project)
            check_jobsets(one.jobsets)
        said = await apply(self._books, declared, now=time.time(), dry_run=dry_run)
        if said and not dry_run:
            await audit(self._books, "projects applied", "a file", "; ".join(said)[:2000])
        return said

    async def add(self, one: DeclaredProject) -> None:
        """See `Register`."""
        await self._check_free(one.project.name)
        await self.apply(Declared(projects=(one,)), dry_run=False)

    async def remove(self, name: str) -> None:
        """See `Register`."""
        found = await self._books.projects.project(name)
        if found is None or found.name != name:
            raise no_project(name)
        await self._books.projects.delete_project(found.id)
        await audit(self._books, "project deleted", name, project=found.id)

    async def _check_free(self, name: str) -> None:
        found = await self._books.projects.project(name)
        if found is not None and found.name == name:
            raise InputError(f"There is a project {name} already: {found.url}", "Choose another name.")


class ServerRegister:
    """A server's API. Implements `Register`."""

    def __init__(self, client: Client) -> None:
        """Ask by `client`."""
        self._client = client

    async def gathered(self, names: Sequence[str]) -> Declared:
        """See `Register`. Rules and members are those that this user may see."""
        every = names or [line.project.name for line in (await self._client.page("/", HomePage)).projects]
        return Declared(projects=tuple([await self._gathered(name) for name in every]))

    async def apply(self, declared: Declared, *, dry_run: bool) -> list[str]:
        """See `Register`."""
        there = {line.project.name for line in (await self._client.page("/", HomePage)).projects}
        said = []
        for one in declared.projects:
            name = one.project.name
            if name in there and await self._gathered(name) == one:
                continue
            said.append(f"{name}: {'changed' if name in there else 'added'}")
            if not dry_run:
                await (self._change if name in there else self.add)(one)
        return said

    async def add(self, one: DeclaredProject) -> None:
        """See `Register`."""
        await self._client.act("POST", "/p", _body(one), object)
        await self._rest(one, ())

    async def remove(self, name: str) -> None:
        """See `Register`."""
        await self._client.act("DELETE", project_path(name), {}, object)

    async def _change(self, one: DeclaredProject) -> None:
        path = project_path(one.project.name)
        await self._client.act("PUT", path, _body(one), object)
        await self._rest(one, (await self._client.page(f"{path}/members", MembersPage)).members)

    async def _rest(self, one: DeclaredProject, members: Sequence[Member]) -> None:
        """Make rules and members as declared."""
        path = project_path(one.project.name)
        await self._client.act("POST", f"{path}/rules", {"rules": [_bare(rule) for rule in one.rules]}, object)
        wanted = {name.lower(): (name, role.value) for name, role in one.members}
        gone = [(member.name, "") for member in members if member.name.lower() not in wanted]
        for name, role in [*wanted.values(), *gone]:
            await self._client.act("POST", f"{path}/members", {"user": name, "role": role}, object)

    async def _gathered(self, name: str) -> DeclaredProject:
        path = project_path(name)
        page = await self._client.page(path, ProjectPage)
        rules = (await self._client.page(f"{path}/rules", RulesPage)).rules
        members = (await self._client.page(f"{path}/members", MembersPage)).members
        return DeclaredProject(
            project=msgspec.structs.replace(page.project, id=0, created_at=0.0, declared=False),
            jobsets=tuple(msgspec.structs.replace(jobset, id=0, project=0) for jobset in page.jobsets),
            rules=tuple(msgspec.structs.replace(rule, id=0, project=0) for rule in rules),
            members=tuple((member.name, member.role) for member in members),
        )


@asynccontextmanager
async def open_register(
    wiring: Wiring, *, server: str | None, token_file: str | None, config: str | None
) -> AsyncIterator[Register]:
    """Open the server that is named, by option or NIXMILL_SERVER, else the database of the settings."""
    if server and config:
        raise InputError("--server and --config exclude each other.", "--config says which database is used directly.")
    if config is None and (server or os.environ.get("NIXMILL_SERVER")):
        async with connect(server, token_file) as client:
            yield ServerRegister(client)
        return
    settings = read_settings(config)
    async with wiring.open_server_books(settings) as books:
        yield DatabaseRegister(books, settings)


async def add(register: Register, project: Project, branches: tuple[str, ...]) -> None:
    """Add a project with one jobset, for its default branch or for `branches`."""
    check_name(project.name)
    check_url(project.url, SCHEMES)
    jobset = Jobset(name="main", branches=branches)
    await register.add(DeclaredProject(project=project, jobsets=(jobset,)))
    say(f"{project.name} is added; the server looks at {project.url} within a minute.")


async def list_(register: Register) -> None:
    """Print a line for each project."""
    for one in (await register.gathered(())).projects:
        off = "" if one.project.enabled else "  switched off"
        print(f"{one.project.name:<24} {one.project.visibility.value:<9} {one.project.url}{off}")  # noqa: T201


async def export(register: Register, names: Sequence[str]) -> None:
    """Print the file that declares projects."""
    sys.stdout.write(render(await register.gathered(names)))


async def apply_file(register: Register, file: str, *, dry_run: bool) -> None:
    """Make projects as a file declares them; say what changed, or would change."""
    said = await register.apply(parse(read_text(file), file), dry_run=dry_run)
    print(*said or ["Everything is so already."], sep="\n")  # noqa: T201 - the result is what is asked for
    if said and dry_run:
        say("Nothing was changed: --dry-run.")


async def remove(register: Register, name: str) -> None:
    """Delete a project."""
    await register.remove(name)
    say(f"{name} is deleted; its runs and logs go in the background.")


def confirm_removal(name: str, *, yes: bool) -> None:
    """Ask before a project goes."""
    confirm(name, f"Deleting {name} deletes all its runs and logs.", yes=yes)


def read_text(file: str) -> str:
    """Return the text of a file, `-` for standard input."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}.", "nixmill projects export writes such a file.") from error


def no_project(name: str) -> InputError:
    """Return the error for a name that no project has."""
    return InputError(f"There is no project {name!r}.", "See what there is: nixmill projects list")


def _body(one: DeclaredProject) -> dict[str, object]:
    return {"project": _bare(one.project), "jobsets": [_bare(jobset) for jobset in one.jobsets]}


def _bare(struct: msgspec.Struct) -> dict[str, Any]:
    return {name: value for name, value in msgspec.to_builtins(struct).items() if name not in _OF_THE_DATABASE}
