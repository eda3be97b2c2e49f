"""`nixmill cache` as who looks after a server uses it: the whole program, a real cache on disk, a real store."""

import asyncio
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import structlog

from nixmill.config.caches import CacheSettings
from nixmill.core.pin import HandPin
from nixmill.core.publish import CacheRule
from nixmill.core.roots import RootRules
from nixmill.core.upload import UploadState
from nixmill.edge.binary_cache.contents import StoreContents
from nixmill.edge.binary_cache.open import open_cache
from nixmill.edge.cache_lock_files import CacheLockFiles
from nixmill.edge.daemon import open_store
from nixmill.edge.database.database import open_database
from nixmill.edge.database.pins import SqlPins
from nixmill.edge.database.uploads import SqlUploads
from nixmill.edge.system_clock import SystemClock
from nixmill.engine.cache_locks import CacheLocks
from nixmill.engine.publisher import Publisher
from nixmill.nix.signature import PublicKey, public_key
from nixmill.nix.store_path import StorePath, hash_part
from tests.support.nix_world import Spec, instantiate, realise, run, settings_of
from tests.support.program import NIXMILL, Done
from tests.support.scratch_store import ScratchStore

LIMIT_S = 120
DEP = Spec("dep", "echo something to rely on > $out")
APP = Spec("app", "echo made with $inputs > $out", inputs=[DEP])
OTHER = Spec("other", "echo alone > $out")


