"""The form of a project: texts as they were typed, to a project and jobsets, and back.

A mistake is told at its field, and nothing that was typed is lost. Jobsets are rows of a table.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import msgspec

from nixmill.config.server import ServerSettings
from nixmill.core.access import Visibility
from nixmill.core.change import BuildClass
from nixmill.core.project import Jobset, Project, check_name, check_url
from nixmill.engine import project_checks as checks
from nixmill.engine.timers import check_schedule
from nixmill.web.form_pieces import REMOVE, YES, Mistakes, line, lines, number, one_of, rows_of, text, words, written
from nixmill.web.project_bodies import URL_MAX, rejoined

T = TypeVar("T")
Texts = tuple[str, ...]


class SettingsForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form as it is sent."""

    name: str = ""
    title: str = ""
    url: str = ""
    credential: str = ""
    visibility: str = Visibility.PUBLIC
    default_branch: str = ""
    poll_s: str = "60"
    weight: str = "1"
    submodules: str = ""
    forge: str = ""
    repository: str = ""
    drafts: str = ""
    enabled: str = ""
    jobset_id: Texts = ()
    jobset_name: Texts = ()
    jobset_branches: Texts = ()
    jobset_tags: Texts = ()
    jobset_schedule: Texts = ()
    jobset_time_zone: Texts = ()
    jobset_targets: Texts = ()
    jobset_systems: Texts = ()
    jobset_build_class: Texts = ()
    jobset_on_push: Texts = ()
    jobset_enabled: Texts = ()


class JobsetRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table, as typed."""

    id: str = "0"
    name: str = ""
    branches: str = ""
    tags: str = ""
    schedule: str = ""
    time_zone: str = "UTC"
    targets: str = ""
    systems: str = ""
    build_class: str = BuildClass.BRANCH
    on_push: str = YES
    enabled: str = YES

    @property
    def empty(self) -> bool:
        """Say whether it is the row for a new jobset, and nobody wrote anything into it."""
        some = written(self, "name", "branches", "tags", "schedule", "targets", "systems")
        return self.id in {"", "0"} and not some


EMPTY: Final = JobsetRow()
COLUMNS: Final = JobsetRow.__struct_fields__


@dataclass(slots=True)
class Typed:
    """What was typed, and what is wrong with it."""

    form: SettingsForm
    rows: list[JobsetRow]
    mistakes: Mistakes = field(default_factory=Mistakes)


def typed(form: SettingsForm) -> Typed:
    """Return a form with the rows of its table."""
    return Typed(form, [row for row in rows_of(form, "jobset", JobsetRow) if not row.empty])


def form_of(project: Project, jobsets: Iterable[Jobset]) -> Typed:
    """Return the form of what is so."""
    values: dict[str, Any] = {
        name: text(getattr(project, name)) for name in SettingsForm.__struct_fields__ if hasattr(project, name)
    }
    rows = [_row(jobset) for jobset in jobsets]
    return Typed(SettingsForm(**values), rows)


def _row(jobset: Jobset) -> JobsetRow:
    texts = {name: text(getattr(jobset, name)) for name in COLUMNS}
    return JobsetRow(**{**texts, "targets": "\n".join(jobset.targets)})


def project_of(told: Typed, settings: ServerSettings, before: Project) -> Project:
    """Return `before` as the form wants it; mistakes are noted in `told`."""
    form = told.form
    after = msgspec.structs.replace(
        before,
        name=told.mistakes.take("name", lambda: check_name(form.name.strip()), before.name),
        title=told.mistakes.take("title", lambda: line(form.title), ""),
        url=told.mistakes.take("url", lambda: check_url(line(form.url, URL_MAX), checks.schemes(settings)), before.url),
        credential=told.mistakes.take(
            "credential", lambda: _credential(settings, form.credential, before), before.credential
        ),
        default_branch=told.mistakes.take("default_branch", lambda: line(form.default_branch), ""),
        visibility=told.mistakes.take("visibility", lambda: one_of(Visibility, form.visibility), before.visibility),
        enabled=form.enabled == YES,
        poll_s=told.mistakes.take("poll_s", lambda: checks.check_poll_s(number(form.poll_s)), before.poll_s),
        weight=told.mistakes.take("weight", lambda: checks.check_weight(number(form.weight)), before.weight),
        submodules=form.submodules == YES,
        forge=told.mistakes.take("forge", lambda: line(form.forge), before.forge),
        repository=told.mistakes.take("repository", lambda: line(form.repository).strip("/"), before.repository),
        drafts=form.drafts == YES,
    )
    return rejoined(before, after)


def jobsets_of(told: Typed) -> list[Jobset]:
    """Return the jobsets of the rows that are not to be removed; mistakes are noted in `told`."""
    found = [_jobset(told, at, row) for at, row in enumerate(told.rows) if row.enabled != REMOVE]
    if not told.mistakes:
        told.mistakes.take("", lambda: checks.check_jobsets(found), None)
    return found


def _jobset(told: Typed, at: int, row: JobsetRow) -> Jobset:
    def take(name: str, read: Callable[[], T], otherwise: T) -> T:
        return told.mistakes.take(f"jobset {at} {name}", read, otherwise)

    zone = row.time_zone.strip() or "UTC"
    schedule = row.schedule.strip()
    take("schedule", lambda: check_schedule(schedule or "0 0 * * *", zone), None)
    return Jobset(
        id=take("name", lambda: number(row.id), 0),
        name=take("name", lambda: check_name(row.name.strip(), "jobset"), "jobset"),
        branches=take("branches", lambda: words(row.branches), ()),
        tags=take("tags", lambda: words(row.tags), ()),
        schedule=schedule,
        time_zone=zone,
        targets=take("targets", lambda: lines(row.targets), ()),
        systems=take("systems", lambda: words(row.systems), ()),
        build_class=take("build_class", lambda: one_of(BuildClass, row.build_class), BuildClass.BRANCH),
        enabled=row.enabled == YES,
        on_push=row.on_push == YES,
    )


def _credential(settings: ServerSettings, name: str, before: Project) -> str:
    """Return a credential; the one that the administrators' file gave may stay."""
    return name if name == before.credential else checks.check_credential(settings, name)
