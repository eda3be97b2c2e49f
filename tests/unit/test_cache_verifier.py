"""Verifying and repairing a cache in memory, over a store in memory."""

from collections.abc import Sequence

import pytest

from nixmill.core.publish import CacheRule
from nixmill.core.upload import Upload, UploadState
from nixmill.doors import DoorError
from nixmill.doors.cache import Entry
from nixmill.engine.cache_keeper import CacheKeeper, OwnCache
from nixmill.engine.cache_locks import CacheLocks
from nixmill.engine.cache_restore import Restorer, Upstream, closure
from nixmill.engine.cache_verifier import NOT_HERE, CacheVerifier
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath
from tests.fakes.stock import FakeStock
from tests.fakes.store import FakeBuilder, FakeStore, Script, make_path
from tests.fakes.uploads import FakeUploads
from tests.unit.test_cache_keeper import NOW, StillClock

ROTTEN = "Its archive has another hash."
HELLO, LIBC = make_path("hello"), make_path("libc")


class World:
    """A cache `main` with `hello`, which refers to `libc`."""

    def __init__(self) -> None:
        self.stock, self.store = FakeStock(), FakeStore()
        self.builder = FakeBuilder(self.store)
        self.uploads = FakeUploads(lambda: NOW)
        self.locks = CacheLocks()
        keeper = CacheKeeper(
            [OwnCache(name="main", stock=self.stock)],
            None,  # type: ignore[arg-type]  # nothing is collected here
            None,  # type: ignore[arg-type]  # likewise
            self.locks,
            StillClock(),
            None,  # type: ignore[arg-type]  # likewise
        )
        self.verifier = CacheVerifier(
            keeper,
            self.uploads,
            self.record,
            Restorer(self.store, self.builder),
            Upstream(self.store, {"main": CacheRule(name="main", upstream=("cache.example.org-1",))}),
            self.locks,
            StillClock(),
        )
        self.stock.publish(LIBC, NOW)
        self.stock.publish(HELLO, NOW, [LIBC, HELLO])

    async def record(self, uploads: Sequence[Upload]) -> None:
        for upload in uploads:
            self.uploads.add(upload)

    def waiting(self) -> set[StorePath]:
        return {path for (_, path), row in self.uploads.rows.items() if row.state is UploadState.WAITING}


async def test_a_sound_cache_is_read_once_and_counted() -> None:
    world, told = World(), list[tuple[int, int, int]]()
    found = await world.verifier.verify("main", told=lambda *numbers: told.append(numbers))
    assert (found.looked, found.size, found.troubles) == (2, 200, [])
    assert sorted(told) == [(1, 2, 100), (2, 2, 200)]


async def test_what_is_damaged_is_told_and_nothing_is_changed() -> None:
    world = World()
    world.stock.faults[HELLO] = [ROTTEN]
    (trouble,) = (await world.verifier.verify("main")).troubles
    assert (trouble.path, trouble.faults, trouble.repair, trouble.mended) == (HELLO, [ROTTEN], "", False)
    assert world.stock.calls == []


async def test_a_damaged_path_that_the_store_has_is_published_again() -> None:
    world = World()
    world.stock.faults[HELLO] = [ROTTEN]
    world.store.add(HELLO)
    world.uploads.add(Upload(cache="main", path=HELLO, project=1, run=2, state=UploadState.DONE, done_at=NOW))
    (trouble,) = (await world.verifier.verify("main", repair=True)).troubles
    assert trouble.mended
    assert trouble.repair == "It is in the store, and is published again."
    assert world.waiting() == {HELLO}
    assert world.stock.paths() == {LIBC}
    assert world.stock.calls == [("remove", [HELLO]), ("sweep", 0.0)]  # its archive would be taken for good
    assert HELLO in world.store.held


async def test_what_a_substituter_has_is_fetched() -> None:
    world = World()
    world.stock.faults[LIBC] = [ROTTEN]
    world.store.substitutable[LIBC] = Script()
    (trouble,) = (await world.verifier.verify("main", repair=True)).troubles
    assert "was fetched from a substituter" in trouble.repair
    assert world.waiting() == {LIBC}


async def test_what_nobody_has_is_built_again_with_what_it_needs() -> None:
    world = World()
    dep = world.store.derivation("dep")
    drv = world.store.derivation("app", [dep])
    out = world.store.outputs(drv)["out"]
    world.stock.publish(out, NOW, deriver=drv)
    world.stock.faults[out] = [ROTTEN]
    (trouble,) = (await world.verifier.verify("main", repair=True)).troubles
    assert "was built again" in trouble.repair
    assert world.builder.finished == [dep, drv]
    assert world.waiting() == {out}


