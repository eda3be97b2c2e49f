"""The door Roots: one suite for the fake, links below `gcroots` and indirect roots, with Nix's own collector."""

import asyncio
import contextlib
import errno
import os
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from nixmill.core.errors import InputError
from nixmill.doors import DoorError
from nixmill.doors.roots import Roots
from nixmill.edge.daemon import DaemonStore, open_store
from nixmill.edge.gc_roots import DirectRoots, IndirectRoots, open_roots
from nixmill.nix.store_path import StorePath, hash_part
from tests.fakes.gc_roots import FakeRoots
from tests.fakes.store import make_path
from tests.support.nix_world import Spec, instantiate, run, settings_of
from tests.support.scratch_store import ScratchStore, scratch_store


class World(Protocol):
    """What the suite needs of a world."""

    @property
    def roots(self) -> Roots: ...

    def path(self, name: str) -> StorePath: ...

    def absent(self, name: str) -> StorePath: ...

    def obstruct(self, path: StorePath) -> None: ...

    def survivors(self, *paths: StorePath) -> set[StorePath]: ...


class FakeWorld:
    def __init__(self) -> None:
        self.roots = FakeRoots()

    def path(self, name: str) -> StorePath:
        return make_path(name)

    def absent(self, name: str) -> StorePath:
        return make_path(name)

    def obstruct(self, path: StorePath) -> None:
        self.roots.refuses[path] = f"No root can be made for {path}: it is in the way."

    def survivors(self, *paths: StorePath) -> set[StorePath]:
        return {path for path in paths if path in self.roots.links.values()}


@dataclass
class RealWorld:
    scratch: ScratchStore
    store: DaemonStore
    directory: Path
    roots: Roots

    def path(self, name: str) -> StorePath:
        return instantiate(self.scratch, Spec(name, "echo > $out"))[0]

    def absent(self, name: str) -> StorePath:
        return StorePath(f"{self.scratch.store_dir}/{'0' * 32}-{name}")

    def obstruct(self, path: StorePath) -> None:
        (self.directory / hash_part(path)).mkdir()

    def survivors(self, *paths: StorePath) -> set[StorePath]:
        run(self.scratch, "nix-collect-garbage")
        return {path for path in paths if Path(path).exists()}


@contextlib.asynccontextmanager
async def a_world(kind: str, scratch: ScratchStore) -> AsyncIterator[RealWorld]:
    state = Path(scratch.environment["NIX_STATE_DIR"])
    directory = state / "gcroots/nixmill" if kind == "direct" else scratch.root / "state" / "roots"
    async with open_store("auto", settings_of(scratch)) as store:
        opened = await open_roots(store, None if kind == "direct" else directory, scratch.root / "own", state)
        assert str(directory) in opened.sentence
        assert type(opened.roots) is (DirectRoots if kind == "direct" else IndirectRoots)
        yield RealWorld(scratch, store, directory, opened.roots)


@pytest.fixture(scope="module")
def shared_store() -> Iterator[ScratchStore]:
    with scratch_store() as made:
        yield made


@pytest.fixture(params=["direct", "indirect"])
async def real(request: pytest.FixtureRequest, shared_store: ScratchStore) -> AsyncIterator[RealWorld]:
    async with a_world(request.param, shared_store) as made:
        yield made
        await made.roots.remove(await made.roots.standing())


@pytest.fixture(params=["fake", "direct", "indirect"])
async def world(request: pytest.FixtureRequest, shared_store: ScratchStore) -> AsyncIterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    async with a_world(request.param, shared_store) as made:
        yield made
        await made.roots.remove(await made.roots.standing())


async def test_what_has_a_root_survives_a_collection_and_what_lost_it_does_not(world: World) -> None:
    kept, loose, let_go = world.path("kept"), world.path("loose"), world.path("let-go")
    assert await world.roots.add([kept, let_go]) == {}
    assert await world.roots.standing() == {hash_part(kept), hash_part(let_go)}

    await world.roots.remove([hash_part(let_go)])

    assert await world.roots.standing() == {hash_part(kept)}
    assert world.survivors(kept, loose, let_go) == {kept}


