"""Canned pages: a house with a few projects, one broken, one building, names that try to do harm."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from nixmill.core.access import Role, Sight, Visibility
from nixmill.core.change import BuildClass, ChangeState, Origin
from nixmill.core.outcome import Outcome
from nixmill.core.project import Jobset, Polled, Project
from nixmill.core.run_event import Change, Verdict, Work
from nixmill.core.status import Status
from nixmill.core.view.pages import (
    AttributePage,
    AttributeRun,
    BranchPage,
    ComparedLine,
    ComparePage,
    EvaluationPage,
    HomePage,
    ProjectLine,
    ProjectPage,
    SearchPage,
    TimelinePage,
)
from nixmill.core.view.parts import (
    AttemptLine,
    AttributeLine,
    Cause,
    Filter,
    Paging,
    Point,
    ProjectLink,
    RefLine,
    RunLine,
)
from nixmill.nix.attr_path import AttrPath, show
from nixmill.nix.store_path import StorePath

NOW: Final = 1_795_180_000.0
HOSTILE: Final[AttrPath] = ("packages", "x86_64-linux", '<script>alert("1")</script>')
RTL: Final[AttrPath] = ("packages", "x86_64-linux", "\u202eevil\u202c\u05d0\u05d1\u05d2'\"&amp;")
LONG: Final[AttrPath] = ("packages", "x86_64-linux", "x" * 300)
HOSTILE_TEXT: Final = "<img src=x onerror=alert(1)> \u202egnp.exe \x1b[31mred\x1b[0m"
LAST_RUN: Final = 412
BUILDING_RUN: Final = 413


def drv(name: str) -> StorePath:
    """Return a derivation path of that name."""
    return StorePath(f"/nix/store/{'0123456789abcdfghijklmnpqrsvwxyz'}-{name}.drv")


def link(name: str = "mill", number: int = 1, visibility: Visibility = Visibility.PUBLIC) -> ProjectLink:
    return ProjectLink(id=number, name=name, title=name.capitalize(), visibility=visibility)


_STATUS: Final = {
    Verdict.GOOD: Status.PASSED,
    Verdict.BUILD_FAILED: Status.FAILED,
    Verdict.EVALUATION_FAILED: Status.FAILED,
    Verdict.NOT_ALLOWED: Status.FAILED,
    Verdict.INFRASTRUCTURE: Status.TROUBLE,
    Verdict.CANCELLED: Status.CANCELLED,
}
_SENTENCE: Final = {
    Verdict.GOOD: "Passed after 3 min 20 s: all 230 attributes are good (31 built, 199 unchanged).",
    Verdict.BUILD_FAILED: "Failed after 4 min 12 s: libfoo-2.3 and zstd-check failed, 39 attributes depend on them.",
    Verdict.INFRASTRUCTURE: "Could not finish after 12 min: builder-3 was lost twice; try it again.",
    Verdict.CANCELLED: "Cancelled after 48 s by ada; 30 builds had not begun.",
}


def run(
    number: int,
    verdict: Verdict | None = Verdict.GOOD,
    *,
    project: ProjectLink | None = None,
    ref: str = "refs/heads/main",
    subject: str = "libfoo: 2.2 -> 2.3",
    counts: dict[str, int] | None = None,
    state: ChangeState = ChangeState.DONE,
) -> RunLine:
    """Return a run; without a verdict it is on its way."""
    began = NOW - max(LAST_RUN + 2 - number, 1) * 5400.0 + 900
    done = state is ChangeState.DONE
    return RunLine(
        number=number,
        project=project or link(),
        jobset="main",
        ref=ref,
        commit=f"{number:040x}".replace("0", "a")[::-1],
        subject=subject,
        author="Ada Lovelace",
        origin=Origin.PUSH,
        build_class=BuildClass.BRANCH,
        requested_by=None,
        requested_at=began - 4,
        started_at=None if state is ChangeState.WAITING else began,
        ended_at=began + 180 + number % 7 * 41 if done else None,
        state=state,
        verdict=verdict if done else None,
        sentence=_SENTENCE.get(verdict, "") if done and verdict else "",
        status=_STATUS[verdict] if done and verdict else Status.RUNNING,
        counts=counts if counts is not None else {"all": 230, "failed": 41 if verdict is Verdict.BUILD_FAILED else 0},
    )


def line(
    path: AttrPath,
    status: Status = Status.PASSED,
    change: Change = Change.SAME,
    how: str = "unchanged (passed in run 410)",
    seconds: float = 0.0,
    **more: object,
) -> AttributeLine:
    """Return an attribute's line."""
    outcome = {
        Status.PASSED: Outcome.SUCCEEDED,
        Status.CACHED: Outcome.SUCCEEDED,
        Status.FAILED: Outcome.BUILD_FAILED,
        Status.DEPENDENCY_FAILED: Outcome.DEPENDENCY_FAILED,
        Status.TROUBLE: Outcome.INFRASTRUCTURE,
    }.get(status)
    made = AttributeLine(
        path=path,
        name=show(path),
        system="x86_64-linux",
        drv_path=drv("".join(c for c in "".join(path[-1:]) if c.isascii() and c.isalnum())[:40] or "odd"),
        status=status,
        outcome=outcome,
        change=change,
        how=how,
        seconds=seconds,
    )
    return msgspec.structs.replace(made, **more)


