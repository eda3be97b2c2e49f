"""The doors Store and Builder: one suite for the fake world and a real daemon in a scratch store."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pytest

from nixmill.doors import Builder, BuildLimits, Store
from nixmill.edge.daemon import DaemonBuilder, open_store
from nixmill.nix.build_result import BuildStatus, Detail
from nixmill.nix.store_path import StorePath
from tests.fakes.store import FakeBuilder, FakeStore, Script, make_path
from tests.support.nix_world import Recorder, Spec, instantiate, realise, run, settings_of
from tests.support.scratch_store import ScratchStore, scratch_store

NO_LIMITS = BuildLimits()


@dataclass(frozen=True)
class Behaviour:
    """What a builder does: print lines, wait, then fail or write its outputs."""

    lines: Sequence[str] = ()
    seconds: int = 0
    fails: bool = False
    output_bytes: int = 10


class World(Protocol):
    """What the suite needs of a world."""

    @property
    def store(self) -> Store: ...

    @property
    def builder(self) -> Builder: ...

    def derivation(
        self, name: str, behaviour: Behaviour, *, outputs: Sequence[str] = ("out",), system: str | None = None
    ) -> StorePath: ...

    def consumer(self, name: str, of: str) -> tuple[StorePath, StorePath]: ...

    def collect_garbage(self) -> None: ...

    def cached_path(self) -> StorePath: ...

    def absent_path(self) -> StorePath: ...


@dataclass
class FakeWorld:
    store: FakeStore = field(default_factory=FakeStore)
    builder: FakeBuilder = field(init=False)

    def __post_init__(self) -> None:
        self.builder = FakeBuilder(self.store)

    def derivation(
        self, name: str, behaviour: Behaviour, *, outputs: Sequence[str] = ("out",), system: str | None = None
    ) -> StorePath:
        drv_path = self.store.derivation(name, outputs=outputs, system=system or "x86_64-linux")
        script = Script(seconds=behaviour.seconds, lines=behaviour.lines, output_bytes=behaviour.output_bytes)
        if behaviour.fails:
            script.status, script.message = BuildStatus.PERMANENT_FAILURE, "builder failed with exit code 1"
        if system is not None:
            script.status, script.detail = BuildStatus.INPUT_REJECTED, Detail.WRONG_MACHINE
        self.builder.script(drv_path, script)
        return drv_path

    def consumer(self, name: str, of: str) -> tuple[StorePath, StorePath]:
        inner = self.store.derivation(of)
        return self.store.derivation(name, [inner]), inner

    def collect_garbage(self) -> None:
        self.store.collect_garbage()

    def cached_path(self) -> StorePath:
        path = make_path("cached")
        self.store.substitutable[path] = Script()
        return path

    def absent_path(self) -> StorePath:
        return make_path("absent")


class RealWorld:
    def __init__(self, scratch: ScratchStore, store: Store, builder: Builder, cached: StorePath) -> None:
        self.scratch = scratch
        self.store = store
        self.builder = builder
        self._cached = cached

    def derivation(
        self, name: str, behaviour: Behaviour, *, outputs: Sequence[str] = ("out",), system: str | None = None
    ) -> StorePath:
        attributes = {"outputs": list(outputs)} | ({"system": system} if system else {})
        return instantiate(self.scratch, Spec(name, _script(behaviour, outputs), attributes))[0]

    def consumer(self, name: str, of: str) -> tuple[StorePath, StorePath]:
        inner = Spec(of, "echo inner > $out")
        outer = Spec(name, "echo $inputs > $out", inputs=[inner])
        first, second = instantiate(self.scratch, outer, inner)
        return first, second

    def collect_garbage(self) -> None:
        run(self.scratch, "nix-store", "--gc")

    def cached_path(self) -> StorePath:
        return self._cached

    def absent_path(self) -> StorePath:
        return StorePath(f"{self.scratch.store_dir}/{'0' * 32}-absent")


def _script(behaviour: Behaviour, outputs: Sequence[str]) -> str:
    steps = [f"echo '{line}'" for line in behaviour.lines]
    if behaviour.seconds:
        steps.append(f"/bin/sleep {behaviour.seconds}")
    if behaviour.fails:
        steps.append("exit 1")
    steps += [f"/usr/bin/head -c {behaviour.output_bytes} /dev/zero > ${name}" for name in outputs]
    return "\n".join(steps)


@pytest.fixture(params=["fake", "real"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    with scratch_store() as scratch:
        async with _real_world(scratch) as made:
            yield made


@contextlib.asynccontextmanager
async def _real_world(scratch: ScratchStore) -> AsyncIterator[RealWorld]:
    cached = realise(scratch, instantiate(scratch, Spec("cached", "echo cached > $out"))[0])
    run(scratch, "nix", "copy", "--to", f"file://{scratch.root}/cache", cached)
    run(scratch, "nix-store", "--delete", cached)
    settings = settings_of(scratch, substituters=(f"file://{scratch.root}/cache?trusted=1",))
    async with open_store("auto", settings) as store:
        yield RealWorld(scratch, store, DaemonBuilder(store), cached)


async def test_a_path_that_is_absent_is_not_valid_and_has_no_info(world: World) -> None:
    absent = world.absent_path()

    assert await world.store.valid([absent]) == set()
    assert await world.store.path_infos([absent]) == {}
    assert await world.store.derivations([absent]) == {}


async def test_questions_about_nothing_have_empty_answers(world: World) -> None:
    assert await world.store.valid([]) == set()
    assert await world.store.hold([]) == set()
    assert await world.store.derivations([]) == {}
    assert await world.store.path_infos([]) == {}
    assert (await world.store.missing([])).build == frozenset()


async def test_what_is_held_survives_a_collection_and_what_is_not_does_not(world: World) -> None:
    kept = world.derivation("kept", Behaviour())
    dropped = world.derivation("dropped", Behaviour())
    assert await world.store.hold([kept, world.absent_path()]) == {kept}

    world.collect_garbage()

    assert await world.store.valid([kept, dropped]) == {kept}
    assert await world.store.hold([dropped]) == set()


async def test_infos_of_a_valid_path_tell_its_size(world: World) -> None:
    drv_path = world.derivation("info", Behaviour())

    info = (await world.store.path_infos([drv_path, world.absent_path()]))[drv_path]

    assert info.path == drv_path
    assert info.nar_size > 100
    assert info.nar_hash.startswith("sha256:")


async def test_derivations_tell_outputs_and_inputs(world: World) -> None:
    outer, inner = world.consumer("outer", of="inner")

    found = await world.store.derivations([outer, inner, world.absent_path()])

    assert found.keys() == {outer, inner}
    assert found[outer].input_drvs == {inner: ("out",)}
    assert found[inner].outputs["out"].path.endswith("-inner")


async def test_missing_names_what_would_be_built_and_what_would_be_fetched(world: World) -> None:
    outer, inner = world.consumer("outer", of="inner")
    assert (await world.store.missing([outer])).build == {outer, inner}

    await world.builder.build(inner, NO_LIMITS, Recorder())

    assert (await world.store.missing([outer])).build == {outer}


async def test_a_good_build_makes_all_outputs_valid_and_holds_them(world: World) -> None:
    drv_path = world.derivation("good", Behaviour(lines=["one", "two"]), outputs=("out", "doc"))
    await world.store.hold([drv_path])
    recorder = Recorder()

    result = await world.builder.build(drv_path, NO_LIMITS, recorder)
    world.collect_garbage()

    assert result.status is BuildStatus.BUILT
    assert result.outputs.keys() == {"out", "doc"}
    assert await world.store.valid(result.outputs.values()) == set(result.outputs.values())
    assert recorder.lines == ["one", "two"]
    assert recorder.starts == 1


async def test_a_build_of_what_is_there_starts_no_builder(world: World) -> None:
    drv_path = world.derivation("again", Behaviour(lines=["once"]))
    first = await world.builder.build(drv_path, NO_LIMITS, Recorder())
    recorder = Recorder()

    result = await world.builder.build(drv_path, NO_LIMITS, recorder)

    assert result.status is BuildStatus.ALREADY_VALID
    assert result.outputs == first.outputs
    assert recorder.starts == 0
    assert recorder.lines == []


async def test_a_failed_build_is_a_result_and_is_tried_anew_each_time(world: World) -> None:
    drv_path = world.derivation("bad", Behaviour(lines=["oh no"], fails=True))

    for _ in range(2):
        recorder = Recorder()
        result = await world.builder.build(drv_path, NO_LIMITS, recorder)

        assert result.status is BuildStatus.PERMANENT_FAILURE
        assert "exit code 1" in result.message
        assert recorder.lines == ["oh no"]
    outputs = (await world.store.derivations([drv_path]))[drv_path].outputs
    assert await world.store.valid([StorePath(outputs["out"].path)]) == set()


async def test_keeping_a_failed_build_tells_where(world: World) -> None:
    drv_path = world.derivation("keep", Behaviour(fails=True))
    recorder = Recorder()

    await world.builder.build(drv_path, BuildLimits(keep_failed=True), recorder)

    assert len(recorder.directories) == 1
    assert recorder.directories[0].startswith("/")


@pytest.mark.parametrize(
    ("limits", "detail"),
    [
        (BuildLimits(timeout_s=1), None),
        (BuildLimits(timeout_s=1, silence_s=8), None),
        (BuildLimits(silence_s=1), Detail.SILENCE),
        (BuildLimits(silence_s=1, timeout_s=8), Detail.SILENCE),
    ],
)
async def test_running_too_long_and_silence_are_told_apart(
    world: World, limits: BuildLimits, detail: Detail | None
) -> None:
    drv_path = world.derivation("slow", Behaviour(lines=["begin"], seconds=20))
    if isinstance(world.builder, FakeBuilder):
        world.builder.sleep = _no_wait

    result = await world.builder.build(drv_path, limits, Recorder())

    assert (result.status, result.detail) == (BuildStatus.TIMED_OUT, detail)


async def _no_wait(_: float) -> None:
    """Let no time pass."""


async def test_a_log_beyond_its_limit_ends_the_build(world: World) -> None:
    drv_path = world.derivation("chatty", Behaviour(lines=["x" * 100] * 20))

    result = await world.builder.build(drv_path, BuildLimits(log_bytes=500), Recorder())

    assert result.status is BuildStatus.LOG_LIMIT_EXCEEDED


async def test_outputs_beyond_their_limit_are_rejected(world: World) -> None:
    drv_path = world.derivation("fat", Behaviour(output_bytes=5000))

    result = await world.builder.build(drv_path, BuildLimits(output_bytes=4000), Recorder())

    assert (result.status, result.detail) == (BuildStatus.OUTPUT_REJECTED, Detail.OUTPUT_SIZE)
    assert "4000" in result.message


async def test_a_derivation_for_another_system_is_refused_as_such(world: World) -> None:
    drv_path = world.derivation("alien", Behaviour(), system="riscv128-haiku")

    result = await world.builder.build(drv_path, NO_LIMITS, Recorder())

    assert result.detail is Detail.WRONG_MACHINE
    assert not result.good


async def test_a_cancelled_build_leaves_nothing_valid_and_can_be_built_again(world: World) -> None:
    drv_path = world.derivation("cancelled", Behaviour(lines=["here"], seconds=1))
    output = StorePath((await world.store.derivations([drv_path]))[drv_path].outputs["out"].path)
    recorder = Recorder()
    attempt = asyncio.create_task(world.builder.build(drv_path, NO_LIMITS, recorder))
    await recorder.until_lines(1)

    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt

    assert await world.store.valid([output]) == set()
    assert (await world.builder.build(drv_path, NO_LIMITS, Recorder())).status is BuildStatus.BUILT
    assert await world.store.valid([output]) == {output}


async def test_builds_run_side_by_side(world: World) -> None:
    drv_paths = [world.derivation(f"side-{n}", Behaviour(lines=["here"], seconds=1)) for n in range(4)]
    recorders = [Recorder() for _ in drv_paths]
    builds = [
        asyncio.create_task(world.builder.build(drv_path, NO_LIMITS, recorder))
        for drv_path, recorder in zip(drv_paths, recorders, strict=True)
    ]

    await asyncio.gather(*(recorder.until_lines(1) for recorder in recorders))

    assert not any(build.done() for build in builds)
    assert all(result.good for result in await asyncio.gather(*builds))


async def test_preparing_fetches_what_a_cache_has_and_names_what_nobody_has(world: World) -> None:
    cached, absent = world.cached_path(), world.absent_path()
    drv_path = world.derivation("consumer", Behaviour())

    assert await world.builder.prepare(drv_path, [drv_path, cached, absent]) == {absent}
    assert await world.store.valid([cached]) == {cached}


async def test_fetching_gives_one_result_each_and_holds_what_came(world: World) -> None:
    cached, absent = world.cached_path(), world.absent_path()

    results = await world.builder.fetch([cached, absent], Recorder())
    world.collect_garbage()

    assert results[cached].status is BuildStatus.SUBSTITUTED
    assert results[absent].status is BuildStatus.NO_SUBSTITUTERS
    assert await world.store.valid([cached, absent]) == {cached}


def test_nix_is_installed() -> None:
    """Half of this suite would be vacuous without it."""
    assert subprocess.run(["nix-store", "--version"], capture_output=True, check=False).returncode == 0
