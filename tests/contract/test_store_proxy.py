"""The store proxy against clients made by hand, in front of a daemon that records every byte it gets."""

import asyncio
import contextlib
import hashlib
import struct
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nixmill.core.store_view import StoreView
from nixmill.doors import DoorError
from nixmill.edge.sandbox import store_proxy
from nixmill.edge.sandbox.store_proxy import StoreProxy
from nixmill.nix import content_address, wire
from nixmill.nix.content_address import METHODS, ContentAddress
from nixmill.nix.store_path import StorePath
from nixmill.nix.worker_protocol import CLIENT_MAGIC, RemoteError
from nixmill.nix.worker_requests import Opcode, encode
from tests.support.proxied_store import RecordingDaemon, hand_client, proxied, spawning
from tests.support.scratch_store import ScratchStore

STORE = "/nix/store"
GIVEN = StorePath(f"{STORE}/{'0' * 32}-given")
FOREIGN = f"{STORE}/{'1' * 32}-foreign"


@contextlib.asynccontextmanager
async def recorded(
    *, bytes_max: int = 1 << 30, paths_max: int = 1000
) -> AsyncIterator[tuple[StoreProxy, RecordingDaemon, Path]]:
    """Serve a view of one path in front of a recording daemon; at the end all its clients have gone."""
    daemon = RecordingDaemon()

    async def expose(path: StorePath) -> None:
        del path

    with tempfile.TemporaryDirectory(prefix="nm", dir="/tmp") as directory:
        address = Path(directory) / "s"
        view = StoreView([GIVEN], bytes_max=bytes_max, paths_max=paths_max)
        async with StoreProxy(address, daemon.connect, view, expose) as proxy:
            yield proxy, daemon, address
        await daemon.ended()


REFUSED = {
    Opcode.ADD_INDIRECT_ROOT: ("/root/link",),
    Opcode.ADD_PERM_ROOT: (GIVEN, "/root/link"),
    Opcode.ADD_SIGNATURES: (GIVEN, ("key:AAAA",)),
    Opcode.BUILD_PATHS: ((f"{GIVEN}.drv!out",), 0),
    Opcode.BUILD_PATHS_WITH_RESULTS: ((f"{GIVEN}.drv!out",), 0),
    Opcode.BUILD_DERIVATION: (f"{GIVEN}.drv", 0, (), "x", "/bin/sh", (), 0, 0),
    Opcode.COLLECT_GARBAGE: (2, (), 0, 0, 0, 0, 0),
    Opcode.ENSURE_PATH: (FOREIGN,),
    Opcode.FIND_ROOTS: (),
    Opcode.NAR_FROM_PATH: (FOREIGN,),
    Opcode.OPTIMISE_STORE: (),
    Opcode.QUERY_ALL_VALID_PATHS: (),
    Opcode.QUERY_DERIVATION_OUTPUT_MAP: (FOREIGN,),
    Opcode.QUERY_REALISATION: ("sha256:00!out",),
    Opcode.QUERY_REFERRERS: (GIVEN,),
    Opcode.QUERY_VALID_DERIVERS: (GIVEN,),
    Opcode.REGISTER_DRV_OUTPUT: ("{}",),
    Opcode.SYNC_WITH_GC: (),
    Opcode.VERIFY_STORE: (1, 1),
    Opcode.IS_VALID_PATH: ("/etc/passwd",),
    Opcode.ADD_TEMP_ROOT: (f"{STORE}/../../etc/passwd",),
    Opcode.ADD_TEXT_TO_STORE: ("x", b"text", (FOREIGN,)),
}


@pytest.mark.parametrize("minor", [32, 34, 38])
async def test_what_is_not_allowed_is_refused_and_the_connection_goes_on(minor: int) -> None:
    async with recorded() as (proxy, daemon, address):
        async with hand_client(address, minor) as client:
            for opcode, arguments in REFUSED.items():
                assert "refused" in await client.refusal(opcode, *arguments), opcode
            assert "refused" in await client.refusal(Opcode.ADD_BUILD_LOG, "x.drv", framed=b"log")
            await client.ask(Opcode.IS_VALID_PATH, FOREIGN)
            assert await client.number() == 0
        assert len(proxy.refused) > 15
    assert daemon.received == b""


