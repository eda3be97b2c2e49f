"""Timers of jobsets: the five fields of cron, in a time zone. Missed ones are made up for once.

What fired is recorded with the changes it started, in one transaction: neither a crash nor a clock that jumps makes a
timer fire twice for the same time. Source: crontab(5); the library `cronsim` decides what a line means.
"""

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import structlog
from cronsim import CronSim, CronSimError

from nixmill.core.change import Change
from nixmill.core.errors import InputError
from nixmill.core.project import Jobset, Project, default_branch
from nixmill.core.watching import changes_due
from nixmill.doors import DoorError
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.watch import Watch

ROUND_S: Final = 5.0

log = structlog.get_logger("nixmill.timers")


def check_schedule(schedule: str, time_zone: str) -> None:
    """Raise `InputError` where this is no schedule."""
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(f"{time_zone!r} is no time zone.", "Write one such as UTC or Europe/Berlin.") from error
    try:
        next(CronSim(schedule, datetime(2026, 1, 1, tzinfo=zone)))
    except (CronSimError, StopIteration) as error:
        raise InputError(
            f"{schedule!r} is no schedule: {error or 'it never fires'}.",
            "Write five fields: minute hour day month weekday, such as `30 4 * * *` for every day at 4:30.",
        ) from error


def latest(schedule: str, time_zone: str, now: float) -> float:
    """Return the latest time, up to `now`, at which a schedule fires."""
    moment = datetime.fromtimestamp(now, tz=UTC).astimezone(ZoneInfo(time_zone)) + timedelta(microseconds=1)
    return next(CronSim(schedule, moment, reverse=True)).timestamp()


class Timers:
    """All jobsets'."""

    def __init__(self, doors: ServerDoors, watch: Watch) -> None:
        """Accept changes as `watch` does."""
        self._doors = doors
        self._watch = watch

    async def run(self) -> None:
        """Let timers fire, for ever."""
        while True:
            try:
                for project in await self._doors.projects.projects():
                    for jobset in await self._doors.projects.jobsets(project.id):
                        if project.enabled and jobset.enabled and jobset.schedule:
                            await self._look_at(project, jobset)
            except DoorError as error:
                log.warning("timers could not be looked at", fault=str(error))
            await self._doors.clock.sleep(ROUND_S)

    async def _look_at(self, project: Project, jobset: Jobset) -> None:
        try:
            due = latest(jobset.schedule, jobset.time_zone, self._doors.clock.now())
        except (CronSimError, StopIteration, ZoneInfoNotFoundError) as error:
            log.warning("a schedule cannot be read", project=project.name, jobset=jobset.name, fault=str(error))
            return
        last = await self._doors.refs.last_fired(jobset.id)
        if last is not None and due <= last:
            return
        changes = [] if last is None else await self._changes(project, jobset)
        numbers = await self._doors.refs.fired(jobset.id, due, changes)
        await self._watch.accepted(project, numbers)

    async def _changes(self, project: Project, jobset: Jobset) -> list[Change]:
        polled = await self._doors.refs.polled(project.id)
        default = default_branch(project, polled)
        refs = await self._doors.refs.refs(project.id)
        now = self._doors.clock.now()
        return [msgspec.structs.replace(one, requested_at=now) for one in changes_due(project, jobset, refs, default)]
