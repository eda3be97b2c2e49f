"""Projects in a file: TOML → `Declared` and back. What `render` writes, `parse` reads as it was.

A file has `[[project]]` tables, each with `[[project.jobset]]`, `[[project.rule]]` and `[project.members]`; keys are
the fields of the structs with `-` for `_`. Numbers of the database are no part of it.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from cronsim import CronSim, CronSimError
from pydantic import Field

from nixmill.config.mistakes import Mistake, Narrower, Table, key, read_struct, read_toml, refuse
from nixmill.core.access import PROJECT_ROLES, Role
from nixmill.core.account import check_user_name
from nixmill.core.errors import InputError
from nixmill.core.importing.toml_text import literal
from nixmill.core.message import Rule
from nixmill.core.project import SCHEMES, Jobset, Project, check_name, check_url

S = TypeVar("S", bound=msgspec.Struct)
DOCUMENTATION: Final = "All fields: docs/configuration.md of nixmill."
_OF_THE_DATABASE: Final = frozenset({"id", "project", "created_at", "declared", "repository_id"})
_NARROWER: Final[Narrower] = {
    (Project, "weight"): Annotated[int, Field(ge=1, le=100)],
    (Project, "poll_s"): Annotated[int, Field(ge=0, le=86_400 * 31)],
    (Rule, "channel"): Literal["email", "webhook", "slack", "matrix"],
}


class DeclaredProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project with everything that belongs to it; what the database adds stays at its defaults."""

    project: Project
    jobsets: tuple[Jobset, ...] = ()
    rules: tuple[Rule, ...] = ()
    members: tuple[tuple[str, Role], ...] = ()
    """Name of an account, and its role."""


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """All projects of a file, in its order."""

    projects: tuple[DeclaredProject, ...] = ()


def parse(text: str, where: str = "the projects file") -> Declared:
    """Return what a file declares; raise `InputError` that tells all mistakes."""
    table = read_toml(text, where)
    mistakes = [Mistake(name, "is no setting.", "Write [[project]].") for name in table if name != "project"]
    entries = _tables(table, "project", "", mistakes)
    mistakes += _twice([str(entry.get("name")) for entry in entries if "name" in entry], "[[project]]")
    found = [_project(entry, f"[[project]] {number}", mistakes) for number, entry in enumerate(entries, 1)]
    refuse(where, mistakes, DOCUMENTATION)
    return Declared(projects=tuple(one for one in found if one is not None))


def render(declared: Declared) -> str:
    """Return the file that declares these projects; what is at its default is left out."""
    return "\n".join("\n".join(_project_lines(one)) + "\n" for one in declared.projects)


def _tables(table: Table, name: str, at: str, mistakes: list[Mistake]) -> list[Table]:
    """Take the tables called `name` out of another."""
    entries = table.pop(name, [])
    if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries):
        return [dict(entry) for entry in entries]
    mistakes.append(Mistake(f"{at} {name}".strip(), "should be tables.", f"Write [[{name}]] with two brackets."))
    return []


def _project(entry: Table, at: str, mistakes: list[Mistake]) -> DeclaredProject | None:
    if isinstance(entry.get("name"), str):
        at = f"project {entry['name']!r}"
    jobsets = [_row(one, Jobset, at, mistakes) for one in _tables(entry, "jobset", at, mistakes)]
    rules = [_row(one, Rule, at, mistakes) for one in _tables(entry, "rule", at, mistakes)]
    members = _members(entry.pop("members", {}), at, mistakes)
    project, found = read_struct(entry, Project, _NARROWER, at, spared=_OF_THE_DATABASE)
    mistakes += found
    if project is None:
        return None
    rows = [row for row in jobsets if row is not None], [row for row in rules if row is not None]
    mistakes += _nonsense(project, *rows, at)
    return DeclaredProject(project=project, jobsets=tuple(rows[0]), rules=tuple(rows[1]), members=members)