LOCAL = {
    Opcode.SET_OPTIONS: (*range(12), 1, "build-hook", "/evil"),
    Opcode.ADD_TEMP_ROOT: (FOREIGN,),
    Opcode.QUERY_PATH_INFO: (FOREIGN,),
    Opcode.QUERY_VALID_PATHS: ((FOREIGN,), 1),
    Opcode.QUERY_SUBSTITUTABLE_PATHS: ((FOREIGN, GIVEN),),
    Opcode.QUERY_SUBSTITUTABLE_PATH_INFOS: (1, FOREIGN, ""),
    Opcode.QUERY_PATH_FROM_HASH_PART: ("1" * 32,),
}


async def test_what_lies_outside_the_view_is_answered_without_asking() -> None:
    async with recorded() as (proxy, daemon, address):
        async with hand_client(address) as client:
            for opcode, arguments in LOCAL.items():
                await client.ask(opcode, *arguments)
                if opcode is not Opcode.SET_OPTIONS:
                    assert await client.number() == (opcode is Opcode.ADD_TEMP_ROOT), opcode
            await client.ask(Opcode.QUERY_MISSING, (f"{FOREIGN}.drv!out", FOREIGN))
            assert [await client.number(), await client.number()] == [0, 0]
            assert await client.texts() == [FOREIGN, f"{FOREIGN}.drv"]
        assert proxy.refused == []
    assert daemon.received == b""


NOT_ADDED = {
    "name climbs": ("../../x", "text:sha256", (), 0),
    "name has a slash": ("a/b", "text:sha256", (), 0),
    "name has a newline": ("a\nb", "text:sha256", (), 0),
    "name has a NUL": ("a\0b", "text:sha256", (), 0),
    "name is a dot": ("..", "text:sha256", (), 0),
    "name is too long": ("x" * 212, "text:sha256", (), 0),
    "name is empty": ("", "text:sha256", (), 0),
    "unknown method": ("x", "fixed:evil", (), 0),
    "experimental method": ("x", "fixed:git:sha1", (), 0),
    "foreign reference": ("x", "fixed:r:sha256", (FOREIGN,), 0),
    "repair": ("x", "fixed:r:sha256", (), 1),
    "derivation as a file": ("x.drv", "fixed:sha256", (), 0),
    "derivation as a directory": ("x.drv", "fixed:r:sha256", (), 0),
    "malformed derivation": ("x.drv", "text:sha256", (), 0),
}


@pytest.mark.parametrize("case", NOT_ADDED)
async def test_what_may_not_be_added_is_dropped_whole(case: str) -> None:
    smuggled = encode(Opcode.COLLECT_GARBAGE, 2, (), 0, 0, 0, 0, 0)
    async with recorded() as (_, daemon, address), hand_client(address) as client:
        assert "refused" in await client.refusal(Opcode.ADD_TO_STORE, *NOT_ADDED[case], framed=smuggled)
        await client.ask(Opcode.IS_VALID_PATH, FOREIGN)
        assert await client.number() == 0
        assert daemon.received == b""


async def test_the_frames_a_daemon_gets_can_be_no_operation() -> None:
    """A daemon that fails before it reads frames takes the first length for an operation: 2 is none."""
    smuggled = encode(Opcode.COLLECT_GARBAGE, 2, (), 0, 0, 0, 0, 0)[8:]
    async with recorded() as (_, daemon, address):
        async with hand_client(address) as client:
            client.to.write(encode(Opcode.ADD_TO_STORE, "x", "text:sha256", (), 0))
            for piece in (wire.u64(Opcode.COLLECT_GARBAGE), smuggled[:20], wire.END_OF_FRAMES):
                client.to.write(piece)
            client.to.write(wire.END_OF_FRAMES)
            expected = encode(Opcode.ADD_TO_STORE, "x", "text:sha256", (), 0) + wire.u64(2)
            async with asyncio.timeout(20):
                while len(daemon.received) < len(expected):  # noqa: ASYNC110 - the recorder tells nobody
                    await asyncio.sleep(0.001)
        assert daemon.received.startswith(expected)


