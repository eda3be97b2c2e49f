"""What people see, word by word: compared with golden screens (see `tests.support.screens` for how to change them)."""

import pytest

from nixmill.cli.render import blocks
from nixmill.cli.render.ci import Ci
from nixmill.cli.render.live import LiveRenderer
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.plain import PlainRenderer
from nixmill.cli.render.plan_view import plan_lines
from nixmill.cli.render.state import RunState
from nixmill.cli.render.why_view import diff_lines, why_lines
from nixmill.core.evaluation import EvalError, EvalFault
from nixmill.core.plan_view import PlannedBuild, PlannedFetch, PlanRow, PlanView
from nixmill.core.run_event import Change, Work
from nixmill.core.why_changed import Difference, Explanation, Kind, Root
from nixmill.nix.store_path import StorePath
from tests.support.run_events import drv
from tests.support.sample_run import building, evaluation, path_of, play, sample_run
from tests.support.screens import Emulator, check_screen

NO_COLOUR = Paint(colour=False, unicode=True)


@pytest.mark.parametrize("columns", [120, 60])
def test_a_whole_run_on_a_terminal(request: pytest.FixtureRequest, columns: int) -> None:
    emulator = Emulator(columns, 30)
    renderer = LiveRenderer(emulator, NO_COLOUR, emulator.size, 0.0)
    play(sample_run(), renderer)
    renderer.close()
    check_screen(request, f"run-live-{columns}", emulator.everything)


@pytest.mark.parametrize(("columns", "rows"), [(120, 40), (80, 24), (60, 15)])
def test_a_moment_of_a_run_on_a_terminal(request: pytest.FixtureRequest, columns: int, rows: int) -> None:
    emulator = Emulator(columns, rows)
    renderer = LiveRenderer(emulator, NO_COLOUR, emulator.size, 0.0)
    play([*evaluation(), *list(building())[:10]], renderer)
    check_screen(request, f"moment-{columns}x{rows}", emulator.shown)


def test_a_whole_run_without_unicode(request: pytest.FixtureRequest) -> None:
    emulator = Emulator(100, 30)
    renderer = LiveRenderer(emulator, Paint(colour=False, unicode=False), emulator.size, 0.0)
    play(sample_run(), renderer)
    renderer.close()
    check_screen(request, "run-live-ascii", emulator.everything)


@pytest.mark.parametrize("ci", [Ci.NONE, Ci.GITHUB, Ci.GITLAB, Ci.BUILDKITE])
def test_a_whole_run_in_a_pipe(request: pytest.FixtureRequest, ci: Ci) -> None:
    pipe = Pipe()
    renderer = PlainRenderer(pipe, NO_COLOUR, 0.0, ci)
    play(sample_run(), renderer)
    renderer.close()
    check_screen(request, f"run-plain-{ci}", pipe.text.replace("\x1b", "␛").replace("\r", "␍").splitlines())


def test_the_colours_of_a_failure(request: pytest.FixtureRequest) -> None:
    state, paint = RunState(), Paint(colour=True, unicode=True)
    for _, event in sample_run():
        state.apply(event, 0.0)
    lines = blocks.failure_block(state.failures[drv("libfoo-1.2")], state, paint, 100)
    check_screen(request, "failure-colours", [line.replace("\x1b", "␛") for line in lines])


def plan_view() -> PlanView:
    rows = (
        _row(
            "hello",
            Change.CHANGED,
            Work.BUILD,
            to_build=3,
            to_fetch=2,
            fetch_bytes=1_300_000,
            reason="source of hello changed",
        ),
        _row("app", Change.NEW, Work.BUILD, to_build=12),
        _row("docs", Change.SAME, Work.FETCH, to_fetch=1),
        *(_row(f"same-{n}", Change.SAME, Work.NONE, reason="unchanged (passed in run 11)") for n in range(103)),
    )
    return PlanView(
        base="4f1c2a9e88",
        rows=rows,
        removed=(path_of("gone"), path_of("gone-too")),
        errors=(EvalError(path=path_of("bad"), fault=EvalFault.THROW, message="no", position="flake.nix:3:1"),),
        builds=(
            PlannedBuild(drv_path=drv("hello-2.12"), name="hello-2.12", about_s=12.0, attributes=1),
            PlannedBuild(drv_path=drv("linux-6.6"), name="linux-6.6", about_s=800.0, attributes=3),
            PlannedBuild(drv_path=drv("vm-test"), name="vm-test", attributes=1, waits_for="no machine has kvm"),
        ),
        fetches=(
            PlannedFetch(path=StorePath(drv("zlib-1.3")[:-4]), download_bytes=80_000, unpacked_bytes=240_000),
            PlannedFetch(path=StorePath(drv("glibc-2.38")[:-4]), download_bytes=10_500_000),
        ),
        fetch_bytes=10_580_000,
        unpacked_bytes=31_000_000,
        about_s=812.0,
    )


def _row(name: str, change: Change, work: Work, **more: object) -> PlanRow:
    return PlanRow(path=path_of(name), change=change, work=work, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("columns", [120, 60])
def test_a_plan(request: pytest.FixtureRequest, columns: int) -> None:
    check_screen(request, f"plan-{columns}", plan_lines(plan_view(), NO_COLOUR, columns))


def test_a_plan_with_nothing_to_do(request: pytest.FixtureRequest) -> None:
    rows = tuple(_row(f"same-{n}", Change.SAME, Work.NONE) for n in range(3))
    check_screen(request, "plan-nothing", plan_lines(PlanView(base="4f1c2a9e88", rows=rows), NO_COLOUR, 80))


def explanation() -> Explanation:
    script = Difference(
        kind=Kind.ENVIRONMENT,
        name="libfoo-1.2",
        subject="buildPhase",
        before="make\nmake check",
        after="make -j\nmake check",
    )
    source = Difference(
        kind=Kind.SOURCE, name="libfoo-1.2", subject="source", before="/nix/store/a", after="/nix/store/b"
    )
    added = Difference(kind=Kind.INPUT_ADDED, name="app-1.0", subject="zlib-1.3", before="", after=drv("zlib-1.3"))
    way = ("app-1.0", "wrapper", "libbar-2.0", "libfoo-1.2")
    return Explanation(
        roots=(
            Root(difference=added, way=("app-1.0",)),
            Root(difference=script, way=way),
            Root(difference=source, way=way),
            Root(difference=source, way=("app-1.0", "docs", "manual")),
        ),
        complete=False,
    )


@pytest.mark.parametrize("columns", [100, 60])
def test_why_something_changed(request: pytest.FixtureRequest, columns: int) -> None:
    lines = why_lines(path_of("app"), "4f1c2a9e88", explanation(), NO_COLOUR, columns)
    check_screen(request, f"why-{columns}", lines)


@pytest.mark.parametrize("columns", [100, 60])
def test_a_diff_of_two_evaluations(request: pytest.FixtureRequest, columns: int) -> None:
    changes = {
        Change.SAME: [path_of(f"same-{n}") for n in range(1200)],
        Change.CHANGED: [path_of("app"), path_of("hello")],
        Change.REMOVED: [path_of("gone")],
        Change.NEWLY_FAILING: [path_of("broken")],
    }
    causes = [(root.difference, (path_of("app"), path_of("hello"))) for root in explanation().roots[1:2]]
    lines = diff_lines("4f1c2a9e88", "0dff6d5a90", changes, causes, NO_COLOUR, columns)
    check_screen(request, f"diff-{columns}", lines)


class Pipe:
    """Takes text as a pipe does."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text
