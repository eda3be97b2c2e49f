"""Records come early, wait for a slow consumer, keep their derivations alive; and nothing survives the end."""

import asyncio
import contextlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nixmill.core.evaluation import Attribute, EvaluationLimits, ExpressionTarget, Target
from nixmill.edge.evaluator import OwnEvaluator, source_text
from tests.support.eval_project import JOB, collect, ended, good, project, request
from tests.support.processes import evaluating
from tests.support.scratch_store import ScratchStore

ENDLESS = """
let
  l = builtins.genList (x: x) 1000000;
  sum = builtins.foldl' (a: i: builtins.foldl' (b: j: b + j) a l) 0 l;
in toString sum
"""
MANY = f"""
let
  {JOB}
  many = n: builtins.listToAttrs (builtins.genList one n);
  one = i: {{ name = "j${{toString i}}"; value = job "j${{toString i}}"; }};
in many
"""
LIMITS = EvaluationLimits(workers=2, time_s=100)

Make = Callable[[str, Path], Target]


def as_expression(text: str, path: Path) -> Target:
    path.mkdir(exist_ok=True)
    return ExpressionTarget(text=text, tree_path=str(path))


def as_flake(text: str, path: Path) -> Target:
    return project(path, {"flake.nix": f"{{ outputs = _: {{ checks.x86_64-linux = {text}; }}; }}"}).flake("checks")


def collect_garbage(store: ScratchStore) -> None:
    subprocess.run(["nix-store", "--gc", "--quiet"], env=store.environment, check=True, capture_output=True)


both = pytest.mark.parametrize("make", [as_expression, as_flake])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.01)


@both
async def test_records_come_while_others_are_still_evaluated(store: ScratchStore, tmp_path: Path, make: Make) -> None:
    endless = "".join(f"  z{n} = job ({ENDLESS});\n" for n in range(2))
    target = make(f'let {JOB} in {{ a = job "a"; {endless} }}', tmp_path)
    groups = OwnEvaluator(store.environment).evaluate(request(target, limits=LIMITS))

    async with contextlib.aclosing(groups), asyncio.timeout(20):
        async for records in groups:
            if any(isinstance(record, Attribute) and record.name == "a" for record in records):
                break
        assert evaluating(store)


@both
async def test_closing_ends_all_processes(fresh_store: ScratchStore, tmp_path: Path, make: Make) -> None:
    endless = "".join(f"  z{n} = job ({ENDLESS});\n" for n in range(9))
    target = make(f'let {JOB} in {{ a = job "a"; {endless} }}', tmp_path)
    groups = OwnEvaluator(fresh_store.environment).evaluate(request(target, limits=LIMITS))

    async with contextlib.aclosing(groups):
        async for _ in groups:
            break
        await until(lambda: len(evaluating(fresh_store)) == 2)

    assert not evaluating(fresh_store)


@both
async def test_cancelling_ends_all_processes_and_leaves_no_files(
    fresh_store: ScratchStore, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(private))
    target = make(f"{{ z = {ENDLESS}; }}", tmp_path / "tree")
    evaluator = OwnEvaluator(fresh_store.environment)
    task = asyncio.create_task(collect(evaluator, request(target, limits=LIMITS)))
    await until(lambda: bool(evaluating(fresh_store)) or task.done())
    assert not task.done(), task.exception()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not evaluating(fresh_store)
    assert not list(private.iterdir())


@both
async def test_derivations_outlive_a_collection_until_more_is_asked_for(
    fresh_store: ScratchStore, tmp_path: Path, make: Make
) -> None:
    target = make(f"({MANY}) 400", tmp_path)
    groups = OwnEvaluator(fresh_store.environment).evaluate(request(target, limits=LIMITS))
    collections = 0
    seen: list[Path] = []

    async with contextlib.aclosing(groups):
        async for records in groups:
            found = [Path(record.drv_path) for record in records if isinstance(record, Attribute)]
            if found and collections < 3:
                await asyncio.to_thread(collect_garbage, fresh_store)
                collections += 1
            assert all(path.exists() for path in found)
            seen += found

    assert len(seen) == 400
    collect_garbage(fresh_store)
    assert not any(path.exists() for path in seen)


def derivations_in(store: ScratchStore) -> int:
    return sum(1 for _ in Path(store.store_dir).glob("*.drv"))


@both
async def test_a_consumer_that_stops_makes_the_workers_wait(
    fresh_store: ScratchStore, tmp_path: Path, make: Make
) -> None:
    target = make(f"({MANY}) 3000", tmp_path)
    evaluator = OwnEvaluator(fresh_store.environment)
    groups = evaluator.evaluate(request(target, limits=LIMITS))

    async with contextlib.aclosing(groups):
        first = await anext(groups)
        while not any(isinstance(record, Attribute) for record in first):
            first = await anext(groups)
        before = -1
        while (made := derivations_in(fresh_store)) != before:
            before = made
            await asyncio.sleep(0.5)
        assert made < 2500
        rest = [record async for records in groups for record in records]

    assert len(good([*first, *rest])) == 3000
    ended(rest)


async def test_a_process_that_has_done_its_share_of_commands_is_replaced(
    store: ScratchStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = source_text._packaged

    def few(name: str) -> str:
        return packaged(name).replace("10000", "2")

    monkeypatch.setattr(source_text, "_packaged", few)

    records = await collect(OwnEvaluator(store.environment), request(as_flake(f"({MANY}) 200", tmp_path)))

    assert len(good(records)) == 200


async def test_several_evaluations_go_on_at_once(store: ScratchStore, tmp_path: Path) -> None:
    evaluator = OwnEvaluator(store.environment)
    requests = [request(as_flake(f"({MANY}) {n}", tmp_path / str(n))) for n in (10, 20, 30)]

    found = await asyncio.gather(*(collect(evaluator, asked) for asked in requests))

    assert [len(good(records)) for records in found] == [10, 20, 30]


async def test_the_end_tells_what_it_took(store: ScratchStore, tmp_path: Path) -> None:
    end = ended(await collect(OwnEvaluator(store.environment), request(as_expression(f"({MANY}) 100", tmp_path))))

    assert end.first_record_s is not None
    assert 0 < end.first_record_s <= end.seconds
    assert end.peak_bytes > 1024**2
    assert 1 <= end.workers <= 2
    assert end.evaluator.startswith("nix repl 2.")