BROKEN = {
    "unknown operation": wire.u64(99),
    "huge operation": wire.u64(2**64 - 1),
    "huge string": wire.u64(Opcode.IS_VALID_PATH) + wire.u64(2**63),
    "huge list": wire.u64(Opcode.QUERY_VALID_PATHS) + wire.u64(2**40),
    "bad padding": wire.u64(Opcode.IS_VALID_PATH) + wire.u64(1) + b"xyyyyyyy",
    "long list of long names": wire.u64(Opcode.QUERY_VALID_PATHS) + wire.u64(65536) + wire.string("x" * 1024) * 33000,
}


@pytest.mark.parametrize("case", BROKEN)
async def test_what_cannot_be_parsed_ends_the_connection_with_a_sentence(case: str) -> None:
    async with recorded() as (proxy, daemon, address):
        async with hand_client(address) as client:
            client.to.write(BROKEN[case])
            assert b"refused, and the connection ends" in await client.rest()
        assert len(proxy.refused) == 1
    assert daemon.received == b""


async def test_too_many_bytes_end_the_connection() -> None:
    async with recorded(bytes_max=1000) as (_, daemon, address), hand_client(address) as client:
        client.to.write(encode(Opcode.ADD_TO_STORE, "x", "text:sha256", (), 0) + wire.u64(2**60))
        assert b"more than 1000 bytes" in await client.rest()
    assert daemon.received == b""


async def test_too_many_paths_are_refused() -> None:
    async with recorded(paths_max=0) as (_, _, address), hand_client(address) as client:
        assert "has added 0 paths" in await client.refusal(Opcode.ADD_TEXT_TO_STORE, "x", b"text", ())


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.0\r\n\r\n", wire.u64(CLIENT_MAGIC) + wire.u64(0x10A)])
async def test_whoever_is_no_client_of_our_time_is_not_greeted(greeting: bytes) -> None:
    async with recorded() as (proxy, daemon, address):
        async with hand_client(address, None) as client:
            client.to.write(greeting)
            await client.rest()
        assert len(proxy.refused) == 1
    assert daemon.received == b""


async def test_connections_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_proxy, "CONNECTIONS_MAX", 2)
    async with recorded() as (_, daemon, address):
        async with hand_client(address), hand_client(address):
            with pytest.raises(RemoteError, match="more than 2 connections"):
                async with hand_client(address):
                    pass
        assert daemon.connections == 2


async def test_a_daemon_that_cannot_be_reached_is_explained(tmp_path: Path) -> None:
    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        raise DoorError("It is out.", door="store", action="connect", subject="x", retryable=True)

    async def expose(path: StorePath) -> None:
        del path

    async with StoreProxy(tmp_path / "s", connect, StoreView([]), expose):
        with pytest.raises(RemoteError, match="cannot be reached: It is out"):
            async with hand_client(tmp_path / "s"):
                pass


opcodes = st.sampled_from([*map(int, Opcode), 0, 2, 1000, 2**63]).map(wire.u64)
pieces = st.one_of(
    opcodes,
    st.integers(0, 40).map(wire.u64),
    st.sampled_from([GIVEN, FOREIGN, "x", "text:sha256", "x.drv"]).map(wire.string),
    st.binary(max_size=24),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(pieces, max_size=12).map(b"".join))
def test_no_garbage_hangs_the_proxy_or_reaches_the_daemon_unparsed(data: bytes) -> None:
    async def attempt() -> bytes:
        async with recorded() as (_, daemon, address):
            async with hand_client(address) as client:
                client.to.write(data)
                client.to.write_eof()
                # A request that was passed on waits for the daemon's answer, which the recorder never gives.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await client.rest()
            return bytes(daemon.received)

    received = asyncio.run(attempt())
    if received:
        allowed = {Opcode.ADD_TEMP_ROOT, Opcode.ADD_TEXT_TO_STORE, Opcode.ADD_TO_STORE, Opcode.ENSURE_PATH}
        allowed |= {Opcode.IS_VALID_PATH, Opcode.NAR_FROM_PATH, Opcode.QUERY_DERIVATION_OUTPUT_MAP}
        allowed |= {Opcode.QUERY_PATH_INFO, Opcode.QUERY_VALID_PATHS}
        assert struct.unpack_from("<Q", received)[0] in allowed


