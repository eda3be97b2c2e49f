"""One bad attribute is one error record, whatever goes wrong in it; all others are as if it were not there."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from nixmill.core.evaluation import EvalError, EvalFault, EvaluationLimits, EvaluationSettings, Target
from nixmill.edge.evaluator import OwnEvaluator
from nixmill.nix.attr_path import AttrPath
from tests.support.eval_project import JOB, Project, bad, collect, ended, good, project, request
from tests.support.processes import cpu_seconds, evaluating
from tests.support.scratch_store import ScratchStore

FAULTS = {
    "throws": ('throw "one\\ntwo"', EvalFault.THROW, "one\ntwo"),
    "aborts": ('abort "enough"', EvalFault.ABORT, "enough"),
    "asserts": ("assert false; 1", EvalFault.ASSERTION, "assertion 'false' failed"),
    "compares": ("assert 1 == 2; 1", EvalFault.ASSERTION, "1"),
    "recurses": ("let a = b; b = a; in a", EvalFault.INFINITE_RECURSION, "infinite recursion encountered"),
    "imports": ("import ./missing.nix", EvalFault.MISSING_FILE, "missing.nix"),
    "adds": ('1 + "a"', EvalFault.TYPE_ERROR, "cannot add"),
    "selects": ("{ }.nothing", EvalFault.MISSING_ATTRIBUTE, "attribute 'nothing' missing"),
    "builds": (
        'import (derivation { name = "i"; system = "x86_64-linux"; builder = "/bin/sh"; })',
        EvalFault.IMPORT_FROM_DERIVATION,
        "cannot build",
    ),
    "overflows": ("let f = n: 1 + f (n + 1); in f 0", EvalFault.STACK_OVERFLOW, "stack overflow"),
}


def faulty(path: Path) -> Project:
    jobs = "".join(
        f'  {name} = job "{name}" // {{ drvPath = toString ({text}); }};\n' for name, (text, *_) in FAULTS.items()
    )
    around = "".join(f'  {letter}{n} = job "{letter}{n}";\n' for letter in "aemz" for n in range(12))
    jobs_nix = f'let {JOB} in {{\n{jobs}{around}  closed = throw "shut"; }}'
    flake = "{ outputs = _: { checks.x86_64-linux = import ./jobs.nix; }; }"
    return project(path, {"jobs.nix": jobs_nix, "flake.nix": flake})


@pytest.mark.parametrize("mode", ["file", "flake"])
@pytest.mark.parametrize("workers", [1, 3])
async def test_each_fault_is_one_error_in_nix_own_words(
    store: ScratchStore, tmp_path: Path, mode: str, workers: int
) -> None:
    made = faulty(tmp_path)
    target: Target = made.file("jobs.nix") if mode == "file" else made.flake("checks")
    prefix = () if mode == "file" else ("checks", "x86_64-linux")

    records = await collect(
        OwnEvaluator(store.environment), request(target, limits=EvaluationLimits(workers=workers, time_s=100))
    )

    errors = bad(records)
    assert errors.keys() == {(*prefix, name) for name in (*FAULTS, "closed")}
    for name, (_, fault, words) in FAULTS.items():
        error = errors[*prefix, name]
        assert (error.fault, words in error.message) == (fault, True), error
        assert "\x1b" not in error.message
        assert not error.message.startswith("error")
    assert good(records).keys() == {(*prefix, f"{letter}{n}") for letter in "aemz" for n in range(12)}
    ended(records)


@pytest.mark.parametrize("address", ["file:///nowhere", "http://127.0.0.1:1/nowhere"], ids=["file", "http"])
async def test_what_cannot_be_fetched_was_not_thrown_by_the_project(
    store: ScratchStore, tmp_path: Path, address: str
) -> None:
    fetched = f'builtins.fetchGit {{ url = "{address}"; rev = "{"a" * 40}"; }}'
    text = f'{{ outputs = _: let {JOB} in {{ checks.x86_64-linux.a = job (import ({fetched} + "/x.nix")); }}; }}'
    made = project(tmp_path, {"flake.nix": text})
    [error] = bad(await collect(OwnEvaluator(store.environment), request(made.flake("checks")))).values()
    assert error.fault is EvalFault.OTHER, error


@pytest.mark.parametrize("mode", ["file", "flake"])
async def test_positions_are_relative_to_the_tree(store: ScratchStore, tmp_path: Path, mode: str) -> None:
    made = faulty(tmp_path)
    target: Target = made.file("jobs.nix") if mode == "file" else made.flake("checks")

    evaluator = OwnEvaluator(store.environment)

    short = bad(await collect(evaluator, request(target)))
    long = bad(await collect(evaluator, request(target, settings=EvaluationSettings(show_trace=True))))

    line = {name: str(2 + i) for i, name in enumerate(FAULTS)}
    for name in ("asserts", "recurses", "adds", "selects"):
        assert at(short, name) == ["jobs.nix", line[name]]
    for name in ("throws", "aborts", "asserts", "recurses", "imports", "adds", "selects"):
        assert at(long, name) == ["jobs.nix", line[name]]


def at(errors: dict[AttrPath, EvalError], name: str) -> list[str]:
    """Return file and line of the error of the attribute that is called `name`."""
    [position] = [error.position for path, error in errors.items() if path[-1] == name]
    return position.split(":")[:2]


async def test_an_attribute_that_needs_too_much_memory_names_its_peak(store: ScratchStore, tmp_path: Path) -> None:
    hog = "let big = builtins.genList (x: x * 2) 100000000; in toString (builtins.foldl' (a: b: a + b) 0 big)"
    made = project(
        tmp_path,
        {"default.nix": f'let {JOB} in {{ a = job "a"; hog = job "hog" // {{ drvPath = {hog}; }}; z = job "z"; }}'},
    )
    limit = 700 * 1024**2

    records = await collect(
        OwnEvaluator(store.environment), request(made.file(), limits=EvaluationLimits(workers=1, memory_bytes=limit))
    )

    assert good(records).keys() == {("a",), ("z",)}
    [error] = bad(records).values()
    assert (error.path, error.fault) == (("hog",), EvalFault.OUT_OF_MEMORY)
    assert error.peak_bytes is not None
    assert error.peak_bytes > limit
    assert "700 MiB" in error.message
    assert ended(records).peak_bytes >= error.peak_bytes


SLOW = """
let
  l = builtins.genList (x: x) 100000;
  sum = builtins.foldl' (a: i: builtins.foldl' (b: j: b + j) a l) 0 l;
