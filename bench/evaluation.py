"""Evaluating generated projects, against `nix-instantiate` and, where it is installed, `nix-eval-jobs`.

Promise (a), each a ratio within one round: our own evaluator takes no longer than RATIOS says, as a multiple of one
`nix-instantiate` of the same derivations; its first record comes within FIRST_SHARE of the whole; where nix-eval-jobs
is installed, ours takes at most RATIO_JOBS times as long at equal workers.

    python -m bench.evaluation [--quick] [--sizes 1000 10000 50000] [--rounds 3] [--json FILE]

Each way has a store of its own and is measured twice: `cold`, when every derivation has to be written, and `warm`, when
all are there, as most are in an evaluation after a small change. A flake is fetched beforehand. With a cold store a
second worker gains little, whoever evaluates: Nix sleeps up to 0.1 s whenever two processes write to the store's
database at once. Peers run in turn; the table shows medians and the spread.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from nixmill.core.evaluation import (
    Attribute,
    EvalError,
    EvaluationEnded,
    EvaluationLimits,
    EvaluationRequest,
    FileTarget,
    FlakeTarget,
    Target,
)
from nixmill.doors import Evaluator
from nixmill.edge.evaluator import NixEvalJobsEvaluator, OwnEvaluator
from nixmill.nix.attr_path import quote
from tests.support.scratch_store import ScratchStore, scratch_store

RATIOS: Final = {
    "own, file, 1 worker, cold": 1.25,
    "own, flake, 1 worker, cold": 1.4,
    "own, file, 2 workers, warm": 1.25,
    "own, flake, 2 workers, warm": 1.5,
}
RATIO_JOBS: Final = 1.1
FIRST_SHARE: Final = 0.5
STATES: Final = ("cold", "warm")
WORKLOAD: Final = Path(__file__).with_name("workload.py")


@dataclass(frozen=True)
class Figure:
    """One measurement."""

    way: str
    attributes: int
    seconds: float
    first_s: float | None
    largest_bytes: int
    sum_bytes: int
    own_cpu_s: float


def main() -> None:
    """Measure, print a table, exit with 1 if a promise is broken."""
    options = _options()
    sizes = [1000] if options.quick else options.sizes
    rounds = 1 if options.quick else options.rounds
    broken: list[str] = []
    figures: list[Figure] = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="nixmill-bench-") as place:
            project = _generate(Path(place), size)
            runs = [_round(project, size) for _ in range(rounds)]
        figures += [figure for run in runs for figure in run]
        _print(size, runs)
        broken += [f"{size}: {promise}" for promise in _broken(runs)]
    if options.json:
        Path(options.json).write_text(json.dumps([asdict(figure) for figure in figures], indent=1), encoding="utf-8")
    for promise in broken:
        print(f"broken: {promise}")
    sys.exit(1 if broken else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="1,000 attributes, one round")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 50_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write all figures to this file")
    return parser.parse_args()


def _generate(place: Path, size: int) -> Path:
    project = place / "project"
    subprocess.run([sys.executable, str(WORKLOAD), str(size), str(project)], check=True, capture_output=True)
    manifest = json.loads((project / "manifest.json").read_text(encoding="utf-8"))
    good = [job.split("\0") for job in manifest["jobs"] if job not in manifest["bad"]]
    listed = " ".join(f"(r.{'.'.join(map(quote, path))})" for path in good)
    (project / "all.nix").write_text(f"let r = import ./. {{ }}; in [ {listed} ]", encoding="utf-8")
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "x"]):
        identity = ["-c", "user.name=b", "-c", "user.email=b@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(project), *identity, *command], check=True)
    return project


def _round(project: Path, size: int) -> list[Figure]:
    revision = subprocess.run(
        ["git", "-C", str(project), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    file = FileTarget(file=str(project / "default.nix"), tree_path=str(project))
    flake = FlakeTarget(reference=f"git+file://{project}?rev={revision}", attr=("hydraJobs",))
    ways: list[tuple[str, Callable[[ScratchStore], Evaluator], Target, int]] = [
        ("own, file, 1 worker", _own, file, 1),
        ("own, file, 2 workers", _own, file, 2),
        ("own, flake, 1 worker", _own, flake, 1),
        ("own, flake, 2 workers", _own, flake, 2),
    ]
    if shutil.which("nix-eval-jobs"):
        ways += [
            ("nix-eval-jobs, file, 2 workers", _jobs, file, 2),
            ("nix-eval-jobs, flake, 2 workers", _jobs, flake, 2),
        ]
    with _store() as store:
        found = [_instantiate(project, size, store, state) for state in STATES]
    for way, make, target, workers in ways:
        with _store() as store:
            if target is flake:
                _fetch(store, flake)
            found += [asyncio.run(_evaluate(f"{way}, {s}", make(store), target, workers, size)) for s in STATES]
    return found


def _fetch(store: ScratchStore, flake: FlakeTarget) -> None:
    command = ["nix", "--extra-experimental-features", "nix-command flakes", "flake", "metadata", flake.reference]
    subprocess.run(command, env=store.environment, check=True, capture_output=True)


@contextlib.contextmanager
def _store() -> Iterator[ScratchStore]:
    """Make a store in memory where that is possible: the disk is not what is measured."""
    memory = Path("/dev/shm")  # noqa: S108 - a private directory is made in it
    with (
        scratch_store() as store,
        tempfile.TemporaryDirectory(prefix="nm", dir=memory if memory.is_dir() else None) as d,
    ):
        (Path(d) / "home").mkdir()
        moved = {name: value.replace(str(store.root), d) for name, value in store.environment.items()}
        try:
            yield ScratchStore(Path(d), moved)
        finally:
            subprocess.run(["chmod", "-R", "u+w", d], check=True)


def _own(store: ScratchStore) -> Evaluator:
    return OwnEvaluator(store.environment)


def _jobs(store: ScratchStore) -> Evaluator:
    return NixEvalJobsEvaluator(store.environment)


def _instantiate(project: Path, size: int, store: ScratchStore, state: str) -> Figure:
    started = time.perf_counter()
    with subprocess.Popen(
        ["nix-instantiate", str(project / "all.nix")],
        env=store.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    seconds = time.perf_counter() - started
    if status:
        sys.exit("nix-instantiate failed; is the workload broken?")
    peak = usage.ru_maxrss * 1024
    return _told(Figure(f"nix-instantiate, {state}", size, seconds, None, peak, peak, 0.0))


async def _evaluate(way: str, evaluator: Evaluator, target: Target, workers: int, size: int) -> Figure:
    limits = EvaluationLimits(workers=workers, memory_bytes=8 * 1024**3)
    request = EvaluationRequest(targets=(target,), limits=limits)
    await evaluator.identity()
    peak = _PeakOfAll()
    watching = asyncio.create_task(peak.watch())
    cpu, started, first, count, end = _cpu(), time.perf_counter(), None, 0, None
    async with contextlib.aclosing(evaluator.evaluate(request)) as groups:
        async for records in groups:
            first = first or time.perf_counter() - started
            count += sum(isinstance(record, Attribute | EvalError) for record in records)
            end = records[-1]
    seconds, cpu = time.perf_counter() - started, _cpu() - cpu
    watching.cancel()
    assert isinstance(end, EvaluationEnded)
    if count != size + 1:
        sys.exit(f"{way}: {count} records instead of {size + 1}")
    return _told(Figure(way, size, seconds, first, end.peak_bytes, peak.bytes, cpu))


def _told(figure: Figure) -> Figure:
    """Show that something goes on: the whole takes half an hour."""
    print(f"{figure.attributes} {figure.way}: {figure.seconds:.1f} s", file=sys.stderr, flush=True)
    return figure


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class _PeakOfAll:
    """The largest sum of resident memory of all our children."""

    def __init__(self) -> None:
        self.bytes = 0

    async def watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, sum(map(_resident, _children(os.getpid()))))
            await asyncio.sleep(0.1)


def _children(pid: int) -> list[int]:
    try:
        direct = [int(p) for t in Path(f"/proc/{pid}/task").iterdir() for p in (t / "children").read_text().split()]
    except OSError:
        return []
    return direct + [grandchild for child in direct for grandchild in _children(child)]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def _print(size: int, runs: list[list[Figure]]) -> None:
    print(f"\n{size} attributes, {len(runs)} round(s)")
    print(f"{'':32}{'seconds (spread)':>22}{'ratio':>8}{'first':>8}{'largest':>10}{'sum':>10}{'own CPU':>9}")
    for column in zip(*runs, strict=True):
        seconds = [figure.seconds for figure in column]
        first = [figure.first_s for figure in column if figure.first_s is not None]
        spread = f"{statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f})"
        print(
            f"{column[0].way:32}{spread:>22}{_ratio(runs, column[0].way):>8.2f}"
            f"{f'{statistics.median(first):.2f}' if first else '–':>8}"
            f"{max(f.largest_bytes for f in column) >> 20:>6} MiB{max(f.sum_bytes for f in column) >> 20:>6} MiB"
            f"{statistics.median(f.own_cpu_s for f in column):>9.2f}"
        )


def _ratio(runs: list[list[Figure]], way: str, against: str | None = None) -> float:
    pairs = [{figure.way: figure.seconds for figure in run} for run in runs]
    against = against or f"nix-instantiate, {way.rsplit(', ', 1)[1]}"
    return statistics.median(pair[way] / pair[against] for pair in pairs)


def _broken(runs: list[list[Figure]]) -> list[str]:
    found: list[str] = []

    def hold(way: str, against: str | None, limit: float) -> None:
        if (ratio := _ratio(runs, way, against)) > limit:
            found.append(
                f"{way} takes {ratio:.2f} times as long as {against or 'nix-instantiate'}; promised is {limit}"
            )

    for way, limit in RATIOS.items():
        hold(way, None, limit)
    for way in [figure.way for figure in runs[0] if figure.way.startswith("nix-eval-jobs")]:
        hold(way.replace("nix-eval-jobs", "own"), way, RATIO_JOBS)
    for way in RATIOS:
        shares = [f.first_s / f.seconds for run in runs for f in run if f.way == way and f.first_s is not None]
        if statistics.median(shares) > FIRST_SHARE:
            found.append(f"{way}: the first record comes after {statistics.median(shares):.0%} of the time")
    return found


if __name__ == "__main__":
    main()
