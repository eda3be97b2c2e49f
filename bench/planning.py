"""Planning and scheduling large graphs, without any store.

Promise (d): planning 100,000 derivations with 500,000 edges, critical path included, takes under 5 s and 300 MB.
Promise (e): the cost of adding a derivation stays flat while a plan grows from 1,000 to 100,000 of them.

    python -m bench.planning [--quick] [--json FILE]

Promises are held against CPU seconds: nothing here ever waits, so on an idle machine they are those of the clock,
and on a busy one they do not measure the neighbours. The clock's seconds are printed too.

Each round runs in a process of its own, as its largest resident memory is part of the promise. Derivations arrive as
in a run: attributes in groups, then whatever the plan asks for. Making up the graph is not measured; it is made group
by group, so it hardly counts in the memory.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nixmill.core.machine import Machine
from nixmill.core.outcome import Outcome
from nixmill.core.plan import Plan
from nixmill.core.schedule import Scheduler
from nixmill.nix.store_path import StorePath

DERIVATIONS: Final = 100_000
EDGES_EACH: Final = 5
GROUP: Final = 1_000
"""Derivations that arrive together; also the smaller size of promise (e)."""
REACH: Final = 2_000
"""How far back inputs lie: makes chains of some hundred derivations, as in nixpkgs."""
PLACES: Final = 64
SYSTEM: Final = "x86_64-linux"

SECONDS_MAX: Final = 5.0
MEMORY_MAX_MB: Final = 300.0
GROWTH_MAX: Final = 1.5


def drv_path(number: int) -> StorePath:
    """Return a path of the usual length."""
    return StorePath(f"/nix/store/{number:032d}-package-{number}-1.0.drv")


def inputs_of(number: int) -> dict[StorePath, tuple[str, ...]]:
    """Return five inputs among the last `REACH` derivations, the same ones in every run."""
    reach = min(number, REACH)
    found = {number - 1 - (number * 7919 + turn * 104_729) % reach for turn in range(EDGES_EACH)} if reach else set()
    return {drv_path(one): ("out",) for one in found}


class Driver:
    """Feeds a plan and its scheduler, and takes the time of nothing else."""

    def __init__(self) -> None:
        """Begin with an empty plan."""
        machine = Machine(address="local", systems=(SYSTEM,), max_jobs=PLACES)
        self.plan = Plan(refuse=lambda system, features: "" if machine.fits(system, features) else "unfit")
        self.scheduler = Scheduler(self.plan, [machine])
        self.scheduler.away("local", until=1.0, because="evaluation goes first")
        self.edges = 0
        self.making_s = 0.0

    def grow(self, first: int, count: int) -> float:
        """Let a group of attributes arrive, with what has to be looked at for them; return the seconds it took."""
        making = time.perf_counter()
        made = [
            (drv_path(number), {"out": drv_path(number)}, inputs_of(number)) for number in range(first, first + count)
        ]
        self.edges += sum(len(inputs) for _, _, inputs in made)
        facts = {path: (outputs, inputs) for path, outputs, inputs in made}
        self.making_s += time.perf_counter() - making
        started = time.process_time()
        for path, outputs, _ in made:
            self.plan.want((path,), path, outputs)
        for node in self.plan.frontier():
            outputs, inputs = facts[node.drv_path]
            self.plan.add(node.drv_path, system=SYSTEM, inputs=inputs, outputs=outputs, about_s=node.id % 60)
            self.plan.tell(node.drv_path)
        if self.scheduler.pick(now=0.0) is not None:
            sys.exit("Something started on a machine that is away.")
        return time.process_time() - started

    def seal(self) -> float:
        """End evaluation: look for circles, make the critical path exact, estimate; return the seconds it took."""
        started = time.process_time()
        self.plan.seal()
        if self.scheduler.remaining_s() is None:
            sys.exit("Every build has a history, but nothing was estimated.")
        return time.process_time() - started

    def drive(self) -> tuple[float, int]:
        """Start and end everything; return the seconds it took and the number of events."""
        started, now, events = time.process_time(), 0.0, 0
        while not self.plan.done:
            now += 1.0
            running = list(self._start(now))
            for path in running:
                self.plan.ended(path, Outcome.SUCCEEDED, now=now)
            events += 3 * len(running)
            self.plan.settled()
        return time.process_time() - started, events

    def _start(self, now: float) -> Iterator[StorePath]:
        while (assignment := self.scheduler.pick(now)) is not None:
            yield assignment.drv_path


def measure(derivations: int) -> dict[str, float]:
    """Plan and drive one graph in this process."""
    driver = Driver()
    began = time.perf_counter()
    groups = [driver.grow(first, GROUP) for first in range(0, derivations, GROUP)]
    sealing = driver.seal()
    wall = time.perf_counter() - began - driver.making_s
    driving, events = driver.drive()
    return {
        "derivations": derivations,
        "edges": driver.edges,
        "plan_s": sum(groups) + sealing,
        "wall_s": wall,
        "seal_s": sealing,
        "drive_s": driving,
        "event_us": driving / events * 1e6,
        "first_us": statistics.median(groups[:5]) / GROUP * 1e6,
        "last_us": statistics.median(groups[-5:]) / GROUP * 1e6,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_process(derivations: int) -> dict[str, float]:
    """Run one round in a process of its own."""
    argv = [sys.executable, "-m", "bench.planning", "--round", str(derivations)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"A round failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def verdicts(rounds: list[dict[str, float]]) -> list[tuple[str, bool]]:
    """Return a line for each promise, and whether it is kept, by the medians of the rounds."""
    middle = {key: statistics.median(found[key] for found in rounds) for key in rounds[0]}
    growth = statistics.median(found["last_us"] / found["first_us"] for found in rounds)
    sizes = f"{middle['derivations']:,.0f} derivations, {middle['edges']:,.0f} edges"
    spread = f"{min(found['plan_s'] for found in rounds):.2f}-{max(found['plan_s'] for found in rounds):.2f}"
    planned = (
        f"(d) {sizes}: planned in {middle['plan_s']:.2f} CPU s ({spread}; {middle['wall_s']:.2f} s by the clock; "
        f"{middle['seal_s']:.2f} s when evaluation ends), promise: under {SECONDS_MAX:.0f} s"
    )
    memory = (
        f"(d) largest memory of the process, driven to the end: {middle['memory_mb']:.0f} MB, "
        f"promise: under {MEMORY_MAX_MB:.0f} MB"
    )
    driven = f"(d) driven to the end in {middle['drive_s']:.2f} CPU s, {middle['event_us']:.1f} µs an event"
    flat = (
        f"(e) a derivation costs {middle['first_us']:.1f} µs among the first 5,000, {middle['last_us']:.1f} µs among "
        f"the last: {growth:.2f} times, promise: at most {GROWTH_MAX}"
    )
    return [
        (planned, middle["plan_s"] < SECONDS_MAX),
        (memory, middle["memory_mb"] < MEMORY_MAX_MB),
        (driven, True),
        (flat, growth <= GROWTH_MAX),
    ]


def main() -> int:
    """Measure, print, and fail where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the derivations, one round")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--round", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.round:
        print(json.dumps(measure(options.round)))
        return 0
    derivations, count = (DERIVATIONS // 10, 1) if options.quick else (DERIVATIONS, 5)
    rounds = [in_process(derivations) for _ in range(count)]
    found = verdicts(rounds)
    for line, kept in found:
        print(line if kept else f"{line}  BROKEN")
    if options.json:
        options.json.write_text(json.dumps(rounds))
    return 0 if all(kept for _, kept in found) else 1


if __name__ == "__main__":
    sys.exit(main())
