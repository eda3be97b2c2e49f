"""Publishing with fakes: what enters in which order, what a fault means, and being killed at every door."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
import structlog

from nixmill.core.publish import TRIES_MAX, CacheRule
from nixmill.core.trust import Tier
from nixmill.core.upload import Made, ResultClass, Upload, UploadState
from nixmill.doors import DoorError
from nixmill.engine.publisher import BATCH, PUSH, Publisher
from nixmill.nix.store_path import StorePath
from tests.fakes.destination import FakeDestination, NoContents
from tests.fakes.store import FakeStore, make_path
from tests.fakes.uploads import FakeUploads
from tests.support.mortal import KilledError, Life, Mortal
from tests.support.world import until

AWAY = DoorError("The cache is away.", door="cache", action="push", retryable=True)


def _dropped(*_: object) -> str:
    raise structlog.DropEvent


LOG = structlog.wrap_logger(None, processors=[_dropped])
"""Says nothing: showing many tracebacks takes seconds."""


class StepClock:
    """Time goes on when somebody sleeps and nobody has anything else to do."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.pauses: list[float] = []
        self.free = asyncio.Event()

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.free.wait()
        await asyncio.sleep(0)
        self.time += seconds


class World:
    """A store with a chain of paths, two caches, and a queue."""

    def __init__(self) -> None:
        self.clock = StepClock()
        self.store = FakeStore()
        self.uploads = FakeUploads(self.clock.now)
        self.caches = {"branches": FakeDestination(), "pulls": FakeDestination()}
        self.rules = {
            "branches": CacheRule(name="branches", upstream=("up-1",)),
            "pulls": CacheRule(name="pulls", results=ResultClass.PULL_REQUEST),
        }
        self.rebuilds = 0
        self.publisher = self.make()

    def make(self, life: Life | None = None) -> Publisher:
        life = life or Life()
        mortal: Callable[[object], Mortal] = lambda door: Mortal(door, life)  # noqa: E731 - short
        return Publisher(
            mortal(self.store),
            NoContents(),
            {name: mortal(cache) for name, cache in self.caches.items()},
            self.rules,
            mortal(self.uploads),
            self.clock,
            LOG,
            to_rebuild=self.count,
        )

    def count(self) -> None:
        self.rebuilds += 1

    @property
    def branches(self) -> FakeDestination:
        return self.caches["branches"]

    def path(self, name: str, *references: StorePath) -> StorePath:
        return self.store.add(make_path(name), references=references)

    def ask(self, path: StorePath, cache: str = "branches") -> None:
        self.uploads.add(Upload(cache=cache, path=path, project=1, run=1, at=self.clock.time))

    def state(self, path: StorePath, cache: str = "branches") -> UploadState:
        return self.uploads.rows[cache, path].state

    def fault(self, path: StorePath, cache: str = "branches") -> str:
        return self.uploads.rows[cache, path].fault

    @contextlib.asynccontextmanager
    async def running(self, publisher: Publisher | None = None) -> AsyncIterator[None]:
        task = asyncio.create_task((publisher or self.publisher).run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, KilledError):
                await task

    async def until_idle(self, cache: str = "branches") -> None:
        """Run until nothing is due."""
        async with self.running():
            await until(lambda: len(self.clock.pauses) >= len(self.caches))


@pytest.fixture
async def world() -> World:
    return World()


async def test_a_closure_enters_references_first_and_only_what_is_lacking(world: World) -> None:
    held = world.path("held", world.path("below the held"))
    leaf = world.path("leaf", held)
    self_referring = make_path("middle")
    middle = world.store.add(self_referring, references=(leaf, self_referring))
    top, other = world.path("top", middle, held), world.path("other", middle)
    world.branches.held.add(held)
    world.ask(top)
    world.ask(other)
    await world.until_idle()
    assert world.branches.order[:2] == [leaf, middle]
    assert set(world.branches.order[2:]) == {top, other}
    assert world.uploads.states() == [UploadState.DONE] * 2
    assert world.uploads.rows["branches", top].done_at == 1000.0
    assert not any(make_path("below the held") in asked for asked in world.branches.asked)
    shown = world.publisher.progress()["branches"]
    assert (shown.published, shown.sent_bytes, shown.uploading, shown.fault) == (4, 400, 0, "")
    assert (await world.publisher.numbers())["branches"].counts == {"done": 2}


async def test_what_upstream_signed_is_not_published_nor_what_is_below(world: World) -> None:
    below = world.path("below")
    upstream = world.path("glibc", below)
    info = world.store.contents[upstream]
    world.store.contents[upstream] = type(info)(
        path=upstream, deriver=None, nar_hash=info.nar_hash, nar_size=1, references=(below,), signatures=("up-1:x",)
    )
    world.branches.elsewhere = frozenset({upstream})
    top = world.path("top", upstream)
    world.ask(top)
    world.ask(upstream)
    await world.until_idle()
    assert world.branches.order == [top]
    assert world.state(upstream) is UploadState.DONE


