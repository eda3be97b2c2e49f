"""A cache by content in a directory and in a bucket: the same tests for both."""

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from nixmill.doors.cache import Entry
from nixmill.edge.binary_cache.batches import Batches
from nixmill.edge.binary_cache.cas import CasCache
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.edge.binary_cache.objects_s3 import S3Objects, S3Place
from nixmill.nix.signature import SecretKey, secret_text
from tests.support.s3_server import s3_server
from tests.support.trees import FakeContents, Link, Plain, Tree, nar

TREE: dict[bytes, Tree] = {
    b"bin": {b"tool": Plain(b"#!/bin/sh\n" * 50, executable=True), b"again": Link(b"tool")},
    b"large": Plain(blake3(b"large").digest(1_500_000)),
    b"many": {b"%d" % number: Plain(b"file %d" % number) for number in range(100)},
}
OTHER: Tree = TREE | {b"own": Plain(b"its own")}


@pytest.fixture(scope="module")
def place() -> Iterator[S3Place]:
    with s3_server() as made:
        yield made


@pytest.fixture(params=["disk", "s3"])
async def objects(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Batches]:
    if request.param == "disk":
        yield DiskObjects(tmp_path / "cache")
    else:
        yield S3Objects(request.getfixturevalue("place"))


async def entries(cache: CasCache) -> list[Entry]:
    return [entry async for some in cache.entries() for entry in some]


async def test_the_whole_life_of_two_paths(objects: Batches) -> None:
    cache = CasCache(objects, [SecretKey(secret_text("k-1", b"k" * 32))], store_dir="/nix/store")
    contents = FakeContents()
    first = contents.add("first", TREE)
    second = contents.add("second", OTHER, [first.path])
    await cache.prepare()
    assert await cache.lacks([first.path, second.path]) == {first.path, second.path}

    pushed = await cache.push([first, second], contents)

    assert pushed.new == {first.path, second.path}
    assert pushed.sent_bytes < 1_700_000
    assert await cache.lacks([first.path, second.path]) == set()
    found = {entry.narinfo.info.path: entry for entry in await entries(cache)}
    for info, tree in ((first, TREE), (second, OTHER)):
        entry = found[info.path]
        assert await cache.verify(entry) == []
        archive = b"".join([piece async for piece in cache.nar(entry.narinfo)])
        assert archive == nar(tree)
        part = b"".join([piece async for piece in cache.nar(entry.narinfo, 200_000, 900_000)])
        assert part == archive[200_000:1_100_000]
    assert found[second.path].size < 1000

    await cache.remove([found[second.path]])
    assert await cache.sweep(3600, time.time()) == 0
    assert await cache.sweep(0, time.time() + 10) > 0
    assert await cache.verify(found[first.path]) == []
    await cache.remove([found[first.path]])
    await cache.sweep(0, time.time() + 10)
    assert [name async for some in objects.names() for name in [found.name for found in some]] == ["nix-cache-info"]
