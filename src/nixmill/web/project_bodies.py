"""What programs send to add and change projects, and what may not be changed by whom."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from nixmill.core.access import Visibility
from nixmill.core.change import BuildClass
from nixmill.core.project import Jobset, Project
from nixmill.engine.project_checks import JOBSETS_MAX, POLL_S_MAX, WEIGHT_MAX, for_administrators
from nixmill.web.asking import Ask
from nixmill.web.finding import PRINTABLE
from nixmill.web.form_pieces import LINE_MAX, TARGET_MAX, WORDS_MAX
from nixmill.web.refusal import RefusalError

URL_MAX: Final = 2000
Line = Annotated[str, msgspec.Meta(max_length=LINE_MAX, pattern=PRINTABLE)]
Url = Annotated[str, msgspec.Meta(max_length=URL_MAX, pattern=PRINTABLE)]
_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=TARGET_MAX, pattern=PRINTABLE)]
Lines = Annotated[tuple[_Word, ...], msgspec.Meta(max_length=WORDS_MAX)]
Weight = Annotated[int, msgspec.Meta(ge=1, le=WEIGHT_MAX)]
PollS = Annotated[int, msgspec.Meta(ge=0, le=POLL_S_MAX)]


class ProjectBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A project, as `nixmill.core.project.Project` explains its fields."""

    name: Line
    title: Line = ""
    url: Url
    credential: Line = ""
    default_branch: Line = ""
    visibility: Visibility = Visibility.PUBLIC
    enabled: bool = True
    poll_s: PollS = 60
    weight: Weight = 1
    submodules: bool = False
    forge: Line = ""
    repository: Line = ""
    drafts: bool = True


class JobsetBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A jobset, as `nixmill.core.project.Jobset` explains its fields; known by its name."""

    name: Line
    branches: Lines = ()
    tags: Lines = ()
    schedule: Line = ""
    time_zone: Line = "UTC"
    targets: Lines = ()
    systems: Lines = ()
    build_class: BuildClass = BuildClass.BRANCH
    enabled: bool = True
    on_push: bool = True


Jobsets = Annotated[tuple[JobsetBody, ...], msgspec.Meta(max_length=JOBSETS_MAX)]


class WholeProject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A project with all its jobsets."""

    project: ProjectBody
    jobsets: Jobsets = ()


class ProjectChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes of a project; what is left out stays."""

    name: Line | UnsetType = UNSET
    title: Line | UnsetType = UNSET
    url: Url | UnsetType = UNSET
    credential: Line | UnsetType = UNSET
    default_branch: Line | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    poll_s: PollS | UnsetType = UNSET
    weight: Weight | UnsetType = UNSET
    submodules: bool | UnsetType = UNSET
    forge: Line | UnsetType = UNSET
    repository: Line | UnsetType = UNSET
    drafts: bool | UnsetType = UNSET


class PartOfProject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What changes of a project; jobsets, where given, replace all."""

    project: ProjectChange = ProjectChange()
    jobsets: Jobsets | None = None


def changed(project: Project, body: ProjectBody | ProjectChange) -> Project:
    """Return a project with what a body says of it."""
    given: dict[str, Any] = msgspec.structs.asdict(body)
    after = msgspec.structs.replace(project, **{name: value for name, value in given.items() if value is not UNSET})
    return rejoined(project, after)


def rejoined(before: Project, after: Project) -> Project:
    """Return a project without the id of a repository that is no longer its own."""
    same = (before.forge, before.repository) == (after.forge, after.repository)
    return after if same else msgspec.structs.replace(after, repository_id="")


def jobsets_of(bodies: Sequence[JobsetBody], known: Sequence[Jobset]) -> list[Jobset]:
    """Return jobsets; one whose name is known stays that one, with its runs and its timer."""
    ids = {jobset.name: jobset.id for jobset in known}
    return [Jobset(id=ids.get(body.name, 0), **msgspec.structs.asdict(body)) for body in bodies]


def refuse_declared(ask: Ask, project: Project) -> None:
    """Raise 409 where a project stands in the file of projects, which would undo the change at the next start."""
    if project.declared:
        where = ask.site.settings.projects_file or "the server's projects file"
        raise RefusalError(409, f"{project.name} is declared in {where}.", "Change it there, and restart the server.")


def refuse_powers(ask: Ask, before: Project | None, after: Project) -> None:
    """Raise 403 for a change that only administrators may make."""
    said = {} if ask.viewer.admin else for_administrators(before, after)
    if said:
        raise RefusalError(403, " ".join(said.values()), "Ask an administrator.")
