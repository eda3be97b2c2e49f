"""Building on another machine: another store under the same path, reached by its socket and through ssh."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from nixmill.doors import BuildLimits, DoorError, NotAllowedError
from nixmill.edge.daemon import DaemonBuilder, DaemonSettings, open_store
from nixmill.edge.daemon.errors import ConnectionLostError
from nixmill.edge.daemon.store import DaemonStore
from nixmill.nix.build_result import BuildStatus
from nixmill.nix.store_path import StorePath
from tests.support.nix_world import (
    Recorder,
    Spec,
    instantiate,
    listening_daemon,
    make_cache,
    realise,
    run,
    settings_of,
    until_dead,
)
from tests.support.remote_store import RemoteStore, SshServer, remote_store, ssh_server
from tests.support.scratch_store import CONFIGURATION, ScratchStore, scratch_store

NO_LIMITS = BuildLimits()
TREE = """
/bin/mkdir -p $out/bin $out/empty $out/deep/er
echo '#!/bin/sh' > $out/bin/run; /bin/chmod +x $out/bin/run
/bin/ln -s bin/run $out/link
/usr/bin/head -c 3000000 /dev/urandom > $out/big
echo $out $inputs > $out/references
"""


@dataclass
class Two:
    """The run's own store, another machine's, and a builder that uses both."""

    scratch: ScratchStore
    remote: RemoteStore
    home: DaemonStore
    machine: DaemonStore
    builder: DaemonBuilder


@pytest.fixture
def far(fresh_store: ScratchStore) -> Iterator[RemoteStore]:
    with remote_store(fresh_store) as made:
        yield made


@pytest.fixture
def server(fresh_store: ScratchStore) -> Iterator[SshServer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with ssh_server(fresh_store.root / "ssh", port) as made:
        yield made


@pytest.fixture(params=["socket", "ssh"])
async def two(request: pytest.FixtureRequest, fresh_store: ScratchStore, far: RemoteStore) -> AsyncIterator[Two]:
    settings, address = settings_of(fresh_store), f"unix://{far.socket}"
    if request.param == "ssh":
        server: SshServer = request.getfixturevalue("server")
        settings = settings_of(fresh_store, ssh_options=server.options)
        address = server.address(far.socket)
    async with open_store("stdio", settings) as home, open_store(address, settings) as machine:
        yield Two(fresh_store, far, home, machine, DaemonBuilder(home, machine))


async def test_a_build_happens_there_and_its_outputs_come_home(two: Two) -> None:
    inner = Spec("inner", TREE)
    outer_path, inner_path = instantiate(two.scratch, Spec("outer", TREE, inputs=[inner]), inner)
    inner_output = realise(two.scratch, inner_path)
    recorder = Recorder()

    assert await two.builder.prepare(outer_path, [inner_output]) == set()
    result = await two.builder.build(outer_path, NO_LIMITS, recorder)

    output = result.outputs["out"]
    assert result.status is BuildStatus.BUILT
    assert recorder.starts == 1
    assert two.remote.has(output), "it was built on the other machine"
    assert await two.home.valid([output]) == {output}
    info = (await two.home.path_infos([output]))[output]
    assert set(info.references) == {output, inner_output}
    run(two.scratch, "nix-store", "--verify-path", output)
    assert os.access(f"{output}/bin/run", os.X_OK)
    run(two.scratch, "nix-collect-garbage")
    assert await two.home.valid([output]) == {output}


async def test_an_answer_about_one_store_is_not_an_answer_about_the_other(two: Two) -> None:
    drv_path = instantiate(two.scratch, Spec("x", "echo > $out"))[0]
    output = realise(two.scratch, drv_path)

    assert await two.home.valid([output]) == {output}
    assert await two.machine.valid([output]) == set()
    assert await two.machine.derivations([drv_path]) == {}


async def test_only_what_is_lacking_is_copied_with_its_whole_closure(two: Two) -> None:
    spec = Spec("link-0", "echo > $out")
    for number in range(1, 30):
        spec = Spec(f"link-{number}", "echo $inputs > $out", inputs=[spec])
    last = realise(two.scratch, instantiate(two.scratch, spec)[0])
    middle = realise(two.scratch, instantiate(two.scratch, spec.inputs[0].inputs[0])[0])
    assert await two.builder.prepare(StorePath(last), [middle]) == set()

    assert await two.builder.prepare(StorePath(last), [last]) == set()

    assert len(list(two.remote.contents.glob("*-link-*"))) == 30
    assert await two.machine.valid([last, middle]) == {last, middle}


async def test_a_failure_there_is_a_result_here(two: Two) -> None:
    drv_path = instantiate(two.scratch, Spec("bad", "echo far away; exit 7"))[0]
    recorder = Recorder()

    result = await two.builder.build(drv_path, NO_LIMITS, recorder)

    assert result.status is BuildStatus.PERMANENT_FAILURE
    assert "exit code 7" in result.message
    assert recorder.lines == ["far away"]


async def test_inputs_that_nobody_has_are_named(two: Two) -> None:
    absent = StorePath(f"{two.scratch.store_dir}/{'0' * 32}-absent")
    drv_path = instantiate(two.scratch, Spec("x", "echo > $out"))[0]

    assert await two.builder.prepare(drv_path, [absent]) == {absent}


async def test_a_missing_input_stops_a_build_as_our_trouble(two: Two) -> None:
    inner = Spec("inner", "echo > $out")
    outer_path = instantiate(two.scratch, Spec("outer", "echo $inputs > $out", inputs=[inner]))[0]

    with pytest.raises(DoorError, match="-inner could not be copied") as caught:
        await two.builder.build(outer_path, NO_LIMITS, Recorder())

    assert caught.value.retryable


async def test_cancelling_kills_the_builder_there(two: Two) -> None:
    script = "trap '' TERM INT HUP; echo $$; while :; do /bin/sleep 1; done"
    drv_path = instantiate(two.scratch, Spec("stubborn", script))[0]
    recorder = Recorder()
    build = asyncio.create_task(two.builder.build(drv_path, NO_LIMITS, recorder))
    await recorder.until_lines(1)

    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build

    await until_dead(int(recorder.lines[0]), patience_s=1.0)


async def test_what_the_machine_can_fetch_itself_need_not_be_at_home(
    fresh_store: ScratchStore, far: RemoteStore
) -> None:
    drv_path = instantiate(fresh_store, Spec("cached", "echo cached > $out"))[0]
    output = realise(fresh_store, drv_path)
    settings = settings_of(fresh_store, substituters=(make_cache(fresh_store, output),))
    async with open_store("stdio", settings) as home, open_store(f"unix://{far.socket}", settings) as machine:
        assert await DaemonBuilder(home, machine).prepare(drv_path, [output]) == set()

        assert await machine.valid([output]) == {output}
        assert await home.valid([output]) == set()


async def test_builds_continue_after_ssh_died(fresh_store: ScratchStore, far: RemoteStore, server: SshServer) -> None:
    settings = settings_of(fresh_store, ssh_options=server.options)
    slow, quick = instantiate(
        fresh_store, Spec("slow", "echo here; /bin/sleep 20; echo > $out"), Spec("quick", "echo > $out")
    )
    async with open_store("stdio", settings) as home, open_store(server.address(far.socket), settings) as machine:
        builder, recorder = DaemonBuilder(home, machine), Recorder()
        build = asyncio.create_task(builder.build(slow, NO_LIMITS, recorder))
        await recorder.until_lines(1)

        for pid in ssh_clients_of(server):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(ConnectionLostError):
            await build

        assert (await builder.build(quick, NO_LIMITS, Recorder())).good


def ssh_clients_of(server: SshServer) -> list[int]:
    mark = f"-p\0{server.port}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if mark in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


async def test_a_machine_that_lets_nobody_in_is_one_clear_sentence(
    fresh_store: ScratchStore, server: SshServer
) -> None:
    address = server.address("/nowhere").replace(str(server.key), "/nowhere/key")
    with pytest.raises(DoorError, match=r"(?s)ssh could not log in.*Permission denied") as caught:
        async with open_store(address, settings_of(fresh_store, ssh_options=server.options)):
            pass

    assert caught.value.retryable


async def test_a_machine_without_a_daemon_is_a_lost_connection(fresh_store: ScratchStore, server: SshServer) -> None:
    settings: DaemonSettings = settings_of(fresh_store, ssh_options=server.options)
    with pytest.raises(ConnectionLostError, match=r"ssh://.*127\.0\.0\.1"):
        async with open_store(server.address("/nowhere"), settings):
            pass


async def test_an_untrusted_user_builds_here_and_is_told_why_not_elsewhere() -> None:
    with scratch_store(f"{CONFIGURATION}trusted-users =\n") as store:
        drv_path, other = instantiate(store, Spec("x", "echo > $out"), Spec("y", "echo > $out"))
        with listening_daemon(store) as path:
            settings = settings_of(store)
            async with open_store("stdio", settings) as home, open_store(f"unix://{path}", settings) as machine:
                assert not machine.facts.trusted
                assert (await DaemonBuilder(machine).build(drv_path, BuildLimits(timeout_s=60), Recorder())).good

                with pytest.raises(NotAllowedError, match=r"not privileged.*trusted-users"):
                    await DaemonBuilder(home, machine).build(other, NO_LIMITS, Recorder())


async def test_an_untrusted_user_cannot_copy_what_nobody_signed(fresh_store: ScratchStore) -> None:
    store = ScratchStore(
        fresh_store.root, fresh_store.environment | {"NIX_CONFIG": f"{CONFIGURATION}trusted-users =\n"}
    )
    output = realise(store, instantiate(store, Spec("x", "echo > $out"))[0])
    settings = settings_of(store)
    with remote_store(store) as far:
        async with open_store("stdio", settings) as home, open_store(f"unix://{far.socket}", settings) as machine:
            with pytest.raises(NotAllowedError, match="lacks a"):
                await DaemonBuilder(home, machine).prepare(output, [output])
