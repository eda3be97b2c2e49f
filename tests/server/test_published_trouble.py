"""Caches that are down, servers that die, archives that are damaged: nothing turns red, and all of it heals."""

import asyncio
import random
from pathlib import Path
from typing import Any

from tests.support.kept import collect_garbage, delete_by_force, fetch, is_valid, outputs, until
from tests.support.mill import Mill, gated
from tests.support.program import flake, job
from tests.support.published import (
    Caches,
    chain,
    ended_well,
    gated_bucket,
    held,
    made,
    publishing_mill,
    until_ready,
    until_uploads,
    uploads,
    watched,
)
from tests.support.server import ServerProgram

KILLS = 3
SLOW = "head -c 1500000 /dev/urandom > $out; echo $below >> $out"
"""A build whose output takes a moment to compress."""


def own(name: str) -> str:
    """Return a job whose output is like no other's, so that its archive is its own."""
    return job(name, f"echo {name} > $out")


def on(name: str, below: str) -> str:
    """Return a job that refers to such a one."""
    return job(name, "echo $below > $out", f"below = {own(below)};")


def archive_of(server: ServerProgram, cache: str, path: str) -> Path:
    """Return the archive of a path in a cache of kind `disk`."""
    directory = server.state / "caches" / cache
    text = (directory / f"{Path(path).name[:32]}.narinfo").read_text()
    return directory / next(line[5:] for line in text.splitlines() if line.startswith("URL: "))


async def works(server: ServerProgram, page: Any) -> dict[str, str]:  # noqa: ANN401 - the page of a run
    """Return what a run did, by name: `build` or `fetch`."""
    timeline = await server.get(f"/r/{page['run']['number']}/timeline")
    return {one["name"]: one["work"] for one in timeline["attempts"]}


async def test_a_cache_that_is_down_keeps_its_queue(tmp_path: Path) -> None:
    caches = Caches(tmp_path)
    caches.add("main", "main-1")
    async with gated_bucket() as (place, gate):
        caches.add_bucket("bucket", "bucket-1", place=place)
        with publishing_mill(tmp_path, caches) as mill:
            project, server = mill.project("mill"), mill.server
            commit = project.commit(flake__nix=flake(one=chain("one", "below")))
            await until_ready(server)
            page = await ended_well(mill, "mill", commit)
            one, below = *outputs(mill.store, page, "one"), made(mill.store, "below")
            await until_uploads(server, "main", [one, below])
            assert uploads(server, "bucket") == dict.fromkeys([one, below], "waiting")
            await server.until("/caches/bucket", lambda page: all(upload["fault"] for upload in page["uploads"]))
            await gate.open(500)
            commit = project.commit(flake__nix=flake(one=chain("one", "below"), two=chain("two")))
            page = await ended_well(mill, "mill", commit)
            (two,) = outputs(mill.store, page, "two")
            await until_uploads(server, "main", [one, below, two])
            assert uploads(server, "bucket") == dict.fromkeys([one, below, two], "waiting")
            await gate.open()
            await until_uploads(server, "bucket", [one, below, two])
            assert await held(server, "bucket", [one, below, two]) == {one, below, two}
            await gate.shut()
            assert await held(server, "bucket", [one]) == set()
            await gate.open()
            public = caches.public("bucket-1")
            address = f"{server.url}/cache/bucket"  # in a thread: the gate is in this one
            fetched = await asyncio.to_thread(fetch, mill.store, address, tmp_path / "fetched", public, one, two)
            assert (fetched / Path(below).name).exists()


async def test_a_server_that_is_killed_while_it_publishes_goes_on_afterwards(tmp_path: Path) -> None:
    caches, chance = Caches(tmp_path), random.Random(5)  # noqa: S311 - moments, no secrets
    caches.add("main", "main-1", compression_level=19)
    caches.add("blobs", "blobs-1", format="cas", compression_level=19)
    caches.add("straight", "straight-1", kind="store")
    with publishing_mill(tmp_path, caches) as mill:
        server = mill.server
        jobs = {f"j{number}": chain(f"j{number}", f"k{number}", f"l{number}", command=SLOW) for number in range(3)}
        commit = mill.project("mill").commit(flake__nix=flake(**jobs))
        with watched(server.state / "caches/main") as seen:
            for kill in range(KILLS):
                await until_ready(server)
                if not kill:
                    await until(lambda: bool(list((server.state / "caches/main").glob("*.narinfo"))), "a narinfo")
                await asyncio.sleep(chance.uniform(0.0, 0.4))
                server.kill()
            await until_ready(server)
            page = await ended_well(mill, "mill", commit)
            everything = {made(mill.store, f"{kind}{number}") for kind in "jkl" for number in range(3)}
            for name in ("main", "blobs", "straight"):
                await until_uploads(server, name, everything)
                assert await held(server, name, everything) == everything
        assert len(seen.said) == 1, seen.said
        assert seen.said[0].endswith("9 narinfos")
        assert server.command("cache", "verify", "main") == ""
        assert server.command("cache", "verify", "blobs") == ""
        public, tops = caches.public("blobs-1"), [*outputs(mill.store, page, "j0"), *outputs(mill.store, page, "j2")]
        fetch(mill.store, f"{server.url}/cache/blobs", tmp_path / "fetched", public, *tops)