class Machine:
    """A server's settings with one cache, and the store that its results are in."""

    def __init__(self, store: ScratchStore, directory: Path) -> None:
        self.store = store
        self.directory = directory
        self.shelf = directory / "shelf"
        self.database = directory / "state" / "nixmill.sqlite"
        self.key = directory / "main.key"
        self.configure()
        self.public: PublicKey = public_key(self.nixmill("cache", "key", "new", "main-1", str(self.key)).out.strip())
        self.drvs = instantiate(store, APP, OTHER)
        self.app, self.other = (realise(store, drv) for drv in self.drvs)
        references = run(store, "nix-store", "--query", "--references", self.app).split()
        (self.dep,) = (StorePath(path) for path in references)

    def configure(self, *lines: str) -> None:
        """Write the settings, with further ones for the cache."""
        cache = ['[[cache]]\nname = "main"\nkeys = ["main"]\ndirectory = "shelf"\ngrace-hours = 0', *lines]
        head = 'state = "state"\n[credentials]\nmain = "main.key"\n'
        (self.directory / "server.toml").write_text(head + "\n".join(cache) + "\n")

    def nixmill(self, *arguments: str) -> Done:
        environment = {**self.store.environment, "NIXMILL_CONFIG": str(self.directory / "server.toml")}
        done = subprocess.run(
            (*NIXMILL, *arguments),
            env=environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    async def publish(self, paths: Sequence[StorePath]) -> None:
        """Publish paths, each after what it refers to."""
        settings = CacheSettings(name="main", keys=("main",), directory=self.shelf)
        cache = open_cache(settings, {"main": self.key}, self.directory / "state", self.store.store_dir)
        async with open_store("stdio", settings_of(self.store)) as store:
            infos = await store.path_infos(paths)
            await cache.prepare()
            pushed = await cache.push([infos[path] for path in paths], StoreContents(store))
        await cache.close()
        assert not pushed.faults

    async def publish_what_waits(self) -> None:
        """Be the server's publisher until nothing waits any more."""
        settings = CacheSettings(name="main", keys=("main",), directory=self.shelf)
        cache = open_cache(settings, {"main": self.key}, self.directory / "state", self.store.store_dir)
        clock = SystemClock()
        async with (
            open_database(self.database) as database,
            open_store("stdio", settings_of(self.store)) as store,
            asyncio.timeout(LIMIT_S),
        ):
            uploads = SqlUploads(database, clock.now)
            rules = {"main": CacheRule(name="main")}
            publisher = Publisher(
                store, StoreContents(store), {"main": cache}, rules, uploads, clock, structlog.get_logger()
            )
            running = asyncio.create_task(publisher.run())
            while (await uploads.counts())["main"].keys() != {UploadState.DONE.value}:  # noqa: ASYNC110 - a database
                await asyncio.sleep(0.05)
            running.cancel()
        await cache.close()

    def narinfo(self, path: StorePath) -> Path:
        return self.shelf / f"{hash_part(path)}.narinfo"

    def archive(self, path: StorePath) -> Path:
        lines = self.narinfo(path).read_text().splitlines()
        return self.shelf / next(line.removeprefix("URL: ") for line in lines if line.startswith("URL: "))

    def grow_old(self, days: float) -> None:
        """Make all files of the cache look older."""
        for file in self.shelf.rglob("*"):
            then = time.time() - days * 86_400
            os.utime(file, (then, then))


@pytest.fixture
def machine(fresh_store: ScratchStore, tmp_path: Path) -> Machine:
    return Machine(fresh_store, tmp_path)


def flip(file: Path) -> None:
    """Change one byte in the middle of a file."""
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF
    file.chmod(0o644)
    file.write_bytes(data)


def test_a_key_is_for_its_owner_alone_and_is_never_written_over(machine: Machine) -> None:
    assert machine.key.stat().st_mode & 0o777 == 0o600
    shown = machine.nixmill("cache", "key", "show", str(machine.key))
    assert shown.out.startswith("main-1:")
    before = machine.key.read_text()
    again = machine.nixmill("cache", "key", "new", "main-2", str(machine.key))
    assert again.code == 2
    assert "left as it is" in again.err
    assert machine.key.read_text() == before
    assert before.strip().partition(":")[2] not in shown.out + shown.err


async def test_what_is_in_caches_and_how_to_use_them_is_told(machine: Machine) -> None:
    await machine.publish([machine.dep, machine.app])
    listed = machine.nixmill("cache", "list")
    assert listed.code == 0, listed.err
    assert listed.out.splitlines()[1].split()[:4] == ["main", "disk", "branch", "2"]
    shown = machine.nixmill("cache", "show", "main")
    assert "extra-substituters = http://127.0.0.1:8484/cache/main" in shown.out
    assert f"extra-trusted-public-keys = {machine.nixmill('cache', 'key', 'show', str(machine.key)).out}" in shown.out
    absent = machine.nixmill("cache", "show", "absent")
    assert (absent.code, absent.out) == (2, "")
    assert "There is no cache 'absent'" in absent.err


async def test_a_damaged_archive_is_found_and_published_again(machine: Machine) -> None:
    await machine.publish([machine.dep, machine.app, machine.other])
    sound = machine.nixmill("cache", "verify", "main")
    assert (sound.code, sound.out) == (0, ""), sound.err
    flip(machine.archive(machine.app))
    found = machine.nixmill("cache", "verify", "main")
    assert found.code == 1
    assert found.out.splitlines()[0] == machine.app
    assert "--repair" in found.err
    assert machine.narinfo(machine.app).exists()
    repaired = machine.nixmill("cache", "verify", "main", machine.app, "--repair")
    assert (repaired.code, machine.narinfo(machine.app).exists()) == (0, False), repaired.err
    assert "It is in the store, and is published again." in repaired.out
    await machine.publish_what_waits()
    assert machine.nixmill("cache", "verify", "main").code == 0


async def test_what_the_store_lost_is_built_again(machine: Machine) -> None:
    await machine.publish([machine.dep, machine.app])
    flip(machine.archive(machine.app))
    run(machine.store, "nix-store", "--delete", machine.app)
    run(machine.store, "nix-store", "--delete", machine.dep)
    repaired = machine.nixmill("cache", "verify", "main", "--repair")
    assert repaired.code == 0, repaired.err + repaired.out
    assert "It was built again, and is published again." in repaired.out
    await machine.publish_what_waits()
    assert machine.nixmill("cache", "verify", "main").code == 0


async def test_a_narinfo_that_is_none_is_replaced(machine: Machine) -> None:
    await machine.publish([machine.dep, machine.app])
    machine.narinfo(machine.dep).chmod(0o644)
    machine.narinfo(machine.dep).write_text("<html>not found</html>")
    repaired = machine.nixmill("cache", "verify", "main", "--repair")
    assert machine.dep in repaired.out
    await machine.publish_what_waits()
    done = machine.nixmill("cache", "verify", "main")
    assert (done.code, done.out) == (0, ""), done.err


async def test_what_the_cache_does_not_hold_is_told_and_published(machine: Machine) -> None:
    await machine.publish([machine.app])
    found = machine.nixmill("cache", "verify", "main")
    assert (found.code, found.out.splitlines()[0]) == (1, machine.dep)
    assert f"It is not in the cache, and {machine.app} refers to it." in found.out
    assert machine.nixmill("cache", "verify", "main", "--repair").code == 0
    await machine.publish_what_waits()
    assert machine.nixmill("cache", "verify", "main").code == 0


async def test_a_collection_deletes_what_is_too_old_and_nothing_that_is_pinned(machine: Machine) -> None:
    await machine.publish([machine.dep, machine.app, machine.other])
    machine.grow_old(40)
    machine.configure("max-days = 30")
    assert machine.nixmill("cache", "list").code == 0  # makes the database
    async with open_database(machine.database) as database:
        await SqlPins(database, RootRules()).pin(HandPin(store_path=machine.app, reason="released", at=time.time()))
    planned = machine.nixmill("cache", "collect", "main", "--dry-run")
    assert planned.code == 0, planned.err
    assert [line.split()[0] for line in planned.out.splitlines()] == [machine.other]
    assert "published 40.0 days ago; paths are kept for 30 days" in planned.out
    assert machine.narinfo(machine.other).exists()
    archive = machine.archive(machine.other)
    done = machine.nixmill("cache", "collect", "main")
    assert "Deleted: 1 path" in done.err
    assert not machine.narinfo(machine.other).exists()
    assert not archive.exists()
    assert machine.nixmill("cache", "verify", "main").code == 0
    assert machine.nixmill("cache", "collect", "main").out == ""


async def test_a_new_key_signs_what_the_old_one_signed(machine: Machine) -> None:
    await machine.publish([machine.dep, machine.app])
    assert machine.nixmill("cache", "key", "new", "main-2", "new.key").code == 0
    text = (machine.directory / "server.toml").read_text()
    text = text.replace('main = "main.key"', 'main = "main.key"\nnew = "new.key"').replace(
        '["main"]', '["new", "main"]'
    )
    (machine.directory / "server.toml").write_text(text)
    signed = machine.nixmill("cache", "sign", "main")
    assert "Signed anew: 2 paths of main." in signed.err
    assert machine.narinfo(machine.app).read_text().count("Sig: ") == 2
    assert "0 paths of main" in machine.nixmill("cache", "sign", "main").err
    (machine.directory / "server.toml").write_text(text.replace('["new", "main"]', '["new"]'))
    assert machine.nixmill("cache", "verify", "main").code == 0


async def test_a_collection_waits_for_a_push_of_another_process(machine: Machine) -> None:
    await machine.publish([machine.other])
    locks = CacheLocks(CacheLockFiles(machine.directory / "state" / "locks"))
    async with locks.sharing("main"):
        collecting = asyncio.create_task(asyncio.to_thread(machine.nixmill, "cache", "collect", "main"))
        turn = CacheLocks(CacheLockFiles(machine.directory / "state" / "locks"))
        async with asyncio.timeout(LIMIT_S):
            while await _is_free(turn):  # noqa: ASYNC110 - another process takes it
                await asyncio.sleep(0.05)
        assert not collecting.done()
    assert (await collecting).code == 0


async def _is_free(locks: CacheLocks) -> bool:
    """Say whether a push would get the lock at once."""
    try:
        async with asyncio.timeout(0.2), locks.sharing("main"):
            return True
    except TimeoutError:
        return False


def test_nothing_to_try_again_is_said(machine: Machine) -> None:
    done = machine.nixmill("cache", "retry", "main")
    assert (done.code, done.out) == (0, "")
    assert "Tried again: 0 uploads to main" in done.err
    wrong = machine.nixmill("cache", "retry", "main", "hello")
    assert wrong.code == 2
    assert "'hello' is not a path in the store" in wrong.err
