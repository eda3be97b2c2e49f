"""The door `PullRequests`: what forges said of pull requests, the changes that followed, and who approved what.

Looks at pull requests of one project and approvals go one after another (`hold_project`), so that an approval is
never missed by a change that is recorded at the same time, and two looks never bring in the same head twice.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, exists, select, update

from nixmill.core.change import Change, ChangeState
from nixmill.core.pull_request import Approval, Known, PullRequest, PullState
from nixmill.core.trust import Tier
from nixmill.edge.database import tables
from nixmill.edge.database.changes import OnAccept, end_held, insert_changes, nothing_more
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import insert_into
from nixmill.edge.database.forge_rows import approval_of, pull_of, pull_values
from nixmill.edge.database.rows import clean
from nixmill.edge.database.server_rows import change_of, hold_project, live_project
from nixmill.edge.database.tables_forge import approval as approval_table
from nixmill.edge.database.tables_forge import pull_request

CHANGES_MAX: Final = 50
"""Changes of a pull request that are told."""
_run = tables.run


class SqlPullRequests:
    """Implements `nixmill.doors.forge.PullRequests`."""

    def __init__(self, database: Database, now: Callable[[], float], on_accept: OnAccept = nothing_more) -> None:
        """Use an opened database; `on_accept` is that of `SqlChanges`."""
        self._database = database
        self._now = now
        self._on_accept = on_accept

    async def pull_request(self, project: int, number: int) -> Known | None:
        """See `PullRequests`."""
        return await self._database.read(
            lambda connection: _known(connection, project, number), action="look for a pull request"
        )

    async def open_pull_requests(self, project: int) -> Sequence[PullRequest]:
        """See `PullRequests`; by number."""
        of = pull_request.c
        query = select(pull_request).where(of.project == project, of.state == PullState.OPEN.value).order_by(of.number)
        return await self._database.read(
            lambda connection: [pull_of(row) for row in connection.execute(query)], action="list pull requests"
        )

    async def saw(self, project: int, seen: PullRequest, changes: Sequence[Change]) -> list[int]:
        """See `PullRequests`. What is older than is known, or of a project that is gone, changes nothing."""
        now = self._now()

        def record(connection: Connection) -> list[int]:
            if not hold_project(connection, project) or not _record(connection, project, seen, changes, now):
                return []
            numbers: list[int] = []
            for change in changes:
                if not _is_there(connection, change):
                    numbers += insert_changes(connection, [_let_go(connection, change)], now, self._on_accept)
            return numbers

        return await self._database.write(record, action="record a look at a pull request")

    async def approve(self, approval: Approval) -> list[int]:
        """See `PullRequests`. Raises `InputError` where the project is gone."""

        def record(connection: Connection) -> list[int]:
            if not hold_project(connection, approval.project):
                live_project(connection, approval.project)
            _approve(connection, approval)
            numbers = _released(connection, approval)
            if numbers:
                self._on_accept(connection, numbers)
            return numbers

        return await self._database.write(record, action="approve a commit")

    async def withdraw(self, numbers: Collection[int], why: str) -> list[int]:
        """See `PullRequests`."""
        now = self._now()
        return await self._database.write(
            lambda connection: self._withdraw(connection, numbers, why, now),
            action="cancel the runs of a pull request",
        )

    async def approvals(self, project: int, number: int) -> Sequence[Approval]:
        """See `PullRequests`."""
        return await self._database.read(
            lambda connection: approvals_of(connection, project, number), action="list approvals"
        )

    def _withdraw(self, connection: Connection, numbers: Collection[int], why: str, now: float) -> list[int]:
        of = _run.c
        open_ = of.number.in_(sorted(numbers)) & of.verdict.is_(None) & (of.state != "")
        marked = update(_run).where(open_).values(withdrawn=True, cancel_asked=True).returning(of.number)
        found = sorted(connection.execute(marked).scalars())
        # What an approval let go on in the last moment is no longer held, and is cancelled by who works on it.
        ended = end_held(connection, of.number.in_(found), f"Cancelled{why}.", now)
        if ended:
            self._on_accept(connection, ended)
        return found


def approvals_of(connection: Connection, project: int, number: int) -> list[Approval]:
    """Return all approvals of a pull request, the newest first."""
    of = approval_table.c
    query = select(approval_table).where(of.project == project, of.pull_request == number)
    return [approval_of(row) for row in connection.execute(query.order_by(of.at.desc(), of.id.desc()))]


def _known(connection: Connection, project: int, number: int) -> Known | None:
    of = pull_request.c
    row = connection.execute(select(pull_request).where(of.project == project, of.number == number)).one_or_none()
    if row is None:
        return None
    runs = select(_run).where(_of(project, number)).order_by(_run.c.number.desc()).limit(CHANGES_MAX)
    return Known(
        pull=pull_of(row),
        tier=msgspec.convert(row.tier, Tier),
        changes=[change_of(each) for each in connection.execute(runs)],
        approved=frozenset(approval.commit for approval in approvals_of(connection, project, number)),
    )


def _of(project: int, number: int) -> ColumnElement[bool]:
    return (_run.c.project_id == project) & (_run.c.pull_request == number)


def _record(connection: Connection, project: int, seen: PullRequest, changes: Sequence[Change], now: float) -> bool:
    """Record a pull request; False where something newer is known."""
    values = pull_values(project, seen)
    tier = changes[-1].tier if changes else None
    new = insert_into(connection.dialect.name, pull_request).values(
        {**values, "tier": (tier or Tier.FORK).value, "seen_at": now, "first_seen_at": now}
    )
    change: dict[str, Any] = {name: new.excluded[name] for name in (*values, "seen_at")}
    if tier is not None:
        change["tier"] = tier.value
    newer = (new.excluded.updated_at == 0) | (new.excluded.updated_at >= pull_request.c.updated_at)
    insert = new.on_conflict_do_update(index_elements=list(pull_request.primary_key), set_=change, where=newer)
    return connection.execute(insert.returning(pull_request.c.number)).first() is not None


def _is_there(connection: Connection, change: Change) -> bool:
    """Say whether the commit has a change against this base. One that a newer one replaced says nothing of it."""
    of = _run.c
    same = (
        (of.project_id == change.project)
        & (of.pull_request == change.pull_request)
        & (of.commit == clean(change.commit))
        & (of.base_ref == clean(change.base_ref))
        & ~of.withdrawn
        & of.superseded_by.is_(None)
    )
    return bool(connection.execute(select(exists().where(same))).scalar())


def _let_go(connection: Connection, change: Change) -> Change:
    """Return a change, no longer held where its commit was approved since somebody decided about it."""
    of = approval_table.c
    mine = (of.project == change.project) & (of.pull_request == change.pull_request)
    approved = select(exists().where(mine & (of.commit == clean(change.commit))))
    if change.state is ChangeState.HELD and connection.execute(approved).scalar():
        return msgspec.structs.replace(change, state=ChangeState.WAITING)
    return change


def _approve(connection: Connection, approval: Approval) -> None:
    values = msgspec.structs.asdict(approval)
    del values["id"]
    for text in ("commit", "who", "via"):
        values[text] = clean(values[text])
    connection.execute(insert_into(connection.dialect.name, approval_table).values(values).on_conflict_do_nothing())


def _released(connection: Connection, approval: Approval) -> list[int]:
    """Let go on what waits for the approval of this commit, less what is about to be cancelled."""
    of = _run.c
    waits = (
        _of(approval.project, approval.pull_request)
        & (of.commit == clean(approval.commit))
        & (of.state == ChangeState.HELD.value)
        & ~of.cancel_asked
    )
    query = update(_run).where(waits).values(state=ChangeState.WAITING.value).returning(of.number)
    return sorted(connection.execute(query).scalars())
