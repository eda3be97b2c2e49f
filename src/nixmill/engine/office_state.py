"""What people may ask about the running server: queue, machines, reasons, needs. Only what it knows itself, now."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from nixmill.core.access import EVERYTHING, Sight, Visibility
from nixmill.core.change import ChangeState
from nixmill.core.forecast import Sample, forecast
from nixmill.core.machine import LOCAL
from nixmill.core.project import short
from nixmill.core.run_event import Work
from nixmill.core.terminal_text import counted
from nixmill.core.view.pages import (
    ChecklistItem,
    Forecast,
    MachinesPage,
    Need,
    QueueLine,
    QueuePage,
)
from nixmill.core.view.parts import AttemptLine, ProjectLink, RunLine
from nixmill.core.waiting import first_waiting, why
from nixmill.engine.flow import Flow
from nixmill.engine.gate import Gate
from nixmill.engine.journey import Journey
from nixmill.engine.office_runs import RunOffice
from nixmill.engine.server_doors import ServerDoors
from nixmill.engine.watch import Watch
from nixmill.nix.store_path import StorePath

PER_RUN: Final = 10
"""Waiting derivations shown for each run."""
FULL_SOON_DAYS: Final = 7.0
FULL_BYTES: Final = 64 * 2**20
"""A place with less room is called full: neither database nor logs get far with it."""
DISK: Final = "disk samples"
DISK_SAMPLES_MAX: Final = 400
DISK_EVERY_S: Final = 3600.0


class StateOffice(RunOffice):
    """See `nixmill.engine.office.Office`."""

    def __init__(self, doors: ServerDoors, watch: Watch, journey: Journey, gate: Gate) -> None:
        """Look into `gate` and the flows of `journey`."""
        super().__init__(doors, watch, journey)
        self._gate = gate
        self._set_up = False

    async def queue(self, sight: Sight) -> QueuePage:
        """See `Office`."""
        runs = [
            msgspec.structs.replace(run, wait=await self.wait_reason(run.number))
            for run in await self._doors.build_pages.queued(sight)
        ]
        running = [_running(attempt) for attempt in await self._doors.build_pages.running(sight)]
        waiting = [line for run in runs for line in self._waiting(run)]
        flows = (self.journey.flows.get(run.number) for run in runs)
        total = sum(flow.site.plan.counts().waiting + flow.site.plan.counts().ready for flow in flows if flow)
        return QueuePage(runs=tuple(runs), lines=(*running, *waiting), waiting=total)

    async def machines(self, sight: Sight) -> MachinesPage:
        """See `Office`."""
        known = self._doors.machines
        done = await self._doors.build_pages.machines([one.address for one in known], self._doors.clock.now())
        seen = [_running(attempt) for attempt in await self._doors.build_pages.running(sight)]
        lines = []
        for machine in known:
            mine = tuple(line for line in seen if line.machine == machine.address)
            line = done[machine.address]
            known_of_it = {"machine": machine, "running": mine, "away": self._away(machine.address)}
            share = min(1.0, line.busy_share / max(1, machine.max_jobs))
            lines.append(msgspec.structs.replace(line, busy_share=share, **known_of_it))
        return MachinesPage(machines=tuple(lines))

    async def wait_reason(self, number: int) -> str:
        """See `Office`."""
        change = await self._doors.changes.change(number)
        if change is None or change.state is ChangeState.DONE:
            return ""
        if change.cancel_asked:
            return "is being cancelled"
        match change.state:
            case ChangeState.HELD:
                return "waits until somebody who may write to the repository has approved this commit"
            case ChangeState.WAITING:
                return self._why_not_taken()
            case ChangeState.FETCHING:
                lacking, ref = self.journey.room.lacking, short(change.ref)
                return f"waits: {lacking}" if lacking else f"fetches {ref} from the project's repository"
            case ChangeState.EVALUATING | ChangeState.BUILDING:
                return self._why_going(number)

    def _why_not_taken(self) -> str:
        going, most = len(self.journey.flows), self._doors.settings.runs_at_once
        if going < most:
            return "is about to begin"
        return f"{counted(going, 'run')} go on, as many as this server does at once"

    def _why_going(self, number: int) -> str:
        flow = self.journey.flows.get(number)
        if flow is None:
            return f"waits: {lacking}" if (lacking := self.journey.room.lacking) else "is about to go on"
        lines = self.flow_lines(flow)
        counts = flow.site.plan.counts()
        if counts.running:
            done = counted(counts.running, "derivation")
            return f"{done} going on, {counts.unfinished - counts.running} more to come"
        return f"{lines[0][1]} {lines[0][2]}" if lines else "evaluates"

    def flow_lines(self, flow: Flow) -> list[tuple[StorePath, str, str, float | None]]:
        """Return (derivation, name, reason, about seconds) of what waits in a run."""
        scheduler, now = flow.site.scheduler, self._doors.clock.monotonic()
        found = [
            (ticket.drv_path, ticket.name, self._gate.reason(ticket), ticket.about_s)
            for ticket in self._gate.waiting()
            if ticket.party.run == flow.number
        ]
        nodes = first_waiting(scheduler, PER_RUN)
        found += [(node.drv_path, node.name, why(scheduler, node, now), node.about_s) for node in nodes]
        return found[:PER_RUN]

    def _waiting(self, run: RunLine) -> list[QueueLine]:
        flow = self.journey.flows.get(run.number)
        return [
            QueueLine(
                run=run.number,
                project=run.project,
                name=name,
                drv_path=drv_path,
                status="waiting",
                reason=reason,
                machine="",
                since=run.started_at or run.requested_at,
                about_s=about_s,
                attempt=None,
            )
            for drv_path, name, reason, about_s in (self.flow_lines(flow) if flow else [])
        ]

    def _away(self, address: str) -> str:
        now = self._doors.clock.monotonic()
        for flow in self.journey.flows.values():
            for host in flow.site.scheduler.hosts:
                if host.machine.address == address and host.away_until > now:
                    return host.away_because
        return ""

    async def needs(self, sight: Sight) -> Sequence[Need]:
        """See `Office`."""
        found = await self._remotes_out_of_reach(sight)
        if sight.everything:
            dead = await self._doors.admin_pages.deliveries("dead", 100)
            if dead:
                what = f"{counted(len(dead), 'message')} could not be delivered."
                found.append(Need(what=what, link="/admin/deliveries", since=dead[0].created_at))
            found += [_refused(*one) for one in await self._doors.statuses.stuck()]
            found += _full_soon(await self.forecasts())
        return found

    async def _remotes_out_of_reach(self, sight: Sight) -> list[Need]:
        return [
            Need(what=f"{name} cannot be fetched: {fault}", link=f"/p/{name}", since=since, urgent=True)
            for name, fault, since in await self._doors.past.out_of_reach(sight)
        ]

    async def checklist(self) -> Sequence[ChecklistItem]:
        """See `Office`. Once all is done it stays so."""
        if self._set_up:
            return ()
        users = await self._doors.accounts.users()
        projects = await self._doors.projects.projects()
        runs = await self._doors.project_pages.runs(EVERYTHING, None, None, 20)
        verdict = next((run for run in runs if run.verdict is not None), None)
        items = [
            ChecklistItem(
                done=any(user.admin for user in users),
                title="Make yourself an administrator",
                hint="On the server's machine: nixmill user create YOU --admin. It asks for a password.",
                link="/sign-in",
            ),
            ChecklistItem(
                done=bool(projects),
                title="Add a project",
                hint="Any git repository with a flake.nix, release.nix or default.nix; nothing has to be added to it.",
                link="/p/new",
            ),
            ChecklistItem(
                done=verdict is not None,
                title="See its first verdict",
                hint=f"Run {runs[0].number} is on its way." if runs else "It starts by itself once there is a project.",
                link=f"/r/{runs[0].number}" if runs else "",
            ),
        ]
        self._set_up = all(item.done for item in items)
        return () if self._set_up else items

    async def forecasts(self) -> Sequence[Forecast]:
        """See `Office`."""
        samples = await self._samples()
        places = {"State and logs": self._doors.settings.state, "Nix store": self._doors.store_dir}
        found = []
        for place, path in places.items():
            used, free = await asyncio.to_thread(self._doors.disk, path)
            mine = [one for one in samples if one.place == place]
            found.append(forecast(place, str(path), used, free, mine))
        return found

    async def sample_disk(self) -> None:
        """Note how full the places are, for the forecast; at most once an hour."""
        now, samples = self._doors.clock.now(), await self._samples()
        if samples and 0 <= now - samples[-1].at < DISK_EVERY_S:
            return
        samples += [Sample(place=one.place, at=now, used=one.used_bytes) for one in await self.forecasts()]
        await self._doors.members.save_setting(DISK, msgspec.json.encode(samples[-DISK_SAMPLES_MAX:]).decode())

    async def _samples(self) -> list[Sample]:
        return msgspec.json.decode(await self._doors.members.setting(DISK) or "[]", type=list[Sample])


def _running(attempt: AttemptLine) -> QueueLine:
    verb = "is being fetched" if attempt.work is Work.FETCH else "is being built"
    where = "on this machine" if attempt.machine == LOCAL else f"on {attempt.machine}"
    return QueueLine(
        run=attempt.run,
        project=attempt.project or ProjectLink(id=0, name="", title="", visibility=Visibility.PRIVATE),
        name=attempt.name,
        drv_path=attempt.drv_path,
        status="running",
        reason=f"{verb} {where}",
        machine=attempt.machine,
        since=attempt.started_at,
        about_s=attempt.about_s,
        attempt=attempt.number,
    )


def _refused(forge: str, fault: str, count: int) -> Need:
    return Need(what=f"{counted(count, 'status', 'statuses')} cannot be posted on {forge}: {fault}", link="/admin")


def _full_soon(forecasts: Sequence[Forecast]) -> list[Need]:
    return [
        Need(what=f"{one.place} ({one.path}) {when}. Make room.", link="/admin", urgent=True)
        for one in forecasts
        if (when := _when_full(one))
    ]


def _when_full(place: Forecast) -> str:
    """Say when a place is full; nothing where that is far away. What is full now no database may be able to tell."""
    if place.free_bytes < FULL_BYTES:
        return f"is full: {place.free_bytes // 2**20} MiB are free"
    days = place.full_in_days
    return f"is full in about {days:.0f} days" if days is not None and days < FULL_SOON_DAYS else ""
