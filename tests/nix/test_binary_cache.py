"""Our binary caches as real Nix sees them, and its own beside ours."""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nixmill.config.caches import CacheSettings
from nixmill.edge.binary_cache.cache import BinaryCache
from nixmill.edge.binary_cache.contents import StoreContents
from nixmill.edge.binary_cache.keys import make_key
from nixmill.edge.binary_cache.open import open_cache
from nixmill.edge.daemon import open_store
from nixmill.edge.daemon.copying import in_order
from nixmill.edge.daemon.store import DaemonStore
from nixmill.nix.path_info import PathInfo
from nixmill.nix.realisation import Realisation
from nixmill.nix.store_path import StorePath, hash_part
from tests.support.nix_world import Spec, instantiate, nix_version, realise, run, settings_of
from tests.support.scratch_store import ScratchStore

BUILD_ID = "0123456789abcdef0123456789abcdef01234567"
MESS = rf"""
mkdir -p $out/bin $out/lib/debug/.build-id/{BUILD_ID[:2]} $out/empty $out/A $out/a.b $out/a
echo "$inputs" > $out/a/reference
echo tool > $out/bin/tool; chmod 755 $out/bin/tool
echo data > $out/bin/Tool; : > $out/bin/nothing
ln -s ../bin/tool $out/A/link; ln -s /nowhere "$out/with space"
echo debug > $out/lib/debug/.build-id/{BUILD_ID[:2]}/{BUILD_ID[2:]}.debug
echo no > $out/lib/debug/.build-id/{BUILD_ID[:2]}/short.debug
"""
PATH = "PATH=/usr/bin:/bin\n"


class World:
    """A store, and a cache on disk that is signed with one key."""

    def __init__(self, store: ScratchStore, daemon: DaemonStore) -> None:
        self.store = store
        self.daemon = daemon
        self.directory = store.root / "cache"
        secret = store.root / "secret"
        self.public = make_key(secret, "test-1")
        self.settings = CacheSettings(name="main", keys=("key",), directory=self.directory)
        self.cache: BinaryCache = open_cache(self.settings, {"key": secret}, store.root / "state", store.store_dir)
        self.contents = StoreContents(daemon)

    async def closure(self, *paths: StorePath) -> list[PathInfo]:
        every = [StorePath(path) for path in run(self.store, "nix-store", "-qR", *paths).split()]
        return in_order(await self.daemon.path_infos(every))

    async def publish(self, *paths: StorePath) -> list[PathInfo]:
        await self.cache.prepare()
        infos = await self.closure(*paths)
        pushed = await self.cache.push(infos, self.contents)
        assert pushed.faults == {}
        assert pushed.new == {info.path for info in infos}
        return infos

    def reader(self, *arguments: str, keys: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Run Nix on an empty store that has the same name, as another machine's would."""
        elsewhere = self.store.root / "elsewhere"
        state = elsewhere / "var/nix"
        state.mkdir(parents=True, exist_ok=True)
        configuration = "\n".join(
            [
                self.store.environment["NIX_CONFIG"],
                "require-sigs = true",
                f"trusted-public-keys = {self.public if keys is None else keys}",
            ]
        )
        environment = {**self.store.environment, "NIX_CONFIG": configuration}
        return subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)

    def copied(self, path: StorePath, target: Path, keys: str | None = None) -> "subprocess.CompletedProcess[str]":
        """Copy a path from the cache into a store at `target`, which asks for signatures."""
        arguments = ("nix", "copy", "--from", f"file://{self.directory}", "--to", f"local?root={target}", path)
        return self.reader(*arguments, keys=keys)


@pytest.fixture
async def world(fresh_store: ScratchStore) -> AsyncIterator[World]:
    async with open_store("stdio", settings_of(fresh_store)) as daemon:
        made = World(fresh_store, daemon)
        yield made
        await made.cache.close()


def built(store: ScratchStore) -> tuple[StorePath, StorePath]:
    """Build a path with everything that a NAR can hold, and what it refers to."""
    inner = Spec("inner", "echo inner > $out")
    outer = Spec("outer", "PATH=/usr/bin:/bin\n" + MESS, inputs=[inner])
    return realise(store, instantiate(store, outer)[0]), realise(store, instantiate(store, inner)[0])


def dumped(path: str) -> bytes:
    return subprocess.run(["nix-store", "--dump", path], capture_output=True, check=True).stdout