async def test_what_a_pull_request_built_waits_to_be_built_again_and_holds_up_nothing_else(world: World) -> None:
    tainted = world.path("tainted")
    top, clean = world.path("top", tainted, world.path("own")), world.path("clean")
    world.uploads.add(Made(path=tainted, tier=Tier.MEMBER, run=1, attempt=1))
    for cache in world.caches:
        world.ask(top, cache)
    world.ask(clean)
    await world.until_idle()
    assert set(world.branches.order) == {clean, make_path("own")}
    assert world.state(top) is UploadState.REBUILDING
    assert "built again" in world.fault(top)
    assert world.state(top, "pulls") is UploadState.DONE
    assert world.rebuilds == 1
    await world.uploads.vouch([Made(path=tainted, tier=Tier.BRANCH, run=2, attempt=1)])
    world.uploads.rows["branches", top] = Upload(cache="branches", path=top, project=1, run=1)
    world.clock.pauses.clear()
    await world.until_idle()
    assert world.branches.order[-2:] == [tainted, top]


async def test_a_content_addressed_path_needs_no_trust(world: World) -> None:
    path = world.path("fixed")
    info = world.store.contents[path]
    world.store.contents[path] = type(info)(
        path=path, deriver=None, nar_hash=info.nar_hash, nar_size=1, references=(), content_address="fixed:r:sha256:0"
    )
    world.uploads.add(Made(path=path, tier=Tier.FORK, run=1, attempt=1))
    world.ask(path)
    await world.until_idle()
    assert world.branches.order == [path]


async def test_a_fault_delays_what_refers_to_it_and_nothing_else(world: World) -> None:
    bad = world.path("bad")
    top, good = world.path("top", world.path("between", bad)), world.path("good")
    world.branches.faults[bad] = "The disk is full."
    world.ask(top)
    world.ask(good)
    await world.until_idle()
    assert (world.state(top), world.fault(top)) == (UploadState.WAITING, "The disk is full.")
    assert world.uploads.rows["branches", top].due_at == 1060.0
    assert world.state(good) is UploadState.DONE
    assert world.publisher.progress()["branches"].fault == ""


async def test_a_path_is_given_up_after_many_tries_and_a_person_can_try_again(world: World) -> None:
    bad = world.path("bad")
    world.branches.faults[bad] = "It is cursed."
    world.ask(bad)
    world.clock.free.set()
    async with world.running():
        await until(lambda: world.state(bad) is UploadState.FAILED)
        assert len(world.branches.pushes) == TRIES_MAX
        assert world.clock.time - 1000.0 < 24 * 3600
        world.branches.faults.clear()
        assert await world.uploads.again("branches", None) == 1
        world.publisher.wake("branches")
        await until(lambda: world.state(bad) is UploadState.DONE)


async def test_a_path_that_vanished_is_waited_for_then_given_up(world: World) -> None:
    gone, there = make_path("gone"), make_path("only the cache has it")
    world.branches.held.add(there)
    world.ask(gone)
    world.ask(there)
    world.clock.free.set()
    async with world.running():
        await until(lambda: world.state(gone) is UploadState.FAILED)
    assert "no longer in the store" in world.fault(gone)
    assert world.state(there) is UploadState.DONE


async def test_a_cache_that_is_down_keeps_its_queue_and_holds_up_no_other(world: World) -> None:
    paths = [world.path(str(number)) for number in range(7)]
    world.branches.failure = AWAY
    for path in paths:
        world.ask(path)
        world.ask(path, "pulls")
    world.clock.free.set()
    async with world.running():
        await until(lambda: world.clock.time > 1000.0 + 3 * 24 * 3600)
        rows = [row for row in world.uploads.rows.values() if row.cache == "branches"]
        assert {(row.state, row.tries, row.fault) for row in rows} == {(UploadState.WAITING, 0, str(AWAY))}
        assert {world.state(path, "pulls") for path in paths} == {UploadState.DONE}
        assert world.publisher.progress()["branches"].fault == str(AWAY)
        assert 10 < len(world.branches.pushes) < 3 * 24 * 5
        world.branches.failure = None
        await until(lambda: set(world.uploads.states()) == {UploadState.DONE})
        await until(lambda: world.publisher.progress()["branches"].fault == "")


