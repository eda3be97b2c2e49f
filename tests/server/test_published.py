"""Good results reach every cache, whatever kind it is, and plain Nix takes them from there: whole servers, real Nix."""

import asyncio
from pathlib import Path

from tests.support.kept import built, drv_of, fetch, outputs
from tests.support.mill import a_mill
from tests.support.program import flake
from tests.support.published import (
    Caches,
    chain,
    closure,
    ended_well,
    held,
    made,
    nix,
    open_to_all,
    publishing_mill,
    realise,
    signers,
    until_ready,
    until_signed,
    until_uploads,
    uploads,
    watched,
)
from tests.support.s3_server import s3_server

ALL = ("disk", "tops", "straight", "blobs", "bucket", "copied", "told")


async def test_one_push_reaches_caches_of_every_kind(tmp_path: Path) -> None:
    caches, told = Caches(tmp_path), tmp_path / "told"
    with s3_server() as s3:
        caches.add("disk", "disk-1")
        caches.add("tops", "tops-1", intermediate=False)
        caches.add("straight", "straight-1", kind="store")
        caches.add("blobs", "blobs-1", format="cas")
        caches.add_bucket("bucket", "bucket-1", place=s3)
        caches.add("copied", kind="copy", url=f"file://{tmp_path}/copied")
        caches.add_command("told", told)
        with publishing_mill(tmp_path, caches) as mill:
            project, store, url = mill.project("mill"), mill.store, f"{mill.server.url}/cache"
            hello = chain("hello", "middle", "bottom")
            aside = chain("aside", "unseen", command="echo {below} >&2; echo nothing > $out")
            commit = project.commit(flake__nix=flake(hello=hello, aside=aside))
            with watched(mill.server.state / "caches/disk") as seen:
                await until_ready(mill.server)
                page = await ended_well(mill, "mill", commit)
                tops = [*outputs(store, page, "hello"), *outputs(store, page, "aside")]
                below = [path for path in closure(store, *tops) if path not in tops and not path.endswith(".drv")]
                everything = {*tops, *below, unseen := made(store, "unseen")}
                assert (len(tops), len(below)) == (2, 2)
                for name in ALL:
                    await until_uploads(mill.server, name, tops if name == "tops" else everything)
            assert seen.said[-1].endswith("5 narinfos"), seen.said
            assert len(seen.said) == 1, seen.said

            for name in ("disk", "straight", "blobs", "bucket"):
                assert await held(mill.server, name, everything) == everything, name
                assert await signers(mill.server, name, below[0]) == [f"{name}-1"]
            assert await held(mill.server, "tops", everything) == {*tops, *below}, "closures alone"
            assert set(uploads(mill.server, "tops")) == set(tops)
            lines = told.read_text().split()
            assert set(lines) == everything
            assert len(lines) == len(everything)
            assert lines.index(tops[0]) > max(lines.index(path) for path in below), "closure order"
            assert len(list((tmp_path / "copied").glob("*.narinfo"))) == len(everything)

            for name in ("disk", "straight", "blobs", "bucket"):
                right, wrong = caches.public(f"{name}-1"), caches.public("tops-1")
                fetched = fetch(store, f"{url}/{name}", tmp_path / f"fetched-{name}", right, *everything)
                assert all((fetched / Path(path).name).exists() for path in everything), name
                assert realise(store, f"{url}/{name}", tmp_path / f"realised-{name}", right, tops[0]) == "", name
                assert realise(store, f"{url}/{name}", tmp_path / f"refused-{name}", wrong, tops[0]) != "", name
            open_to_all(s3)
            public = caches.public("bucket-1")
            assert realise(store, f"{s3.endpoint}/{s3.bucket}", tmp_path / "from-bucket", public, tops[0]) == ""
            for name in ("disk", "straight", "blobs", "bucket"):
                asked = ("nix", "log", "--option", "substituters", f"{url}/{name}", drv_of(page, "aside"))
                shown = nix(store, *asked, NIX_LOG_DIR=str(tmp_path / "no-logs"))
                assert (shown.stdout.strip(), name) == (unseen, name), shown.stderr


async def test_what_was_good_before_is_published_too_and_keys_are_rotated(tmp_path: Path) -> None:
    """Built before there was a cache, then skipped, reused, promoted: duties follow state (D8)."""
    caches, none = Caches(tmp_path), Caches(tmp_path)
    with publishing_mill(tmp_path, none) as mill:
        project, server, store = mill.project("mill"), mill.server, mill.store
        commit = project.commit(flake__nix=flake(one=chain("one", "below"), two=chain("two")))
        await until_ready(server)
        page = await ended_well(mill, "mill", commit)
        one, two, below = *outputs(store, page, "one"), *outputs(store, page, "two"), made(store, "below")
        assert server.stop() == 0

        caches.add("first", "first-1")
        caches.add("straight", "straight-1", kind="store")
        server.settings = server.settings.replace(none.settings(), "") + caches.settings()
        again = project.commit()
        await until_ready(server)
        page = await ended_well(mill, "mill", again)
        assert await built(server, page["run"]["number"]) == []
        for name in ("first", "straight"):
            await until_uploads(server, name, [one, two])
            assert await held(server, name, [one, two, below]) == {one, two, below}
        assert server.stop() == 0

        caches.tables.clear()
        caches.add("first", "first-2", "first-1")
        caches.add("second", "second-1")
        server.settings = server.settings[: server.settings.index("[credentials]")] + caches.settings()
        moved = project.commit(flake__nix=flake(one=chain("one", "below"), three=chain("three")))
        await until_ready(server)
        page = await ended_well(mill, "mill", moved)
        assert await built(server, page["run"]["number"]) == ["three"]
        three = made(store, "three")
        await until_uploads(server, "second", [one, three])
        assert await held(server, "second", [one, two, three, below]) == {one, three, below}
        await until_uploads(server, "first", [three])
        for path in (one, two, three, below):
            await until_signed(server, "first", path, ["first-2", "first-1"])
        for key in ("first-1", "first-2"):
            public = caches.public(key)
            assert realise(store, f"{server.url}/cache/first", tmp_path / f"by-{key}", public, one) == ""
        assert server.command("cache", "verify", "first") == ""


async def test_a_store_elsewhere_cannot_be_served_from_here(tmp_path: Path) -> None:
    caches = Caches(tmp_path)
    caches.add("straight", "straight-1", kind="store")
    with a_mill(tmp_path, 'store = "ssh-ng://nobody@127.0.0.1"\n' + caches.settings()) as mill:
        (tmp_path / "projects.toml").touch()
        mill.server.start()
        assert mill.server.process is not None
        assert await asyncio.to_thread(mill.server.process.wait, 60) == 2, mill.server.log
        assert "The cache straight is of kind `store`" in mill.server.log
        assert "Choose another kind" in mill.server.log
