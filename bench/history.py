"""What the history and the log files cost: `python bench/history.py`. Figures vary with the disk; run it thrice."""

import asyncio
import hashlib
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from nixmill.core.evaluation import Attribute
from nixmill.core.history import AttemptRow, AttributeRow, EvaluationRow, RunRow
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change, Work
from nixmill.edge.database.history import SqlHistory, open_history
from nixmill.edge.log_files import LogFiles
from nixmill.nix.store_path import StorePath

ATTRIBUTES = 10_000
EARLIER_RUNS = 10
LOGS = 2_000
ROUNDS = 5


def store_path(number: int, name: str) -> StorePath:
    """Return a path that looks real and compresses as badly as one."""
    digest = hashlib.sha256(f"{number}{name}".encode()).hexdigest()[:32]
    return StorePath(f"/nix/store/{digest.translate(str.maketrans('eotu', 'wxyz'))}-{name}")


def attribute(number: int) -> Attribute:
    """Return an attribute as an evaluator gives it."""
    name = f"package-{number}-1.{number % 17}"
    return Attribute(
        path=("checks", "x86_64-linux", f"package-{number}"),
        name=name,
        system="x86_64-linux",
        drv_path=store_path(number, f"{name}.drv"),
        outputs={"out": store_path(number, name), "doc": store_path(number, f"{name}-doc")},
        description="A package among many",
        maintainers=("somebody",),
    )


def attempt(number: int, run: int, of: Attribute) -> AttemptRow:
    """Return an ended build."""
    return AttemptRow(
        number=number,
        run=run,
        drv_path=of.drv_path,
        name=of.name.rpartition("-")[0],
        system=of.system,
        work=Work.BUILD,
        machine="local",
        started_at=1.0,
        seconds=2.0,
        outcome=Outcome.SUCCEEDED,
        log=f"/var/log/{number}",
    )


def outcome(run: int, of: Attribute) -> AttributeRow:
    """Return the outcome of an attribute."""
    return AttributeRow(
        run=run,
        evaluation="key",
        path=of.path,
        drv_path=of.drv_path,
        outcome=Outcome.SUCCEEDED,
        change=Change.SAME,
        how="built",
        seconds=2.0,
    )


async def measured(what: str, work: Callable[[], Awaitable[object]], per: int = 1) -> None:
    """Print the best and the median time of a few rounds, in milliseconds for each of `per`."""
    seconds = []
    for _ in range(ROUNDS):
        before = time.perf_counter()
        await work()
        seconds.append((time.perf_counter() - before) / per)
    print(f"{what:55} best {min(seconds) * 1e3:9.3f} ms   median {statistics.median(seconds) * 1e3:9.3f} ms")


async def start(history: SqlHistory) -> int:
    """Begin a run."""
    row = RunRow(project="p", checkout="/p", commit="c", tree_hash="t", targets=("",), process=1, started_at=0.0)
    return await history.start_run(row)


async def history_figures(history: SqlHistory) -> None:
    """Measure a run of many attributes."""
    run = await start(history)
    attributes = tuple(attribute(number) for number in range(ATTRIBUTES))
    drv_paths = [each.drv_path for each in attributes]
    names = sorted({each.name.rpartition("-")[0] for each in attributes})
    evaluation = EvaluationRow(
        key="key", run=run, tree_hash="t", commit="c", seconds=1.0, attributes=attributes, errors=()
    )
    outcomes = [outcome(run, each) for each in attributes]
    attempts = [attempt(number, run, each) for number, each in enumerate(attributes, 1)]
    count = f"{ATTRIBUTES:,}"
    await measured(f"record an evaluation of {count} attributes", lambda: history.record([evaluation]))
    await measured(f"record {count} outcomes in one call", lambda: history.record(outcomes))
    await measured(f"record {count} attempts in one call", lambda: history.record(attempts))
    await measured("read that evaluation with its outcomes", lambda: history.evaluation("key"))
    await measured(f"past builds of {count} derivations", lambda: history.past_builds(drv_paths, ()))
    await measured(f"medians of {count} names", lambda: history.past_builds((), names))
    await measured("record one attempt", lambda: history.record(attempts[:1]))

    async def together() -> None:
        async with asyncio.TaskGroup() as group:
            for each in attempts[:1000]:
                group.create_task(history.record([each]))

    await measured("record one of 1,000 attempts at a time, each", together, per=1000)


@asynccontextmanager
async def a_history() -> AsyncIterator[SqlHistory]:
    """Open a new history in the temporary directory."""
    with tempfile.TemporaryDirectory() as directory:
        async with open_history(Path(directory) / "history.sqlite") as history:
            yield history


async def opening() -> None:
    """Measure making and opening."""
    with tempfile.TemporaryDirectory() as directory:

        async def once() -> None:
            async with open_history(Path(directory) / "history.sqlite"):
                pass

        before = time.perf_counter()
        await once()
        print(f"{'make a history':55} {(time.perf_counter() - before) * 1e3:14.3f} ms")
        await measured("open a history", once)


async def log_figures() -> None:
    """Measure many short logs, and a long one."""
    with tempfile.TemporaryDirectory() as directory:
        logs = LogFiles(Path(directory))
        numbers = itertools.count(1)

        async def short() -> None:
            for _ in range(LOGS):
                await write(logs, next(numbers), 10)

        await measured(f"one of {LOGS:,} logs of 10 lines, one after the other", short, per=LOGS)
        long = next(numbers)
        await measured("a log of 100,000 lines", lambda: write(logs, next(numbers), 100_000))
        await write(logs, long, 1_000_000)
        length = sum([len(part) async for part in logs.read(long)])
        await measured(f"read all of a log of {length / 1e6:.0f} MB", lambda: read(logs, long, 0))
        await measured("read its last 4 kB", lambda: read(logs, long, length - 4096))
        await logs.close()


async def write(logs: LogFiles, attempt: int, lines: int) -> None:
    """Write a log from its first line to its end."""
    sink = logs.open(attempt)
    for number in range(lines):
        sink.write(f"[{number}] compiling something of a middling length, {number * 7919 % 1009} warnings")
    await sink.close()


async def read(logs: LogFiles, attempt: int, offset: int) -> None:
    """Read a log to its end."""
    async for _ in logs.read(attempt, offset):
        pass


async def grown(history: SqlHistory) -> None:
    """Measure the questions of a new run to a history of many runs."""
    attributes = [attribute(number) for number in range(ATTRIBUTES)]
    for each in range(2, EARLIER_RUNS + 2):
        run = await start(history)
        first = each * ATTRIBUTES
        await history.record([attempt(first + number, run, of) for number, of in enumerate(attributes)])
        await history.record([outcome(run, of) for of in attributes])
    names = sorted({each.name.rpartition("-")[0] for each in attributes})
    drv_paths = [each.drv_path for each in attributes]
    suffix = f"after {EARLIER_RUNS} more such runs"
    await measured(f"past builds of derivations {suffix}", lambda: history.past_builds(drv_paths, ()))
    await measured(f"medians of names {suffix}", lambda: history.past_builds((), names))
    await measured(f"read the evaluation {suffix}", lambda: history.evaluation("key"))


async def main() -> None:
    """Print all figures."""
    await opening()
    async with a_history() as history:
        await history_figures(history)
        await grown(history)
    await log_figures()


if __name__ == "__main__":
    asyncio.run(main())
