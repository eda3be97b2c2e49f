"""The daemon's edge against real daemons: how connections begin, live and end."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from nixmill.core.errors import InputError
from nixmill.doors import BuildLimits, DoorError, NotAllowedError
from nixmill.edge.daemon import DaemonBuilder, open_store
from nixmill.edge.daemon.errors import ConnectionLostError, GarbledError
from nixmill.edge.daemon.store import DaemonStore
from nixmill.edge.daemon.transport import open_socket
from nixmill.nix import wire
from nixmill.nix.hashes import ALPHABET
from nixmill.nix.store_path import StorePath
from tests.support.nix_world import (
    Recorder,
    Spec,
    instantiate,
    listening_daemon,
    make_cache,
    nix_version,
    realise,
    run,
    settings_of,
)
from tests.support.scratch_store import ScratchStore

NO_LIMITS = BuildLimits()


def contents(path: str) -> str | None:
    return Path(path).read_text() if Path(path).exists() else None


def numbered(store: ScratchStore, count: int) -> list[StorePath]:
    """Return well-formed paths that are not valid."""
    digits = [
        ALPHABET[number // 1024 % 32] + ALPHABET[number // 32 % 32] + ALPHABET[number % 32] for number in range(count)
    ]
    return [StorePath(f"{store.store_dir}/{digit}{'0' * 29}-absent-{n}") for n, digit in enumerate(digits)]


@pytest.mark.parametrize("address", ["auto", "stdio", "daemon", "unix"])
async def test_every_local_address_reaches_the_same_store(fresh_store: ScratchStore, address: str) -> None:
    drv_path = instantiate(fresh_store, Spec("x", "echo > $out"))[0]
    with listening_daemon(fresh_store) as path:
        async with open_store(f"unix://{path}" if address == "unix" else address, settings_of(fresh_store)) as opened:
            assert await opened.valid([drv_path]) == {drv_path}


async def test_the_handshake_tells_version_protocol_and_trust(store: ScratchStore) -> None:
    async with open_store("stdio", settings_of(store)) as opened:
        assert opened.facts.nix_version == ".".join(map(str, nix_version(store)))
        assert 34 <= opened.facts.minor <= 38
        assert opened.facts.trusted is (True if opened.facts.minor >= 35 else None)


@pytest.mark.parametrize("minor", [32, 33, 34, 35, 37, 38])
async def test_every_protocol_the_daemon_knows_builds(fresh_store: ScratchStore, minor: int) -> None:
    inner = Spec("inner", "echo inner > $out")
    drv_path, inner_path = instantiate(
        fresh_store, Spec("outer", "read x < $inputs; echo $x > $out", inputs=[inner]), inner
    )
    async with open_store("stdio", settings_of(fresh_store, newest_minor=minor)) as opened:
        builder = DaemonBuilder(opened)
        assert (await builder.build(inner_path, NO_LIMITS, Recorder())).good
        recorder = Recorder()

        result = await builder.build(drv_path, NO_LIMITS, recorder)

        assert opened.facts.minor <= minor
        assert recorder.starts == 1
        assert contents(result.outputs["out"]) == "inner\n"
        assert (await opened.path_infos([drv_path])).keys() == {drv_path}


async def test_ten_thousand_paths_are_held_together_at_half_the_price_of_one_by_one(store: ScratchStore) -> None:
    drv_path = instantiate(store, Spec("among-many", "echo > $out"))[0]
    paths = [*numbered(store, 10_000), drv_path]
    async with open_store("stdio", settings_of(store)) as opened:
        found = await opened.hold(paths)
        together, alone = [], []
        for _ in range(3):  # the best of each: others may be busy here
            start = time.perf_counter()
            await opened.hold(paths)
            together.append((time.perf_counter() - start) / len(paths))
            start = time.perf_counter()
            for path in paths[:500]:
                await opened.hold([path])
            alone.append((time.perf_counter() - start) / 500)

    assert found == {drv_path}
    assert min(together) < min(alone) / 2, f"{min(together):.7f} s a path together, {min(alone):.7f} s alone"


async def test_leases_end_when_the_store_is_closed(fresh_store: ScratchStore) -> None:
    drv_path = instantiate(fresh_store, Spec("x", "echo > $out"))[0]
    async with open_store("stdio", settings_of(fresh_store)) as opened:
        await opened.hold([drv_path])
        run(fresh_store, "nix-collect-garbage")
        assert contents(drv_path)

    run(fresh_store, "nix-collect-garbage")

    assert contents(drv_path) is None


async def test_a_leased_derivation_keeps_its_inputs(fresh_store: ScratchStore) -> None:
    inner = Spec("inner", "echo > $out")
    outer_path, inner_path = instantiate(fresh_store, Spec("outer", "echo > $out", inputs=[inner]), inner)
    async with open_store("stdio", settings_of(fresh_store)) as opened:
        await opened.hold([outer_path])

        run(fresh_store, "nix-collect-garbage")

        assert await opened.valid([inner_path]) == {inner_path}


async def test_outputs_are_held_the_moment_a_build_returns(fresh_store: ScratchStore) -> None:
    drv_path = instantiate(fresh_store, Spec("x", "echo > $out"))[0]
    async with open_store("stdio", settings_of(fresh_store)) as opened:
        result = await DaemonBuilder(opened).build(drv_path, NO_LIMITS, Recorder())
        await opened.builds.close()  # the building connection protects nothing any more

        run(fresh_store, "nix-collect-garbage")

        assert await opened.valid(result.outputs.values()) == set(result.outputs.values())


async def test_everything_is_held_again_after_the_connection_is_lost(fresh_store: ScratchStore) -> None:
    drv_path = instantiate(fresh_store, Spec("x", "echo > $out"))[0]
    async with open_store("stdio", settings_of(fresh_store)) as opened:
        await opened.hold([drv_path])
        lost = await opened._leases.connected()

        kill_daemons_of(fresh_store)
        await lost.ended()
        await until(lambda: holds_again(opened, lost))
        run(fresh_store, "nix-collect-garbage")

        assert await opened.valid([drv_path]) == {drv_path}


@pytest.mark.parametrize("times", [1, 3])
async def test_a_daemon_that_ends_before_it_greets_is_tried_again(
    fresh_store: ScratchStore, tmp_path: Path, times: int
) -> None:
    """As one does that opens the database just while the last one closes it."""
    drv_path = instantiate(fresh_store, Spec("x", "echo > $out"))[0]
    tried, program = tmp_path / "tried", tmp_path / "nix-daemon"
    busy = "error: SQLite database is busy"
    program.write_text(
        f'#!/bin/sh\necho >> {tried}\n[ "$(wc -l < {tried})" -gt {times} ] || {{ echo "{busy}" >&2; exit 1; }}\n'
        'exec nix-daemon "$@"\n'
    )
    program.chmod(0o700)

    async with open_store("stdio", settings_of(fresh_store, nix_daemon=str(program))) as opened:
        assert await opened.valid([drv_path]) == {drv_path}

    assert len(tried.read_text().splitlines()) == times + 1


async def test_a_daemon_that_never_greets_says_why(fresh_store: ScratchStore, tmp_path: Path) -> None:
    program = tmp_path / "nix-daemon"
    program.write_text("#!/bin/sh\necho 'error: the disk is gone' >&2\nexit 1\n")
    program.chmod(0o700)

    with pytest.raises(ConnectionLostError, match="the disk is gone"):
        async with open_store("stdio", settings_of(fresh_store, nix_daemon=str(program))):
            pass


async def holds_again(opened: DaemonStore, lost: object) -> bool:
    return opened._leases._connection not in {None, lost} and await opened._leases.connected() is not lost


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - the store under test tells nobody
            await asyncio.sleep(0.01)


def kill_daemons_of(store: ScratchStore) -> None:
    for pid in daemons_of(store):
        os.kill(pid, signal.SIGKILL)


def daemons_of(store: ScratchStore) -> list[int]:
    """Return the daemons of this store; its directory is in their environment."""
    mark = f"NIX_STORE_DIR={store.store_dir}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            daemon = b"nix-daemon" in (process / "cmdline").read_bytes()
            if daemon and mark in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


async def test_an_answer_about_validity_is_never_remembered(fresh_store: ScratchStore) -> None:
    drv_path = instantiate(fresh_store, Spec("x", "echo > $out"))[0]
    output = StorePath(run(fresh_store, "nix-store", "--query", "--outputs", drv_path).strip())
    async with open_store("stdio", settings_of(fresh_store)) as opened:
        assert await opened.valid([output]) == set()
        assert await opened.path_infos([output]) == {}

        realise(fresh_store, drv_path)
        assert await opened.valid([output]) == {output}
        assert (await opened.path_infos([output])).keys() == {output}

        run(fresh_store, "nix-store", "--delete", output)
        assert await opened.valid([output]) == set()
        assert await opened.path_infos([output]) == {}


async def test_derivations_that_are_no_files_here_are_read_over_the_connection(fresh_store: ScratchStore) -> None:
    drv_path = instantiate(fresh_store, Spec("x", "echo > $out"))[0]
    async with open_store("stdio", settings_of(fresh_store)) as opened:
        by_file = await opened.derivations([drv_path])
        opened.local = False

        assert await opened.derivations([drv_path, *numbered(fresh_store, 2)]) == by_file
        full = await opened.full_derivation(drv_path)

    assert full is not None
    assert full.environment["name"] == "x"
    assert by_file[drv_path].environment == {}


async def test_a_cache_that_is_configured_nowhere_is_used_for_plans_and_fetches(fresh_store: ScratchStore) -> None:
    inner = Spec("inner", "echo inner > $out")
    drv_path = instantiate(fresh_store, Spec("outer", "echo $inputs > $out", inputs=[inner]))[0]
    output = realise(fresh_store, drv_path)
    cache = make_cache(fresh_store, output)
    async with open_store("stdio", settings_of(fresh_store)) as opened:
        assert output not in (await opened.missing([drv_path])).fetch

    async with open_store("stdio", settings_of(fresh_store, substituters=(cache,))) as opened:
        missing = await opened.missing([drv_path])
        results = await DaemonBuilder(opened).fetch([output], Recorder())

        assert missing.fetch == {output}
        assert missing.nar_bytes > 0
        assert results[output].good
        assert await opened.valid([output]) == {output}


async def test_a_cache_with_the_wrong_key_fetches_nothing(fresh_store: ScratchStore) -> None:
    drv_path = instantiate(fresh_store, Spec("x", "echo > $out"))[0]
    output = realise(fresh_store, drv_path)
    cache = make_cache(fresh_store, output).removesuffix("?trusted=1")
    async with open_store("stdio", settings_of(fresh_store, substituters=(cache,))) as opened:
        results = await DaemonBuilder(opened).fetch([output], Recorder())

        assert not results[output].good
        assert await opened.valid([output]) == set()


@pytest.mark.parametrize(
    "address",
    [
        "bogus",
        "http://cache",
        "unix://relative",
        "ssh://",
        "ssh-ng://-oProxyCommand=x",
        "ssh://a:b",
        "ssh://-x@host",
    ],
)
async def test_a_malformed_address_is_the_users_to_mend(store: ScratchStore, address: str) -> None:
    with pytest.raises(InputError) as caught:
        async with open_store(address, settings_of(store)):
            pass
    assert caught.value.remedy


async def test_a_socket_where_nobody_listens_is_one_clear_sentence(store: ScratchStore) -> None:
    with pytest.raises(DoorError, match=r"No Nix daemon can be reached at unix:///nowhere.*Start nix-daemon"):
        async with open_store("unix:///nowhere", settings_of(store)):
            pass


async def test_the_socket_of_a_dead_daemon_is_one_clear_sentence(fresh_store: ScratchStore) -> None:
    path = str(fresh_store.root / "dead")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        with pytest.raises(DoorError, match=r"Connection refused\. Start nix-daemon") as caught:
            async with open_store(f"unix://{path}", settings_of(fresh_store)):
                pass

    assert caught.value.retryable


async def test_a_socket_that_is_listened_on_a_moment_later_is_waited_for(fresh_store: ScratchStore) -> None:
    path = str(fresh_store.root / "soon")
    with socket.socket(socket.AF_UNIX) as early:
        early.bind(path)
        opening = asyncio.create_task(open_socket(path, 38))
        await asyncio.sleep(0)
        server = await asyncio.start_unix_server(greet_like_nix_2_8, sock=early)
        async with server:
            connection = await opening
            await connection.close()

    assert connection.facts.nix_version == "2.8.0"


async def greet_like_nix_2_8(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(wire.u64(0x6478696F) + wire.u64(0x122) + wire.string("2.8.0") + wire.u64(0x616C7473))
    await reader.read()
    writer.close()


async def test_a_program_that_is_not_there_is_one_clear_sentence(store: ScratchStore) -> None:
    with pytest.raises(DoorError, match="`no-such-daemon` cannot be started"):
        async with open_store("stdio", settings_of(store, nix_daemon="no-such-daemon")):
            pass


async def test_a_daemon_that_cannot_start_is_quoted(store: ScratchStore) -> None:
    settings = settings_of(store)
    broken = msgspec.structs.replace(settings, environment={**settings.environment, "NIX_REMOTE": "nonsense://x"})
    with pytest.raises(ConnectionLostError, match="nonsense"):
        async with open_store("stdio", broken):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody with fewer rights for a moment")
async def test_a_socket_we_may_not_use_is_a_matter_of_permission(fresh_store: ScratchStore) -> None:
    with listening_daemon(fresh_store) as path:
        fresh_store.root.chmod(0o700)
        settings = settings_of(fresh_store)
        os.seteuid(65534)
        try:
            with pytest.raises(NotAllowedError, match="Permission denied"):
                async with open_store(f"unix://{path}", settings):
                    pass
        finally:
            os.seteuid(0)


async def test_something_else_that_listens_is_garbled(store: ScratchStore) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    path = f"{store.root}/other.sock"
    server = await asyncio.start_unix_server(greet, path)
    async with server:
        with pytest.raises(GarbledError, match="no Nix daemon"):
            async with open_store(f"unix://{path}", settings_of(store)):
                pass


async def test_a_burst_of_connections_succeeds(fresh_store: ScratchStore) -> None:
    with listening_daemon(fresh_store) as path:
        async with open_store(f"unix://{path}", settings_of(fresh_store)) as opened:
            connections = await asyncio.gather(*(opened.dial() for _ in range(40)))
            for connection in connections:
                await connection.close()


async def test_closing_leaves_no_daemon_behind(fresh_store: ScratchStore) -> None:
    async with open_store("stdio", settings_of(fresh_store)) as opened:
        await opened.path_infos([])
        drv_path = instantiate(fresh_store, Spec("x", "echo > $out"))[0]
        await DaemonBuilder(opened).build(drv_path, NO_LIMITS, Recorder())

    assert daemons_of(fresh_store) == []
