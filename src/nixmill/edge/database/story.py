"""The door `Story`: a finished run as messages tell it, and its attributes as hooks read them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Select, func, select

from nixmill.core.message import Broken, Ended
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change, Verdict
from nixmill.core.status import of_outcome
from nixmill.core.trust import Tier, is_untrusted
from nixmill.edge.database import tables, tables_server
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import as_table
from nixmill.edge.database.rows import AttributeDetails, ErrorDetails, path_of
from nixmill.nix.attr_path import show
from nixmill.nix.store_path import StorePath

BROKEN_MAX: Final = 50
"""Attributes of each kind that a message names."""
CAUSE_MAX: Final = 500
ERRED: Final = "did not evaluate"

_run, _outcome, _attribute = tables.run, tables.outcome, tables.attribute
_error, _difference = tables.evaluation_error, tables_server.difference
_attribute_details: Final = msgspec.json.Decoder(AttributeDetails)
_error_details: Final = msgspec.json.Decoder(ErrorDetails)


_SAYS_NOTHING: Final = tuple(each.value for each in (Outcome.CANCELLED, Outcome.INFRASTRUCTURE, Outcome.NO_MACHINE))
"""Outcomes that say nothing of the project: no hook hears of them."""


class HookDocument(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a hook reads about one attribute, as JSON. Modelled on what Hydra gives to its RunCommand."""

    version: int = 1
    """Of this form; fields may be added without a new one."""
    run: int
    """Number of the run, as in `/r/NUMBER`."""
    project: str
    jobset: str
    """Empty for a run that belongs to none."""
    ref: str
    """In full: `refs/heads/main`."""
    commit: str
    attribute: str
    """As people write it: `checks.x86_64-linux.foo`, quoted where needed."""
    drv_path: str
    """Written `drvPath`."""
    nix_name: str
    """Written `nixName`: the derivation's name, such as `hello-2.12`."""
    system: str
    outcome: str
    """`succeeded`, `build failed`, …: a value of `nixmill.core.outcome.Outcome`."""
    how: str
    """`built`, `fetched`, `unchanged (passed in run 12)`; for a failure what failed."""
    culprit: str | None
    """The derivation at fault, where it is not the attribute's own."""
    outputs: dict[str, StorePath | None]
    """Output name → path; null where the path is only known after building and was not."""
    description: str
    """`meta.description`."""
    seconds: float
    """The build took."""
    log: str | None
    """Path of the log that explains it, on the server: the newest of the attribute, else of its culprit."""


class SqlStory:
    """Implements `nixmill.doors.server.Story`."""

    def __init__(self, database: Database) -> None:
        """Use an opened database."""
        self._database = database

    async def told(self, number: int) -> Ended | None:
        """See `Story`. `failing` are those that were failing before; the newly failing ones stand apart."""
        return await self._database.read(lambda connection: _told(connection, number), action="tell of a run")

    async def attributes_for_hooks(self, number: int) -> Sequence[tuple[str, bool, bytes]]:
        """See `Story`; what was cancelled has no final result. The document is a `HookDocument`.

        Hooks have power, and hear nothing of untrusted commits (semantics §7).
        """
        return await self._database.read(
            lambda connection: _documents(connection, number), action="tell hooks of a run"
        )


def _finished(connection: Connection, number: int) -> Row[Any] | None:
    project, jobset = tables_server.project, tables_server.jobset
    query = (
        select(_run, project.c.name.label("project_name"), func.coalesce(jobset.c.name, "").label("jobset_name"))
        .join(project, project.c.id == _run.c.project_id)
        .outerjoin(jobset, jobset.c.id == _run.c.jobset)
        .where(_run.c.number == number, _run.c.verdict.is_not(None))
    )
    return connection.execute(query).one_or_none()


def _told(connection: Connection, number: int) -> Ended | None:
    run = _finished(connection, number)
    if run is None:
        return None
    return Ended(
        run=number,
        project=run.project_name,
        jobset=run.jobset_name,
        ref=run.ref,
        commit=run.commit,
        subject=run.subject,
        author=run.author,
        verdict=msgspec.convert(run.verdict, Verdict),
        before=_before(connection, run),
        sentence=run.sentence,
        url="",
        counts=msgspec.json.decode(run.counts, type=dict[str, int]),
        newly_failing=_newly_failing(connection, run),
        failing=_failing(connection, run),
        fixed=_good(connection, run),
        seconds=max(0.0, (run.ended_at or run.started_at) - run.started_at),
        ended_at=run.ended_at or 0.0,
    )


def _before(connection: Connection, run: Row[Any]) -> Verdict | None:
    of = _run.c
    earlier = (of.project_id == run.project_id) & (of.ref == run.ref) & (of.number < run.number)
    told = of.verdict.is_not(None) & (of.verdict != Verdict.CANCELLED.value)
    query = select(of.verdict).where(earlier, told, of.jobset.is_not_distinct_from(run.jobset))
    found = connection.execute(query.order_by(of.number.desc()).limit(1)).scalar()
    return None if found is None else msgspec.convert(found, Verdict)


def _outcomes(run: Row[Any]) -> Select[Any]:
    links = tables.run_evaluation.c
    of = _outcome.c
    mine = (of.evaluation == links.evaluation) & (of.run == links.run)
    return (
        select(of.path, of.outcome, of.how)
        .select_from(tables.run_evaluation.join(_outcome, mine))
        .where(links.run == run.number, of.outcome != Outcome.CANCELLED.value)
        .order_by(of.path)
        .limit(BROKEN_MAX)
    )


