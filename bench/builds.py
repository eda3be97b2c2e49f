"""Building and not building, against Nix itself.

Promise (b): 2,000 trivial derivations cost at most 1.15 times one `nix-build` of them all, and at least 3 times less
than a process per derivation. Promise (c): a run where everything is present costs under 1 s beyond its evaluation,
at 10,000 attributes.

    python -m bench.builds [--quick] [--json FILE]

Every figure is a whole process, start to end, in a scratch store; peers run in the same store settings, in turn.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.support.scratch_store import ScratchStore, scratch_store

NIXMILL: Final = (sys.executable, "-m", "nixmill")
JOBS: Final = "2"
EXPRESSION: Final = """\
{{ salt ? "" }}:
builtins.listToAttrs (builtins.genList (i: {{
  name = "job-${{toString i}}";
  value = derivation {{
    name = "job-${{toString i}}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" "echo ${{toString i}} ${{salt}} > $out" ];
  }};
}}) {count})
"""


def timed(argv: tuple[str, ...], store: ScratchStore, cwd: Path) -> float:
    """Return the wall-clock seconds of a command that must succeed."""
    started = time.perf_counter()
    done = subprocess.run(argv, cwd=cwd, env=store.environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(argv[:6])} … failed with {done.returncode}:\n{done.stderr[-3000:]}")
    return time.perf_counter() - started


def nixmill(salt: str, file: Path, *more: str) -> tuple[str, ...]:
    """Return the command that builds the file with nixmill."""
    return (*NIXMILL, "run", "-f", file.name, "--argstr", "salt", salt, "--no-base", "-j", JOBS, "--plain", *more)


def one_nix_build(salt: str, file: Path) -> tuple[str, ...]:
    """Return the command that builds the file with one nix-build."""
    return ("nix-build", file.name, "--argstr", "salt", salt, "--no-out-link", "-j", JOBS)


def process_each(store: ScratchStore, cwd: Path, file: Path, count: int) -> float:
    """Return the seconds that `count` derivations cost with a process each, two at a time."""
    listed = subprocess.run(
        ("nix-instantiate", file.name, "--argstr", "salt", "each"),
        cwd=cwd,
        env=store.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    drvs = [line.split("!")[0] for line in listed.stdout.split()][:count]
    script = "printf '%s\\n' \"$@\" | xargs -P 2 -n 1 nix-store --realise"
    return timed(("sh", "-c", script, "sh", *drvs), store, cwd)


def trivial_builds(count: int, rounds: int) -> dict[str, float]:
    """Measure promise (b): medians in milliseconds per derivation."""
    ours, theirs = [], []
    with scratch_store() as store, tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "jobs.nix"
        file.write_text(EXPRESSION.format(count=count))
        for turn in range(rounds):
            theirs.append(timed(one_nix_build(f"n{turn}", file), store, file.parent))
            ours.append(timed(nixmill(f"m{turn}", file), store, file.parent))
        sample = min(count, 200)
        each = process_each(store, file.parent, file, sample) / sample
    return {
        "nixmill": statistics.median(ours) / count * 1000,
        "nix-build": statistics.median(theirs) / count * 1000,
        "process each": each * 1000,
    }


def all_present(count: int, rounds: int) -> dict[str, float]:
    """Measure promise (c): seconds of the run, those beyond its evaluation, and of a run that need not evaluate."""
    totals, beyond = [], []
    with scratch_store() as store, tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "jobs.nix"
        file.write_text(EXPRESSION.format(count=count))
        timed(nixmill("p", file), store, file.parent)
        known = [timed(nixmill("p", file), store, file.parent) for _ in range(rounds)]
        for _ in range(rounds):
            report = Path(directory) / "report.json"
            argv = " ".join(f"'{word}'" for word in nixmill("p", file, "--json", "--evaluate-again"))
            total = timed(("sh", "-c", f"{argv} > {report}"), store, file.parent)
            totals.append(total)
            beyond.append(total - json.loads(report.read_text())["evaluation"]["seconds"])
    return {
        "total s": statistics.median(totals),
        "beyond evaluation s": statistics.median(beyond),
        "known tree s": statistics.median(known),
    }


def main() -> int:
    """Measure, print, and fail where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer derivations and rounds")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    builds = trivial_builds(300 if options.quick else 2000, 1 if options.quick else 3)
    present = all_present(2000 if options.quick else 10_000, 1 if options.quick else 3)
    ratio, gain = builds["nixmill"] / builds["nix-build"], builds["process each"] / builds["nixmill"]
    print("ms per trivial derivation:", {k: round(v, 2) for k, v in builds.items()})
    print(
        f"against one nix-build: {ratio:.2f} (promise: at most 1.15); against a process each: {gain:.1f} (at least 3)"
    )
    print("everything present:", {k: round(v, 2) for k, v in present.items()}, "(promise: under 1 s beyond evaluation)")
    if options.json:
        options.json.write_text(json.dumps({"builds": builds, "present": present}))
    kept = ratio <= 1.15 and gain >= 3 and present["beyond evaluation s"] < 1
    return 0 if kept or options.quick else 1


if __name__ == "__main__":
    sys.exit(main())