def shown_log(world: World, drv_path: StorePath) -> bytes:
    """Return the log that Nix finds in the cache."""
    options = ("--option", "substituters", f"file://{world.directory}")
    arguments = ["nix", "log", *options, drv_path]
    return subprocess.run(arguments, env=world.store.environment, capture_output=True, check=False).stdout


async def test_nix_copies_a_closure_whose_signatures_it_wants(world: World) -> None:
    outer, inner = built(world.store)
    await world.publish(outer)
    target = world.store.root / "target"
    done = world.copied(outer, target)
    assert done.returncode == 0, done.stderr
    there = target / "nix/store" / Path(inner).name
    assert there.read_text() == "inner\n"
    assert dumped(str(target / "nix/store" / Path(outer).name)) == dumped(outer)


async def test_nix_refuses_what_another_key_signed(world: World, tmp_path: Path) -> None:
    _, inner = built(world.store)
    await world.publish(inner)
    other = make_key(tmp_path / "other", "test-1")
    assert "signature" in world.copied(inner, world.store.root / "target", keys=other).stderr


async def test_nix_substitutes_from_it(world: World) -> None:
    drv_path = instantiate(world.store, Spec("single", "echo single > $out"))[0]
    path = realise(world.store, drv_path)
    await world.publish(path)
    run(world.store, "nix-store", "--delete", path)
    options = ("--option", "substituters", f"file://{world.directory}", "--option", "trusted-public-keys", world.public)
    assert run(world.store, "nix-store", "--realise", "-j0", path, *options).strip() == path
    assert run(world.store, "cat", path) == "single\n"


async def test_nix_tells_the_same_of_a_path_and_verifies_it(world: World) -> None:
    outer, _ = built(world.store)
    (info,) = [info for info in await world.publish(outer) if info.path == outer]
    told = json.loads(run(world.store, "nix", "path-info", "--json", "--store", f"file://{world.directory}", outer))
    entry = told[0] if isinstance(told, list) else next(iter(told.values()))
    assert entry["narSize"] == info.nar_size
    assert len(entry["references"]) == len(info.references)
    assert [signature.partition(":")[0] for signature in entry["signatures"]] == ["test-1"]
    arguments = ("nix", "store", "verify", "--recursive", "--store", f"file://{world.directory}", outer)
    done = world.reader(*arguments)
    assert done.returncode == 0, done.stderr


async def test_everything_that_nix_writes_too_is_the_same(world: World) -> None:
    outer, inner = built(world.store)
    await world.publish(outer)
    theirs = world.store.root / "theirs"
    options = "compression=zstd&write-nar-listing=true&index-debug-info=true"
    run(world.store, "nix", "copy", "--to", f"file://{theirs}?{options}", outer)
    for path in (outer, inner):
        name = f"{hash_part(path)}.ls"
        assert json.loads((world.directory / name).read_text()) == json.loads((theirs / name).read_text())
    indices = {file.name for file in (theirs / "debuginfo").iterdir()}
    assert {file.name for file in (world.directory / "debuginfo").iterdir()} == indices != set()
    for name in indices:
        ours = json.loads((world.directory / "debuginfo" / name).read_text())
        assert ours["member"] == json.loads((theirs / "debuginfo" / name).read_text())["member"]
        assert (world.directory / "debuginfo" / ours["archive"]).is_file()


async def test_nix_lists_files_without_the_archive(world: World) -> None:
    outer, _ = built(world.store)
    await world.publish(outer)
    address = f"file://{world.directory}"
    listed = run(world.store, "nix", "store", "ls", "--recursive", "--store", address, outer).split("\n")
    assert {"./bin/tool", "./bin/Tool", "./A/link", "./empty", "./with space"} <= set(listed)
    assert run(world.store, "nix", "store", "cat", "--store", address, f"{outer}/bin/tool") == "tool\n"


async def test_nix_shows_the_log_of_a_build(world: World) -> None:
    drv_path = instantiate(world.store, Spec("single", "echo single > $out"))[0]
    await world.cache.prepare()
    assert await world.cache.put_log(drv_path, b"building\n\xff done\n")
    assert not await world.cache.put_log(drv_path, b"another\n")
    assert shown_log(world, drv_path) == b"building\n\xff done\n"


async def test_a_nar_over_the_connection_is_the_one_of_the_files(world: World) -> None:
    outer, _ = built(world.store)
    local = b"".join([piece async for piece in world.contents.nar(outer)])
    world.daemon.local = False
    assert b"".join([piece async for piece in world.contents.nar(outer)]) == local
    (info,) = (await world.daemon.path_infos([outer])).values()
    assert len(local) == info.nar_size


