"""Canned pages of builds, machines and administration, with names and messages that try to do harm."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from nixmill.core.access import Sight, Visibility
from nixmill.core.change import ChangeState
from nixmill.core.history import Pruned
from nixmill.core.machine import Machine
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Verdict, Work
from nixmill.core.status import Status, of_outcome
from nixmill.core.view.pages import (
    AuditLine,
    AuditPage,
    DeliveryLine,
    DerivationPage,
    EvaluationPage,
    Forecast,
    Found,
    HookRunLine,
    LogPage,
    MachineLine,
    MachinesPage,
    Need,
    QueueLine,
    QueuePage,
    RememberedFailure,
    SearchPage,
    TimelinePage,
    UserLine,
)
from nixmill.core.view.parts import AttemptLine, Filter, Person, ProjectLink, RunLine
from nixmill.engine.office import Asker
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath
from tests.fakes.office import FakeOffice
from tests.fakes.pages import HOSTILE_TEXT, NOW, FakeProjectPages, FakeRunPages, drv, link, run

HOOK_ID: Final = "6f6a7c1e-7d4b-4f1c-9a57-0c7f3c1d9e11"


def tried(
    number: int,
    name: str = "libfoo-2.3",
    outcome: Outcome | None = Outcome.BUILD_FAILED,
    *,
    at: float = NOW - 4000,
    seconds: float = 71.0,
    machine: str = "ssh-ng://builder-2",
    message: str = "",
    project: ProjectLink | None = None,
) -> AttemptLine:
    """Return an attempt; without an outcome it runs."""
    return AttemptLine(
        number=number,
        run=412,
        project=project or link(),
        drv_path=drv(name),
        name=name,
        system="x86_64-linux",
        work=Work.BUILD,
        machine=machine,
        started_at=at,
        seconds=0.0 if outcome is None else seconds,
        outcome=outcome,
        status=Status.RUNNING if outcome is None else of_outcome(outcome),
        message=message or ("builder failed with exit code 2" if outcome is Outcome.BUILD_FAILED else ""),
        exit_status=2 if outcome is Outcome.BUILD_FAILED else None,
        has_log=True,
        output_bytes=12_345_678 if outcome is Outcome.SUCCEEDED else 0,
        about_s=240.0 if outcome is None else None,
    )


class FakeBuildPages:
    """`attempts` are those that are there; all of the others are not. Hidden ones belong to a private project."""

    def __init__(self, *attempts: AttemptLine) -> None:
        self.attempts = {attempt.number: attempt for attempt in attempts}
        self.asked = 0

    def end(self, number: int, outcome: Outcome = Outcome.SUCCEEDED) -> None:
        """Let an attempt end."""
        line = self.attempts[number]
        self.attempts[number] = msgspec.structs.replace(line, outcome=outcome, status=of_outcome(outcome), seconds=9.0)

    async def log(self, sight: Sight, attempt: int) -> LogPage | None:
        self.asked += 1
        line = self.attempts.get(attempt)
        if line is None or not _seen(sight, line.project):
            return None
        others = tuple(other for other in self.attempts.values() if other.number != attempt)
        return LogPage(attempt=line, run=run(412, Verdict.BUILD_FAILED, subject=HOSTILE_TEXT), others=others[:20])

    async def derivation(self, sight: Sight, drv_path: StorePath) -> DerivationPage | None:
        theirs = tuple(line for line in self.attempts.values() if line.drv_path == drv_path)
        if not theirs:
            return None
        failure = RememberedFailure(
            project=link(),
            drv_path=drv_path,
            run=412,
            attempt=theirs[0].number,
            machine="ssh-ng://builder-2",
            at=NOW - 4000,
            expires_at=NOW + 80_000,
            message=f"exit code 2 {HOSTILE_TEXT}",
        )
        attributes = ((link(), 412, "packages.x86_64-linux.libfoo"), (link(), 412, f'packages."{HOSTILE_TEXT}"'))
        name = drv_path.partition("-")[2].removesuffix(".drv")
        return DerivationPage(
            drv_path=drv_path, name=name, attempts=theirs, attributes=attributes, remembered=(failure,)
        )

    async def running(self, sight: Sight) -> Sequence[AttemptLine]:
        return [line for line in self.attempts.values() if line.status is Status.RUNNING]

    async def queued(self, sight: Sight) -> Sequence[RunLine]:
        return []

    async def machines(self, addresses: Sequence[str], now: float) -> Mapping[str, MachineLine]:
        return {}

    async def numbers(self, sight: Sight, project: str | None) -> Mapping[str, float]:
        return {}


def _seen(sight: Sight, project: ProjectLink | None) -> bool:
    public = project is None or project.visibility is Visibility.PUBLIC
    return public or sight.everything or (project is not None and project.id in sight.private)


def waiting(name: str, reason: str, run_: int = 413) -> QueueLine:
    return QueueLine(
        run=run_,
        project=link(),
        name=name,
        drv_path=drv("queued"),
        status="waiting",
        reason=reason,
        machine="",
        since=NOW - 300,
        about_s=90.0,
        attempt=None,
    )


def building(name: str, began: float, about_s: float | None = 600.0) -> QueueLine:
    return QueueLine(
        run=413,
        project=link(),
        name=name,
        drv_path=drv(name),
        status="running",
        reason="on builder-2",
        machine="ssh-ng://nix@builder-2?ssh-key=x",
        since=NOW - began,
        about_s=about_s,
        attempt=9100,
    )


class BusyOffice(FakeOffice):
    """An office with a queue, machines, and things that need somebody."""

    async def queue(self, sight: Sight) -> QueuePage:
        first = msgspec.structs.replace(run(413, state=ChangeState.BUILDING), wait="builds on 2 machines")
        second = msgspec.structs.replace(
            run(414, state=ChangeState.WAITING),
            status=Status.WAITING,
            wait="run 413 of this project goes first, about 4 min",
        )
        return QueuePage(
            runs=(first, second),
            lines=(
                building("chromium-131", 1830),
                building("fish-4.0", 900, 600.0),
                waiting("vm-test-boot", "needs kvm; builder-3 busy with nixos-test, about 4 min"),
                waiting(HOSTILE_TEXT, "waits for libfoo-2.3"),
            ),
            waiting=2,
        )

    async def machines(self, sight: Sight) -> MachinesPage:
        local = Machine(address="local", systems=("x86_64-linux", "i686-linux"), max_jobs=4)
        big = Machine(
            address="ssh-ng://nix@builder-2?ssh-key=/secret",
            systems=("x86_64-linux",),
            max_jobs=8,
            speed_factor=2.0,
            supported_features=frozenset({"kvm", "big-parallel"}),
        )
        arm = Machine(address="ssh-ng://arm-1", systems=("aarch64-linux",), mandatory_features=frozenset({"slow"}))
        return MachinesPage(
            machines=(
                MachineLine(machine=local, running=(), away="", done_today=31, failed_today=0, busy_share=0.12),
                MachineLine(
                    machine=big,
                    running=(building("chromium-131", 1830), building("fish-4.0", 12)),
                    away="",
                    done_today=812,
                    failed_today=3,
                    busy_share=0.87,
                ),
                MachineLine(
                    machine=arm,
                    running=(),
                    away=f"cannot be reached since 13:02: Connection refused {HOSTILE_TEXT}",
                    done_today=0,
                    failed_today=0,
                    busy_share=0.0,
                ),
            )
        )

    async def why(self, number: int, path: AttrPath) -> Sequence[str]:
        return [
            "It failed in this run and passed in the base (run 410).",
            "Its derivation differs: src of libfoo changed from 2.2 to 2.3.",
            HOSTILE_TEXT,
        ]

    async def needs(self, sight: Sight) -> Sequence[Need]:
        return [
            Need(what="The disk of /nix/store is full in about 3 days.", link="/admin#disk", urgent=True),
            Need(what="mill cannot be fetched: Permission denied (publickey).", link="/p/mill", since=NOW - 7200),
        ]

    async def forecasts(self) -> Sequence[Forecast]:
        gib = 1024**3
        return [
            Forecast(
                place="store",
                path="/nix/store",
                used_bytes=900 * gib,
                free_bytes=40 * gib,
                per_day_bytes=13.0 * gib,
                full_in_days=3.1,
            ),
            Forecast(
                place="logs",
                path="/var/lib/nixmill/logs",
                used_bytes=3 * gib,
                free_bytes=40 * gib,
                per_day_bytes=0.0,
                full_in_days=None,
            ),
        ]

    async def prune(self, asker: Asker, *, dry_run: bool) -> Pruned:
        return Pruned(runs=(1, 2, 3), attempts=tuple(range(40)), evaluations=3)


def delivery(number: int, state: str, fault: str = "") -> DeliveryLine:
    return DeliveryLine(
        id=number,
        channel="email",
        target="ada@example.org",
        run=412,
        project="mill",
        state=state,
        tries=5 if state == "dead" else 1,
        due_at=NOW + 300 if state == "waiting" else None,
        fault=fault,
        created_at=NOW - 900,
    )


class FullAdminPages:
    """Administration with something of everything."""

    def __init__(self) -> None:
        self.audit_asked: list[tuple[int | None, int, str]] = []

    async def audit(self, before: int | None, limit: int, find: str) -> AuditPage:
        self.audit_asked.append((before, limit, find))
        lines = tuple(
            AuditLine(
                id=900 - at,
                at=NOW - at * 700,
                who="ada" if at % 3 else "bob",
                action="retry" if at % 2 else "change a project",
                subject=f"run {412 - at}" if at % 2 else HOSTILE_TEXT,
                detail="what failed" if at % 2 else "",
                address="192.0.2.7",
            )
            for at in range(min(limit, 40))
        )
        return AuditPage(lines=lines, older=None if before else 861)

    async def deliveries(self, state: str | None, limit: int) -> Sequence[DeliveryLine]:
        lines = [
            delivery(1, "sent"),
            delivery(2, "waiting", "mail.example.org said: 451 try again later"),
            delivery(3, "dead", f"550 no such user {HOSTILE_TEXT}"),
        ]
        return [line for line in lines if state in (None, line.state)][:limit]

    async def hook_runs(self, sight: Sight, run: int | None, limit: int) -> Sequence[HookRunLine]:
        return [
            HookRunLine(
                id=HOOK_ID,
                hook="publish",
                command="publish --to 'https://cache.example.org'",
                run=412,
                project="mill",
                attribute="packages.x86_64-linux.libfoo",
                started_at=NOW - 700,
                ended_at=NOW - 640,
                state="exit code 3",
                good=False,
            )
        ]

    async def users(self) -> Sequence[UserLine]:
        return [
            UserLine(
                person=Person(id=at, name=name),
                email=f"{name}@example.org",
                admin=at == 1,
                disabled=at == 3,
                sign_in="password",
                last_seen=NOW - at * 5000 if at < 3 else None,
                sessions=1,
                tokens=at,
            )
            for at, name in ((1, "ada"), (2, "bob"), (3, "eve"))
        ]

    async def rows(self) -> Mapping[str, int]:
        return {"runs": 412, "attempts": 98_211, "outcomes": 1_204_881}

    async def describe(self) -> str:
        return "PostgreSQL 15"


class TimedRunPages(FakeRunPages):
    """A run with attempts over time, some of them on the critical path."""

    async def evaluation(
        self, sight: Sight, number: int, filter_: Filter | None, find: str, page: int, size: int
    ) -> EvaluationPage | None:
        return await super().evaluation(sight, number, filter_, find, page, size)

    async def timeline(self, sight: Sight, number: int) -> TimelinePage | None:
        if number != 412:
            return None
        names = ("stdenv", "libfoo-2.3", "openssl-3.3", "python3-3.12", "zstd", "curl", "git", "nixos-test")
        attempts = [
            tried(
                9001 + at,
                f"{names[at % 8]}-{at}",
                Outcome.BUILD_FAILED if at % 13 == 5 else Outcome.SUCCEEDED,
                at=NOW - 4000 + at * 37 % 1700,
                seconds=20.0 + at * 53 % 400,
                machine=("local", "ssh-ng://builder-2", "ssh-ng://builder-3")[at % 3],
            )
            for at in range(40)
        ]
        attempts.append(tried(9999, HOSTILE_TEXT, Outcome.INFRASTRUCTURE, at=NOW - 2400, seconds=300))
        attempts.sort(key=lambda attempt: attempt.started_at)
        critical = tuple(attempt.drv_path for attempt in attempts[3:30:9])
        return TimelinePage(
            run=run(412, Verdict.BUILD_FAILED), attempts=tuple(attempts), left_out=1200, critical=critical
        )


class FindingPages(FakeProjectPages):
    """Finds by the first letters of the query: `one` finds one thing, `none` nothing."""

    async def search(self, sight: Sight, query: str, limit: int) -> SearchPage:
        found = {
            "one": (Found(kind="run", title="run 412", detail="mill main", link="/r/412"),),
            "away": (Found(kind="run", title="run 412", detail="mill main", link="//evil.example/"),),
            "lib": (
                Found(kind="project", title="libfoo", detail="Libfoo", link="/p/libfoo"),
                Found(kind="attribute", title="packages.x86_64-linux.libfoo", detail="mill main", link="/p/mill/a/x"),
                Found(kind="attribute", title=HOSTILE_TEXT, detail=HOSTILE_TEXT, link="/p/mill/a/y"),
            ),
        }.get(query, ())
        return SearchPage(query=query, found=found, more=query == "lib")


class FakeHookRunner:
    """Logs of hooks in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def log_location(self, run: str) -> str:
        return str(self.directory / f"{run}.log")

    async def run(self, *arguments: object) -> NoReturn:
        raise NotImplementedError