def pkg(name: str) -> AttrPath:
    return ("packages", "x86_64-linux", name)


def rows() -> list[AttributeLine]:
    """Return the attributes of run 412."""
    special = [
        line(pkg("libfoo"), Status.FAILED, Change.NEWLY_FAILING, "build failed with exit code 2", 71.0, attempt=9001),
        line(
            ("checks", "x86_64-linux", "zstd"), Status.FAILED, Change.NEWLY_FAILING, "timed out", 3600.0, attempt=9002
        ),
        line(
            pkg("old-broken"), Status.FAILED, Change.SAME, "build failed (remembered from run 398)", 12.0, attempt=8000
        ),
        line(HOSTILE, Status.DEPENDENCY_FAILED, Change.NEWLY_FAILING, "libfoo-2.3 failed", attempt=9001),
        line(RTL, Status.PASSED, Change.FIXED, "built", 9.4, attempt=9005),
        line(LONG, Status.PASSED, Change.CHANGED, "built", 140.0, attempt=9006),
        line(
            pkg("typo"),
            Status.FAILED,
            Change.NEWLY_FAILING,
            "error: undefined variable 'pyhton'",
            drv_path=None,
            outcome=None,
            error="error: undefined variable 'pyhton'\n  at /nix/store/abc-source/default.nix:12:5:\n" + HOSTILE_TEXT,
        ),
        line(pkg("brandnew"), Status.CACHED, Change.NEW, "fetched from cache.example.org", 2.1, attempt=9007),
        line(pkg("oldname"), Status.PASSED, Change.REMOVED, "removed", renamed_to=pkg("newname")),
        line(pkg("gone"), Status.PASSED, Change.REMOVED, "removed"),
        line(("hydraJobs", "vm"), Status.TROUBLE, Change.CHANGED, "builder-3 was lost while building", 300.0),
    ]
    victims = [
        line(pkg(f"victim-{at:02}"), Status.DEPENDENCY_FAILED, Change.NEWLY_FAILING, "libfoo-2.3 failed", attempt=9001)
        for at in range(36)
    ]
    good = [line(pkg(f"pkg-{at:03}")) for at in range(183)]
    return [*special, *victims, *good]


def chosen(lines: Sequence[AttributeLine], which: Filter) -> list[AttributeLine]:
    """Return what a filter shows."""
    bad = {Status.FAILED, Status.DEPENDENCY_FAILED, Status.TROUBLE}
    wanted: dict[Filter, Callable[[AttributeLine], bool]] = {
        Filter.DIFFERENT: lambda a: a.change is not Change.SAME or a.status in bad,
        Filter.NEWLY_FAILING: lambda a: a.change is Change.NEWLY_FAILING,
        Filter.FAILED: lambda a: a.status in bad and a.change is not Change.REMOVED,
        Filter.ERRORS: lambda a: bool(a.error),
        Filter.FIXED: lambda a: a.change is Change.FIXED,
        Filter.CHANGED: lambda a: a.change is Change.CHANGED,
        Filter.NEW: lambda a: a.change is Change.NEW,
        Filter.REMOVED: lambda a: a.change is Change.REMOVED,
        Filter.RUNNING: lambda a: a.status in {Status.RUNNING, Status.WAITING},
        Filter.PASSED: lambda a: a.status in {Status.PASSED, Status.CACHED} and a.change is not Change.REMOVED,
        Filter.TROUBLE: lambda a: a.status is Status.TROUBLE,
        Filter.ALL: lambda a: a.change is not Change.REMOVED,
    }
    return [entry for entry in lines if wanted[which](entry)]


