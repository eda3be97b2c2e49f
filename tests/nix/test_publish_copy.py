"""Publishing by `nix copy`, and building again in check mode: real Nix, real stores."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog

from nixmill.core.errors import InputError
from nixmill.core.publish import CacheRule
from nixmill.core.trust import Tier
from nixmill.core.upload import Made, Upload, UploadState
from nixmill.doors import BuildLimits, DoorError
from nixmill.edge.daemon import DaemonBuilder, open_store
from nixmill.edge.daemon.store import DaemonStore
from nixmill.edge.publish_copy import CopyDestination
from nixmill.edge.system_clock import SystemClock
from nixmill.engine.courier import cancelled
from nixmill.engine.publisher import Publisher
from nixmill.engine.vouching import Vouching
from nixmill.nix.build_result import BuildStatus, of_error
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath
from tests.fakes.destination import NoContents
from tests.fakes.uploads import FakeUploads
from tests.support.nix_world import Recorder, Spec, instantiate, listening_daemon, realise, run, settings_of
from tests.support.remote_store import remote_store, ssh_server
from tests.support.scratch_store import ScratchStore
from tests.support.server import free_port

LIMITS = BuildLimits(timeout_s=60)
RANDOM = "/bin/date +%s%N > $out"


@pytest.fixture
async def opened(store: ScratchStore) -> AsyncIterator[DaemonStore]:
    async with open_store("stdio", settings_of(store)) as opened:
        yield opened


def chain(store: ScratchStore, name: str) -> list[StorePath]:
    """Return two built paths, of which the second refers to the first."""
    leaf = Spec(f"{name}-leaf", f"echo leaf of {name} > $out")
    top = Spec(f"{name}-top", "echo $inputs > $out", inputs=[leaf])
    return [realise(store, drv_path) for drv_path in instantiate(store, leaf, top)]


def built(store: ScratchStore, drv_paths: list[StorePath]) -> list[str]:
    """Return what the outputs of derivations hold."""
    return [Path(realise(store, drv_path)).read_text() for drv_path in drv_paths]


async def infos_of(opened: DaemonStore, paths: list[StorePath]) -> list[PathInfo]:
    found = await opened.path_infos(paths)
    return [found[path] for path in paths]


async def test_paths_are_copied_to_a_cache_and_known_to_be_there(
    store: ScratchStore, opened: DaemonStore, tmp_path: Path
) -> None:
    paths = chain(store, "copied")
    cache = CopyDestination(f"file://{tmp_path}/cache", tmp_path / "work", store.environment)
    assert await cache.lacks(paths) == set(paths)
    assert (await cache.push(await infos_of(opened, paths[:1]), NoContents())).new == {paths[0]}
    assert await cache.lacks(paths) == {paths[1]}
    pushed = await cache.push(await infos_of(opened, paths), NoContents())
    assert (pushed.faults, await cache.lacks(paths)) == ({}, set())
    assert sorted(path.name for path in (tmp_path / "cache").glob("*.narinfo")) == sorted(
        f"{Path(path).name[:32]}.narinfo" for path in paths
    )


async def test_a_path_that_cannot_be_copied_is_a_fault(
    store: ScratchStore, opened: DaemonStore, tmp_path: Path
) -> None:
    (path,) = chain(store, "fault")[:1]
    (tmp_path / "cache").write_text("a file is no cache")
    cache = CopyDestination(f"file://{tmp_path}/cache", tmp_path / "work", store.environment)
    assert await cache.lacks([path]) == {path}
    pushed = await cache.push(await infos_of(opened, [path]), NoContents())
    assert pushed.new == frozenset()
    assert "`nix copy` failed: it ended with exit code 1 and said last:" in pushed.faults[path]


async def test_paths_are_copied_to_a_daemon_behind_ssh(fresh_store: ScratchStore, tmp_path: Path) -> None:
    port = free_port()
    with ssh_server(tmp_path / "ssh", port) as ssh, listening_daemon(fresh_store), remote_store(fresh_store) as remote:
        async with open_store("stdio", settings_of(fresh_store)) as opened:
            paths = chain(fresh_store, "far")
            program = tmp_path / "remote-daemon"
            program.write_text(
                "#!/bin/sh\n"
                + "".join(f"export {k}='{v}'\n" for k, v in fresh_store.environment.items() if k.startswith("NIX_"))
                + f"export NIX_REMOTE=unix://{remote.socket}\nexec nix-daemon --stdio\n"
            )
            program.chmod(0o755)
            environment = {**fresh_store.environment, "NIX_SSHOPTS": f"-p {port} {' '.join(ssh.options)}"}
            url = f"ssh-ng://root@127.0.0.1?ssh-key={ssh.key}&remote-program={program}"
            cache = CopyDestination(url, tmp_path / "work", environment)
            assert await cache.lacks(paths) == set(paths)
            pushed = await cache.push(await infos_of(opened, paths), NoContents())
            assert pushed.new == set(paths)
            assert not pushed.faults
            assert await cache.lacks(paths) == set()
            assert all(remote.has(path) for path in paths)


def test_an_address_with_a_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="password"):
        CopyDestination("https://me:secret@example.org/cache", tmp_path, {})
    CopyDestination("ssh-ng://me@example.org", tmp_path, {})


async def test_a_program_that_is_not_there_is_the_cache_s_trouble(
    store: ScratchStore, opened: DaemonStore, tmp_path: Path
) -> None:
    (path,) = chain(store, "no-nix")[:1]
    cache = CopyDestination(f"file://{tmp_path}/cache", tmp_path, store.environment, nix="/no/nix", nix_store="/no/nix")
    assert await cache.lacks([path]) == {path}
    with pytest.raises(DoorError, match="could not be started"):
        await cache.push(await infos_of(opened, [path]), NoContents())


@pytest.mark.parametrize("minor", [34, 33], ids=["with results", "without results"])
async def test_a_second_build_tells_whether_it_comes_out_the_same(store: ScratchStore, minor: int) -> None:
    flag = store.root / f"flag-{minor}"
    specs = [
        Spec(f"same-{minor}", "echo x > $out"),
        Spec(f"random-{minor}", RANDOM),
        Spec(f"breaks-{minor}", f"test -e {flag} && exit 7; echo > $out"),
    ]
    drv_paths = instantiate(store, *specs)
    contents = built(store, drv_paths)
    flag.touch()
    async with open_store("stdio", settings_of(store, newest_minor=minor)) as opened:
        results = [await DaemonBuilder(opened).check(drv_path, LIMITS, Recorder()) for drv_path in drv_paths]
    assert [result.status for result in results] == [
        BuildStatus.BUILT,
        BuildStatus.NOT_DETERMINISTIC,
        BuildStatus.PERMANENT_FAILURE,
    ]
    assert built(store, drv_paths) == contents


async def test_a_derivation_that_is_gone_cannot_be_built_again(store: ScratchStore, opened: DaemonStore) -> None:
    absent = StorePath(f"{store.store_dir}/{'0' * 32}-absent.drv")
    with pytest.raises(DoorError, match="not in the store any more"):
        await DaemonBuilder(opened).check(absent, LIMITS, Recorder())


async def test_an_output_that_is_gone_is_our_trouble(store: ScratchStore, opened: DaemonStore) -> None:
    (drv_path,) = instantiate(store, Spec("deleted", "echo deleted > $out"))
    path = realise(store, drv_path)
    run(store, "nix-store", "--delete", path)
    try:
        result = await DaemonBuilder(opened).check(drv_path, LIMITS, Recorder())
    except DoorError:
        return
    assert result.status is not BuildStatus.NOT_DETERMINISTIC


async def test_missing_inputs_are_made_first(store: ScratchStore, opened: DaemonStore) -> None:
    tool = Spec("build-tool", "echo tool > $out")
    (tool_drv, user_drv) = instantiate(store, tool, Spec("tool-user", "/bin/cat $inputs > $out", inputs=[tool]))
    realise(store, user_drv)
    run(store, "nix-store", "--delete", realise(store, tool_drv))
    result = await DaemonBuilder(opened).check(user_drv, LIMITS, Recorder())
    assert result.status is BuildStatus.BUILT


async def test_from_a_pull_request_into_the_branch_cache(
    store: ScratchStore, opened: DaemonStore, tmp_path: Path
) -> None:
    """The whole way: a pull request's result waits, is built again, and enters; one that differs is refused."""
    same_drv, random_drv = instantiate(store, Spec("pr-same", "echo y > $out"), Spec("pr-random", RANDOM))
    same, random = realise(store, same_drv), realise(store, random_drv)
    clock = SystemClock()
    uploads = FakeUploads(clock.now)
    for path, drv_path in ((same, same_drv), (random, random_drv)):
        uploads.add(Made(path=path, tier=Tier.MEMBER, run=1, attempt=1, drv_path=drv_path))
        uploads.add(Upload(cache="c", path=path, project=1, run=2))
    caches = {"c": CopyDestination(f"file://{tmp_path}/cache", tmp_path / "work", store.environment)}
    rules, log = {"c": CacheRule(name="c")}, structlog.get_logger()
    publisher = Publisher(opened, NoContents(), caches, rules, uploads, clock, log)
    vouching = Vouching(opened, DaemonBuilder(opened), caches, rules, uploads, clock, log, vouched=publisher.wake)
    publisher.to_rebuild = vouching.wake
    tasks = [asyncio.create_task(work) for work in (publisher.run(), vouching.run())]
    async with asyncio.timeout(60):
        while set(uploads.states()) != {UploadState.DONE, UploadState.REFUSED}:  # noqa: ASYNC110 - rows tell nobody
            await asyncio.sleep(0.02)
    await cancelled(tasks)
    assert uploads.rows["c", same].state is UploadState.DONE
    assert await caches["c"].lacks([same, random]) == {random}
    assert uploads.makers[same].tier is Tier.BRANCH


def test_an_old_daemon_s_error_is_read() -> None:
    assert of_error("cannot connect") is None
    told = of_error("derivation 'x' may not be deterministic: output 'y' differs")
    assert told is not None
    assert told.status is BuildStatus.NOT_DETERMINISTIC
