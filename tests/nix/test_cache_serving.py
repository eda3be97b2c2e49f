"""Real Nix downloads from our caches over HTTP, signatures required: from a directory, and straight from the store."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection, Iterator
from pathlib import Path

import msgspec
import pytest

from nixmill.config.caches import CacheSettings
from nixmill.doors.serving import CacheInfo, Served, ServedObject
from nixmill.edge.binary_cache.contents import StoreContents
from nixmill.edge.binary_cache.disk_served import DiskServed
from nixmill.edge.binary_cache.keys import make_key, read_key
from nixmill.edge.binary_cache.names import log_name
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.edge.binary_cache.open import open_cache
from nixmill.edge.binary_cache.store_destination import StoreDestination
from nixmill.edge.binary_cache.store_logs import AttemptLogs
from nixmill.edge.binary_cache.store_served import StoreServed
from nixmill.edge.daemon import open_store
from nixmill.edge.daemon.copying import in_order
from nixmill.edge.daemon.store import DaemonStore
from nixmill.edge.log_files import LogFiles
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath, base_name, hash_part
from nixmill.web.cache_front import CacheFront
from nixmill.web.cache_readers import Readers
from nixmill.web.rate_limit import RateLimit
from tests.support.cache_serving import beyond, cache_server, connected
from tests.support.nix_world import Spec, instantiate, realise, run, settings_of
from tests.support.scratch_store import ScratchStore
from tests.support.server import free_port
from tests.support.web import web_world

MESS = """PATH=/usr/bin:/bin
mkdir -p $out/bin $out/empty $out/A $out/a.b $out/a
echo "$inputs" > $out/a/reference
echo tool > $out/bin/tool; chmod 755 $out/bin/tool
: > $out/bin/nothing
ln -s ../bin/tool $out/A/link
head -c 3000000 /dev/urandom > $out/large
"""
LOG = "unpacking\nbuilding\n"
TOKEN = "a-token-of-the-tests"  # noqa: S105 - opens a cache that lives for a test


class Client:
    """A machine that trusts our key, whose store has the same name as ours."""

    def __init__(self, store: ScratchStore, public: str) -> None:
        self.root = store.root / "client"
        self.cached = self.root / "narinfos"
        self.root.mkdir()
        self.store = store
        self.public = public

    async def run(self, *arguments: str, keys: str | None = None, netrc: Path | None = None) -> str:
        """Run Nix; return what it prints; fail with what it says."""
        code, out, complaint = await self.tried(*arguments, keys=keys, netrc=netrc)
        assert code == 0, complaint
        return out

    async def tried(self, *arguments: str, keys: str | None = None, netrc: Path | None = None) -> tuple[int, str, str]:
        """Run Nix; return code, output and complaints."""
        lines = [
            self.store.environment["NIX_CONFIG"],
            "require-sigs = true",
            f"trusted-public-keys = {self.public if keys is None else keys}",
        ]
        lines += [f"netrc-file = {netrc}"] if netrc is not None else []
        environment = {
            **self.store.environment,
            "NIX_CONFIG": "\n".join(lines),
            "NIX_REMOTE": f"local?real={self.root}/store&state={self.root}/var&log={self.root}/log",
            "XDG_CACHE_HOME": str(self.cached),
        }
        done = await asyncio.to_thread(
            subprocess.run, arguments, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        return done.returncode, done.stdout, done.stderr

    def has(self, path: StorePath) -> Path:
        """Return where a path is on this machine."""
        return self.root / "store" / base_name(path)


class World:
    """A store with a closure of two, published to a cache of some kind."""

    def __init__(self, store: ScratchStore, daemon: DaemonStore) -> None:
        self.store = store
        self.daemon = daemon
        inner = Spec("inner", "echo inner > $out")
        outer = Spec("outer", MESS, inputs=[inner])
        self.drv = instantiate(store, outer)[0]
        self.outer = realise(store, self.drv)
        self.inner = realise(store, instantiate(store, inner)[0])
        self.unpublished = realise(store, instantiate(store, Spec("private", "echo private > $out"))[0])
        self.secret = store.root / "secret"
        self.client = Client(store, make_key(self.secret, "test-1"))
        self.directory = store.root / "cache"
        self.logs = LogFiles(store.root / "logs")

    async def infos(self) -> list[PathInfo]:
        return in_order(await self.daemon.path_infos([self.outer, self.inner]))

    async def disk(self, info: CacheInfo) -> Served:
        settings = CacheSettings(name="main", keys=("key",), directory=self.directory)
        cache = open_cache(settings, {"key": self.secret}, self.store.root / "state", self.store.store_dir)
        await cache.prepare()
        pushed = await cache.push(await self.infos(), StoreContents(self.daemon))
        assert pushed.faults == {}
        await cache.close()
        objects = DiskObjects(self.directory)
        await objects.put(log_name(self.drv), LOG.encode())
        return DiskServed(objects, info)

    async def straight(self, info: CacheInfo) -> StoreServed:
        members = {hash_part(path): path for path in (self.outer, self.inner)}
        log = self.logs.open(7)
        for line in LOG.splitlines():
            log.write(line)
        await log.close()

        async def member(part: str) -> StorePath | None:
            return members.get(part)

        async def newest(name: str) -> int | None:
            return 7 if name == base_name(self.drv) else None

        return StoreServed(
            self.daemon,
            member,
            [read_key(self.secret)],
            info,
            monotonic=time.monotonic,
            logs=AttemptLogs(self.logs, newest),
        )

    async def served(self, kind: str, *, private: bool = False) -> Served:
        info = CacheInfo(store_dir=self.store.store_dir, private=private)
        return await (self.disk(info) if kind == "disk" else self.straight(info))


@pytest.fixture
async def world(fresh_store: ScratchStore) -> AsyncIterator[World]:
    async with open_store("stdio", settings_of(fresh_store)) as daemon:
        made = World(fresh_store, daemon)
        yield made
        await made.logs.close()


@pytest.fixture(params=["disk", "store"])
async def url(request: pytest.FixtureRequest, world: World) -> AsyncIterator[str]:
    """Serve the closure from a directory, or straight from the store."""
    async with cache_server(CacheFront(beyond, {"x": await world.served(request.param)})) as base:
        yield base


def dump(path: Path) -> bytes:
    return subprocess.run(["nix-store", "--dump", str(path)], capture_output=True, check=True).stdout


async def test_nix_copies_a_closure_from_a_cache(world: World, url: str) -> None:
    await world.client.run("nix", "copy", "--from", f"{url}/cache/x", world.outer)
    assert world.client.has(world.inner).read_text() == "inner\n"
    assert dump(world.client.has(world.outer)) == dump(Path(world.outer))


async def test_nix_wants_our_signature(world: World, url: str) -> None:
    other = make_key(world.store.root / "other", "test-1")
    code, _, complaint = await world.client.tried("nix", "copy", "--from", f"{url}/cache/x", world.outer, keys=other)
    assert code != 0
    assert "signature" in complaint


async def test_nix_substitutes_from_hydras_addresses(world: World, url: str) -> None:
    await world.client.run("nix-store", "--realise", world.outer, "--option", "substituters", url)
    assert world.client.has(world.outer).is_dir()


async def test_nix_asks_what_a_cache_holds(world: World, url: str) -> None:
    address = f"{url}/cache/x"
    shown = json.loads(await world.client.run("nix", "path-info", "--store", address, "--json", "-r", world.outer))
    listed = shown if isinstance(shown, list) else [{"path": path, **facts} for path, facts in shown.items()]
    names = {one["path"].rpartition("/")[2] for one in listed}
    assert names == {base_name(world.outer), base_name(world.inner)}
    code, _, _ = await world.client.tried("nix", "path-info", "--store", address, world.unpublished)
    assert code != 0


async def test_nix_reads_a_build_log(world: World, url: str) -> None:
    assert await world.client.run("nix", "log", "--store", f"{url}/cache/x", world.outer) == LOG


async def test_a_narinfo_at_the_root_names_the_output_and_an_archive_of_its_size(world: World, url: str) -> None:
    async with connected(url) as client:
        reply = await client.ask(f"/{hash_part(world.outer)}.narinfo")
        fields = dict(line.split(": ", 1) for line in reply.body.decode().splitlines())
        assert fields["StorePath"] == world.outer
        archive = await client.ask(f"/{fields['URL']}")
        assert len(archive.body) == int(fields.get("FileSize", fields["NarSize"]))
        part = await client.ask(f"/{fields['URL']}", Range="bytes=1000000-2000000")
        assert (part.code, part.body) == (206, archive.body[1_000_000:2_000_001])
        assert (await client.ask(f"/{hash_part(world.unpublished)}.narinfo")).code == 404


async def test_a_listing_is_that_of_nix(world: World, url: str) -> None:
    theirs = world.store.root / "theirs"
    run(world.store, "nix", "copy", "--to", f"file://{theirs}?write-nar-listing=1", world.outer)
    name = f"{hash_part(world.outer)}.ls"
    async with connected(url) as client:
        ours = msgspec.json.decode((await client.ask(f"/{name}")).body)
    expected = msgspec.json.decode((theirs / name).read_bytes())
    expected["root"]["entries"]["bin"]["entries"]["nothing"].pop("narOffset", None)
    ours["root"]["entries"]["bin"]["entries"]["nothing"].pop("narOffset", None)
    assert ours == expected


class MemoryShelf:
    """Members in memory."""

    def __init__(self, held: set[StorePath]) -> None:
        self.held = held

    async def members(self, paths: Collection[StorePath]) -> set[StorePath]:
        return self.held.intersection(paths)

    async def add(self, paths: Collection[StorePath]) -> None:
        self.held.update(paths)


async def test_what_is_served_straight_from_the_store_is_published_by_being_valid(world: World) -> None:
    infos = await world.infos()
    shelf = MemoryShelf({info.path for info in infos})
    destination = StoreDestination(world.daemon, shelf)
    assert await destination.lacks([info.path for info in infos]) == set()
    assert await destination.lacks([world.unpublished]) == {world.unpublished}
    gone = StorePath(f"{world.store.store_dir}/{'0' * 32}-gone")
    needs_it = msgspec.structs.replace(infos[1], references=(gone,))
    lost = msgspec.structs.replace(infos[0], path=gone)
    shelf.held.clear()
    pushed = await destination.push([lost, needs_it, infos[0]], StoreContents(world.daemon))
    assert pushed.new == {infos[0].path}
    assert set(pushed.faults) == {gone, needs_it.path}
    assert shelf.held == {infos[0].path}


async def test_an_archive_whose_path_was_lost_is_broken_off_or_not_there(world: World) -> None:
    served = await world.straight(CacheInfo(store_dir=world.store.store_dir))
    narinfo = await served.open(f"{hash_part(world.outer)}.narinfo")
    assert narinfo is not None
    assert isinstance(narinfo.content, bytes)
    name = next(line for line in narinfo.content.decode().splitlines() if line.startswith("URL: "))[5:]
    assert isinstance(await served.open(name), ServedObject)
    assert await served.open(f"nar/{'0' * 52}-{hash_part(world.outer)}.nar") is None
    assert await served.open(f"realisations/sha256:{'0' * 64}!out.doi") is None


@pytest.mark.parametrize("kind", ["disk", "store"])
async def test_a_private_cache_is_read_with_a_netrc_file(world: World, kind: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    served = await world.served(kind, private=True)
    async with web_world() as web:
        readers = Readers([tmp_path / "token"], [], doors=web.site, tries=RateLimit(10, time.monotonic))
        front = CacheFront(beyond, {"x": served}, readers={"x": readers})
        async with cache_server(front) as base:
            netrc = tmp_path / "netrc"
            netrc.write_text(f"machine 127.0.0.1 login anybody password {TOKEN}\n")
            copy = ("nix", "copy", "--from", f"{base}/cache/x", world.outer)
            assert (await world.client.tried(*copy))[0] != 0
            await world.client.run(*copy, netrc=netrc)
    assert world.client.has(world.inner).is_file()


@contextlib.contextmanager
def cache_process(port: int, world: World, after: int = 0) -> Iterator["subprocess.Popen[str]"]:
    arguments = [sys.executable, "-m", "tests.support.cache_process", str(port), str(world.directory)]
    with subprocess.Popen(
        [*arguments, world.store.store_dir, str(after)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def answers(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(ConnectionError):
                async with connected(f"http://127.0.0.1:{port}"):
                    return
            await asyncio.sleep(0.01)


async def test_a_download_goes_on_where_a_killed_server_left_it(world: World) -> None:
    await world.disk(CacheInfo())
    port = free_port()
    with cache_process(port, world, after=1_000_000) as first:
        await answers(port)
        copying = asyncio.create_task(
            world.client.tried("nix", "copy", "--from", f"http://127.0.0.1:{port}", world.outer)
        )
        assert await asyncio.to_thread(first.wait, 60) == -9
    with cache_process(port, world) as second:
        code, _, complaint = await copying
        second.kill()
        asked = second.communicate()[0].split()
    assert code == 0, complaint
    assert dump(world.client.has(world.outer)) == dump(Path(world.outer))
    resumed = [int(text.removeprefix("bytes=").removesuffix("-")) for text in asked if text.startswith("bytes=")]
    assert resumed, asked
    assert all(0 < at <= 1_100_000 for at in resumed)