async def test_doing_it_again_changes_nothing(world: World) -> None:
    path = world.path("twice")
    await world.roots.remove([hash_part(path)])
    for _ in range(2):
        assert await world.roots.add([path, path]) == {}
        assert await world.roots.standing() == {hash_part(path)}
    for _ in range(2):
        await world.roots.remove([hash_part(path)])
        assert await world.roots.standing() == set()


async def test_nothing_is_asked_of_nobody(world: World) -> None:
    assert await world.roots.add([]) == {}
    await world.roots.remove([])
    assert await world.roots.standing() == set()


async def test_a_path_that_is_not_valid_can_have_a_root(world: World) -> None:
    absent = world.absent("absent")
    assert await world.roots.add([absent]) == {}
    assert await world.roots.standing() == {hash_part(absent)}


async def test_one_of_many_that_cannot_be_rooted_spoils_nothing_for_the_others(world: World) -> None:
    paths = [world.path(f"many-{number}") for number in range(5)]
    world.obstruct(paths[2])

    faults = await world.roots.add(paths)

    assert list(faults) == [paths[2]]
    assert faults[paths[2]].startswith("No root can be made for ")
    assert await world.roots.standing() == {hash_part(path) for path in paths if path != paths[2]}
    await world.roots.remove([hash_part(path) for path in paths if path != paths[2]])


async def test_nix_itself_lists_the_roots(real: RealWorld) -> None:
    path = real.path("listed")
    await real.roots.add([path, real.absent("absent")])
    printed = run(real.scratch, "nix-store", "--gc", "--print-roots").replace('"', "")  # Nix 2.34 quotes links
    assert f"{real.directory / hash_part(path)} -> {path}" in printed


async def test_roots_outlive_whoever_made_them(real: RealWorld) -> None:
    kind = "indirect" if isinstance(real.roots, IndirectRoots) else "direct"
    path = real.path("outlives")
    await real.roots.add([path])
    await real.store.close()
    assert real.survivors(path) == {path}
    async with a_world(kind, real.scratch) as again:
        assert await again.roots.standing() == {hash_part(path)}


async def test_a_path_that_is_no_path_of_the_store_is_refused(real: RealWorld) -> None:
    bad = [StorePath("/etc/passwd"), StorePath(f"{real.scratch.store_dir}/../x"), StorePath("/nix/store/short-x")]
    assert set(await real.roots.add(bad)) == set(bad)
    await real.roots.remove(["../../etc", "x" * 32])
    assert await real.roots.standing() == set()


async def test_a_link_that_leads_elsewhere_is_put_right(real: RealWorld) -> None:
    path = real.path("right")
    (real.directory / hash_part(path)).symlink_to("/nowhere")
    assert await real.roots.add([path]) == {}
    assert real.survivors(path) == {path}
    assert list(real.directory.glob(".new-*")) == []


async def test_a_collection_that_is_running_hears_of_a_new_root(real: RealWorld) -> None:
    """It has looked for roots already, and would delete what got its root since, were it not told."""
    told, untold = real.path("told"), real.path("untold")
    async with collecting(real.scratch):
        (real.directory / hash_part(untold)).symlink_to(untold)
        await real.roots.add([told])
        assert await real.store.valid([told, untold]) == {told, untold}
    assert await real.store.valid([told, untold]) == {told}


async def reader_of(fifo: Path) -> int:
    """Open a pipe once somebody reads it. A thread that waits for that could not be given up."""
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def collecting(scratch: ScratchStore) -> AsyncIterator[None]:
    """Have Nix collect garbage, held at the moment when it has looked for roots; it has ended afterwards."""
    fifo = scratch.root / "collecting"
    os.mkfifo(fifo)
    moment = dict.fromkeys(["_NIX_TEST_GC_SYNC", "_NIX_TEST_GC_SYNC_2"], str(fifo))  # of Nix 2.8, and of later ones
    environment = {**scratch.environment, **moment}
    collector = await asyncio.create_subprocess_exec("nix-store", "--gc", env=environment, stdout=-3, stderr=-3)
    try:
        async with asyncio.timeout(30):
            go_on = await reader_of(fifo)
            try:
                yield
            finally:
                os.close(go_on)
            assert await collector.wait() == 0
    finally:
        fifo.unlink()
        if collector.returncode is None:
            collector.kill()
            await collector.wait()


