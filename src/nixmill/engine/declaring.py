"""Declared projects and the database: what stands in a file becomes so, and what is so becomes a file.

Used by `nixmill projects` and by the server for `projects-file`. Projects that are not in a file are left alone.
"""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from nixmill.config.projects_file import Declared, DeclaredProject
from nixmill.core.errors import InputError
from nixmill.core.message import Rule
from nixmill.core.project import FIRST_JOBSET, Jobset, Project
from nixmill.engine.books import Books

Row = TypeVar("Row", Jobset, Rule)


async def gathered(books: Books, names: Sequence[str] = ()) -> Declared:
    """Return projects as a file would declare them: those named, else all. Raises `InputError` for an unknown one."""
    every = {project.name: project for project in await books.projects.projects()}
    unknown = [name for name in names if name not in every]
    if unknown:
        raise InputError(f"There is no project {unknown[0]!r}.", "See what there is: nixmill projects list")
    chosen = [every[name] for name in names] if names else list(every.values())
    return Declared(projects=tuple([await _gathered(books, project) for project in chosen]))


async def apply(
    books: Books, declared: Declared, *, now: float, read_only: bool = False, dry_run: bool = False
) -> list[str]:
    """Make projects as they are declared; return a sentence for each thing that changed, or would change.

    `read_only`: pages and API may not change these projects from now on. Nothing is written where a member is unknown.
    """
    people = await _people(books, declared)
    said: list[str] = []
    for wanted in declared.projects:
        said += await _Applying(books, wanted, people, now, read_only=read_only, dry_run=dry_run).all()
    return said


async def _people(books: Books, declared: Declared) -> dict[str, int]:
    known = {user.name.lower(): user.id for user in await books.accounts.users()}
    missing = sorted({name for one in declared.projects for name, _ in one.members if name.lower() not in known})
    if missing:
        raise InputError(
            f"These members have no account: {', '.join(missing)}. Nothing was changed.",
            "Create them first: nixmill user create NAME",
        )
    return known


async def _gathered(books: Books, project: Project) -> DeclaredProject:
    return DeclaredProject(
        project=_bare(project),
        jobsets=tuple(map(_bare_row, await books.projects.jobsets(project.id))),
        rules=tuple(map(_bare_row, await books.outbox.rules(project.id))),
        members=tuple((member.name, member.role) for member in await books.members.members(project.id)),
    )


def _bare(project: Project) -> Project:
    """Return a project without what belongs to the database."""
    return msgspec.structs.replace(project, id=0, created_at=0.0, declared=False)


def _bare_row(row: Row) -> Row:
    return msgspec.structs.replace(row, id=0, project=0)


class _Applying:
    """Makes one project as it is declared."""

    def __init__(
        self,
        books: Books,
        wanted: DeclaredProject,
        people: dict[str, int],
        now: float,
        *,
        read_only: bool,
        dry_run: bool,
    ) -> None:
        self._books, self._wanted, self._people, self._now = books, wanted, people, now
        self._read_only, self._dry_run = read_only, dry_run
        self._said: list[str] = []

    async def all(self) -> list[str]:
        """Make everything so; return what changed."""
        name = self._wanted.project.name
        found = await self._books.projects.project(name)
        found = found if found is not None and found.name == name else None
        number = await self._project(found)
        await self._jobsets(number)
        await self._rules(number)
        await self._members(number)
        return self._said

    def _say(self, what: str) -> bool:
        """Note a change; say whether to make it."""
        self._said.append(f"{self._wanted.project.name}: {what}")
        return not self._dry_run

    async def _project(self, found: Project | None) -> int:
        """Add or change the project; return its id, 0 where it would only be added."""
        bare = self._wanted.project
        wanted = msgspec.structs.replace(bare, declared=self._read_only, created_at=self._now)
        if found is None:
            return (await self._books.projects.save_project(wanted)).id if self._say("project added") else 0
        wanted = msgspec.structs.replace(wanted, id=found.id, created_at=found.created_at)
        changed = [name for name in wanted.__struct_fields__ if getattr(wanted, name) != getattr(found, name)]
        if changed and self._say(f"changed: {', '.join(changed)}"):
            await self._books.projects.save_project(wanted)
        return found.id

    async def _jobsets(self, project: int) -> None:
        have = await self._books.projects.jobsets(project) if project else ()
        wanted = self._wanted.jobsets or (Jobset(name=FIRST_JOBSET),)
        rows = self._rows(have, wanted, project, "jobset")
        if rows is not None:
            await self._books.projects.save_jobsets(project, rows)

    async def _rules(self, project: int) -> None:
        have = await self._books.outbox.rules(project) if project else ()
        rows = self._rows(have, self._wanted.rules, project, "rule")
        if rows is not None:
            await self._books.outbox.save_rules(project, rows)

    def _rows(self, have: Sequence[Row], wanted: Sequence[Row], project: int, noun: str) -> list[Row] | None:
        """Return the rows to save, those that exist with their ids; None where nothing is to be saved."""
        by_name = {row.name: row for row in have}
        rows = [self._row(by_name.get(row.name), row, project) for row in wanted]
        said = self._differences(by_name, rows, noun)
        return rows if said and not self._dry_run else None

    def _row(self, found: Row | None, wanted: Row, project: int) -> Row:
        return msgspec.structs.replace(wanted, id=found.id if found else 0, project=project)

    def _differences(self, have: dict[str, Row], rows: Sequence[Row], noun: str) -> bool:
        before = len(self._said)
        for row in rows:
            found = have.get(row.name)
            if found is None:
                self._say(f"{noun} {row.name} added")
            elif found != row:
                self._say(f"{noun} {row.name} changed")
        for name in sorted(have.keys() - {row.name for row in rows}):
            self._say(f"{noun} {name} removed")
        return len(self._said) > before

    async def _members(self, project: int) -> None:
        have = {m.user: m for m in await self._books.members.members(project)} if project else {}
        wanted = {self._people[name.lower()]: (name, role) for name, role in self._wanted.members}
        for user, (name, role) in wanted.items():
            if (user not in have or have[user].role is not role) and self._say(f"{name} is {role}"):
                await self._books.members.set_member(project, user, role)
        for user, member in have.items():
            if user not in wanted and self._say(f"{member.name} is no {member.role} any more"):
                await self._books.members.set_member(project, user, None)