def _row(entry: Table, kind: type[S], at: str, mistakes: list[Mistake]) -> S | None:
    noun = kind.__name__.lower()
    label = repr(entry["name"]) if isinstance(entry.get("name"), str) else ""
    row, found = read_struct(entry, kind, _NARROWER, f"{at} {noun} {label}".rstrip(), spared=_OF_THE_DATABASE)
    mistakes += found
    return row


def _members(entry: object, at: str, mistakes: list[Mistake]) -> tuple[tuple[str, Role], ...]:
    if not isinstance(entry, Mapping):
        mistakes.append(Mistake(f"{at} members", "should be a table.", 'Write [project.members] and NAME = "owner".'))
        return ()
    roles = {role.value: role for role in PROJECT_ROLES}
    members = []
    for name, value in entry.items():
        mistakes += _told(f"{at} members", check_user_name, name)
        if value in roles:
            members.append((name, roles[value]))
        else:
            mistakes.append(
                Mistake(f"{at} members {name}", f"{value!r} is no role.", f"Use one of: {', '.join(roles)}.")
            )
    return tuple(members)


def _nonsense(project: Project, jobsets: list[Jobset], rules: list[Rule], at: str) -> Iterator[Mistake]:
    """Yield what is well formed and still cannot be. Which kinds of URL are fetched, the server's settings say."""
    yield from _told(f"{at} name", check_name, project.name)
    yield from _told(f"{at} url", lambda url: check_url(url, SCHEMES), project.url)
    yield from _twice([jobset.name for jobset in jobsets], f"{at} jobset")
    yield from _twice([rule.name for rule in rules], f"{at} rule")
    for jobset in jobsets:
        place = f"{at} jobset {jobset.name!r}"
        yield from _told(place, lambda name: check_name(name, "jobset"), jobset.name)
        yield from _timer_mistakes(jobset, place)


def _timer_mistakes(jobset: Jobset, place: str) -> Iterator[Mistake]:
    try:
        zone = ZoneInfo(jobset.time_zone)
    except (OSError, ValueError, ZoneInfoNotFoundError):
        yield Mistake(
            f"{place} time-zone", f"{jobset.time_zone!r} is no time zone.", "Write one such as Europe/Berlin."
        )
        return
    if jobset.schedule:
        try:
            CronSim(jobset.schedule, datetime(2026, 1, 1, tzinfo=zone))
        except CronSimError as error:
            example = 'Write five fields of cron, such as "30 2 * * *": at 2:30 every night.'
            yield Mistake(f"{place} schedule", f"{jobset.schedule!r} is no schedule: {error}.", example)


def _told(place: str, check: Any, value: str) -> Iterator[Mistake]:  # noqa: ANN401 - any check of a name
    try:
        check(value)
    except InputError as error:
        yield Mistake(place, str(error), error.remedy)


def _twice(names: list[str], place: str) -> list[Mistake]:
    twice = sorted({name for name in names if names.count(name) > 1})
    return [Mistake(place, f"{name!r} is there twice.", "Give each its own name.") for name in twice]


def _project_lines(one: DeclaredProject) -> Iterator[str]:
    yield from _struct_lines("[[project]]", one.project)
    for jobset in one.jobsets:
        yield from ("", *_struct_lines("[[project.jobset]]", jobset))
    for rule in one.rules:
        yield from ("", *_struct_lines("[[project.rule]]", rule))
    if one.members:
        yield from (
            "",
            "[project.members]",
            *(f"{literal(name)} = {literal(role.value)}" for name, role in one.members),
        )


def _struct_lines(head: str, struct: msgspec.Struct) -> Iterator[str]:
    yield head
    for field in msgspec.structs.fields(struct):
        value = getattr(struct, field.name)
        if field.name not in _OF_THE_DATABASE and value != field.default:
            yield f"{key(field.name)} = {literal(value)}"
