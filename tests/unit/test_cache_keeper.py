"""What the keeper of caches does with caches in memory."""

import asyncio
from collections.abc import Collection

import pytest
import structlog

from nixmill.config.caches import CacheSettings
from nixmill.core.cache_collection import DAY_S, GIB, Limits
from nixmill.core.errors import InputError
from nixmill.core.roots import KeptPin, RootFacts
from nixmill.doors import DoorError
from nixmill.engine import cache_keeper
from nixmill.engine.cache_keeper import CacheKeeper, OwnCache, limits_of
from nixmill.engine.cache_locks import CacheLocks
from nixmill.nix.signature import SecretKey, public_key, secret_text
from nixmill.nix.store_path import StorePath
from tests.fakes.stock import FakeStock
from tests.fakes.store import make_path
from tests.support.world import until

NOW = 100 * DAY_S
LIMITS = Limits(age_s=30 * DAY_S, grace_s=DAY_S)
DOWN = DoorError("The bucket does not answer.", door="cache", action="list", retryable=True)
KEY = SecretKey(secret_text("main-1", b"1" * 32))
NEW_KEY = public_key(SecretKey(secret_text("main-2", b"2" * 32)).public())
OLD, NEW, LIBC = make_path("old"), make_path("new"), make_path("libc")


class StillClock:
    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return NOW

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.Event().wait()


class FakePins:
    """The facts of a pin book."""

    def __init__(self, facts: RootFacts) -> None:
        self.told = facts

    async def facts(self, now: float) -> RootFacts:
        assert now == NOW
        return self.told


class World:
    def __init__(self, facts: RootFacts = RootFacts(), limits: Limits = LIMITS) -> None:  # noqa: B008 - frozen
        self.stock = FakeStock()
        self.locks = CacheLocks()
        self.clock = StillClock()
        self.closures: dict[StorePath, set[StorePath]] = {}
        self.keeper = CacheKeeper(
            [OwnCache(name="main", stock=self.stock, limits=limits, keys=(public_key(KEY.public()), NEW_KEY))],
            FakePins(facts),  # type: ignore[arg-type]  # it is asked for the facts alone
            self.closure,
            self.locks,
            self.clock,
            structlog.get_logger(),
        )
        self.stock.publish(LIBC, NOW - 90 * DAY_S, key=KEY)
        self.stock.publish(OLD, NOW - 40 * DAY_S, [LIBC], key=KEY)
        self.stock.publish(NEW, NOW - 2 * DAY_S, key=KEY)

    async def closure(self, paths: Collection[StorePath]) -> Collection[StorePath]:
        return set(paths).union(*(self.closures.get(path, set()) for path in paths))


async def test_what_is_too_old_is_unpublished_and_then_swept() -> None:
    world = World()
    world.stock.garbage = 7
    done = await world.keeper.collect("main")
    assert world.stock.calls == [("remove", [OLD, LIBC]), ("sweep", DAY_S)]
    assert ([one.path for one in done.doomed], done.kept, done.kept_size, done.freed) == ([OLD, LIBC], 1, 100, 7)
    numbers = world.keeper.numbers["main"]
    assert (numbers.paths, numbers.size, numbers.removed, numbers.freed) == (1, 100, 2, 7)


async def test_a_dry_run_changes_nothing_and_waits_for_nobody() -> None:
    world = World()
    async with world.locks.alone("main"):
        done = await world.keeper.collect("main", dry_run=True)
    assert len(done.doomed) == 2
    assert world.stock.calls == []
    assert world.keeper.numbers["main"].removed == 0


async def test_pins_and_what_waits_with_its_closure_are_kept() -> None:
    waiting = make_path("waiting")
    world = World(RootFacts(pins=[KeptPin([OLD], None, "main")], uploads={"main": [waiting]}))
    other = world.stock.publish(make_path("other"), NOW - 60 * DAY_S)
    lost = world.stock.publish(make_path("lost"), NOW - 60 * DAY_S)
    world.closures[waiting] = {other}
    await world.keeper.collect("main")
    assert world.stock.paths() == {OLD, LIBC, NEW, other}
    assert world.stock.calls[0] == ("remove", [lost])