def _errors(run: Row[Any], *, new: bool) -> Select[Any]:
    """Return the evaluation errors of a run: those that are new against its base, or the others."""
    evaluation = tables.evaluation
    difference = (_difference.c.run == run.number) & (_difference.c.path == _error.c.path)
    is_new = func.coalesce(_difference.c.change, "") == Change.NEWLY_FAILING.value
    return (
        select(_error.c.path, _error.c.details)
        .join(evaluation, evaluation.c.id == _error.c.evaluation)
        .outerjoin(_difference, difference)
        .where(evaluation.c.key == run.evaluation, is_new if new else ~is_new)
        .order_by(_error.c.path)
        .limit(BROKEN_MAX)
    )


def _newly_failing(connection: Connection, run: Row[Any]) -> tuple[Broken, ...]:
    bad = _outcome.c.outcome != Outcome.SUCCEEDED.value
    built = _outcomes(run).where(bad, _outcome.c.change == Change.NEWLY_FAILING.value)
    return _broken(connection, run, built, _errors(run, new=True))


def _failing(connection: Connection, run: Row[Any]) -> tuple[Broken, ...]:
    bad = _outcome.c.outcome != Outcome.SUCCEEDED.value
    built = _outcomes(run).where(bad, _outcome.c.change != Change.NEWLY_FAILING.value)
    return _broken(connection, run, built, _errors(run, new=False))


def _good(connection: Connection, run: Row[Any]) -> tuple[Broken, ...]:
    fixed = (_outcome.c.outcome == Outcome.SUCCEEDED.value) & (_outcome.c.change == Change.FIXED.value)
    return _broken(connection, run, _outcomes(run).where(fixed), None)


def _broken(
    connection: Connection, run: Row[Any], outcomes: Select[Any], errors: Select[Any] | None
) -> tuple[Broken, ...]:
    found: dict[str, tuple[str, str]] = {}
    for path, outcome, how in connection.execute(outcomes):
        good = outcome == Outcome.SUCCEEDED.value
        found[path] = (of_outcome(Outcome.SUCCEEDED).value if good else outcome, how)
    for path, details in connection.execute(errors) if errors is not None else ():
        message = _error_details.decode(details).message.strip()
        found[path] = (ERRED, message.partition("\n")[0])
    chosen = sorted(found, key=path_of)[:BROKEN_MAX]
    people = _maintainers(connection, run, chosen)
    return tuple(
        Broken(
            name=show(path_of(path)),
            status=found[path][0],
            cause=found[path][1][:CAUSE_MAX],
            maintainers=people.get(path, ()),
        )
        for path in chosen
    )


def _maintainers(connection: Connection, run: Row[Any], paths: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """Return whom attributes belong to; of one that did not evaluate, as its base says."""
    people: dict[str, tuple[str, ...]] = {}
    wanted, evaluation = as_table(connection, paths), tables.evaluation
    for key in (run.base_evaluation, run.evaluation):
        query = (
            select(_attribute.c.path, _attribute.c.details)
            .select_from(wanted.join(_attribute, _attribute.c.path == wanted.c.value))
            .join(evaluation, evaluation.c.id == _attribute.c.evaluation)
            .where(evaluation.c.key == key)
        )
        for path, details in connection.execute(query) if key and paths else ():
            found = _attribute_details.decode(details).maintainers
            people[path] = tuple(dict.fromkeys(person for person in found if "@" in person))
    return people


def _documents(connection: Connection, number: int) -> list[tuple[str, bool, bytes]]:
    run = _finished(connection, number)
    if run is None or is_untrusted(msgspec.convert(run.tier, Tier)):
        return []
    logs = _logs(connection, number)
    of, links = _outcome.c, tables.run_evaluation.c
    mine = (of.evaluation == links.evaluation) & (of.run == links.run)
    its = (_attribute.c.evaluation == of.evaluation) & (_attribute.c.path == of.path)
    query = (
        select(_outcome, _attribute.c.name, _attribute.c.system, _attribute.c.details)
        .select_from(tables.run_evaluation.join(_outcome, mine).join(_attribute, its))
        .where(links.run == number, of.outcome.not_in(_SAYS_NOTHING))
        .order_by(_attribute.c.position)
    )
    documents = [_document(run, row, logs) for row in connection.execute(query)]
    return [(each.attribute, each.outcome == Outcome.SUCCEEDED.value, msgspec.json.encode(each)) for each in documents]


def _logs(connection: Connection, number: int) -> dict[str, str]:
    """Return the newest log of each derivation that this run tried."""
    of = tables.attempt.c
    query = select(of.drv_path, of.log).where(of.run == number, of.log != "").order_by(of.number)
    return {row.drv_path: row.log for row in connection.execute(query)}


def _document(run: Row[Any], row: Row[Any], logs: Mapping[str, str]) -> HookDocument:
    details = _attribute_details.decode(row.details)
    return HookDocument(
        run=run.number,
        project=run.project_name,
        jobset=run.jobset_name,
        ref=run.ref,
        commit=run.commit,
        attribute=show(path_of(row.path)),
        drv_path=row.drv_path,
        nix_name=row.name,
        system=row.system,
        outcome=row.outcome,
        how=row.how,
        culprit=row.culprit,
        outputs=details.outputs,
        description=details.description,
        seconds=row.seconds,
        log=logs.get(row.drv_path) or logs.get(row.culprit or ""),
    )