def counted(lines: Sequence[AttributeLine]) -> dict[str, int]:
    return {which.value: len(chosen(lines, which)) for which in Filter}


def causes() -> tuple[Cause, ...]:
    return (
        Cause(
            drv_path=drv("libfoo-2.3"),
            name="libfoo-2.3",
            outcome=Outcome.BUILD_FAILED,
            message="builder failed with exit code 2",
            attempt=9001,
            victims=38,
            new=True,
            attributes=("packages.x86_64-linux.libfoo", show(HOSTILE), "packages.x86_64-linux.victim-00"),
        ),
        Cause(
            drv_path=drv("zstd-check-1.5"),
            name="zstd-check-1.5",
            outcome=Outcome.TIMED_OUT,
            message="took longer than 1 h",
            attempt=9002,
            victims=1,
            new=True,
            attributes=("checks.x86_64-linux.zstd",),
        ),
        Cause(
            drv_path=drv("old-broken-1"),
            name="old-broken-1",
            outcome=Outcome.BUILD_FAILED,
            message="builder failed with exit code 1",
            attempt=8000,
            victims=1,
            new=False,
            attributes=("packages.x86_64-linux.old-broken",),
            first_failed=398,
        ),
    )


def attempt(
    number: int, name: str, began: float, about_s: float | None, machine: str = "ssh-ng://builder-2"
) -> AttemptLine:
    """Return an attempt that runs."""
    return AttemptLine(
        number=number,
        run=BUILDING_RUN,
        project=link(),
        drv_path=drv(name),
        name=name,
        system="x86_64-linux",
        work=Work.BUILD,
        machine=machine,
        started_at=NOW - began,
        seconds=began,
        outcome=None,
        status=Status.RUNNING,
        message="",
        exit_status=None,
        has_log=True,
        output_bytes=0,
        about_s=about_s,
    )


