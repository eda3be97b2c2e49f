"""The door `Refs`: what was last seen of remotes, timers that fired, and deliveries of webhooks."""

from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy import Connection, case, exists, func, null, select, update

from nixmill.core.change import Change, Origin
from nixmill.core.project import Polled, Ref
from nixmill.edge.database import tables, tables_server
from nixmill.edge.database.changes import OnAccept, insert_changes, nothing_more
from nixmill.edge.database.database import Database
from nixmill.edge.database.engine import as_table, insert_into
from nixmill.edge.database.rows import clean

_ref = tables_server.ref
_project = tables_server.project
_jobset = tables_server.jobset
_PUSHES = frozenset({Origin.PUSH, Origin.TAG})

NAME_MAX: Final = 600
"""Characters of a ref's name or a delivery's id; what is longer fits no index, and no file system under git."""


class SqlRefs:
    """Implements `nixmill.doors.server.Refs`."""

    def __init__(self, database: Database, now: Callable[[], float], on_accept: OnAccept = nothing_more) -> None:
        """Use an opened database; `on_accept` is that of `SqlChanges`."""
        self._database = database
        self._now = now
        self._on_accept = on_accept

    async def refs(self, project: int) -> Sequence[Ref]:
        """See `Refs`; in the order of their names."""
        return await self._database.read(
            lambda connection: [Ref(name=name, commit=commit) for name, commit in sorted(_known(connection, project))],
            action="list refs",
        )

    async def saw(
        self, project: int, polled: Polled, refs: Sequence[Ref] | None, changes: Sequence[Change]
    ) -> list[int]:
        """See `Refs`. A push that another look has brought in already is left out; a project that is gone has none.

        Refs whose names are longer than `NAME_MAX` are not watched.
        """
        now = self._now()

        def record(connection: Connection) -> list[int]:
            # This update makes looks at the same project wait for each other, on every database.
            if not _polled(connection, project, polled, known=refs is not None):
                return []
            before = dict(_known(connection, project))
            new = [change for change in changes if _is_new(connection, change, before)]
            if refs is not None:
                _seen(connection, project, refs, before, polled.at)
            return insert_changes(connection, new, now, self._on_accept)

        return await self._database.write(record, action="record a look at a remote")

    async def polled(self, project: int) -> Polled | None:
        """See `Refs`."""
        of = _project.c
        query = select(of.polled_at, of.poll_fault, of.seen_default_branch).where(of.id == project)

        def look(connection: Connection) -> Polled | None:
            row = connection.execute(query).one_or_none()
            return None if row is None or row[0] is None else Polled(at=row[0], fault=row[1], default_branch=row[2])

        return await self._database.read(look, action="look for a look")

    async def fired(self, jobset: int, due_at: float, changes: Sequence[Change]) -> list[int]:
        """See `Refs`."""
        now = self._now()
        of = _jobset.c
        newer = (of.id == jobset) & (of.fired_at.is_(None) | (of.fired_at < due_at))
        query = update(_jobset).where(newer).values(fired_at=due_at)

        def record(connection: Connection) -> list[int]:
            if connection.execute(query).rowcount == 0:
                return []
            return insert_changes(connection, changes, now, self._on_accept)

        return await self._database.write(record, action="record a timer")

    async def last_fired(self, jobset: int) -> float | None:
        """See `Refs`."""
        query = select(_jobset.c.fired_at).where(_jobset.c.id == jobset)
        return await self._database.read(
            lambda connection: connection.execute(query).scalar(), action="look at a timer"
        )

    async def first_delivery(self, project: int, delivery: str, at: float) -> bool:
        """See `Refs`."""

        def record(connection: Connection) -> bool:
            seen = tables_server.delivery_seen
            new = insert_into(connection.dialect.name, seen).values(
                project=project, delivery=clean(delivery)[:NAME_MAX], at=at
            )
            return connection.execute(new.on_conflict_do_nothing().returning(seen.c.at)).first() is not None

        return await self._database.write(record, action="record a delivery")


def _known(connection: Connection, project: int) -> list[tuple[str, str]]:
    query = select(_ref.c.name, _ref.c.commit).where(_ref.c.project == project, _ref.c.gone_at.is_(None))
    return [(name, commit) for name, commit in connection.execute(query)]


def _polled(connection: Connection, project: int, polled: Polled, *, known: bool) -> bool:
    of = _project.c
    fault = clean(polled.fault)
    since = case((of.poll_fault_since.is_(None), polled.at), else_=of.poll_fault_since)
    values = {
        "polled_at": polled.at,
        "poll_fault": fault,
        "poll_fault_since": since if fault else null(),
    }
    if known:
        values["seen_default_branch"] = clean(polled.default_branch)
    query = update(_project).where(of.id == project, of.deleted_at.is_(None)).values(values)
    return connection.execute(query).rowcount == 1


def _is_new(connection: Connection, change: Change, before: dict[str, str]) -> bool:
    """Say that it is not so that the ref stood at this commit and a push of it was accepted for this jobset."""
    if len(change.ref) > NAME_MAX:
        return False
    if change.origin not in _PUSHES or before.get(clean(change.ref)) != change.commit:
        return True
    of = tables.run.c
    same = (
        (of.project_id == change.project)
        & (of.ref == clean(change.ref))
        & (of.commit == change.commit)
        & of.jobset.is_not_distinct_from(change.jobset)
        & of.origin.in_([origin.value for origin in _PUSHES])
    )
    return not connection.execute(select(exists().where(same))).scalar()


def _seen(connection: Connection, project: int, refs: Sequence[Ref], before: dict[str, str], at: float) -> None:
    """Record refs that are new, have moved, or are gone; those that stayed are not written again."""
    now = {clean(ref.name): clean(ref.commit) for ref in refs if len(ref.name) <= NAME_MAX}
    moved = [
        {"project": project, "name": name, "commit": commit, "seen_at": at}
        for name, commit in now.items()
        if before.get(name) != commit
    ]
    new = insert_into(connection.dialect.name, _ref)
    change = {"commit": new.excluded.commit, "seen_at": new.excluded.seen_at, "gone_at": null()}
    if moved:
        connection.execute(new.on_conflict_do_update(index_elements=list(_ref.primary_key), set_=change), moved)
    gone = before.keys() - now.keys()
    if gone:
        names = as_table(connection, sorted(gone))
        query = update(_ref).where(_ref.c.project == project, _ref.c.name.in_(select(names.c.value)))
        connection.execute(query.values(gone_at=func.coalesce(_ref.c.gone_at, at)))
