"""Building again what a pull request built, with fakes: inputs first, once each, and what becomes of uploads."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from nixmill.core.publish import TRIES_MAX, CacheRule
from nixmill.core.trust import Tier
from nixmill.core.upload import Made, ResultClass, Upload, UploadState
from nixmill.doors import BuildLimits, BuildObserver, DoorError
from nixmill.engine.vouching import AT_ONCE, Vouching
from nixmill.nix.build_result import BuildResult, BuildStatus
from nixmill.nix.store_path import StorePath
from tests.fakes.destination import FakeDestination
from tests.fakes.store import FakeStore
from tests.fakes.uploads import FakeUploads
from tests.support.world import until
from tests.unit.test_publisher import LOG, StepClock

SAME = BuildResult(status=BuildStatus.BUILT)
DIFFERS = BuildResult(status=BuildStatus.NOT_DETERMINISTIC, message="may not be deterministic")
BROKEN = BuildResult(status=BuildStatus.PERMANENT_FAILURE, message="failed with exit code 1")
AWAY = DoorError("The daemon is away.", door="store", action="build", retryable=True)


class FakeRebuilder:
    """The door Rebuilder: the same comes out, unless a derivation has another answer."""

    def __init__(self) -> None:
        self.checked: list[StorePath] = []
        self.answers: dict[StorePath, BuildResult | Exception] = {}
        self.running = 0
        self.peak = 0

    async def check(self, drv_path: StorePath, limits: BuildLimits, observer: BuildObserver) -> BuildResult:
        assert limits.timeout_s
        observer.started()
        self.checked.append(drv_path)
        self.running += 1
        self.peak = max(self.peak, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        answer = self.answers.get(drv_path, SAME)
        if isinstance(answer, Exception):
            raise answer
        return answer


class World:
    """A store, one cache for branches, and what pull requests built."""

    def __init__(self) -> None:
        self.clock = StepClock()
        self.store = FakeStore()
        self.uploads = FakeUploads(self.clock.now)
        self.cache = FakeDestination()
        self.rebuilder = FakeRebuilder()
        self.woken = 0
        pulls = CacheRule(name="pulls", results=ResultClass.PULL_REQUEST)
        self.vouching = Vouching(
            self.store,
            self.rebuilder,
            {"branches": self.cache, "pulls": FakeDestination()},
            {"branches": CacheRule(name="branches"), "pulls": pulls},
            self.uploads,
            self.clock,
            LOG,
            vouched=self.wake,
        )

    def wake(self) -> None:
        self.woken += 1

    def built(self, name: str, *inputs: StorePath, tier: Tier = Tier.MEMBER, refers: bool = True) -> StorePath:
        """Return a derivation whose output was built under a tier; it refers to the outputs of its inputs."""
        drv_path = self.store.derivation(name, inputs)
        output = self.out(drv_path)
        self.store.add(output, references=[self.out(each) for each in inputs] if refers else [])
        made = Made(path=output, tier=tier, run=1, attempt=1, drv_path=drv_path)
        self.uploads.add(made)
        return drv_path

    def out(self, drv_path: StorePath) -> StorePath:
        return self.store.outputs(drv_path)["out"]

    def ask(self, drv_path: StorePath) -> StorePath:
        path = self.out(drv_path)
        self.uploads.add(Upload(cache="branches", path=path, project=1, run=5, state=UploadState.REBUILDING))
        return path

    def row(self, path: StorePath) -> Upload:
        return self.uploads.rows["branches", path]

    def tier(self, drv_path: StorePath) -> Tier:
        return self.uploads.makers[self.out(drv_path)].tier

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.vouching.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until_idle(self) -> None:
        async with self.running():
            await until(lambda: bool(self.clock.pauses))
        self.clock.pauses.clear()


@pytest.fixture
async def world() -> World:
    return World()


async def test_what_comes_out_the_same_is_vouched_for_and_goes_on(world: World) -> None:
    drv_path = world.built("x")
    path = world.ask(drv_path)
    await world.until_idle()
    assert world.rebuilder.checked == [drv_path]
    assert (world.row(path).state, world.row(path).fault, world.row(path).tries) == (UploadState.WAITING, "", 0)
    assert (world.tier(drv_path), world.uploads.makers[path].run) == (Tier.BRANCH, 5)
    assert (world.woken, world.vouching.rebuilt) == (1, 1)


async def test_inputs_of_a_pull_request_are_built_again_first_though_nothing_refers_to_them(world: World) -> None:
    compiler = world.built("compiler")
    trusted = world.built("trusted", tier=Tier.BRANCH)
    library = world.built("library", compiler, refers=False)
    app, tool = world.built("app", library, compiler, trusted), world.built("tool", library, refers=False)
    for drv_path in (app, tool):
        world.ask(drv_path)
    await world.until_idle()
    assert world.rebuilder.checked[:2] == [compiler, library]
    assert sorted(world.rebuilder.checked[2:]) == sorted([app, tool])
    assert {world.tier(each) for each in (compiler, library, app, tool)} == {Tier.BRANCH}


async def test_what_differs_is_refused_with_everything_that_rests_on_it(world: World) -> None:
    random = world.built("random")
    user = world.built("user", random, refers=False)
    other = world.built("other")
    world.rebuilder.answers[random] = DIFFERS
    refused, fine = world.ask(user), world.ask(other)
    await world.until_idle()
    assert world.row(refused).state is UploadState.REFUSED
    assert world.out(random) in world.row(refused).fault
    assert "not deterministic" in world.row(refused).fault
    assert user not in world.rebuilder.checked
    assert world.row(fine).state is UploadState.WAITING
    assert (world.vouching.refused, world.tier(random)) == (1, Tier.MEMBER)


@pytest.mark.parametrize("answer", [BROKEN, AWAY, ValueError("oh")])
async def test_other_failures_are_tried_again_and_then_given_up(world: World, answer: BuildResult | Exception) -> None:
    drv_path = world.built("x")
    path = world.ask(drv_path)
    world.rebuilder.answers[drv_path] = answer
    await world.until_idle()
    assert (world.row(path).state, world.row(path).tries) == (UploadState.REBUILDING, 1)
    assert world.row(path).due_at == 1060.0
    world.clock.free.set()
    async with world.running():
        await until(lambda: world.row(path).state is UploadState.FAILED)
    assert len(world.rebuilder.checked) == TRIES_MAX
    assert world.row(path).fault


async def test_a_path_that_refers_to_a_tainted_one_waits_for_it(world: World) -> None:
    tainted = world.built("tainted")
    top = world.built("top", tainted, tier=Tier.BRANCH)
    path = world.ask(top)
    await world.until_idle()
    assert world.rebuilder.checked == [tainted]
    assert world.row(path).state is UploadState.WAITING


async def test_where_nobody_knows_the_derivation_the_upload_is_refused(world: World) -> None:
    drv_path = world.built("x")
    user = world.built("user", drv_path, refers=False)
    path = world.out(drv_path)
    world.uploads.makers[path] = msgspec.structs.replace(world.uploads.makers[path], drv_path=None)
    asked = [world.ask(drv_path), world.ask(user)]
    await world.until_idle()
    assert {world.row(each).state for each in asked} == {UploadState.REFUSED}
    assert all("from which derivation" in world.row(each).fault for each in asked)
    assert world.rebuilder.checked == []


async def test_the_store_remembers_the_derivation_where_the_attempt_is_forgotten(world: World) -> None:
    drv_path = world.built("x")
    path = world.ask(drv_path)
    world.uploads.makers[path] = msgspec.structs.replace(world.uploads.makers[path], drv_path=None)
    world.store.contents[path] = msgspec.structs.replace(world.store.contents[path], deriver=drv_path)
    await world.until_idle()
    assert world.rebuilder.checked == [drv_path]


async def test_what_the_cache_holds_or_another_vouched_for_is_not_built_again(world: World) -> None:
    held, vouched = world.built("held"), world.built("vouched")
    world.cache.held.add(world.out(held))
    paths = [world.ask(held), world.ask(vouched)]
    world.uploads.add(Made(path=world.out(vouched), tier=Tier.PROTECTED, run=2, attempt=2))
    await world.until_idle()
    assert world.rebuilder.checked == []
    assert {world.row(path).state for path in paths} == {UploadState.WAITING}


async def test_all_outputs_are_vouched_for_together_and_few_builds_run_at_once(world: World) -> None:
    drv_path = world.store.derivation("two", outputs=("out", "dev"))
    for path in world.store.outputs(drv_path).values():
        world.store.add(path)
        world.uploads.add(Made(path=path, tier=Tier.FORK, run=1, attempt=1, drv_path=drv_path))
        world.uploads.add(Upload(cache="branches", path=path, project=1, run=5, state=UploadState.REBUILDING))
    for number in range(9):
        world.ask(world.built(f"x{number}"))
    await world.until_idle()
    assert world.rebuilder.checked.count(drv_path) == 1
    assert world.rebuilder.peak == AT_ONCE
    assert {made.tier for made in world.uploads.makers.values()} == {Tier.BRANCH}


async def test_what_was_vouched_for_before_a_crash_is_not_built_again(world: World) -> None:
    first = world.built("first")
    second = world.built("second", first, refers=False)
    path = world.ask(second)
    world.rebuilder.answers[second] = AWAY
    await world.until_idle()
    del world.rebuilder.answers[second]
    world.uploads.rows["branches", path] = msgspec.structs.replace(world.row(path), due_at=0.0)
    await world.until_idle()
    assert world.rebuilder.checked == [first, second, second]
    assert world.row(path).state is UploadState.WAITING


async def test_it_is_woken_and_survives_a_database_that_is_away(world: World) -> None:
    world.uploads.failure = AWAY
    async with world.running():
        await until(lambda: bool(world.clock.pauses))
        world.uploads.failure = None
        path = world.ask(world.built("x"))
        world.vouching.wake()
        await until(lambda: world.row(path).state is UploadState.WAITING)