def page_of(lines: Sequence[AttributeLine], page: int, size: int) -> tuple[tuple[AttributeLine, ...], Paging]:
    pages = max(1, -(-len(lines) // size)) if size else 1
    part = lines[(page - 1) * size : page * size] if size else lines
    return tuple(part), Paging(page=page, pages=pages, size=size, total=len(lines))


class FakeRunPages:
    """`attributes` are those of run 412; set it for other pages."""

    def __init__(self) -> None:
        self.attributes = rows()
        self.done = 0
        """Attributes of the building run that are done."""
        self.ended = False

    async def evaluation(
        self, sight: Sight, number: int, filter_: Filter | None, find: str, page: int, size: int
    ) -> EvaluationPage | None:
        if number not in {LAST_RUN, BUILDING_RUN}:
            return None
        building = number == BUILDING_RUN and not self.ended
        lines = self._building() if number == BUILDING_RUN else self.attributes
        counts = counted(lines)
        which = filter_ or (Filter.RUNNING if building and not counts["failed"] else Filter.DIFFERENT)
        found = [entry for entry in chosen(lines, which) if find.lower() in entry.name.lower()]
        shown, paging = page_of(found, page, size)
        state = ChangeState.BUILDING if building else ChangeState.DONE
        verdict = Verdict.GOOD if number == BUILDING_RUN else Verdict.BUILD_FAILED
        return EvaluationPage(
            run=run(number, verdict, counts=counts, state=state, subject=f"libfoo: 2.2 -> 2.3 {HOSTILE_TEXT}"),
            base=run(410),
            base_commit=run(410).commit,
            base_reason="merge base with main",
            tree_hash="1" * 40,
            targets=(".#packages",),
            evaluator="nix-eval-jobs 2.24",
            evaluation_s=21.4,
            notices=("The lock file was not read: flake.lock is missing.",) if not building else (),
            counts=counts,
            filter=which,
            find=find,
            causes=causes() if number == LAST_RUN else (),
            causes_total=3 if number == LAST_RUN else 0,
            rows=shown,
            paging=paging,
            attempts_running=(attempt(9100, "chromium-131", 1830, 7200), attempt(9101, "fish-4.0", 12, 40, "local"))
            if building
            else (),
            newer=BUILDING_RUN if number == LAST_RUN else None,
            retries=(),
        )

    def _building(self) -> list[AttributeLine]:
        total = 120
        return [
            line(pkg(f"pkg-{at:03}"), Status.PASSED, Change.CHANGED, "built", 12.0)
            if at < self.done or self.ended
            else line(pkg(f"pkg-{at:03}"), Status.WAITING, Change.CHANGED, "waits for chromium-131", about_s=250.0)
            for at in range(total)
        ]

    async def run(self, sight: Sight, number: int) -> RunLine | None:
        page = await self.evaluation(sight, number, None, "", 1, 1)
        return page.run if page is not None else run(number) if number < LAST_RUN else None

    async def attribute_of(self, sight: Sight, number: int, path: AttrPath) -> tuple[RunLine, AttributeLine] | None:
        found = next((entry for entry in self.attributes if entry.path == path), None)
        return (run(number, Verdict.BUILD_FAILED), found) if found is not None else None

    async def compare(self, sight: Sight, before: int, after: int, page: int, size: int) -> ComparePage | None:
        if max(before, after) > BUILDING_RUN:
            return None
        differing = [entry for entry in self.attributes if entry.change is not Change.SAME]
        shown, paging = page_of(differing, page, size)
        return ComparePage(
            before=run(before),
            after=run(after, Verdict.BUILD_FAILED),
            counts={"newly failing": 40, "fixed": 1, "changed": 2, "new": 1, "removed": 2, "same": 184},
            rows=tuple(_compared(entry) for entry in shown),
            paging=paging,
        )

    async def timeline(self, sight: Sight, number: int) -> TimelinePage | None:
        attempts = (attempt(9100, "chromium-131", 1830, 7200), attempt(9101, "fish-4.0", 12, 40, "local"))
        return TimelinePage(run=run(number), attempts=attempts, left_out=0, critical=())

    async def failing(self, sight: Sight, number: int) -> Sequence[AttributeLine]:
        return chosen(self.attributes, Filter.FAILED)


def _compared(entry: AttributeLine) -> ComparedLine:
    gone = entry.change is Change.REMOVED
    before = None if entry.change is Change.NEW else line(entry.path, seconds=55.0)
    after = None if gone else entry
    return ComparedLine(name=entry.name, path=entry.path, change=entry.change.value, before=before, after=after)


def recent(count: int = 20, project: ProjectLink | None = None) -> tuple[RunLine, ...]:
    """Return runs of a branch, newest first, of all kinds."""
    verdicts = {LAST_RUN: Verdict.BUILD_FAILED, LAST_RUN - 1: Verdict.BUILD_FAILED, LAST_RUN - 5: Verdict.CANCELLED}
    verdicts |= {LAST_RUN - 8: Verdict.INFRASTRUCTURE, LAST_RUN - 14: Verdict.BUILD_FAILED}
    return tuple(
        run(number, verdicts.get(number, Verdict.GOOD), project=project)
        for number in range(LAST_RUN, LAST_RUN - count, -1)
    )


def ref_line(project: ProjectLink | None = None, ref: str = "refs/heads/main") -> RefLine:
    runs = recent(project=project)
    return RefLine(ref=ref, jobset="main", latest=runs[0], last_good=runs[2], failing_since=runs[1], gone_at=None)


def points(count: int, scale: float) -> tuple[Point, ...]:
    """Return points of a chart, the third but last a failure."""
    return tuple(
        Point(run=at, at=NOW - 60.0 * at, value=scale * (5 + (at * 37) % 11), good=at != LAST_RUN - 2)
        for at in range(LAST_RUN - count + 1, LAST_RUN + 1)
    )


class FakeProjectPages:
    """Three projects: `mill` broken, `sail` good and internal, `tide` that cannot be fetched."""

    async def home(self, sight: Sight) -> HomePage:
        sail, tide = link("sail", 2, Visibility.INTERNAL), link("tide", 3)
        good = tuple(run(number, project=sail) for number in range(300, 292, -1))
        fine = RefLine(
            ref="refs/heads/main", jobset="main", latest=good[0], last_good=good[0], failing_since=None, gone_at=None
        )
        building = run(BUILDING_RUN, counts={"all": 120, "running": 50, "failed": 2}, state=ChangeState.BUILDING)
        waiting = run(414, project=sail, counts={}, state=ChangeState.WAITING, ref="refs/heads/feature/<b>x</b>")
        return HomePage(
            checklist=(),
            needs_you=(),
            broken=(ref_line(),),
            running=(
                building,
                msgspec.structs.replace(waiting, wait="waits for run 413, about 4 min", status=Status.WAITING),
            ),
            projects=(
                ProjectLine(project=link(), default=ref_line(), recent=recent(), running=1, fault="", enabled=True),
                ProjectLine(project=sail, default=fine, recent=good, running=1, fault="", enabled=True),
                ProjectLine(
                    project=tide,
                    default=None,
                    recent=(),
                    running=0,
                    fault="git.example.org does not answer; it is asked again in 2 min.",
                    enabled=True,
                ),
            ),
        )

    async def project(self, sight: Sight, name: str) -> ProjectPage | None:
        if name != "mill":
            return None
        feature = run(409, ref="refs/heads/feature/x", subject="try <b>bold</b>")
        return ProjectPage(
            project=Project(id=1, name="mill", title="Mill", url="https://git.example.org/mill.git"),
            role=Role.STRANGER,
            polled=Polled(at=NOW - 40, default_branch="main"),
            jobsets=(
                Jobset(id=1, project=1, name="main", branches=("main", "release-*", "!release-old")),
                Jobset(id=2, project=1, name="nightly", schedule="0 3 * * *", targets=(".#hydraJobs",), on_push=False),
            ),
            refs=(
                ref_line(),
                RefLine(
                    ref="refs/heads/feature/x",
                    jobset="",
                    latest=feature,
                    last_good=feature,
                    failing_since=None,
                    gone_at=NOW - 9000,
                ),
                RefLine(ref="refs/tags/v1.0", jobset="", latest=None, last_good=None, failing_since=None, gone_at=None),
            ),
            runs=recent(),
        )

    async def branch(self, sight: Sight, project: str, ref: str, before: int | None, limit: int) -> BranchPage | None:
        if project != "mill" or ref not in {"main", "feature/x"}:
            return None
        return BranchPage(
            project=link(),
            line=ref_line(ref=f"refs/heads/{ref}"),
            runs=recent(),
            older=LAST_RUN - 20 if before is None else None,
            durations=points(40, 31.0),
            sizes=points(40, 5e7),
        )

    async def attribute(
        self, sight: Sight, project: str, ref: str, path: AttrPath, before: int | None
    ) -> AttributePage | None:
        lines = {LAST_RUN: Status.FAILED, LAST_RUN - 1: Status.DEPENDENCY_FAILED}
        runs = tuple(
            AttributeRun(
                run=entry,
                line=line(path, lines.get(entry.number, Status.PASSED), how="built", seconds=31.0, attempt=77),
            )
            for entry in recent()
        )
        return AttributePage(
            project=link(),
            ref=ref,
            path=path,
            name=show(path),
            description="A library <of> foo",
            maintainers=("ada@example.org",),
            runs=runs,
            older=None,
            durations=points(20, 4.0),
            sizes=points(20, 3e6),
        )

    async def runs(self, sight: Sight, project: int | None, before: int | None, limit: int) -> Sequence[RunLine]:
        return recent()

    async def search(self, sight: Sight, query: str, limit: int) -> SearchPage:
        return SearchPage(query=query, found=(), more=False)