def nar_of(content: bytes) -> bytes:
    """Return the NAR of one file."""
    words: tuple[str | bytes, ...] = ("nix-archive-1", "(", "type", "regular", "contents", content, ")")
    return b"".join(map(wire.string, words))


def proved(name: str, content: bytes, store_dir: str, method: str = "fixed:r:sha256") -> tuple[str, str, str, int]:
    """Return path, hash of the NAR, content address and size."""
    archive = nar_of(content)
    subject = archive if METHODS[method].kind == "nar" else content
    address = ContentAddress(METHODS[method], hashlib.new(METHODS[method].algorithm, subject).digest())
    path = content_address.path_of(address, name, (), store_dir)
    return path, hashlib.sha256(archive).hexdigest(), content_address.render(address), len(archive)


@pytest.mark.parametrize("method", ["fixed:r:sha256", "fixed:sha256", "fixed:r:sha1", "fixed:sha512", "text:sha256"])
async def test_content_addressed_archives_are_added(fresh_store: ScratchStore, method: str) -> None:
    content = b"swordfish" * 20000
    path, nar_hash, address, size = proved("x", content, fresh_store.store_dir, method)
    async with proxied(fresh_store) as world, hand_client(world.address) as client:
        request = (Opcode.ADD_TO_STORE_NAR, path, "", nar_hash, (), 0, size, 1, (), address, 0, 1)
        await client.ask(*request, framed=nar_of(content))
        assert world.shown == [path]
        await client.ask(Opcode.NAR_FROM_PATH, path)
        for word in ("nix-archive-1", "(", "type", "regular", "contents"):
            assert await client.text() == word
        assert (await client.text()).encode() == content


@pytest.mark.parametrize("many", [False, True])
async def test_a_hash_alone_brings_no_path_into_view(fresh_store: ScratchStore, many: bool) -> None:  # noqa: FBT001
    """A daemon does not look at the archive of a path that it has."""
    content = b"swordfish"
    for method in ("fixed:r:sha256", "fixed:sha256", "text:sha256"):
        path, nar_hash, address, size = proved("x", content, fresh_store.store_dir, method)
        known = wire.string(path) + wire.string("") + wire.string(nar_hash) + wire.strings(()) + wire.u64(0)
        known += wire.u64(size) + wire.u64(0) + wire.strings(()) + wire.string(address)
        async with proxied(fresh_store) as world, hand_client(world.address) as client:
            request = (Opcode.ADD_TO_STORE_NAR, path, "", nar_hash, (), 0, size, 0, (), address, 0, 0)
            await client.ask(*request, framed=nar_of(content))
            assert world.shown == [path]
        async with proxied(fresh_store) as world, hand_client(world.address) as client:
            if many:
                stolen = wire.u64(1) + known + nar_of(b"sw0rdfish")
                sentence = await client.refusal(Opcode.ADD_MULTIPLE_TO_STORE, 0, 1, framed=stolen)
            else:
                sentence = await client.refusal(*request, framed=nar_of(b"sw0rdfish"))
            assert "is not what the path stands for" in sentence
            assert world.shown == []
            await client.ask(Opcode.IS_VALID_PATH, path)
            assert await client.number() == 0
            await client.ask(Opcode.ADD_MULTIPLE_TO_STORE, 0, 1, framed=wire.u64(1) + known + nar_of(content))
            assert world.shown == [path]


