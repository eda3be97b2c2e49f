"""What every `Evaluator` promises: the fake, our own and (where it is installed) nix-eval-jobs behave alike."""

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from nixmill.core.evaluation import (
    Attribute,
    EvalError,
    EvalFault,
    EvaluationFailedError,
    EvaluationSettings,
    Target,
)
from nixmill.doors import Evaluator
from nixmill.edge.evaluator import NixEvalJobsEvaluator, OwnEvaluator
from nixmill.nix.attr_path import AttrPath, show_name
from nixmill.nix.store_path import StorePath
from tests.fakes.evaluator import FakeEvaluator
from tests.support.eval_project import Project, bad, collect, ended, good, project, request
from tests.support.processes import evaluating
from tests.support.scratch_store import ScratchStore

SYSTEMS = ("x86_64-linux", "aarch64-linux")
ODD = 'a."b/c'
JOBS = ["plain", "two words", ODD, "é", "0"]


def text() -> str:
    jobs = "".join(f"{show_name(name)} = job system;" for name in JOBS)
    return f"""
      let
        raw = system: derivation {{ name = "job-1"; inherit system; builder = "/bin/sh"; outputs = [ "out" "dev" ]; }};
        meta = {{ description = "d"; maintainers = [ {{ email = "m@x"; }} ]; timeout = 7; maxSilent = 5; }};
        job = system: raw system // {{ inherit meta; }};
        on = system: {{ {jobs} bad = throw "broken"; shut = {{ x = job system; }}; number = 1;
                        inner = {{ recurseForDerivations = true; x = job system; }}; }};
      in {{ x86_64-linux = on "x86_64-linux"; aarch64-linux = on "aarch64-linux"; }}
    """


def expected(system: str) -> list[Attribute | EvalError]:
    paths: list[AttrPath] = [*((name,) for name in JOBS), ("inner", "x")]
    store = "/nix/store/4d93wjbyzwziijjac7izcwkakp5rsk00-job-1"
    jobs = [
        Attribute(
            path=("checks", system, *path),
            name="job-1",
            system=system,
            drv_path=StorePath(f"{store}.drv"),
            outputs={"out": StorePath(store), "dev": StorePath(f"{store}-dev")},
            description="d",
            maintainers=("m@x",),
            timeout_s=7,
            max_silent_s=5,
        )
        for path in paths
    ]
    return [*jobs, EvalError(path=("checks", system, "bad"), fault=EvalFault.THROW, message="broken")]


class World:
    """An evaluator and the project it is asked about."""

    def __init__(self, evaluator: Evaluator, made: Project, running: Callable[[], int]) -> None:
        self.evaluator = evaluator
        self.running = running
        self._project = made

    def target(self, *attr: str) -> Target:
        return self._project.flake(*attr)


def fake_script() -> dict[AttrPath, list[Attribute | EvalError]]:
    both: dict[AttrPath, list[Attribute | EvalError]] = {("checks", system): expected(system) for system in SYSTEMS}
    return {("checks",): [record for records in both.values() for record in records], **both}


@pytest.fixture(params=["fake", "own", "nix-eval-jobs"])
def world(request: pytest.FixtureRequest, fresh_store: ScratchStore, tmp_path: Path) -> World:
    made = project(tmp_path, {"flake.nix": f"{{ outputs = _: {{ checks = {text()}; }}; }}"})
    environment = fresh_store.environment
    if request.param == "fake":
        fake = FakeEvaluator(fake_script())
        return World(fake, made, lambda: fake.open)
    if request.param == "own":
        return World(OwnEvaluator(environment), made, lambda: len(evaluating(fresh_store)))
    if shutil.which("nix-eval-jobs") is None:
        pytest.skip("nix-eval-jobs is not installed")
    return World(NixEvalJobsEvaluator(environment), made, lambda: len(evaluating(fresh_store)))


def bare(record: Attribute) -> Attribute:
    """Return the record without what depends on the store's directory."""
    drv = StorePath(record.drv_path.rsplit("-", 2)[1])
    return msgspec.structs.replace(record, drv_path=drv, outputs=dict.fromkeys(record.outputs))


async def test_every_job_and_every_error_comes_once_and_the_end_is_last(world: World) -> None:
    records = await collect(world.evaluator, request(world.target("checks")))

    wanted = [record for system in SYSTEMS for record in expected(system)]
    assert {path: bare(record) for path, record in good(records).items()} == {
        record.path: bare(record) for record in wanted if isinstance(record, Attribute)
    }
    errors = {path: (error.fault, error.message) for path, error in bad(records).items()}
    assert errors == {("checks", system, "bad"): (EvalFault.THROW, "broken") for system in SYSTEMS}
    assert ended(records).evaluator == await world.evaluator.identity()


async def test_only_the_wanted_systems(world: World) -> None:
    settings = EvaluationSettings(systems=("aarch64-linux",))

    records = await collect(world.evaluator, request(world.target("checks"), settings=settings))

    assert {record.system for record in good(records).values()} == {"aarch64-linux"}


async def test_the_path_begins_with_the_attribute_of_the_target(world: World) -> None:
    records = await collect(world.evaluator, request(world.target("checks", "x86_64-linux")))

    assert good(records).keys() == {record.path for record in expected("x86_64-linux") if isinstance(record, Attribute)}


async def test_several_targets_in_one_evaluation(world: World) -> None:
    targets = [world.target("checks", system) for system in SYSTEMS]

    records = await collect(world.evaluator, request(*targets))

    assert len(good(records)) == 2 * (len(JOBS) + 1)
    ended(records)


async def test_an_unknown_attribute_fails_the_whole(world: World) -> None:
    with pytest.raises(EvaluationFailedError, match="no attribute chekcs"):
        await collect(world.evaluator, request(world.target("chekcs")))


async def test_closing_early_ends_everything(world: World) -> None:
    groups = world.evaluator.evaluate(request(world.target("checks")))
    async with contextlib.aclosing(groups):
        async for _ in groups:
            break

    assert world.running() == 0


async def test_one_evaluator_serves_several_evaluations_at_once(world: World) -> None:
    asked = [request(world.target("checks", system)) for system in SYSTEMS]

    found = await asyncio.gather(*(collect(world.evaluator, one) for one in asked))

    assert [len(good(records)) for records in found] == [len(JOBS) + 1] * 2


async def test_the_identity_stays(world: World) -> None:
    assert await world.evaluator.identity()
    assert await world.evaluator.identity() == await world.evaluator.identity()
