"""Between the structs of the server and the columns of its tables, and what several of its doors need in SQL."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Table, delete, insert, select, update
from sqlalchemy import Row as SqlRow

from nixmill.core.access import Visibility
from nixmill.core.change import BuildClass, Change, ChangeState, Origin
from nixmill.core.errors import InputError
from nixmill.core.message import ChannelKind, Parcel, Rule, When
from nixmill.core.project import Jobset, Project
from nixmill.core.trust import Tier
from nixmill.edge.database import tables_server
from nixmill.edge.database.rows import Values, clean, clean_all
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath

_texts: Final = msgspec.json.Decoder(tuple[str, ...])


class Options(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The parts of a `Change` that are no columns of `nm_run`: how it was asked for."""

    targets: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    rebuild: bool = False
    evaluate_again: bool = False
    forgive: tuple[StorePath, ...] = ()
    anyway: tuple[AttrPath, ...] = ()
    skipped: str = ""


_options: Final = msgspec.json.Decoder(Options)


def json_text(value: object) -> str:
    """Return a value as it is stored in a column of JSON."""
    try:
        return clean(msgspec.json.encode(value).decode())
    except UnicodeEncodeError:
        # A lone surrogate in a stranger's text.
        return json.dumps(clean_all(msgspec.to_builtins(value)))


def texts(stored: str) -> tuple[str, ...]:
    """Return the texts that `json_text` stored."""
    return _texts.decode(stored)


def project_of(row: SqlRow[Any]) -> Project:
    """Return a row of `nm_project`."""
    columns = row._mapping  # noqa: SLF001 - the public name for it, for all its underscore
    values = {field: columns[field] for field in Project.__struct_fields__}
    return Project(**{**values, "visibility": msgspec.convert(row.visibility, Visibility)})


def jobset_of(row: SqlRow[Any]) -> Jobset:
    """Return a row of `nm_jobset`."""
    columns = row._mapping  # noqa: SLF001 - as above
    values = {field: columns[field] for field in Jobset.__struct_fields__}
    lists = {field: texts(values[field]) for field in ("branches", "tags", "targets", "systems")}
    return Jobset(**{**values, **lists, "build_class": msgspec.convert(row.build_class, BuildClass)})


def rule_of(row: SqlRow[Any]) -> Rule:
    """Return a row of `nm_rule`."""
    columns = row._mapping  # noqa: SLF001 - as above
    values = {field: columns[field] for field in Rule.__struct_fields__}
    lists = {field: texts(values[field]) for field in ("branches", "attributes")}
    kinds = {"channel": msgspec.convert(row.channel, ChannelKind), "when": msgspec.convert(row.when, When)}
    return Rule(**{**values, **lists, **kinds})


def parcel_of(row: SqlRow[Any]) -> Parcel:
    """Return a row of `nm_parcel`."""
    columns = row._mapping  # noqa: SLF001 - as above
    values = {field: columns[field] for field in Parcel.__struct_fields__}
    return Parcel(**{**values, "channel": msgspec.convert(row.channel, ChannelKind)})


def change_of(row: SqlRow[Any]) -> Change:
    """Return a row of `nm_run` that is a change."""
    options = _options.decode(row.options)
    return Change(
        number=row.number,
        project=row.project_id,
        jobset=row.jobset,
        ref=row.ref,
        commit=row.commit,
        origin=msgspec.convert(row.origin, Origin),
        build_class=msgspec.convert(row.build_class, BuildClass),
        requested_by=row.requested_by,
        requested_at=row.requested_at,
        targets=options.targets,
        systems=options.systems,
        retry_of=row.retry_of,
        rebuild=options.rebuild,
        evaluate_again=options.evaluate_again,
        forgive=options.forgive,
        anyway=options.anyway,
        skipped=options.skipped,
        state=msgspec.convert(row.state, ChangeState),
        cancel_asked=row.cancel_asked,
        superseded_by=row.superseded_by,
        withdrawn=row.withdrawn,
        tier=msgspec.convert(row.tier, Tier),
        pull_request=row.pull_request,
        base_ref=row.base_ref,
        tested=row.tested,
        base_commit=row.base_commit,
    )


