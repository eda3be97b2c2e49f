"""The door Objects, with batches: one suite for memory, a directory, and a bucket of a real S3 service."""

import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from nixmill.doors import DoorError
from nixmill.edge.binary_cache import objects_s3
from nixmill.edge.binary_cache.batches import Batches
from nixmill.edge.binary_cache.cache import BinaryCache
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.edge.binary_cache.objects_s3 import S3Objects, S3Place
from nixmill.nix.path_info import PathInfo
from nixmill.nix.signature import SecretKey, secret_text
from nixmill.nix.store_path import StorePath, hash_part
from nixmill.nix.wire import string
from tests.fakes.objects import MemoryObjects
from tests.support.s3_server import s3_server

WORLDS = ("memory", "disk", "s3", "s3 without conditions")
_PREFIXES = itertools.count()


@pytest.fixture(scope="module")
def place() -> Iterator[S3Place]:
    with s3_server() as found:
        yield found


@pytest.fixture(params=WORLDS)
async def objects(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Batches]:
    if request.param == "memory":
        yield MemoryObjects()
    elif request.param == "disk":
        yield DiskObjects(tmp_path / "a/cache")
    else:
        place: S3Place = request.getfixturevalue("place")
        bucket = S3Objects(msgspec.structs.replace(place, prefix=f"/caches/{next(_PREFIXES)}/"))
        bucket._conditional = request.param == "s3"
        yield bucket
        await bucket.close()


async def content(objects: Batches, name: str, start: int = 0, length: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in objects.read(name, start, length)])


async def listed(objects: Batches, prefix: str = "") -> dict[str, int]:
    return {found.name: found.size async for page in objects.names(prefix) for found in page}


async def test_nothing_is_there_at_first(objects: Batches) -> None:
    assert await objects.size("a.narinfo") is None
    assert await content(objects, "nar/a.nar.zst") == b""
    assert await listed(objects) == {}
    await objects.delete(["a.narinfo", "nar/x"])


async def test_what_is_put_is_read(objects: Batches) -> None:
    data = bytes(range(256)) * 5000
    assert await objects.put("nar/a.nar.zst", data)
    assert await objects.size("nar/a.nar.zst") == len(data)
    assert await content(objects, "nar/a.nar.zst") == data


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, 3, b"abc"),
        (2, 3, b"cde"),
        (6, None, b"g"),
        (5, 100, b"fg"),
        (7, None, b""),
        (99, 3, b""),
        (0, 0, b""),
        (3, 0, b""),
    ],
)
async def test_a_part_is_read(objects: Batches, start: int, length: int | None, expected: bytes) -> None:
    await objects.put("x", b"abcdefg")
    assert await content(objects, "x", start, length) == expected


async def test_an_object_never_changes_by_itself(objects: Batches) -> None:
    assert await objects.put("x", b"one")
    assert not await objects.put("x", b"two")
    assert await content(objects, "x") == b"one"


async def test_an_object_is_replaced_where_that_is_asked_for(objects: Batches) -> None:
    assert await objects.put("x", b"one", replace=True)
    assert not await objects.put("x", b"two", replace=True)
    assert await content(objects, "x") == b"two"


async def test_of_many_that_put_the_same_name_one_is_first(objects: Batches) -> None:
    answers = await asyncio.gather(*(objects.put("x", bytes([number])) for number in range(8)))
    assert len(await content(objects, "x")) == 1
    if not (isinstance(objects, S3Objects) and not objects._conditional):
        assert sum(answers) == 1


async def test_a_file_is_put_and_stays_as_it_was(objects: Batches, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 70_000)
    assert await objects.put("nar/file", file)
    file.write_bytes(b"changed")
    assert await content(objects, "nar/file") == b"x" * 70_000


async def test_an_empty_object_is_one(objects: Batches) -> None:
    assert await objects.put("empty", b"")
    assert await objects.size("empty") == 0
    assert await content(objects, "empty") == b""
    assert not await objects.put("empty", b"x")


async def test_layers_are_put_and_known_ones_stay(objects: Batches) -> None:
    await objects.put("nar/b", b"old")
    layers = [[("nar/a", b"a"), ("nar/b", b"new")], [("1.narinfo", b"1")], [("2.narinfo", b"2"), ("log/x-y.drv", b"")]]
    assert await objects.put_all(layers) == [[True, False], [True], [True, True]]
    assert await content(objects, "nar/b") == b"old"
    assert await listed(objects) == {"nar/a": 1, "nar/b": 3, "1.narinfo": 1, "2.narinfo": 1, "log/x-y.drv": 0}