async def test_results_of_builds_are_not_imported(fresh_store: ScratchStore) -> None:
    archive = nar_of(b"evil")
    path = f"{fresh_store.store_dir}/{'0' * 32}-hello"
    digest = hashlib.sha256(archive).hexdigest()
    _, _, other, _ = proved("hello", b"evil", fresh_store.store_dir)
    async with proxied(fresh_store) as world, hand_client(world.address) as client:
        for address, reason in (
            ("", "not content-addressed"),
            (other, "belong to"),
            ("fixed:git:sha1:00", "not one of"),
        ):
            request = (Opcode.ADD_TO_STORE_NAR, path, "", digest, (), 0, len(archive), 1, (), address, 0, 1)
            assert reason in await client.refusal(*request, framed=archive)
        await client.ask(Opcode.QUERY_PATH_INFO, path)
        assert await client.number() == 0
    assert not await asyncio.to_thread(Path(path).exists)


async def test_a_large_file_is_streamed(fresh_store: ScratchStore) -> None:
    content = bytes(range(256)) * 4 * 1024 * 24
    async with proxied(fresh_store) as world, hand_client(world.address) as client:
        await client.ask(Opcode.ADD_TO_STORE, "large", "fixed:sha256", (), 0, framed=content)
        path = await client.text()
        assert await asyncio.to_thread(Path(path).read_bytes) == content
        assert world.shown == [path]
        assert len(world.proxy.view.find(path) or "") > 0


async def test_a_client_that_goes_in_the_middle_leaves_nothing(fresh_store: ScratchStore) -> None:
    async with proxied(fresh_store) as world:
        async with hand_client(world.address) as client:
            client.to.write(encode(Opcode.ADD_TO_STORE, "x", "fixed:r:sha256", (), 0) + wire.u64(100) + b"1234")
            await client.to.drain()
        async with hand_client(world.address) as client:
            await client.ask(Opcode.ADD_TEXT_TO_STORE, "x", b"text", ())
            assert (await client.text()).endswith("-x")
    assert len(world.shown) == 1


async def test_a_daemons_error_is_passed_on_and_the_connection_goes_on(fresh_store: ScratchStore) -> None:
    gone = StorePath(f"{fresh_store.store_dir}/{'0' * 32}-gone")
    async with proxied(fresh_store, [gone]) as world, hand_client(world.address) as client:
        with pytest.raises(RemoteError, match="gone"):
            await client.ask(Opcode.ENSURE_PATH, gone)
        await client.ask(Opcode.IS_VALID_PATH, gone)
        assert await client.number() == 0
    assert world.proxy.refused == []


async def test_a_path_that_cannot_be_shown_ends_the_connection(fresh_store: ScratchStore) -> None:
    async def expose(path: StorePath) -> None:
        raise OSError(5, "Input/output error", path)

    daemons: list[Process] = []
    address = fresh_store.root / "proxy"
    view = StoreView([], store_dir=fresh_store.store_dir)
    async with StoreProxy(address, spawning(fresh_store, daemons), view, expose), hand_client(address) as client:
        sentence = await client.refusal(Opcode.ADD_TEXT_TO_STORE, "x", b"text", ())
        assert "could not be made visible in the sandbox" in sentence
        assert await client.rest() == b""
    await asyncio.gather(*(daemon.wait() for daemon in daemons))


async def test_a_path_is_shown_once_before_anybody_hears_of_it(fresh_store: ScratchStore) -> None:
    shown: list[StorePath] = []
    asked, go = asyncio.Event(), asyncio.Event()

    async def expose(path: StorePath) -> None:
        shown.append(path)
        asked.set()
        await go.wait()

    daemons: list[Process] = []
    address = fresh_store.root / "proxy"
    view = StoreView([], store_dir=fresh_store.store_dir)
    async with (
        StoreProxy(address, spawning(fresh_store, daemons), view, expose),
        hand_client(address) as one,
        hand_client(address) as two,
    ):
        answers = [
            asyncio.ensure_future(client.ask(Opcode.ADD_TEXT_TO_STORE, "x", b"text", ())) for client in (one, two)
        ]
        await asked.wait()
        assert not any(answer.done() for answer in answers)
        go.set()
        await asyncio.gather(*answers)
        assert shown == [await one.text()] == [await two.text()]
    await asyncio.gather(*(daemon.wait() for daemon in daemons))