async def test_a_cache_that_says_no_to_everything_is_down_too(world: World) -> None:
    paths = [world.path(str(number)) for number in range(3)]
    for path in paths:
        world.branches.faults[path] = "no"
        world.ask(path)
    world.clock.free.set()
    async with world.running():
        await until(lambda: world.clock.time > 1000.0 + 2 * 24 * 3600)
        assert set(world.uploads.states()) == {UploadState.WAITING}
        world.branches.faults.clear()
        await until(lambda: set(world.uploads.states()) == {UploadState.DONE})


async def test_one_path_whose_failure_looks_like_the_cache_s_does_not_stop_the_others(world: World) -> None:
    class Choking(FakeDestination):
        async def push(self, infos, contents):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - as in the door
            if any("poison" in info.path for info in infos):
                raise AWAY
            return await super().push(infos, contents)

    world.caches["branches"] = Choking()
    world.publisher = world.make()
    poison = world.path("a-poison")
    world.ask(poison)
    good = [world.path(str(number)) for number in range(300)]
    for path in good:
        world.ask(path)
    world.clock.free.set()
    async with world.running():
        await until(lambda: all(world.state(path) is UploadState.DONE for path in good))
    assert world.state(poison) is UploadState.WAITING


async def test_a_mistake_in_an_edge_is_logged_and_tried_again(world: World) -> None:
    path = world.path("x")
    world.branches.failure = ValueError("oh")
    world.ask(path)
    await world.until_idle()
    assert "mistake in nixmill" in world.fault(path)
    assert world.uploads.rows["branches", path].tries == 1


async def test_a_path_that_a_cache_says_nothing_of_is_tried_again(world: World) -> None:
    path = world.path("x")
    world.branches.silent.add(path)
    world.ask(path)
    await world.until_idle()
    assert "did not say" in world.fault(path)


@pytest.mark.parametrize("what", ["store", "database"])
async def test_a_store_or_database_that_is_away_is_waited_for(world: World, what: str) -> None:
    path = world.path("x")
    world.ask(path)
    victim = world.store if what == "store" else world.uploads
    victim.failure = AWAY
    world.clock.free.set()
    async with world.running():
        await until(lambda: len(world.clock.pauses) > 20)
        victim.failure = None
        await until(lambda: world.state(path) is UploadState.DONE)


async def test_a_push_that_hangs_holds_up_no_other_cache(world: World) -> None:
    path = world.path("x")
    world.branches.gate = asyncio.Event()
    world.ask(path)
    world.ask(path, "pulls")
    async with world.running():
        await until(lambda: world.state(path, "pulls") is UploadState.DONE)
        assert world.publisher.progress()["branches"].uploading == 1
        world.branches.gate.set()
        await until(lambda: world.state(path) is UploadState.DONE)


async def test_a_new_upload_is_taken_up_when_woken(world: World) -> None:
    async with world.running():
        await until(lambda: len(world.clock.pauses) == 2)
        path = world.path("x")
        world.ask(path)
        world.publisher.wake()
        await until(lambda: world.state(path) is UploadState.DONE)


async def test_a_large_queue_goes_in_bounded_portions(world: World) -> None:
    bottom = [world.path(f"bottom {number}") for number in range(PUSH)]
    tops = [world.path(f"top {number}", *bottom[number : number + 3]) for number in range(BATCH * 2)]
    world.branches.faults[bottom[0]] = "no"
    for path in tops:
        world.ask(path)
    await world.until_idle()
    assert max(world.branches.pushes) <= PUSH
    assert [path for path in tops if world.state(path) is not UploadState.DONE] == tops[:1]


async def test_without_caches_there_is_nothing_to_do(world: World) -> None:
    world.caches.clear()
    publisher = world.make()
    async with world.running(publisher):
        publisher.wake()
        await asyncio.sleep(0)
    assert await publisher.numbers() == {}


async def test_killed_at_every_door_it_goes_on_where_it_was(world: World) -> None:
    """The fake refuses every path that comes before what it refers to, so order holds in each of these lives."""
    ticks = 0
    for dies_at in range(1, 200):
        world = World()
        leaf = world.path("leaf")
        tops = [world.path(f"top {number}", leaf) for number in range(3)]
        for top in tops:
            world.ask(top)
            world.ask(top, "pulls")
        life = Life(dies_at)
        async with world.running(world.make(life)):
            await until(lambda: life.died.is_set() or len(world.clock.pauses) >= 2)  # noqa: B023 - run at once
        ticks = life.ticks
        if not life.died.is_set():
            break
        world.clock.pauses.clear()
        async with world.running(world.make()):
            await until(lambda: set(world.uploads.states()) == {UploadState.DONE})  # noqa: B023 - run at once
        assert all(sorted(cache.order) == sorted([leaf, *tops]) for cache in world.caches.values())
    assert 10 < ticks < 200