async def test_indirect_roots_that_a_crash_left_unregistered_are_registered(shared_store: ScratchStore) -> None:
    async with a_world("indirect", shared_store) as world:
        path = world.path("unregistered")
        (world.directory / hash_part(path)).symlink_to(path)
        assert await world.roots.standing() == {hash_part(path)}
        assert world.survivors(path) == {path}
        await world.roots.remove([hash_part(path)])
        assert world.survivors(path) == set()


async def test_a_directory_that_is_gone_is_our_trouble(real: RealWorld) -> None:
    real.directory.rename(real.directory.with_name("elsewhere"))
    try:
        for work in (real.roots.add([real.absent("x")]), real.roots.standing(), real.roots.remove(["0" * 32])):
            with pytest.raises(DoorError, match="out of reach") as caught:
                await work
            assert caught.value.retryable
    finally:
        real.directory.with_name("elsewhere").rename(real.directory)


async def test_where_gcroots_may_not_be_written_roots_are_indirect(shared_store: ScratchStore, tmp_path: Path) -> None:
    state = Path(shared_store.environment["NIX_STATE_DIR"])
    async with open_store("auto", settings_of(shared_store)) as store:
        taken = tmp_path / "taken"
        (taken / "gcroots").mkdir(parents=True)
        (taken / "gcroots/nixmill").touch()
        opened = await open_roots(store, None, tmp_path, taken)
        assert isinstance(opened.roots, IndirectRoots)
        assert str(tmp_path / "roots") in opened.sentence
        assert (tmp_path / "roots").stat().st_mode & 0o777 == 0o755
        with pytest.raises(InputError, match="is no directory"):
            await open_roots(store, taken / "gcroots/nixmill", tmp_path, taken)
        direct = await open_roots(store, state / "gcroots/ci/ours", tmp_path, state)
        assert isinstance(direct.roots, DirectRoots)


async def test_two_servers_of_a_machine_have_a_directory_each(fresh_store: ScratchStore, tmp_path: Path) -> None:
    """Each lets go of what it does not know."""
    state = Path(fresh_store.environment["NIX_STATE_DIR"])
    async with open_store("auto", settings_of(fresh_store)) as store:
        opened = [await open_roots(store, None, tmp_path, state, server=name) for name in ("one", "two", "one")]
        places = [re.search(r"stand in (\S+)\.$", one.sentence)[1] for one in opened]  # type: ignore[index]
        assert places == [f"{state}/gcroots/nixmill", f"{state}/gcroots/nixmill-two", f"{state}/gcroots/nixmill"]
        with pytest.raises(InputError, match="belongs to another server"):
            await open_roots(store, state / "gcroots/nixmill", tmp_path, state, server="two")
        await opened[0].roots.add([StorePath(f"{fresh_store.store_dir}/{'0' * 32}-x")])
        assert await opened[1].roots.standing() == set()
        assert await opened[2].roots.standing() == {"0" * 32}


async def test_a_directory_that_others_may_write_to_is_refused(shared_store: ScratchStore, tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o775)
    async with open_store("auto", settings_of(shared_store)) as store:
        with pytest.raises(InputError, match="may be written by others"):
            await open_roots(store, loose, tmp_path, tmp_path / "nix")
        (tmp_path / "link").symlink_to(tmp_path)
        with pytest.raises(InputError, match="is no directory"):
            await open_roots(store, tmp_path / "link", tmp_path, tmp_path / "nix")


async def test_roots_of_another_machine_are_refused(shared_store: ScratchStore, tmp_path: Path) -> None:
    async with open_store("auto", settings_of(shared_store)) as store:
        store.local = False
        with pytest.raises(InputError, match="not the one of this machine"):
            await open_roots(store, None, tmp_path, tmp_path)


async def test_an_attribute_that_is_named_like_a_directory_of_another_is_no_matter(world: World) -> None:
    """Names of roots are hash parts, whatever attributes are called."""
    first, second = world.path("a"), world.path("b")
    assert await world.roots.add([first, second]) == {}
    assert world.survivors(first, second) == {first, second}