async def test_many_are_removed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_keeper, "REMOVED_AT_ONCE", 2)
    world = World()
    paths = [world.stock.publish(make_path(f"p{number}"), NOW - 50 * DAY_S) for number in range(3)]
    await world.keeper.collect("main")
    removed = [paths for call, paths in world.stock.calls if call == "remove"]
    assert [len(some) for some in removed if isinstance(some, list)] == [2, 2, 1]
    assert world.stock.paths().isdisjoint(paths)


async def test_a_collection_waits_for_pushes_and_pushes_for_it() -> None:
    world = World()
    async with world.locks.sharing("main"), world.locks.sharing("main"):
        collecting = asyncio.create_task(world.keeper.collect("main"))
        pushing = asyncio.create_task(_push(world.locks))
        for _ in range(10):
            await asyncio.sleep(0)
        assert world.stock.calls == []
        assert not pushing.done()  # who comes later waits behind who wants to be alone
    await collecting
    await pushing


async def _push(locks: CacheLocks) -> None:
    async with locks.sharing("main"):
        pass


async def test_whoever_gives_up_waiting_leaves_the_lock_free() -> None:
    locks = CacheLocks()
    async with locks.sharing("main"):
        waiting = asyncio.create_task(_alone(locks))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.wait_for(_push(locks), 5)
    await asyncio.wait_for(_alone(locks), 5)


async def _alone(locks: CacheLocks) -> None:
    async with locks.alone("main"):
        pass


async def test_what_an_earlier_key_signed_is_signed_anew_once() -> None:
    world = World()
    world.stock.unsigned = {OLD, NEW}
    await world.keeper.look()
    assert world.keeper.numbers["main"].signed == 2
    assert world.keeper.numbers["main"].faults == 0
    world.stock.unsigned = {NEW}
    await world.keeper.look()
    assert world.stock.unsigned == {NEW}  # keys change only while the server is down


async def test_what_no_key_of_the_cache_signed_is_not_signed() -> None:
    world = World()
    forged = SecretKey(secret_text("main-1", b"9" * 32))
    strange = {
        world.stock.publish(make_path("unsigned"), NOW),
        world.stock.publish(make_path("forged"), NOW, key=forged),
    }
    world.stock.unsigned = {OLD, *strange}
    assert await world.keeper.sign("main") == 1
    assert world.stock.unsigned == strange


async def test_signing_stops_at_its_limit_and_goes_on_later() -> None:
    world = World()
    world.stock.unsigned = {OLD, NEW, LIBC}
    assert await world.keeper.sign("main", 2) == 2
    assert await world.keeper.sign("main", 2) == 1
    assert world.stock.unsigned == set()


async def test_a_cache_that_is_away_hinders_no_other_and_is_counted() -> None:
    world = World()
    other = FakeStock()
    other.garbage = 5
    world.keeper.caches["other"] = OwnCache(name="other", stock=other)
    world.keeper.numbers["other"] = cache_keeper.CacheNumbers()
    world.stock.failure = DOWN
    await world.keeper.look()
    assert world.keeper.numbers["main"].faults == 1
    assert world.keeper.numbers["main"].looked_at == 0
    assert world.keeper.numbers["other"].freed == 5
    assert world.keeper.numbers["other"].looked_at == NOW


async def test_it_looks_every_hour() -> None:
    world = World()
    running = asyncio.create_task(world.keeper.run())
    await until(lambda: bool(world.clock.slept))
    running.cancel()
    assert world.clock.slept == [3600.0]
    assert world.stock.paths() == {NEW}


async def test_a_cache_that_keeps_everything_is_looked_at_once_a_day() -> None:
    world = World(limits=Limits(grace_s=DAY_S))
    await world.keeper.look()
    await world.keeper.look()
    assert world.stock.calls == [("sweep", DAY_S)]
    world.keeper.numbers["main"].looked_at -= DAY_S
    await world.keeper.look()
    assert world.stock.calls == [("sweep", DAY_S)] * 2
    assert world.keeper.numbers["main"].paths == 3


async def test_a_cache_that_is_not_ours_is_none() -> None:
    with pytest.raises(InputError, match="'far' is no cache whose contents we keep"):
        await World().keeper.collect("far")


def test_limits_come_from_the_settings() -> None:
    settings = CacheSettings(name="main", max_days=2, max_paths=3, max_gib=0.5, grace_hours=1)
    assert limits_of(settings) == Limits(age_s=2 * DAY_S, paths=3, size=GIB // 2, grace_s=3600)
    assert not limits_of(CacheSettings(name="main")).any()
