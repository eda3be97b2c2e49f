"""A run of everything that can be shown, as (seconds since the event before, event)."""

from collections.abc import Iterator

from nixmill.cli.render.renderer import Renderer
from nixmill.core.evaluation import EvalFault, ImportFromDerivation
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import (
    AttributesRemoved,
    Change,
    ImportedFromDerivation,
    Noticed,
    RunEvent,
    Verdict,
    Work,
    WorkPhase,
    WorkWaits,
)
from tests.support.run_events import (
    compared,
    drv,
    ended,
    erred,
    evaluated,
    found,
    output,
    planned,
    settled,
    started,
    work_ended,
    work_started,
)

CHECKS = "checks.x86_64-linux"
MAKE_TAIL = (
    "checking whether the C compiler works... yes",
    "config.status: creating Makefile",
    "make  all-recursive",
    "gcc -c -o foo.o foo.c",
    "\x1b[01m\x1b[Kfoo.c:12:3:\x1b[m\x1b[K \x1b[01;31m\x1b[Kerror: \x1b[m\x1b[Kunknown type name 'quux'",
    "   12 |   quux x;",
    "      |   ^~~~",
    "compilation terminated.",
    "make[1]: *** [Makefile:312: foo.o] Error 1",
    "make: *** [Makefile:98: all-recursive] Error 1",
)
MISSING = (
    "attribute 'lbi' missing\n\n       at pkgs/broken.nix:12:3:\n           11|   buildInputs = [\n"
    "           12|     pkgs.lbi\n             |     ^\n       Did you mean lib?"
)


def path_of(name: str) -> tuple[str, ...]:
    return ("checks", "x86_64-linux", name)


def evaluation() -> Iterator[tuple[float, RunEvent]]:
    yield 0, started(dirty=True)
    yield 0, Noticed(text="1 untracked file is not part of the tree: notes.txt (git add it to test it)")
    for name in ("hello", "libfoo-tests", "app", "app-docs", "fetched", "linux", "mended", "flaky"):
        yield 0.1, found(f"{CHECKS}.{name}", traces=("evaluation warning: 'stdenv.lib' is deprecated",))
    yield 0.1, found(f'{CHECKS}."odd.name"', "odd-1.0")
    yield 0, ImportedFromDerivation(build=ImportFromDerivation(drv_path=drv("generated-1"), seconds=3.2))
    yield 0.1, erred(f"{CHECKS}.broken", MISSING, EvalFault.MISSING_ATTRIBUTE, position="pkgs/broken.nix:12:3")
    yield 0.1, erred(f"{CHECKS}.broken-too", MISSING, EvalFault.MISSING_ATTRIBUTE, position="pkgs/broken.nix:12:3")
    yield 0, compared(9)
    yield 0, evaluated(9, 2)
    yield 0, planned(attributes=11, changed=6, skipped=1, present=1, to_build=6, to_fetch=2, about_s=252.0)


def building() -> Iterator[tuple[float, RunEvent]]:
    yield 0, work_started(801, "glibc-2.38", work=Work.FETCH, about_s=2.0)
    yield 0, work_started(802, "hello-1.0", about_s=4.0, for_attributes=(path_of("hello"),))
    yield 0, work_started(803, "libfoo-1.2", for_attributes=(path_of("app"), path_of("app-docs")))
    yield 0, work_started(804, "linux-1.0", about_s=600.0, machine="ssh-ng://ci@builder-2?max=4")
    yield (
        0,
        WorkWaits(reasons=(("firefox-128", "needs big-parallel; builder-2 busy with linux, about 4 min"),), waiting=5),
    )
    yield 0.4, WorkPhase(attempt=804, phase="configurePhase")
    yield 0.4, output(802, "building hello", "\x1b[2J::set-output name=x::y")
    yield 0.5, work_ended(801, "glibc-2.38", work=Work.FETCH, seconds=1.3)
    yield 0.1, settled(f"{CHECKS}.fetched", how="fetched", change=Change.SAME)
    yield 1.0, work_ended(802, "hello-1.0", seconds=2.4)
    yield 0, settled(f"{CHECKS}.hello", change=Change.NEW, seconds=2.4)
    yield 0.5, output(803, *MAKE_TAIL)
    yield 0, work_ended(803, "libfoo-1.2", Outcome.BUILD_FAILED, exit_status=2, seconds=12.3, tail=MAKE_TAIL)
    for name in ("app", "app-docs", "libfoo-tests"):
        yield 0, _victim(name)


def _victim(name: str) -> RunEvent:
    return settled(
        f"{CHECKS}.{name}",
        outcome=Outcome.DEPENDENCY_FAILED,
        how="libfoo-1.2 failed",
        culprit=drv("libfoo-1.2"),
        change=Change.NEWLY_FAILING,
    )


def ending() -> Iterator[tuple[float, RunEvent]]:
    yield 0.5, work_started(805, "flaky-1.0", for_attributes=(path_of("flaky"),))
    lost = "the connection to builder-2 was lost"
    yield 1.5, work_ended(805, "flaky-1.0", Outcome.INFRASTRUCTURE, message=lost, retry_in_s=10.0)
    yield 0.5, work_started(806, "odd-1.0", for_attributes=(path_of("odd.name"),))
    mismatch = (
        f"hash mismatch in fixed-output derivation '{drv('odd-1.0')}':\n  specified: sha256-AAA=\n     got: sha256-BBB="
    )
    yield 0.5, work_ended(806, "odd-1.0", Outcome.HASH_MISMATCH, message=mismatch, failed_before=9, seconds=0.5)
    yield 0, settled(f'{CHECKS}."odd.name"', "odd-1.0", Outcome.HASH_MISMATCH, how="hash mismatch", change=Change.SAME)
    yield 0, settled(f"{CHECKS}.mended", how="unchanged (passed in run 11)", change=Change.FIXED, seconds=0)
    yield 0.5, work_ended(804, "linux-1.0", seconds=605.0)
    yield 0, settled(f"{CHECKS}.linux", seconds=605.0)
    yield 0, settled(f"{CHECKS}.flaky", outcome=Outcome.INFRASTRUCTURE, how="builder lost", change=Change.SAME)
    gone = (
        (path_of("gone"), None, None),
        (path_of("greet"), path_of("hello"), None),
        (path_of("b"), None, path_of("broken")),
    )
    yield 0, AttributesRemoved(removed=gone)
    yield 0, ended(Verdict.BUILD_FAILED, "2 builds failed; 3 attributes depend on libfoo-1.2; took 10 min 12 s.")


def sample_run() -> list[tuple[float, RunEvent]]:
    """Return the whole run."""
    return [*evaluation(), *building(), *ending()]


def play(events: list[tuple[float, RunEvent]], renderer: Renderer, now: float = 0.0) -> float:
    """Feed events to a renderer, with ticks ten times a second in between; return the time at the end."""
    for wait, event in events:
        end = now + wait
        while now + 0.1 <= end:
            now += 0.1
            renderer.tick(now)
        now = end
        renderer.handle(event)
    renderer.tick(now + 0.1)
    return now + 0.1