in toString sum
"""


@pytest.mark.parametrize("mode", ["file", "flake"])
async def test_an_attribute_that_takes_too_long_is_stopped_and_the_rest_goes_on(
    store: ScratchStore, tmp_path: Path, mode: str
) -> None:
    jobs = f'let {JOB} in {{ a = job "a"; slow = job "slow" // {{ drvPath = {SLOW}; }}; z = job "z"; }}'
    flake = "{ outputs = _: { hydraJobs = import ./default.nix; }; }"
    made = project(tmp_path, {"default.nix": jobs, "flake.nix": flake})
    target: Target = made.file() if mode == "file" else made.flake("hydraJobs")

    records = await collect(
        OwnEvaluator(store.environment), request(target, limits=EvaluationLimits(workers=1, attribute_time_s=1))
    )

    assert {path[-1] for path in good(records)} == {"a", "z"}
    [error] = bad(records).values()
    assert (error.path[-1], error.fault) == ("slow", EvalFault.TIMEOUT)


@pytest.mark.parametrize("mode", ["file", "flake"])
async def test_what_waits_behind_a_slow_attribute_is_walked_by_others(
    store: ScratchStore, tmp_path: Path, mode: str
) -> None:
    slow = "".join(f'  a{n} = job "a{n}" // {{ drvPath = {SLOW}; }};\n' for n in range(3))
    quick = "".join(f'  z{n} = job "z{n}";\n' for n in range(40))
    flake = "{ outputs = _: { hydraJobs = import ./default.nix; }; }"
    made = project(tmp_path, {"default.nix": f"let {JOB} in {{ {slow} {quick} }}", "flake.nix": flake})
    target: Target = made.file() if mode == "file" else made.flake("hydraJobs")
    limits = EvaluationLimits(workers=4, time_s=100, attribute_time_s=6)

    records = await collect(OwnEvaluator(store.environment), request(target, limits=limits))

    assert len(good(records)) == 40
    assert {error.fault for error in bad(records).values()} == {EvalFault.TIMEOUT}
    assert len(bad(records)) == 3
    assert ended(records).seconds < 15


@pytest.mark.parametrize("mode", ["file", "flake"])
async def test_a_worker_that_comes_to_what_others_walk_leaves_it_to_them(
    store: ScratchStore, tmp_path: Path, mode: str
) -> None:
    second = SLOW.replace("100000", "5000")
    slow = f'  a = job "a${{{second}}}";\n  b = job "b";  z = job "z${{{second}}}";'
    quick = "".join(f'  m{n:02} = job "m{n:02}";\n' for n in range(40))
    flake = "{ outputs = _: { hydraJobs = import ./default.nix; }; }"
    made = project(tmp_path, {"default.nix": f"let {JOB} in {{ {slow} {quick} }}", "flake.nix": flake})
    target: Target = made.file() if mode == "file" else made.flake("hydraJobs")

    records = await collect(OwnEvaluator(store.environment), request(target, limits=EvaluationLimits(workers=3)))

    assert len(good(records)) == 43
    assert not bad(records)


@pytest.mark.parametrize("mode", ["file", "flake"])
async def test_a_worker_killed_from_outside_is_replaced_and_the_attribute_tried_again_alone(
    fresh_store: ScratchStore, tmp_path: Path, mode: str
) -> None:
    jobs = f'let {JOB} in {{ a = job "a"; slow = job "slow" // {{ drvPath = {SLOW}; }}; z = job "z"; }}'
    flake = "{ outputs = _: { hydraJobs = import ./default.nix; }; }"
    made = project(tmp_path, {"default.nix": jobs, "flake.nix": flake})
    target: Target = made.file() if mode == "file" else made.flake("hydraJobs")
    limits = EvaluationLimits(workers=1, time_s=100)
    killed: list[int] = []
    evaluator = OwnEvaluator(fresh_store.environment)

    async def kill_twice() -> None:
        while len(killed) < 2:
            for pid in evaluating(fresh_store):
                if pid not in killed and cpu_seconds(pid) > 0.5:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(kill_twice())
        records = await collect(evaluator, request(target, limits=limits))

    assert {path[-1] for path in good(records)} == {"a", "z"}
    [error] = bad(records).values()
    assert (error.path[-1], error.fault) == ("slow", EvalFault.KILLED)
    assert error.peak_bytes