async def test_a_deriver_that_makes_something_else_is_not_built() -> None:
    world = World()
    drv = world.store.derivation("app")
    world.stock.publish(HELLO, NOW, deriver=drv)
    world.stock.faults[HELLO] = [ROTTEN]
    (trouble,) = (await world.verifier.verify("main", repair=True)).troubles
    assert world.builder.attempts == []
    assert not trouble.mended
    assert trouble.repair.startswith("Nobody has it any more")
    assert world.stock.paths() == {HELLO, LIBC}  # perhaps the keys in the settings are wrong
    assert world.waiting() == set()


async def test_what_cannot_be_built_again_is_told() -> None:
    world = World()
    drv = world.store.derivation("app", [world.store.derivation("dep")])
    out = world.store.outputs(drv)["out"]
    dep = next(iter(world.store.known_derivations[drv].input_drvs))
    del world.store.known_derivations[dep]
    world.stock.publish(out, NOW, deriver=drv)
    world.stock.faults[out] = [ROTTEN]
    (trouble,) = (await world.verifier.verify("main", repair=True)).troubles
    assert not trouble.mended


async def test_what_entries_refer_to_has_to_be_there_too() -> None:
    world = World()
    world.stock.publish(HELLO, NOW, [LIBC, make_path("lost")])
    world.store.add(make_path("lost"))
    (trouble,) = (await world.verifier.verify("main", repair=True)).troubles
    assert trouble.faults == [f"It is not in the cache, and {HELLO} refers to it."]
    assert trouble.repair == "It is in the store, and is published again."
    assert world.waiting() == {make_path("lost")}


GLIBC = PathInfo(
    path=make_path("glibc"),
    deriver=None,
    nar_hash="sha256:" + "0" * 64,
    nar_size=1,
    references=(),
    signatures=("cache.example.org-1:AAAA",),
)


async def test_what_is_signed_upstream_need_not_be_there() -> None:
    world = World()
    world.stock.publish(HELLO, NOW, [GLIBC.path])
    world.store.contents[GLIBC.path] = GLIBC
    assert (await world.verifier.verify("main")).troubles == []


async def test_some_paths_are_looked_at_alone() -> None:
    world = World()
    world.stock.faults[LIBC] = [ROTTEN]
    found = await world.verifier.verify("main", [HELLO, make_path("absent"), HELLO])
    assert found.looked == 1
    assert [(one.path, one.faults) for one in found.troubles] == [(make_path("absent"), [NOT_HERE])]


async def test_what_cannot_be_read_at_all_counts_as_damaged_but_a_cache_that_is_away_does_not() -> None:
    world = World()
    world.stock.faults[HELLO] = DoorError("The disk is bad.", door="cache", action="read", retryable=False)
    assert (await world.verifier.verify("main")).troubles[0].faults == ["The disk is bad."]
    world.stock.faults[HELLO] = DoorError("It does not answer.", door="cache", action="read", retryable=True)
    with pytest.raises(DoorError, match="does not answer"):
        await world.verifier.verify("main", repair=True)
    assert world.stock.paths() == {HELLO, LIBC}


async def test_a_store_that_is_away_leaves_the_entry_as_it_is() -> None:
    world = World()
    world.stock.faults[HELLO] = [ROTTEN]
    world.store.failure = DoorError("The daemon is gone.", door="store", action="hold", retryable=True)
    (trouble,) = (await world.verifier.verify("main", repair=True)).troubles
    assert (trouble.repair, trouble.mended) == ("It could not be restored: The daemon is gone.", False)
    assert world.stock.paths() == {HELLO, LIBC}


async def test_a_repair_that_breaks_off_loses_nothing() -> None:
    world = World()
    world.stock.faults[HELLO] = [ROTTEN]
    world.store.add(HELLO)

    async def broken(entries: Sequence[Entry]) -> None:
        del entries
        raise DoorError("The bucket does not answer.", door="cache", action="remove", retryable=True)

    world.stock.remove = broken  # type: ignore[method-assign]
    with pytest.raises(DoorError, match="bucket does not answer"):
        await world.verifier.verify("main", repair=True)
    assert world.waiting() == {HELLO}  # recorded before anything is taken out
    assert [one.path for one in (await world.verifier.verify("main")).troubles] == [HELLO]


async def test_what_was_collected_meanwhile_is_not_damaged() -> None:
    world = World()
    verify = world.stock.verify

    async def collected(entry: Entry) -> Sequence[str]:
        if entry.narinfo.info.path == HELLO:
            await world.stock.remove([entry])
            return ["It is no longer in the cache."]
        return await verify(entry)

    world.stock.verify = collected  # type: ignore[method-assign]
    assert (await world.verifier.verify("main")).troubles == []


async def test_a_closure_is_as_large_as_the_store_knows_it() -> None:
    store = FakeStore()
    store.add(HELLO, references=[LIBC])
    store.add(LIBC, references=[LIBC, make_path("base")])
    assert await closure(store, [HELLO]) == {HELLO, LIBC, make_path("base")}