def change_values(change: Change, project_name: str, now: float) -> Values:
    """Return the columns of a new change: one that waits, for approval or for its turn."""
    options = Options(
        targets=change.targets,
        systems=change.systems,
        rebuild=change.rebuild,
        evaluate_again=change.evaluate_again,
        forgive=change.forgive,
        anyway=change.anyway,
        skipped=change.skipped,
    )
    asked_at = change.requested_at or now
    return {
        "project": project_name,
        "checkout": "",
        "commit": clean(change.commit),
        "tree_hash": "",
        "targets": json_text(change.targets),
        "base_commit": clean(change.base_commit),
        "process": 0,
        "process_identity": "",
        "started_at": asked_at,
        "sentence": "",
        "project_id": change.project,
        "jobset": change.jobset,
        "ref": clean(change.ref),
        "origin": change.origin.value,
        "build_class": change.build_class.value,
        "requested_by": change.requested_by,
        "requested_at": asked_at,
        "state": (ChangeState.HELD if change.state is ChangeState.HELD else ChangeState.WAITING).value,
        "options": json_text(options),
        "retry_of": change.retry_of,
        "tier": change.tier.value,
        "pull_request": change.pull_request,
        "base_ref": clean(change.base_ref),
        "tested": clean(change.tested),
        "cancel_asked": change.cancel_asked,
        "withdrawn": change.withdrawn,
    }


def stored(fields: Mapping[str, Any]) -> Values:
    """Return fields of a struct as columns: texts without what no database takes, lists as JSON."""
    return {name: _stored(value) for name, value in fields.items()}


def _stored(value: object) -> object:
    match value:
        case str():
            return clean(str(value))
        case tuple() | list() | dict():
            return json_text(value)
        case _:
            return value


class Named(NamedTuple):
    """A row of a project, known by its id and, to people, by its name."""

    id: int
    name: str
    values: Values


def hold_project(connection: Connection, project: int) -> bool:
    """Let nobody else who asks this go on before this transaction has ended; False where the project is gone.

    Rows that refer to the project are written by others meanwhile.
    """
    of = tables_server.project.c
    query = select(of.id).where(of.id == project, of.deleted_at.is_(None)).with_for_update(key_share=True)
    return connection.execute(query).scalar() is not None


def kept_projects(connection: Connection, projects: Iterable[int]) -> set[int]:
    """Return those of these projects that have a row; none of them loses it before this transaction has ended."""
    of = tables_server.project.c
    query = select(of.id).where(of.id.in_(sorted(set(projects)))).order_by(of.id)
    return set(connection.execute(query.with_for_update(read=True, key_share=True)).scalars())


def live_project(connection: Connection, project: int) -> str:
    """Return the name of a project; raise `InputError` where it is gone or going."""
    of = tables_server.project.c
    name = connection.execute(select(of.name).where(of.id == project, of.deleted_at.is_(None))).scalar()
    if name is None:
        raise InputError("There is no such project any more.", "Somebody deleted it; look at the list of projects.")
    return str(name)


def make_the_rows(connection: Connection, table: Table, project: int, rows: Sequence[Named], what: str) -> None:
    """Make `rows` those of a project: change those with an id, add the others, remove what is not among them.

    Raises `InputError` where two have the same name, or an id is of another project.
    """
    live_project(connection, project)
    _refuse_repeats(rows, what)
    of = table.c
    there = set(connection.execute(select(of.id).where(of.project == project)).scalars())
    strange = {row.id for row in rows if row.id} - there
    if strange:
        raise InputError(f"A {what} with the number {min(strange)} is not there any more.", "Load the page again.")
    connection.execute(delete(table).where(of.project == project, of.id.not_in([row.id for row in rows if row.id])))
    for row in rows:
        if row.id:
            # Names may be swapped; a name of nobody's in between.
            connection.execute(update(table).where(of.id == row.id).values(name=f"#{row.id}"))
    for row in rows:
        if row.id:
            connection.execute(update(table).where(of.id == row.id).values(row.values))
        else:
            connection.execute(insert(table).values({**row.values, "project": project}))


def _refuse_repeats(rows: Iterable[Named], what: str) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.name in seen:
            raise InputError(f"Two of them are called {row.name!r}.", f"Give each {what} a name of its own.")
        seen.add(row.name)