async def test_what_comes_over_a_connection_is_published_alike(world: World) -> None:
    outer, inner = built(world.store)
    world.daemon.local = False
    await world.publish(outer)
    listing = (world.directory / f"{hash_part(outer)}.ls").read_bytes()
    world.daemon.local = True
    entries = [entry async for page in world.cache.entries() for entry in page]
    await world.cache.remove(entries)
    assert await world.cache.sweep(0.0, time.time() + 60) > 0
    pushed = await world.cache.push(await world.closure(outer), world.contents)
    assert pushed.new == {outer, inner}
    assert (world.directory / f"{hash_part(outer)}.ls").read_bytes() == listing


async def test_a_path_whose_files_were_changed_is_not_published(world: World) -> None:
    outer, inner = built(world.store)
    infos = await world.closure(outer)
    run(world.store, "sh", "-c", 'chmod u+w "$0"; echo INNER > "$0"', inner)
    pushed = await world.cache.push(infos, world.contents)
    assert set(pushed.faults) == {inner, outer}
    assert "corrupt" in pushed.faults[inner]
    assert inner in pushed.faults[outer]
    assert not list(world.directory.glob("*.narinfo"))


async def test_a_large_path_is_published_through_a_file(world: World) -> None:
    script = "for i in 1 2 3 4 5; do /usr/bin/head -c 700000 /dev/urandom >> $out; done"
    path = realise(world.store, instantiate(world.store, Spec("large", script))[0])
    await world.publish(path)
    done = world.copied(path, world.store.root / "target")
    assert done.returncode == 0, done.stderr
    assert not list((world.directory / ".scratch").iterdir())


FLOATING = """
derivation {
  name = "floating";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [ "-c" "echo floating > $out" ];
  __contentAddressed = true;
  outputHashMode = "recursive";
  outputHashAlgo = "sha256";
}
"""


async def test_a_realisation_is_what_nix_writes(fresh_store: ScratchStore) -> None:
    """No daemon runs: Nix wants the store for itself when it first hears of such derivations."""
    features = ("--extra-experimental-features", "ca-derivations")
    drv_path = run(fresh_store, "nix-instantiate", *features, "--expr", FLOATING).strip()
    secret = fresh_store.root / "secret"
    make_key(secret, "test-1")
    signing = ("--option", "secret-key-files", str(secret))  # what is built is signed, and what is copied is not
    path = StorePath(run(fresh_store, "nix-store", *features, *signing, "--realise", drv_path).strip())
    theirs = fresh_store.root / "theirs"
    outputs = "^*" if nix_version(fresh_store) >= (2, 15) else ""
    run(fresh_store, "nix", "copy", *features, "--to", f"file://{theirs}", drv_path + outputs)
    (written,) = (theirs / "realisations").iterdir()
    settings = CacheSettings(name="main", keys=("key",), directory=fresh_store.root / "cache")
    cache = open_cache(settings, {"key": secret}, fresh_store.root, fresh_store.store_dir)
    await cache.put_realisations([Realisation(id=written.name.removesuffix(".doi"), out_path=path)])
    ours = json.loads((fresh_store.root / "cache/realisations" / written.name).read_text())
    assert ours == json.loads(written.read_text())
    await cache.close()


async def test_whoever_may_read_the_files(world: World) -> None:
    outer, _ = built(world.store)
    before = os.umask(0o077)
    try:
        await world.publish(outer)
    finally:
        os.umask(before)
    objects = [path for path in world.directory.rglob("*") if ".scratch" not in path.parts]
    assert {path.stat().st_mode & 0o777 for path in objects if path.is_file()} == {0o644}
    assert {path.stat().st_mode & 0o777 for path in [world.directory, *objects] if path.is_dir()} == {0o755}


async def test_a_second_push_goes_on_where_the_first_was_broken_off(world: World) -> None:
    outer, inner = built(world.store)
    infos = await world.closure(outer)
    first = await world.cache.push(infos[:1], world.contents)
    assert first.new == {inner}
    second = await asyncio.gather(*(world.cache.push(infos, world.contents) for _ in range(3)))
    assert [inner in pushed.known for pushed in second] == [True] * 3
    assert sum(outer in pushed.new for pushed in second) == 1
    assert all(pushed.new | pushed.known == {outer, inner} for pushed in second)
