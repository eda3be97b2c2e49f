"""Runs as a report sees them."""

from typing import Any

import msgspec

from nixmill.core.access import Visibility
from nixmill.core.change import BuildClass, ChangeState, Origin
from nixmill.core.outcome import Outcome
from nixmill.core.report_facts import ReportCost, ReportLinks, ReportPlace, RunForReport
from nixmill.core.run_event import Change, Verdict
from nixmill.core.size_change import Sized, size_changes
from nixmill.core.status import Status
from nixmill.core.view.parts import AttributeLine, Cause, ProjectLink, RunLine
from nixmill.nix.attr_path import show
from nixmill.nix.store_path import StorePath

ROOT = "https://ci.example.org"
COMMIT = "4c688da535ea3352536e3b320880aa353bd404b2"
TAIL = ("gcc -c roof.c", "roof.c:7:3: error: expected ';' before '}' token", "make: *** [all] Error 1")
MILL = ProjectLink(id=1, name="mill", title="mill", visibility=Visibility.PUBLIC)
PLACE = ReportPlace(
    forge="hub", project=1, repository="octo/mill", commit=COMMIT, context="nixmill", pull_request=7,
)  # fmt: skip


def drv(name: str) -> StorePath:
    return StorePath(f"/nix/store/{'0' * 32}-{name}.drv")


def run(number: int = 12, **changes: Any) -> RunLine:  # noqa: ANN401 - fields
    standard = RunLine(
        number=number, project=MILL, jobset="main", ref="refs/pull/7/head", commit=COMMIT, subject="Mend the roof",
        author="Ann", origin=Origin.PULL_REQUEST, build_class=BuildClass.PULL_REQUEST, requested_by=None,
        requested_at=1000.0, started_at=1004.0, ended_at=None, state=ChangeState.BUILDING, verdict=None, sentence="",
        status=Status.RUNNING, counts={"all": 214, "changed": 11, "new": 1, "failed": 0},
    )  # fmt: skip
    return msgspec.structs.replace(standard, **changes)


def done(verdict: Verdict, sentence: str, number: int = 12, **changes: Any) -> RunLine:  # noqa: ANN401 - fields
    known = {"state": ChangeState.DONE, "verdict": verdict, "sentence": sentence, "ended_at": 1256.0}
    return run(number, **(known | changes))


def line(
    name: str,
    status: Status = Status.FAILED,
    change: Change = Change.NEWLY_FAILING,
    **changes: Any,  # noqa: ANN401 - fields
) -> AttributeLine:
    path = ("checks", "x86_64-linux", name)
    standard = AttributeLine(
        path=path, name=show(path), system="x86_64-linux", drv_path=drv(name), status=status,
        outcome=Outcome.SUCCEEDED if status is Status.PASSED else Outcome.BUILD_FAILED, change=change,
        how="built" if status is Status.PASSED else "failed with exit status 2", seconds=12.0, attempt=81,
    )  # fmt: skip
    return msgspec.structs.replace(standard, **changes)


def cause(name: str, victims: int, *attributes: str, **changes: Any) -> Cause:  # noqa: ANN401 - fields
    standard = Cause(
        drv_path=drv(name), name=name, outcome=Outcome.BUILD_FAILED, message="", attempt=81, victims=victims, new=True,
        attributes=attributes, tail=TAIL,
    )  # fmt: skip
    return msgspec.structs.replace(standard, **changes)


def page(line_: RunLine | None = None, **changes: Any) -> RunForReport:  # noqa: ANN401 - fields
    standard = RunForReport(
        run=line_ or run(),
        links=ReportLinks(
            run=f"{ROOT}/r/12", log=f"{ROOT}/log/", base=f"{ROOT}/r/9", compare=f"{ROOT}/compare/9/12",
            approve=f"{ROOT}/p/mill/pull/7",
        ),
        base=done(Verdict.GOOD, "Passed.", 9),
        base_name="main",
        unchanged=202,
        changed=12,
        to_build=9,
        left_s=360.0,
    )  # fmt: skip
    return msgspec.structs.replace(standard, **changes)


def failed_page(**changes: Any) -> RunForReport:  # noqa: ANN401 - fields
    """Return a run in which everything that a report can tell has happened."""
    error = "error: attribute 'roof' missing\n\n       at /nix/store/x-source/flake.nix:7:3\n"
    erred = line("docs", change=Change.CHANGED, drv_path=None, outcome=None, attempt=None, error=error, how="missing")
    lines = (
        line("libroof"),
        line("house", Status.DEPENDENCY_FAILED, culprit=drv("libroof"), how="libroof failed"),
        line("old", change=Change.SAME, how="fails on the base too (run 9)"),
        erred,
        line("walls", Status.PASSED, Change.CHANGED),
        line("door", Status.PASSED, Change.NEW),
        line("window", Status.PASSED, Change.FIXED),
        line("chimney", Status.PASSED, Change.REMOVED, drv_path=None, renamed_to=("checks", "x86_64-linux", "flue")),
    )
    walls, tiles, door = (("checks", "x86_64-linux", name) for name in ("walls", "tiles", "door"))
    before = [Sized(walls, "walls-1.2", 40 << 20), Sized(tiles, "tiles-3")]
    after = [Sized(walls, "walls-1.3", 52 << 20), Sized(tiles, "tiles-4"), Sized(door, "door", 3 << 20)]
    sentence = "Failed after 4 min 12 s: libroof failed with exit status 2 and 1 attribute depends on it."
    counts = {"all": 120, "failed": 4, "newly-failing": 2, "changed": 2, "new": 1, "fixed": 1, "removed": 1}
    known = {
        "causes": (cause("libroof-1.0", 2, "checks.x86_64-linux.libroof", "checks.x86_64-linux.house"),),
        "causes_total": 3, "lines": lines, "failing_since": {"checks.x86_64-linux.old": 5}, "unchanged": 108,
        "elsewhere": {"aarch64-darwin": 12}, "sizes": size_changes(before, after),
        "cost": ReportCost(built=9, fetched=31, wall_s=1400.0, cpu_s=4100.0),
        "notices": ("The lock file was not written.",), "tier_note": "Evaluated without network.",
    }  # fmt: skip
    return page(done(Verdict.BUILD_FAILED, sentence, counts=counts), **(known | changes))
