"""Derivations, attempts, machines and numbers. Implements the door `BuildPages`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, func, select

from nixmill.core.access import Sight
from nixmill.core.machine import Machine
from nixmill.core.outcome import Outcome
from nixmill.core.view.pages import DerivationPage, LogPage, MachineLine, RememberedFailure
from nixmill.core.view.parts import AttemptLine, ProjectLink, RunLine
from nixmill.edge.database.database import Database
from nixmill.edge.database.pages_lines import (
    PROJECT,
    attempt_lines,
    attempt_query,
    open_runs,
    project_link,
    run_lines,
    runs_by_number,
)
from nixmill.edge.database.pages_numbers import DAY_S, numbers
from nixmill.edge.database.pages_sight import visible
from nixmill.edge.database.rows import path_of
from nixmill.edge.database.tables import attempt, attribute, run, run_evaluation
from nixmill.edge.database.tables_server import failure, project
from nixmill.nix.attr_path import show
from nixmill.nix.store_path import StorePath, derivation_name

ATTEMPTS_MAX: Final = 100
OTHERS_MAX: Final = 20
NEEDED_MAX: Final = 50
_NEEDED_LOOK: Final = 200
"""Newest evaluations with a derivation that are looked at for who needs it."""
LISTED_MAX: Final = 500
"""Runs or attempts of a queue."""


class SqlBuildPages:
    """Implements `nixmill.doors.pages.BuildPages`."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        """Read from `database`; `now` is what running builds and expiry are measured by."""
        self._database = database
        self._now = now

    async def derivation(self, sight: Sight, drv_path: StorePath) -> DerivationPage | None:
        """See `BuildPages`."""
        now = self._now()
        return await self._database.read(
            lambda connection: _derivation(connection, sight, drv_path, now), action="show a derivation"
        )

    async def log(self, sight: Sight, attempt: int) -> LogPage | None:
        """See `BuildPages`."""
        now = self._now()
        return await self._database.read(lambda connection: _log(connection, sight, attempt, now), action="show a log")

    async def running(self, sight: Sight) -> Sequence[AttemptLine]:
        """See `BuildPages`."""
        now = self._now()
        return await self._database.read(
            lambda connection: attempt_lines(connection, _running(sight), now=now), action="list what runs"
        )

    async def queued(self, sight: Sight) -> Sequence[RunLine]:
        """See `BuildPages`."""
        return await self._database.read(
            lambda connection: run_lines(connection, open_runs(sight).limit(LISTED_MAX)), action="list open runs"
        )

    async def machines(self, addresses: Sequence[str], now: float) -> Mapping[str, MachineLine]:
        """See `BuildPages`; `busy_share` is of one place: who knows how many there are divides it."""
        return await self._database.read(
            lambda connection: _machines(connection, addresses, now), action="show the machines"
        )

    async def numbers(self, sight: Sight, project: str | None) -> Mapping[str, float]:
        """See `BuildPages` and `pages_numbers`."""
        now = self._now()
        return await self._database.read(
            lambda connection: numbers(connection, sight, project, now), action="count for metrics"
        )


def _derivation(connection: Connection, sight: Sight, drv_path: StorePath, now: float) -> DerivationPage | None:
    attempts = attempt_lines(connection, _tries(sight, drv_path).limit(ATTEMPTS_MAX), now=now)
    attributes = _needed_by(connection, sight, drv_path)
    remembered = _remembered(connection, sight, drv_path, now)
    if not (attempts or attributes or remembered):
        return None
    return DerivationPage(
        drv_path=drv_path,
        name=derivation_name(drv_path),
        attempts=tuple(attempts),
        attributes=attributes,
        remembered=remembered,
    )


def _tries(sight: Sight, drv_path: StorePath) -> Select[Any]:
    return attempt_query(sight).where(attempt.c.drv_path == drv_path).order_by(attempt.c.number.desc())


def _needed_by(connection: Connection, sight: Sight, drv_path: StorePath) -> tuple[tuple[ProjectLink, int, str], ...]:
    of, links = attribute.c, run_evaluation.c
    mine = select(of.evaluation, of.path).where(of.drv_path == drv_path)
    have = mine.order_by(of.evaluation.desc()).limit(_NEEDED_LOOK).subquery()
    joined = (
        have.join(run_evaluation, links.evaluation == have.c.evaluation)
        .join(run, run.c.number == links.run)
        .join(project, project.c.id == run.c.project_id)
    )
    newest = func.max(run.c.number).label("newest")
    query = select(*PROJECT, have.c.path, newest).select_from(joined).where(visible(sight))
    grouped = query.group_by(project.c.id, have.c.path).order_by(newest.desc(), have.c.path).limit(NEEDED_MAX)
    return tuple((project_link(row), row.newest, show(path_of(row.path))) for row in connection.execute(grouped))


def _remembered(connection: Connection, sight: Sight, drv_path: StorePath, now: float) -> tuple[RememberedFailure, ...]:
    of = failure.c
    query = select(failure, *PROJECT).join_from(failure, project, project.c.id == of.project)
    query = query.where(of.drv_path == drv_path, of.expires_at > now, visible(sight)).order_by(of.at.desc())
    return tuple(
        RememberedFailure(
            project=project_link(row),
            drv_path=StorePath(row.drv_path),
            run=row.run,
            attempt=row.attempt,
            machine=row.machine,
            at=row.at,
            expires_at=row.expires_at,
            message=row.message,
        )
        for row in connection.execute(query)
    )


def _log(connection: Connection, sight: Sight, number: int, now: float) -> LogPage | None:
    found = attempt_lines(connection, attempt_query(sight).where(attempt.c.number == number), now=now)
    if not found:
        return None
    others = _tries(sight, found[0].drv_path).where(attempt.c.number != number).limit(OTHERS_MAX)
    return LogPage(
        attempt=found[0],
        run=runs_by_number(connection, sight, [found[0].run]).get(found[0].run),
        others=tuple(attempt_lines(connection, others)),
    )


def _running(sight: Sight) -> Select[Any]:
    """Return the question for attempts under way; those that a killed run left are not."""
    going = attempt_query(sight).where(attempt.c.outcome.is_(None), run.c.ended_at.is_(None))
    # Adding 0 keeps SQLite from reading every attempt in this order instead of those few that are open.
    return going.order_by(attempt.c.started_at + 0, attempt.c.number).limit(LISTED_MAX)


def _machines(connection: Connection, addresses: Sequence[str], now: float) -> dict[str, MachineLine]:
    of = attempt.c
    bad = of.outcome.is_not(None) & (of.outcome != Outcome.SUCCEEDED.value)
    query = select(
        of.machine,
        func.count(of.outcome).label("done"),
        func.count().filter(bad).label("failed"),
        func.sum(of.seconds).label("busy"),
    )
    today = query.where(of.started_at > now - DAY_S).group_by(of.machine)
    found = {row.machine: row for row in connection.execute(today)}
    return {address: _machine(address, found.get(address)) for address in addresses}


def _machine(address: str, row: Any) -> MachineLine:  # noqa: ANN401 - a row of counts
    return MachineLine(
        machine=Machine(address=address, systems=()),
        running=(),
        away="",
        done_today=row.done if row is not None else 0,
        failed_today=row.failed if row is not None else 0,
        busy_share=(row.busy or 0.0) / DAY_S if row is not None else 0.0,
    )