async def test_what_only_our_cache_holds_is_fetched_and_a_cache_that_lies_is_told_of(tmp_path: Path) -> None:
    """Hydra says of it: dependency does not exist, and substitution is disabled."""
    caches = Caches(tmp_path)
    caches.add("main", "main-1")
    with publishing_mill(tmp_path, caches) as mill:
        project, server, store = mill.project("mill"), mill.server, mill.store
        commit = project.commit(flake__nix=flake(under=own("under"), side=own("side"), more=own("more")))
        await until_ready(server)
        page = await ended_well(mill, "mill", commit)
        under, side, more = (outputs(store, page, name)[0] for name in ("under", "side", "more"))
        await until_uploads(server, "main", [under, side, more])

        delete_by_force(store, under, side, more)
        archive = archive_of(server, "main", side)
        archive.chmod(0o644)
        archive.write_bytes(b"something else")
        archive_of(server, "main", more).unlink()
        commit = project.commit(
            flake__nix=flake(over=on("over", "under"), beside=on("beside", "side"), above=on("above", "more"))
        )
        page = await ended_well(mill, "mill", commit)
        done = await works(server, page)
        assert done.pop("under") == "fetch"
        assert done == dict.fromkeys(["over", "beside", "side", "above", "more"], "build")
        notices = " ".join(page["notices"])
        assert "main" in notices, notices
        assert side in notices
        assert all(is_valid(store, path) for path in (under, side, more))
        over = outputs(store, page, "over")[0]
        await until_uploads(server, "main", [over])


async def test_collecting_and_repairing_beside_a_server_that_works(tmp_path: Path) -> None:
    caches = Caches(tmp_path)
    caches.add("main", "main-1", max_paths=1, grace_hours=0.0)
    gate = tmp_path / "gate"
    with publishing_mill(tmp_path, caches) as mill:
        project, server, store = mill.project("mill"), mill.server, mill.store
        first = project.commit(flake__nix=flake(one=chain("one", "below"), old=own("old"), stays=own("stays")))
        await until_ready(server)
        page = await ended_well(mill, "mill", first)
        one, old, stays = (outputs(store, page, name)[0] for name in ("one", "old", "stays"))
        below = made(store, "below")
        await until_uploads(server, "main", [one, old, stays, below])

        second = project.commit(flake__nix=flake(one=own("one-b"), old=own("old-b"), stays=own("stays")))
        page = await ended_well(mill, "mill", second)
        one_b, old_b = (outputs(store, page, name)[0] for name in ("one", "old"))
        await until_uploads(server, "main", [one_b, old_b])
        third = project.commit(flake__nix=flake(one=own("one-c"), two=gated("two", gate), stays=own("stays")))
        one_c = await built_early(mill, "one-c")
        await until_uploads(server, "main", [one_c])
        said = server.command("cache", "collect", "main")
        kept = {old_b, stays, one_c}  # `one` is pinned anew already; `old` until the third run's evaluation is whole
        assert await held(server, "main", [*kept, one, one_b, old, below]) == kept, said
        gate.touch()
        await ended_well(mill, "mill", third)

        archive = archive_of(server, "main", stays)
        archive.chmod(0o644)
        archive.write_bytes(b"something else")
        collect_garbage(store)
        assert stays in server.command("cache", "verify", "main", "--repair")
        await until_uploads(server, "main", [stays])
        await until(lambda: archive_of(server, "main", stays).exists(), "the archive")
        assert server.command("cache", "verify", "main") == ""
        fetch(store, f"{server.url}/cache/main", tmp_path / "fetched", caches.public("main-1"), stays)


async def built_early(mill: Mill, name: str) -> str:
    """Return the path of a job that is built before its run ends."""

    def there() -> bool:
        return any(is_valid(mill.store, str(path)) for path in Path(mill.store.store_dir).glob(f"*-{name}"))

    await until(there, name)
    return made(mill.store, name)
