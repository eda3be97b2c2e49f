"""What only a cache of ours holds is put into the store in which something needs it; the daemon knows of no cache."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from nixmill.doors import BuildLimits, NotAllowedError
from nixmill.edge.binary_cache.holdings import ReadCache
from nixmill.edge.binary_cache.holdings_http import HttpFiles
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.edge.daemon import DaemonBuilder, open_store
from nixmill.edge.daemon.with_caches import BuilderWithCaches
from nixmill.nix.build_result import BuildStatus
from nixmill.nix.signature import SecretKey
from tests.support.faulty_cache import PUBLIC, SECRET, faulty_cache
from tests.support.held_world import Needs, deep, needs, restoring
from tests.support.nix_world import Recorder, Spec, instantiate, listening_daemon, make_cache, realise, settings_of
from tests.support.remote_store import remote_store
from tests.support.scratch_store import CONFIGURATION, ScratchStore, scratch_store

NO_LIMITS = BuildLimits()


def contents(path: str) -> str:
    return Path(path).read_bytes().decode("latin-1")


def on_disk(made: Needs, *, unsigned: bool = False) -> ReadCache:
    keys = () if unsigned else (PUBLIC,)
    return ReadCache(name="main", files=DiskObjects(made.directory), keys=keys, unsigned=unsigned)


@pytest.mark.parametrize("compression", ["none", "zstd", "xz", "bzip2", "gzip"])
async def test_an_input_that_only_our_cache_holds_is_there_before_its_dependent_is_built(
    fresh_store: ScratchStore, compression: str
) -> None:
    made = needs(fresh_store, compression=compression)
    async with restoring(fresh_store, on_disk(made)) as doors:
        assert await doors.builder.prepare(made.app, made.outputs) == set()
        result = await doors.builder.build(made.app, NO_LIMITS, Recorder())
        infos = await doors.plain.path_infos(made.outputs)
    assert result.status is BuildStatus.BUILT
    assert contents(result.outputs["out"]) == "from the cache\n"
    assert infos[made.outputs[0]].signatures[0].startswith("ours-1:")
    assert doors.notices == []


async def test_what_nobody_signed_is_taken_from_our_own_directory_only(fresh_store: ScratchStore) -> None:
    made = needs(fresh_store, signed=False)
    async with restoring(fresh_store, on_disk(made)) as doors:
        assert await doors.builder.prepare(made.app, made.outputs) == set(made.outputs)
        assert "Nobody signed it" in doors.notices[0]
    async with restoring(fresh_store, on_disk(made, unsigned=True)) as doors:
        assert await doors.builder.prepare(made.app, made.outputs) == set()


async def test_a_plan_fetches_what_our_cache_holds_and_asks_for_nothing_below(fresh_store: ScratchStore) -> None:
    made = needs(fresh_store, Spec("lib", "echo from the cache > $out", inputs=[Spec("base", "echo > $out")]))
    async with restoring(fresh_store, on_disk(made)) as doors:
        alone = await doors.plain.missing([made.app])
        answer = await doors.store.missing([made.app])
        both = await doors.store.missing([made.app, made.lib])
    assert alone.build == {made.app, made.lib}
    assert (answer.build, answer.fetch) == (frozenset({made.app}), frozenset(made.outputs))
    assert (both.build, both.fetch) == (frozenset({made.app}), frozenset(made.outputs))
    assert answer.download_bytes > 0
    assert answer.nar_bytes > 100


async def test_one_output_that_no_cache_holds_means_building(fresh_store: ScratchStore) -> None:
    made = needs(fresh_store, deep(3))
    next(made.directory.glob(f"{Path(made.outputs[-1]).name[:32]}.narinfo")).unlink()
    async with restoring(fresh_store, on_disk(made)) as doors:
        answer = await doors.store.missing([made.app])
        results = await doors.builder.fetch(made.outputs[:1], Recorder())
    assert answer.build == {made.app, made.lib}
    assert not results[made.outputs[0]].good
    assert "No cache of ours holds it" in results[made.outputs[0]].message


async def test_a_deep_closure_of_many_outputs_comes_quickly(fresh_store: ScratchStore) -> None:
    made = needs(fresh_store, deep(500))
    recorder = Recorder()
    async with restoring(fresh_store, on_disk(made)) as doors:
        assert made.lib not in (await doors.store.missing([made.app])).build
        began = time.monotonic()
        results = await doors.builder.fetch(made.outputs[:1], recorder)
        took = time.monotonic() - began
        assert await doors.plain.valid(made.outputs) == set(made.outputs)
    assert results[made.outputs[0]].status is BuildStatus.SUBSTITUTED
    assert len(recorder.lines) == len(made.outputs) == 500
    assert took < 10, f"{took:.2f} s"  # 1.3 s on a quiet machine
    print(f"restored 500 paths in {took:.2f} s")  # noqa: T201 - shown with -s


async def test_a_large_nar_streams(fresh_store: ScratchStore) -> None:
    made = needs(fresh_store, Spec("lib", "/usr/bin/head -c 9000000 /dev/urandom > $out"))
    async with restoring(fresh_store, on_disk(made)) as doors:
        results = await doors.builder.fetch(made.outputs, Recorder())
    assert results[made.outputs[0]].good
    assert len(contents(made.outputs[0])) == 9_000_000


async def test_many_who_want_the_same_get_it_once(fresh_store: ScratchStore) -> None:
    made = needs(fresh_store, Spec("lib", "/usr/bin/head -c 9000000 /dev/urandom > $out"))
    async with faulty_cache(made.directory) as cache:
        files = HttpFiles(cache.url, "main")
        async with restoring(fresh_store, ReadCache(name="main", files=files, keys=(PUBLIC,))) as doors:
            wanted = [doors.builder.prepare(made.app, made.outputs) for _ in range(8)]
            assert await asyncio.gather(*wanted) == [set()] * 8
        await files.aclose()
    assert [count for name, count in cache.asked.items() if ".nar." in name] == [1]


async def test_the_daemon_is_asked_first_and_may_have_the_rest_of_a_closure(fresh_store: ScratchStore) -> None:
    """A reference that our cache never got, because an upstream cache has it, is substituted by the daemon."""
    base = Spec("base", "echo base > $out")
    made = needs(fresh_store, Spec("lib", "echo $inputs > $out", inputs=[base]))
    (base_drv,) = instantiate(fresh_store, base)
    base_out = realise(fresh_store, base_drv)
    upstream = make_cache(fresh_store, base_out)
    (made.directory / f"{Path(base_out).name[:32]}.narinfo").unlink()
    configuration = CONFIGURATION.replace("substituters =", f"substituters = {upstream}")
    fresh_store.environment["NIX_CONFIG"] = configuration
    async with restoring(fresh_store, on_disk(made)) as doors:
        answer = await doors.store.missing([made.app])
        assert made.lib not in answer.build
        assert await doors.builder.prepare(made.app, made.outputs) == set()
        assert await doors.plain.valid([base_out]) == {base_out}
    assert doors.notices == []


async def test_another_machine_gets_its_inputs_by_way_of_home(fresh_store: ScratchStore) -> None:
    with remote_store(fresh_store) as far:
        made = needs(fresh_store)
        async with (
            restoring(fresh_store, on_disk(made)) as doors,
            open_store(f"unix://{far.socket}", settings_of(fresh_store)) as machine,
        ):
            builder = BuilderWithCaches(DaemonBuilder(doors.plain, machine), doors.store)
            assert await builder.prepare(made.app, made.outputs) == set()
            result = await builder.build(made.app, NO_LIMITS, Recorder())
            assert far.has(made.outputs[0])
    assert result.good, result.message
    assert contents(result.outputs["out"]) == "from the cache\n"


async def test_what_was_not_there_is_asked_for_again(fresh_store: ScratchStore) -> None:
    made = needs(fresh_store)
    (narinfo,) = made.directory.glob("*.narinfo")
    aside = narinfo.rename(narinfo.with_suffix(".aside"))
    async with restoring(fresh_store, on_disk(made)) as doors:
        assert made.lib in (await doors.store.missing([made.app])).build
        assert await doors.builder.prepare(made.app, made.outputs) == set(made.outputs)
        aside.rename(narinfo)
        assert made.lib not in (await doors.store.missing([made.app])).build
        assert await doors.builder.prepare(made.app, made.outputs) == set()
    assert not (Path(fresh_store.environment["HOME"]) / ".cache" / "nixmill").exists()


async def test_a_restored_path_is_held(fresh_store: ScratchStore) -> None:
    made = needs(fresh_store)
    async with restoring(fresh_store, on_disk(made)) as doors:
        await doors.builder.fetch(made.outputs, Recorder())
        await collect(fresh_store)
        assert await doors.plain.valid(made.outputs) == set(made.outputs)


async def collect(store: ScratchStore) -> None:
    process = await asyncio.create_subprocess_exec(
        "nix-store", "--gc", env=store.environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    assert await process.wait() == 0


async def test_a_user_who_is_not_trusted_hears_once_which_key_to_trust() -> None:
    if os.geteuid() != 0:
        pytest.skip("the user of a daemon of one's own is always trusted, unless root is taken off the list")
    with scratch_store(f"{CONFIGURATION}trusted-users = nobody\n") as store:
        made = needs(store)
        with listening_daemon(store) as socket:
            async with restoring(store, on_disk(made), address=f"unix://{socket}") as doors:
                assert made.lib not in (await doors.store.missing([made.app])).build
                with pytest.raises(NotAllowedError, match=f"`extra-trusted-public-keys = {PUBLIC.name}:"):
                    await doors.builder.fetch(made.outputs, Recorder())
                assert made.lib in (await doors.store.missing([made.app])).build
                assert await doors.builder.prepare(made.app, made.outputs) == set(made.outputs)


async def test_a_user_who_is_not_trusted_may_add_what_the_daemons_keys_signed() -> None:
    if os.geteuid() != 0:
        pytest.skip("as above")
    keys = f"trusted-users = nobody\ntrusted-public-keys = {SecretKey(SECRET).public()}\n"
    with scratch_store(CONFIGURATION + keys) as store:
        made = needs(store)
        with listening_daemon(store) as socket:
            async with restoring(store, on_disk(made), address=f"unix://{socket}") as doors:
                assert (await doors.builder.fetch(made.outputs, Recorder()))[made.outputs[0]].good
