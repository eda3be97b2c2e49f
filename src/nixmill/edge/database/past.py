"""The door `Past`: what the server asks of its own past."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, func, select, update

from nixmill.core.access import Sight
from nixmill.core.change import Change, ChangeState
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Verdict
from nixmill.edge.database import tables, tables_server
from nixmill.edge.database.database import Database
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.pages_tally import counted
from nixmill.edge.database.rows import path_text
from nixmill.edge.database.server_rows import change_of
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath

FAULTS_MAX: Final = 100
_INTERRUPTED: Final = "The server was stopped while this was going on."


class SqlPast:
    """Implements `nixmill.doors.server.Past`."""

    def __init__(self, database: Database) -> None:
        """Ask `database`."""
        self._database = database

    async def interrupted(self, now: float) -> int:
        """See `Past`."""
        return await self._database.write(lambda connection: _interrupt(connection, now), action="end attempts")

    async def previous_commit(self, number: int) -> str:
        """See `Past`."""
        return await self._database.read(lambda connection: _previous(connection, number), action="look for a base")

    async def earlier(self, change: Change) -> Sequence[Change]:
        """See `Past`."""
        return await self._database.read(lambda connection: _earlier(connection, change), action="look for changes")

    async def out_of_reach(self, sight: Sight) -> Sequence[tuple[str, str, float]]:
        """See `Past`."""
        return await self._database.read(lambda connection: _faults(connection, sight), action="look for faults")

    async def before(self, number: int, path: AttrPath) -> StorePath | None:
        """See `Past`."""
        return await self._database.read(
            lambda connection: _before(connection, number, path), action="look for an attribute's base"
        )

    async def counts(self, number: int) -> dict[str, int]:
        """See `Past`."""
        return await self._database.read(lambda connection: counted(connection, number), action="count attributes")


def _interrupt(connection: Connection, now: float) -> int:
    attempt, run = tables.attempt, tables.run
    of_server = select(run.c.number).where(run.c.state != "")
    change = update(attempt).where(attempt.c.outcome.is_(None), attempt.c.run.in_(of_server))
    seconds = now - attempt.c.started_at
    values = {"outcome": Outcome.INFRASTRUCTURE.value, "message": _INTERRUPTED, "seconds": seconds}
    return connection.execute(change.values(values)).rowcount


def _previous(connection: Connection, number: int) -> str:
    run, evaluation = tables.run, tables.evaluation
    this = select(run.c.project_id, run.c.ref).where(run.c.number == number).subquery()
    query = (
        select(run.c.commit)
        .join(this, (run.c.project_id == this.c.project_id) & (run.c.ref == this.c.ref))
        .join(evaluation, evaluation.c.key == run.c.evaluation)
        .where(run.c.number < number, evaluation.c.complete, run.c.state == ChangeState.DONE.value)
        .where(run.c.verdict != Verdict.CANCELLED.value)
        .order_by(run.c.number.desc())
        .limit(1)
    )
    return connection.execute(query).scalar() or ""


def _earlier(connection: Connection, change: Change) -> list[Change]:
    run = tables.run
    same = run.c.ref == change.ref if change.pull_request is None else run.c.pull_request == change.pull_request
    query = (
        select(run)
        .where(run.c.project_id == change.project, same, run.c.number < change.number)
        .where(run.c.state.not_in(["", ChangeState.DONE.value]))
        .order_by(run.c.number)
    )
    return [change_of(row) for row in connection.execute(query)]


def _before(connection: Connection, number: int, path: AttrPath) -> StorePath | None:
    run, evaluation, attribute = tables.run, tables.evaluation, tables.attribute
    query = (
        select(attribute.c.drv_path)
        .join(evaluation, evaluation.c.id == attribute.c.evaluation)
        .join(run, run.c.base_evaluation == evaluation.c.key)
        .where(run.c.number == number, attribute.c.path == path_text(path))
        .limit(1)
    )
    found = connection.execute(query).scalar()
    return None if found is None else StorePath(found)


def _faults(connection: Connection, sight: Sight) -> list[tuple[str, str, float]]:
    of = tables_server.project.c
    since = func.coalesce(of.poll_fault_since, of.polled_at, 0.0)
    query = select(of.name, of.poll_fault, since).where(visible(sight), of.enabled, of.poll_fault != "")
    return [(name, fault, at) for name, fault, at in connection.execute(query.order_by(of.name).limit(FAULTS_MAX))]
