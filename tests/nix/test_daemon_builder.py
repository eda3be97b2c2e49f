"""Builds by real daemons: every way in which they end."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nixmill.doors import BuildLimits, DoorError
from nixmill.edge.daemon import DaemonBuilder, open_store
from nixmill.edge.daemon.errors import ConnectionLostError
from nixmill.edge.daemon.settings import EMPTY_HOOK_SINCE
from nixmill.edge.daemon.store import DaemonStore
from nixmill.nix.build_result import BuildStatus, Detail
from nixmill.nix.store_path import StorePath
from tests.support.nix_world import (
    Recorder,
    Spec,
    alive,
    instantiate,
    listening_daemon,
    realise,
    run,
    settings_of,
    until_dead,
)
from tests.support.scratch_store import ScratchStore

NO_LIMITS = BuildLimits()
STUBBORN = "trap '' TERM INT HUP; echo $$; while :; do /bin/sleep 1; done"


@pytest.fixture
async def opened(store: ScratchStore) -> AsyncIterator[DaemonStore]:
    async with open_store("stdio", settings_of(store)) as opened:
        yield opened


@pytest.fixture
def builder(opened: DaemonStore) -> DaemonBuilder:
    return DaemonBuilder(opened)


async def test_a_builder_killed_by_a_signal_failed(store: ScratchStore, builder: DaemonBuilder) -> None:
    drv_path = instantiate(store, Spec("killed", "kill -9 $$"))[0]

    assert (await builder.build(drv_path, NO_LIMITS, Recorder())).status is BuildStatus.PERMANENT_FAILURE


async def test_an_output_that_is_not_made_is_rejected(store: ScratchStore, builder: DaemonBuilder) -> None:
    drv_path = instantiate(store, Spec("nothing", "exit 0"))[0]

    result = await builder.build(drv_path, NO_LIMITS, Recorder())

    assert (result.status, result.detail) == (BuildStatus.OUTPUT_REJECTED, None)


async def test_a_wrong_hash_is_told_apart(store: ScratchStore, builder: DaemonBuilder) -> None:
    fixed = {"outputHash": "0" * 64, "outputHashAlgo": "sha256", "outputHashMode": "flat"}
    drv_path = instantiate(store, Spec("fixed", "echo other > $out", fixed))[0]

    result = await builder.build(drv_path, NO_LIMITS, Recorder())

    assert (result.status, result.detail) == (BuildStatus.OUTPUT_REJECTED, Detail.HASH_MISMATCH)
    assert "got:" in result.message


async def test_a_failed_download_is_transient(store: ScratchStore, builder: DaemonBuilder) -> None:
    fixed = {"outputHash": "1" * 64, "outputHashAlgo": "sha256", "outputHashMode": "flat"}
    drv_path = instantiate(store, Spec("download", "exit 1", fixed))[0]

    assert (await builder.build(drv_path, NO_LIMITS, Recorder())).status is BuildStatus.TRANSIENT_FAILURE


async def test_a_failed_dependency_is_told_as_such(store: ScratchStore, builder: DaemonBuilder) -> None:
    """A scheduler never asks for this; a daemon that was asked all the same must not blame the dependent."""
    drv_path = instantiate(store, Spec("outer", "echo > $out", inputs=[Spec("culprit", "exit 1")]))[0]

    assert (await builder.build(drv_path, NO_LIMITS, Recorder())).status is BuildStatus.DEPENDENCY_FAILED


async def test_a_missing_feature_is_the_machines_trouble(store: ScratchStore, builder: DaemonBuilder) -> None:
    drv_path = instantiate(store, Spec("featured", "echo > $out", {"requiredSystemFeatures": "warp-drive"}))[0]

    result = await builder.build(drv_path, NO_LIMITS, Recorder())

    assert (result.status, result.detail) == (BuildStatus.INPUT_REJECTED, Detail.WRONG_MACHINE)
    assert "warp-drive" in result.message


async def test_a_derivation_that_is_gone_is_our_trouble_or_a_result(
    store: ScratchStore, builder: DaemonBuilder
) -> None:
    absent = StorePath(f"{store.store_dir}/{'0' * 32}-absent.drv")

    result = await builder.build(absent, NO_LIMITS, Recorder())

    assert result.status in {BuildStatus.MISC_FAILURE, BuildStatus.DEPENDENCY_FAILED}


async def test_phases_are_told_apart_from_lines(store: ScratchStore, builder: DaemonBuilder) -> None:
    """Phases come as internal JSON on file descriptor 2, or wherever NIX_LOG_FD points."""
    script = """echo '@nix { "action": "setPhase", "phase": "checkPhase" }' >&2; echo line; echo > $out"""
    drv_path = instantiate(store, Spec("phased", script))[0]
    recorder = Recorder()

    await builder.build(drv_path, NO_LIMITS, recorder)

    assert recorder.phases == ["checkPhase"]
    assert recorder.lines == ["line"]


async def test_lines_arrive_raw_and_once(store: ScratchStore, builder: DaemonBuilder) -> None:
    script = r"printf '\033[31mred\033[0m\n\377\n'; printf 'no end'; echo > $out"
    drv_path = instantiate(store, Spec("raw", script))[0]
    recorder = Recorder()

    await builder.build(drv_path, NO_LIMITS, recorder)

    assert recorder.lines == ["\x1b[31mred\x1b[0m", "\udcff", "no end"]


async def test_a_flood_of_lines_is_kept_up_with(store: ScratchStore, builder: DaemonBuilder) -> None:
    drv_path = instantiate(store, Spec("flood", "/usr/bin/seq 100000; echo > $out"))[0]
    recorder = Recorder()

    result = await builder.build(drv_path, NO_LIMITS, recorder)

    assert result.good
    assert recorder.lines == [str(n) for n in range(1, 100_001)]


@pytest.mark.parametrize("way", ["stdio", "socket"])
async def test_cancelling_kills_a_builder_that_ignores_signals(fresh_store: ScratchStore, way: str) -> None:
    drv_path = instantiate(fresh_store, Spec("stubborn", STUBBORN))[0]
    with listening_daemon(fresh_store) as path:
        address = "stdio" if way == "stdio" else f"unix://{path}"
        async with open_store(address, settings_of(fresh_store)) as opened:
            recorder = Recorder()
            build = asyncio.create_task(DaemonBuilder(opened).build(drv_path, NO_LIMITS, recorder))
            await recorder.until_lines(1)
            pid = int(recorder.lines[0])
            assert alive(pid)

            start = time.monotonic()
            build.cancel()
            with pytest.raises(asyncio.CancelledError):
                await build
            await until_dead(pid, patience_s=1.0)
            took = time.monotonic() - start

    assert took < 1.0


async def test_a_daemon_that_dies_in_the_middle_is_infrastructure(fresh_store: ScratchStore) -> None:
    drv_path = instantiate(fresh_store, Spec("stubborn", STUBBORN))[0]
    async with open_store("stdio", settings_of(fresh_store)) as opened:
        recorder = Recorder()
        build = asyncio.create_task(DaemonBuilder(opened).build(drv_path, NO_LIMITS, recorder))
        await recorder.until_lines(1)
        pid = int(recorder.lines[0])

        kill_parent_of(pid)
        with pytest.raises(ConnectionLostError) as caught:
            await build

    assert caught.value.retryable
    await until_dead(pid, patience_s=1.0)


@pytest.mark.parametrize(
    ("second", "status"),
    [
        ("the same", BuildStatus.BUILT),
        ("differs", BuildStatus.NOT_DETERMINISTIC),
        ("fails", BuildStatus.PERMANENT_FAILURE),
    ],
)
async def test_a_second_build_vouches_only_for_what_comes_out_the_same(
    fresh_store: ScratchStore, second: str, status: BuildStatus
) -> None:
    marker = fresh_store.root / "built before"
    script = {
        "the same": "echo > $out",
        "differs": f"if [ -e '{marker}' ]; then echo other > $out; else echo > $out; fi; echo > '{marker}'",
        "fails": f"[ ! -e '{marker}' ] || exit 1; echo > $out; echo > '{marker}'",
    }[second]
    inner = Spec("inner", "echo inner > $out")
    drv_path, inner_drv = instantiate(fresh_store, Spec("again", f"read x < $inputs; {script}", inputs=[inner]), inner)
    realise(fresh_store, drv_path)
    run(fresh_store, "nix-store", "--delete", realise(fresh_store, inner_drv))
    async with open_store("stdio", settings_of(fresh_store)) as opened:
        result = await DaemonBuilder(opened).check(drv_path, NO_LIMITS, Recorder())
    assert (result.status, result.good) == (status, second == "the same"), result


async def test_what_is_not_there_cannot_be_built_again(store: ScratchStore, builder: DaemonBuilder) -> None:
    drv_path = instantiate(store, Spec("never-built", "echo > $out"))[0]
    try:
        told = (await builder.check(drv_path, NO_LIMITS, Recorder())).message
    except DoorError as error:  # of daemons that know no results of several builds
        told = str(error)
    assert "not valid" in told


def kill_parent_of(pid: int) -> None:
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(parent, signal.SIGKILL)


async def test_a_connection_serves_many_builds_and_only_good_ones(store: ScratchStore, opened: DaemonStore) -> None:
    builder = DaemonBuilder(opened)
    good = instantiate(store, *(Spec(f"reuse-{n}", "echo > $out") for n in range(3)))
    dialled = 0
    dial = opened.dial

    async def counting() -> object:
        nonlocal dialled
        dialled += 1
        return await dial()

    opened.builds._dial = counting  # type: ignore[assignment]
    for drv_path in good:
        assert (await builder.build(drv_path, NO_LIMITS, Recorder())).good

    assert dialled == 1


async def test_the_build_hook_is_off(store: ScratchStore, opened: DaemonStore) -> None:
    """An attempt costs a few milliseconds without Nix's hook, more than ten with it."""
    async with opened.builds.use(lambda facts: DaemonBuilder(opened)._options(facts, NO_LIMITS)) as connection:
        assert connection.options is not None
        hook = connection.options.overrides["build-hook"]

    assert hook == "" if opened.facts.minor >= EMPTY_HOOK_SINCE else Path(hook).name == "decline-hook"


async def test_limits_of_one_build_do_not_outlive_it(store: ScratchStore, builder: DaemonBuilder) -> None:
    slow = instantiate(store, Spec("slow", "/bin/sleep 20"), Spec("slower", "/bin/sleep 1.5; echo > $out"))

    first = await builder.build(slow[0], BuildLimits(timeout_s=1), Recorder())
    second = await builder.build(slow[1], NO_LIMITS, Recorder())

    assert first.status is BuildStatus.TIMED_OUT
    assert second.good


async def test_a_malformed_path_is_an_error_of_the_door(store: ScratchStore, opened: DaemonStore) -> None:
    with pytest.raises(DoorError):
        await opened.valid([StorePath("/etc/passwd")])

    assert await opened.valid([]) == set()
