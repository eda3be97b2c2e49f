"""Real Nix fetches from a cache by content over HTTP, and believes nothing that is not signed."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nixmill.doors.serving import CacheInfo
from nixmill.edge import tree_reader
from nixmill.edge.binary_cache.cas import CasCache
from nixmill.edge.binary_cache.cas_served import CasServed
from nixmill.edge.binary_cache.disk_served import DiskServed
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.nix import hashes
from nixmill.nix.path_info import PathInfo
from nixmill.nix.signature import SecretKey, secret_text
from nixmill.nix.store_path import StorePath, hash_part
from nixmill.web.cache_front import CacheFront
from tests.support.cache_serving import beyond, cache_server, connected
from tests.support.nix_world import Spec, instantiate, run
from tests.support.scratch_store import ScratchStore

KEY = SecretKey(secret_text("cache-1", b"k" * 32))
SCRIPT = """
PATH=/usr/bin:/bin; mkdir -p $out/bin $out/empty; printf 'echo hello' > $out/bin/it; chmod +x $out/bin/it
ln -s bin/it $out/link; seq 1 200000 > $out/numbers; for n in $(seq 1 50); do echo $n > $out/$n; done
"""
LOW = Spec("low", SCRIPT)
HIGH = Spec(
    "high", "PATH=/usr/bin:/bin; mkdir $out; ln -s $inputs $out/low; cp $inputs/numbers $out/copy", inputs=[LOW]
)


def built(store: ScratchStore) -> list[PathInfo]:
    """Build two paths, one of which refers to the other; return them in the order of a push."""
    (derivation,) = instantiate(store, HIGH)
    path = run(store, "nix-store", "--realise", derivation).strip()
    told = json.loads(run(store, "nix", "path-info", "--json", "--recursive", path))
    # Newer ones than Nix 2.18 name each entry by its path.
    listed = told if isinstance(told, list) else [{"path": path, **facts} for path, facts in told.items()]
    infos = [info_of(each) for each in listed]
    return sorted(infos, key=lambda info: len(info.references))


def info_of(told: dict[str, object]) -> PathInfo:
    references = told["references"]
    assert isinstance(references, list)
    return PathInfo(
        path=StorePath(str(told["path"])),
        deriver=None,
        nar_hash="sha256:" + hashes.parse(str(told["narHash"])).base16(),
        nar_size=int(str(told["narSize"])),
        references=tuple(map(StorePath, references)),
    )


@asynccontextmanager
async def served(store: ScratchStore, directory: Path) -> AsyncIterator[tuple[CasCache, str]]:
    objects = DiskObjects(directory)
    cache = CasCache(objects, [KEY], store_dir=store.store_dir)
    await cache.prepare()
    front = CasServed(cache.reader, DiskServed(objects, CacheInfo(store_dir=store.store_dir)))
    async with cache_server(CacheFront(beyond, {"main": front})) as url:
        yield cache, url


async def fetch(store: ScratchStore, path: StorePath, url: str, key: str = KEY.public()) -> str:
    options = ["--option", "substituters", f"{url}/cache/main", "--option", "trusted-public-keys", key]
    return await asyncio.to_thread(run, store, "nix-store", "--realise", path, *options)


async def test_nix_fetches_a_closure(fresh_store: ScratchStore, tmp_path: Path) -> None:
    infos = await asyncio.to_thread(built, fresh_store)
    archives = [b"".join([piece async for piece in tree_reader.nar(Path(info.path))]) for info in infos]
    async with served(fresh_store, tmp_path / "cache") as (cache, url):
        pushed = await cache.push(infos, tree_reader.DiskContents(Path))
        assert pushed.new == {info.path for info in infos}
        await asyncio.to_thread(run, fresh_store, "nix-store", "--delete", *reversed([info.path for info in infos]))
        assert not os.path.lexists(infos[0].path)  # noqa: ASYNC240 - a look

        with pytest.raises(AssertionError, match="not signed by any of the keys"):
            await fetch(fresh_store, infos[1].path, url, SecretKey(secret_text("cache-1", b"z" * 32)).public())
        await fetch(fresh_store, infos[1].path, url)

        for info, archive in zip(infos, archives, strict=True):
            assert b"".join([piece async for piece in tree_reader.nar(Path(info.path))]) == archive
        await asyncio.to_thread(run, fresh_store, "nix-store", "--verify-path", *[info.path for info in infos])


async def test_ranges_and_what_is_not_there(fresh_store: ScratchStore, tmp_path: Path) -> None:
    infos = await asyncio.to_thread(built, fresh_store)
    async with served(fresh_store, tmp_path / "cache") as (cache, url), connected(url) as client:
        await cache.push(infos, tree_reader.DiskContents(Path))
        archive = b"".join([piece async for piece in tree_reader.nar(Path(infos[0].path))])
        entry = await cache.entry(hash_part(infos[0].path))
        assert entry is not None
        address = f"/cache/main/{entry.narinfo.url}"

        whole = await client.ask(address)
        assert (whole.code, whole.body) == (200, archive)
        part = await client.ask(address, Range="bytes=1000-700999")
        assert (part.code, part.body) == (206, archive[1000:701_000])
        assert part.headers["content-range"] == f"bytes 1000-700999/{len(archive)}"
        assert (await client.ask(address, "HEAD")).headers["content-length"] == str(len(archive))
        assert (await client.ask(f"/cache/main/{entry.objects[0]}")).code == 404
        assert (await client.ask("/cache/main/nar/nothing.nar")).code == 404

        listing = json.loads((await client.ask(f"/cache/main/{hash_part(infos[0].path)}.ls")).body)["root"]["entries"]
        numbers = listing["numbers"]
        assert archive[numbers["narOffset"] :][: numbers["size"]] == b"".join(b"%d\n" % n for n in range(1, 200_001))
        assert listing["bin"]["entries"]["it"]["executable"]
        assert (await client.ask(f"/cache/main/{'0' * 32}.ls")).code == 404

        shutil.rmtree(tmp_path / "cache" / "blob")
        assert (await client.ask(address, "HEAD")).code == 200  # it is a layout until somebody reads
        assert await cache.verify(entry) != []