async def test_a_large_batch_is_put(objects: Batches) -> None:
    archives = [(f"nar/{number}", b"x" * number) for number in range(40)]
    narinfos = [(f"{number}.narinfo", b"y") for number in range(40)]
    assert await objects.put_all([archives, narinfos]) == [[True] * 40, [True] * 40]
    assert await listed(objects, "nar/") == {f"nar/{number}": number for number in range(40)}


async def test_no_layer_is_nothing(objects: Batches) -> None:
    assert await objects.put_all([]) == []
    assert await objects.put_all([[], []]) == [[], []]


async def test_what_is_deleted_is_gone_and_can_come_back(objects: Batches) -> None:
    await objects.put_all([[(f"nar/{number}", b"x") for number in range(3)]])
    await objects.delete([f"nar/{number}" for number in (0, 1, 7)])
    assert await listed(objects) == {"nar/2": 1}
    assert await objects.put("nar/0", b"y")


async def test_names_are_listed_by_how_they_begin(objects: Batches) -> None:
    names = ["nar/ab", "nar/ac", "nar/b", "narrow", "a.narinfo", "realisations/sha256:00!out.doi", "a/b/c"]
    await objects.put_all([[(name, b"x") for name in names]])
    for prefix in ("", "nar", "nar/", "nar/a", "a", "a/", "realisations/sha256:0", "none"):
        assert sorted(await listed(objects, prefix)) == sorted(name for name in names if name.startswith(prefix))


@pytest.mark.parametrize(
    "name",
    [
        *("", "/etc/passwd", "../x", "a/../b", "nar/..", ".", ".scratch/x", "a//b", "a/", "a b", "a\nb", "a\0", "é"),
        *("a" * 300, "x/" * 300 + "x", "a\\b", "a%2fb", "a?b", "nar/x\n"),
    ],
    ids=lambda name: repr(name[:12]),
)
async def test_a_name_that_could_lead_elsewhere_is_refused(objects: Batches, name: str) -> None:
    with pytest.raises(ValueError):
        await objects.size(name)
    with pytest.raises(ValueError):
        await objects.put(name, b"x")
    with pytest.raises(ValueError):
        await objects.put_all([[("fine", b"x")], [(name, b"x")]])
    with pytest.raises(ValueError):
        await objects.delete([name])
    with pytest.raises(ValueError):
        await content(objects, name)
    assert await listed(objects) == {}


async def test_a_large_object_goes_in_parts(objects: Batches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects_s3, "WHOLE_MAX", 5_000_000)
    monkeypatch.setattr(objects_s3, "PART_BYTES", 5 * 1024 * 1024)
    file = tmp_path / "file"
    data = bytes(range(251)) * 50_000
    file.write_bytes(data)
    assert await objects.put("nar/large", file)
    assert not await objects.put("nar/large", file)
    assert await content(objects, "nar/large") == data


async def test_a_cache_in_a_bucket_is_published_to_verified_and_swept(place: S3Place, tmp_path: Path) -> None:
    objects = S3Objects(msgspec.structs.replace(place, prefix="whole"))
    key = SecretKey(secret_text("bucket-1", bytes(32)))
    cache = BinaryCache(objects, [key], store_dir="/nix/store", scratch=lambda: tmp_path)
    contents = FileContents()
    infos = [contents.info(number) for number in range(5)]
    await cache.prepare()
    assert (await cache.push(infos, contents)).new == {info.path for info in infos}
    assert await cache.lacks([info.path for info in infos]) == set()
    entries = [entry async for page in cache.entries() for entry in page]
    assert [await cache.verify(entry) for entry in entries] == [[]] * 5
    await cache.remove(entries)
    assert await cache.sweep(0.0, time.time() + 60) > 0
    assert await listed(objects) == {"nix-cache-info": await objects.size("nix-cache-info")}
    await cache.close()
    await objects.close()


async def test_a_bucket_that_cannot_be_written_to_is_told_in_a_sentence(place: S3Place) -> None:
    objects = S3Objects(msgspec.structs.replace(place, bucket="absent"))
    with pytest.raises(DoorError, match="could not write to the bucket absent"):
        await objects.put("x", b"x")
    await objects.close()


class FileContents:
    """Paths that hold one small file each."""

    def info(self, number: int) -> PathInfo:
        nar = self._nar(number)
        return PathInfo(
            path=StorePath(f"/nix/store/{number:032d}-path"),
            deriver=None,
            nar_hash="sha256:" + hashlib.sha256(nar).hexdigest(),
            nar_size=len(nar),
            references=(StorePath(f"/nix/store/{number - 1:032d}-path"),) if number else (),
        )

    async def nar(self, path: StorePath) -> AsyncIterator[bytes]:
        yield self._nar(int(hash_part(path)))

    def _nar(self, number: int) -> bytes:
        words = (b"nix-archive-1", b"(", b"type", b"regular", b"contents", b"number %d" % number, b")")
        return b"".join(map(string, words))
