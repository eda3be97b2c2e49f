"""What administrators look at. Implements the door `AdminPages`."""

import json
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, func, or_, select

from nixmill.core.access import Sight
from nixmill.core.hook import HookState
from nixmill.core.view.pages import AuditLine, AuditPage, DeliveryLine, HookRunLine, UserLine
from nixmill.core.view.parts import Person
from nixmill.edge.database.database import Database
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.pages_wanted import contains
from nixmill.edge.database.tables import attempt, attribute, evaluation, run, run_evaluation
from nixmill.edge.database.tables_server import audit, hook_run, identity, parcel, project, session, token, user

_WAITING: Final = "waiting"


class SqlAdminPages:
    """Implements `nixmill.doors.pages.AdminPages`."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        """Read from `database`; `now` is what sessions and tokens expire by."""
        self._database = database
        self._now = now

    async def audit(self, before: int | None, limit: int, find: str) -> AuditPage:
        """See `AdminPages`."""
        return await self._database.read(
            lambda connection: _audit(connection, before, limit, find), action="show the audit log"
        )

    async def deliveries(self, state: str | None, limit: int) -> Sequence[DeliveryLine]:
        """See `AdminPages`."""
        query = _deliveries() if state is None else _deliveries().where(parcel.c.state == state)
        return await self._database.read(
            lambda connection: [_delivery(row) for row in connection.execute(query.limit(limit))],
            action="list messages",
        )

    async def hook_runs(self, sight: Sight, run: int | None, limit: int) -> Sequence[HookRunLine]:
        """See `AdminPages`."""
        query = _hook_runs(sight) if run is None else _hook_runs(sight).where(hook_run.c.run == run)
        return await self._database.read(
            lambda connection: [_hook_line(row) for row in connection.execute(query.limit(limit))],
            action="list runs of hooks",
        )

    async def users(self) -> Sequence[UserLine]:
        """See `AdminPages`."""
        query = _users(self._now())
        return await self._database.read(
            lambda connection: [_user_line(row) for row in connection.execute(query)], action="list users"
        )

    async def rows(self) -> Mapping[str, int]:
        """See `AdminPages`. Counted from numbers and positions, which the indices know the last of."""
        return await self._database.read(_rows, action="count rows")

    async def describe(self) -> str:
        """See `AdminPages`."""
        return await self._database.read(_describe, action="ask what the database is")


def _audit(connection: Connection, before: int | None, limit: int, find: str) -> AuditPage:
    of = audit.c
    query = select(audit).order_by(of.id.desc()).limit(limit)
    if before is not None:
        query = query.where(of.id < before)
    if find:
        texts = (of.who, of.action, of.subject, of.detail, of.address)
        query = query.where(or_(*(contains(connection, column, find) for column in texts)))
    lines = tuple(
        AuditLine(
            id=row.id,
            at=row.at,
            who=row.who,
            action=row.action,
            subject=row.subject,
            detail=row.detail,
            address=row.address,
        )
        for row in connection.execute(query)
    )
    return AuditPage(lines=lines, older=lines[-1].id if lines and len(lines) == limit else None)


def _deliveries() -> Select[Any]:
    joined = parcel.outerjoin(project, project.c.id == parcel.c.project)
    query = select(parcel, project.c.name.label("project_name")).select_from(joined)
    return query.order_by(parcel.c.id.desc())


def _delivery(row: Row[Any]) -> DeliveryLine:
    return DeliveryLine(
        id=row.id,
        channel=row.channel,
        target=row.target,
        run=row.run,
        project=row.project_name or "",
        state=row.state,
        tries=row.tries,
        due_at=row.due_at if row.state == _WAITING else None,
        fault=row.fault,
        created_at=row.created_at,
    )


def _hook_runs(sight: Sight) -> Select[Any]:
    of = hook_run.c
    query = select(hook_run, project.c.name.label("project_name")).join_from(
        hook_run, project, project.c.id == of.project
    )
    return query.where(visible(sight)).order_by(of.created_at.desc(), of.id)


def _hook_line(row: Row[Any]) -> HookRunLine:
    return HookRunLine(
        id=row.id,
        hook=row.hook,
        command=shlex.join(json.loads(row.command)),
        run=row.run,
        project=row.project_name,
        attribute=row.attribute,
        started_at=row.started_at if row.started_at is not None else row.created_at,
        ended_at=row.ended_at,
        state=_hook_state(row),
        good=row.state == HookState.EXITED and row.exit_code == 0,
    )


def _hook_state(row: Row[Any]) -> str:
    """Return how a run of a hook stands, in words."""
    match row.state:
        case HookState.COULD_NOT_START:
            words = f"could not start: {os.strerror(row.errno)}" if row.errno is not None else "could not start"
        case HookState.EXITED:
            words = f"exit code {row.exit_code}"
        case HookState.SIGNALLED:
            words = f"signal {row.signal}{' (core dumped)' if row.core_dumped else ''}"
        case HookState.LOST:
            words = "lost: the server was killed while it ran"
        case _:
            words = str(row.state)
    return f"{words}, took too long" if row.timed_out else words


def _users(now: float) -> Select[Any]:
    of = user.c
    mine = session.c.user == of.id
    keys = token.c.user == of.id

    def one(*query: Any) -> Any:  # noqa: ANN401 - a column and conditions
        return select(query[0]).where(*query[1:]).scalar_subquery()

    return select(
        user,
        one(func.max(session.c.seen_at), mine).label("session_seen"),
        one(func.max(token.c.used_at), keys).label("token_used"),
        one(func.count(session.c.token_hash), mine, session.c.expires_at > now).label("sessions"),
        one(func.count(token.c.id), keys, token.c.expires_at > now).label("tokens"),
        one(func.count(identity.c.subject), identity.c.user == of.id).label("identities"),
    ).order_by(of.folded_name)


def _user_line(row: Row[Any]) -> UserLine:
    seen = [at for at in (row.session_seen, row.token_used) if at is not None]
    ways = [*(["password"] if row.password_hash else []), *(["OIDC"] if row.identities else [])]
    return UserLine(
        person=Person(id=row.id, name=row.name),
        email=row.email,
        admin=row.admin,
        disabled=row.disabled,
        sign_in="both" if len(ways) > 1 else "".join(ways),
        last_seen=max(seen, default=None),
        sessions=row.sessions,
        tokens=row.tokens,
    )


def _rows(connection: Connection) -> dict[str, int]:
    of = attribute.c
    size = select(func.coalesce(func.max(of.position) + 1, 0)).where(of.evaluation == evaluation.c.id)
    sizes = select(evaluation.c.id, size.scalar_subquery().label("size")).subquery()
    links = run_evaluation.join(sizes, sizes.c.id == run_evaluation.c.evaluation)
    spans = {"runs": run.c.number, "attempts": attempt.c.number, "audit lines": audit.c.id, "messages": parcel.c.id}
    questions: dict[str, Select[Any]] = {
        # Two questions each: SQLite takes only one end of an index at a time.
        name: select(select(func.max(column)).scalar_subquery() - select(func.min(column)).scalar_subquery() + 1)
        for name, column in spans.items()
    }
    questions["attributes"] = select(func.sum(sizes.c.size))
    questions["outcomes"] = select(func.sum(sizes.c.size)).select_from(links)
    return {name: int(connection.execute(query).scalar() or 0) for name, query in questions.items()}


def _describe(connection: Connection) -> str:
    version = connection.dialect.server_version_info or ()
    if connection.dialect.name == "postgresql":
        return f"PostgreSQL {'.'.join(map(str, version[:1]))}"
    file = next((row[2] for row in connection.exec_driver_sql("PRAGMA database_list") if row[1] == "main"), "")
    return f"SQLite {'.'.join(map(str, version[:2]))} at {file}"
