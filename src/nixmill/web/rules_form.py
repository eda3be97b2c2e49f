"""`/p/NAME/rules`: whom a project tells what. A form of rows, or all rules in JSON; what is sent replaces all."""

from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Response

from nixmill.core.access import Action
from nixmill.core.errors import InputError
from nixmill.core.message import RULE_CHANNELS, ChannelKind, Rule, When
from nixmill.core.message_text import CREDENTIAL_PREFIX, check_rule
from nixmill.core.project import Project
from nixmill.web import urls
from nixmill.web.asking import Ask, Asked
from nixmill.web.body import Kind, body_of
from nixmill.web.form_pieces import (
    REMOVE,
    YES,
    Mistakes,
    line,
    lines,
    number,
    one_of,
    rows_of,
    text,
    words,
    written,
)
from nixmill.web.project_bodies import Line, Lines, Url, refuse_declared
from nixmill.web.showing import as_json, see_other, show

router: Final = APIRouter()
RULES_MAX: Final = 100
Texts = tuple[str, ...]
Name = Annotated[Line, msgspec.Meta(min_length=1)]


class RulesPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/p/NAME/rules`."""

    project: str
    rules: tuple[Rule, ...]
    credentials: tuple[str, ...]
    """Names of those that may be chosen."""


class RuleBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule, as `nixmill.core.message.Rule` explains its fields; known by its name."""

    name: Name
    channel: ChannelKind
    target: Url
    credential: Line = ""
    when: When = When.CHANGE
    branches: Lines = ()
    attributes: Lines = ()
    enabled: bool = True


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rules of a project."""

    rules: Annotated[tuple[RuleBody, ...], msgspec.Meta(max_length=RULES_MAX)]


class RulesForm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form as it is sent: a column of the table a field."""

    rule_id: Texts = ()
    rule_name: Texts = ()
    rule_channel: Texts = ()
    rule_target: Texts = ()
    rule_credential: Texts = ()
    rule_when: Texts = ()
    rule_branches: Texts = ()
    rule_attributes: Texts = ()
    rule_enabled: Texts = ()


class RuleRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table, as typed."""

    id: str = "0"
    name: str = ""
    channel: str = ChannelKind.EMAIL
    target: str = ""
    credential: str = ""
    when: str = When.CHANGE
    branches: str = ""
    attributes: str = ""
    enabled: str = YES

    @property
    def empty(self) -> bool:
        """Say whether it is the row for a new rule, and nobody wrote anything into it."""
        return self.id in {"", "0"} and not written(self, "name", "target", "branches", "attributes")


@router.get("/p/{name}/rules")
async def rules(ask: Asked, name: str) -> Response:
    """Show whom a project tells what."""
    project = await ask.project(name, Action.CHANGE_PROJECT)
    known = await ask.site.outbox.rules(project.id)
    return _shown(ask, project, tuple(known), [_row(rule) for rule in known], Mistakes())


@router.post("/p/{name}/rules")
async def change(ask: Asked, name: str) -> Response:
    """Replace all rules of a project."""
    project = await ask.project(name, Action.CHANGE_PROJECT)
    by_form = (await body_of(ask.request)).kind is Kind.FORM
    return await (_by_form(ask, project) if by_form else _by_json(ask, project))


async def _by_json(ask: Ask, project: Project) -> Response:
    bodies = (await ask.take(Rules)).rules
    refuse_declared(ask, project)
    ids = {rule.name: rule.id for rule in await ask.site.outbox.rules(project.id)}
    wanted = [Rule(id=ids.get(body.name, 0), **msgspec.structs.asdict(body)) for body in bodies]
    for rule in wanted:
        _checked(ask, rule)
    saved = await _save(ask, project, wanted)
    return as_json(RulesPage(project=project.name, rules=saved, credentials=_credentials(ask)))


async def _by_form(ask: Ask, project: Project) -> Response:
    rows = [row for row in rows_of(await ask.take(RulesForm), "rule", RuleRow) if not row.empty]
    refuse_declared(ask, project)
    mistakes = Mistakes()
    wanted = [_rule(ask, mistakes, at, row) for at, row in enumerate(rows) if row.enabled != REMOVE]
    if not mistakes:
        try:
            await _save(ask, project, wanted)
        except InputError as error:
            mistakes.note("", error)
        else:
            return see_other(urls.project_do(project.name, "rules"))
    return _shown(ask, project, tuple(await ask.site.outbox.rules(project.id)), rows, mistakes)


async def _save(ask: Ask, project: Project, wanted: list[Rule]) -> tuple[Rule, ...]:
    if len(wanted) > RULES_MAX:
        raise InputError(f"A project has at most {RULES_MAX} rules, not {len(wanted)}.")
    saved = tuple(await ask.site.outbox.save_rules(project.id, wanted))
    await ask.audit("change messages", project.name, project=project.id, detail=", ".join(one.name for one in saved))
    return saved


def _rule(ask: Ask, mistakes: Mistakes, at: int, row: RuleRow) -> Rule:
    before = len(mistakes)
    rule = Rule(
        id=mistakes.take(f"rule {at} name", lambda: number(row.id), 0),
        name=mistakes.take(f"rule {at} name", lambda: _name(row.name), "rule"),
        channel=mistakes.take(f"rule {at} channel", lambda: one_of(ChannelKind, row.channel), ChannelKind.EMAIL),
        target=mistakes.take(f"rule {at} target", lambda: line(row.target, 2000), ""),
        credential=mistakes.take(f"rule {at} credential", lambda: line(row.credential), ""),
        when=mistakes.take(f"rule {at} when", lambda: one_of(When, row.when), When.CHANGE),
        branches=mistakes.take(f"rule {at} branches", lambda: words(row.branches), ()),
        attributes=mistakes.take(f"rule {at} attributes", lambda: lines(row.attributes), ()),
        enabled=row.enabled == YES,
    )
    if len(mistakes) == before:
        mistakes.take(f"rule {at} target", lambda: _checked(ask, rule), rule)
    return rule


def _checked(ask: Ask, rule: Rule) -> Rule:
    """Return a rule; raise `InputError` where it cannot be, or names a credential that is not there."""
    if rule.credential and check_rule(rule).credential not in ask.site.settings.credentials:
        raise InputError(
            f"The server has no credential {rule.credential!r}.", "Add it to `credentials` in its settings file."
        )
    return check_rule(rule)


def _name(typed: str) -> str:
    if not typed.strip():
        raise InputError("A rule needs a name.", "It says in the list what the rule is for.")
    return line(typed)


def _row(rule: Rule) -> RuleRow:
    texts = {name: text(getattr(rule, name)) for name in RuleRow.__struct_fields__}
    return RuleRow(**{**texts, "attributes": "\n".join(rule.attributes)})


def _credentials(ask: Ask) -> tuple[str, ...]:
    return tuple(sorted(name for name in ask.site.settings.credentials if name.startswith(CREDENTIAL_PREFIX)))


def _shown(ask: Ask, project: Project, known: tuple[Rule, ...], rows: list[RuleRow], mistakes: Mistakes) -> Response:
    if ask.wants_json:
        mistakes.refuse()
    page = RulesPage(project=project.name, rules=known, credentials=_credentials(ask))
    return show(
        ask,
        "rules.html",
        page,
        title=f"Messages of {project.name}",
        code=422 if mistakes else 200,
        project=project,
        mistakes=mistakes,
        rows=[*rows, RuleRow()],
        channels=RULE_CHANNELS,
        whens={When.CHANGE: "when it broke or was fixed", When.FAILURE: "whenever it fails", When.ALWAYS: "always"},
    )
