"""Our binary cache over objects in memory: order, faults, collecting, verifying, keys."""

import hashlib
import os
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from nixmill.config.caches import CacheKind, CacheSettings
from nixmill.doors import DoorError
from nixmill.doors.cache import Entry
from nixmill.edge.binary_cache import names
from nixmill.edge.binary_cache.cache import BinaryCache
from nixmill.edge.binary_cache.keys import make_key, read_key, read_keys
from nixmill.edge.binary_cache.objects_disk import DiskObjects
from nixmill.edge.binary_cache.open import disk_directory, open_cache, s3_place
from nixmill.edge.binary_cache.signer import Signer
from nixmill.nix import narinfo
from nixmill.nix.path_info import PathInfo
from nixmill.nix.signature import SecretKey, public_key, secret_text, signed_by
from nixmill.nix.store_path import StorePath, hash_part
from nixmill.nix.wire import string
from tests.fakes.objects import MemoryObjects

KEY = SecretKey(secret_text("new-1", bytes(32)))
OLD_KEY = SecretKey(secret_text("old-1", bytes([1]) * 32))


def path_of(number: int) -> StorePath:
    return StorePath(f"/nix/store/{number:032d}-path-{number}")


def nar_of(contents: bytes) -> bytes:
    words = (b"nix-archive-1", b"(", b"type", b"regular", b"contents", contents, b")")
    return b"".join(map(string, words))


class Shop:
    """Contents in memory."""

    def __init__(self) -> None:
        self.nars: dict[StorePath, bytes] = {}

    def info(self, number: int, contents: bytes, *references: int, **others: object) -> PathInfo:
        path = path_of(number)
        nar = self.nars[path] = nar_of(contents)
        return PathInfo(
            path=path,
            deriver=None,
            nar_hash="sha256:" + hashlib.sha256(nar).hexdigest(),
            nar_size=len(nar),
            references=tuple(map(path_of, references)),
            **others,  # type: ignore[arg-type]
        )

    async def nar(self, path: StorePath) -> AsyncIterator[bytes]:
        nar = self.nars[path]
        for at in range(0, len(nar), 50):
            yield nar[at : at + 50]


class World:
    def __init__(self, scratch: Path) -> None:
        self.objects = MemoryObjects()
        self.shop = Shop()
        self.scratch = scratch
        self.cache = self.open([KEY])

    def open(self, keys: list[SecretKey]) -> BinaryCache:
        return BinaryCache(self.objects, keys, store_dir="/nix/store", scratch=lambda: self.scratch)

    def chain(self, count: int) -> list[PathInfo]:
        return [self.shop.info(n, b"contents %d" % n, *([n, n - 1] if n else [n])) for n in range(count)]

    async def entries(self) -> list[Entry]:
        return [entry async for page in self.cache.entries() for entry in page]

    def kinds(self) -> set[str]:
        return {name.partition("/")[0] if "/" in name else name.partition(".")[2] for name in self.objects.contents}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    assert list(tmp_path.glob("pack-*")) == []


async def test_narinfos_appear_after_archives_and_references(world: World) -> None:
    infos = world.chain(40)
    pushed = await world.cache.push(infos, world.shop)
    assert pushed.new == {info.path for info in infos}
    assert pushed.sent_bytes == sum(len(data) for name, data in world.objects.contents.items() if name[:4] == "nar/")
    order = world.objects.order
    narinfos = [name for name in order if name.endswith(".narinfo")]
    assert narinfos == [names.narinfo_name(info.path) for info in infos]
    for name in narinfos:
        found = narinfo.parse(world.objects.contents[name].decode(), "/nix/store")
        assert order.index(found.url) < order.index(name)


@pytest.mark.parametrize("place", [f"{n:032d}.{kind}" for n in (0, 7, 19) for kind in ("narinfo", "ls")])
async def test_broken_off_anywhere_a_second_push_goes_on(world: World, place: str) -> None:
    infos = world.chain(20)
    world.objects.fails_at = place
    with pytest.raises(OSError, match="broken off"):
        await world.cache.push(infos, world.shop)
    there = {entry.narinfo.info.path for entry in await world.entries()}
    assert all(set(info.references) <= there for info in infos if info.path in there)
    world.objects.fails_at = None
    before = dict(world.objects.contents)
    pushed = await world.cache.push(infos, world.shop)
    assert pushed.known == there
    assert pushed.new == {info.path for info in infos} - there
    assert before.items() <= world.objects.contents.items()
    assert len(world.objects.order) == len(set(world.objects.order))


async def test_a_fault_stops_only_what_refers_to_it(world: World) -> None:
    infos = [world.shop.info(n, b"x%d" % n, *others) for n, *others in ([0], [1], [2, 1], [3, 2], [4, 0])]
    world.shop.nars[infos[1].path] = nar_of(b"other")
    pushed = await world.cache.push(infos, world.shop)
    assert set(pushed.faults) == {path_of(n) for n in (1, 2, 3)}
    assert "corrupt" in pushed.faults[path_of(1)]
    assert pushed.new == {path_of(0), path_of(4)}


@pytest.mark.parametrize("broken", [b"", b"nonsense" * 3, nar_of(b"x0")[:-8], nar_of(b"x0") + b"more"])
async def test_what_is_no_nar_is_a_fault(world: World, broken: bytes) -> None:
    info = world.shop.info(0, b"x0")
    world.shop.nars[info.path] = broken
    assert set((await world.cache.push([info], world.shop)).faults) == {info.path}
    assert world.objects.contents == {}


async def test_the_signatures_of_the_store_are_kept(world: World) -> None:
    plain = world.shop.info(0, b"x")
    info = msgspec.structs.replace(plain, signatures=(OLD_KEY.sign(plain), "new-1:nonsense"))
    await world.cache.push([info], world.shop)
    (entry,) = await world.entries()
    assert entry.narinfo.info.signatures == (OLD_KEY.sign(plain), KEY.sign(plain))
    assert await world.cache.verify(entry) == []


async def test_paths_of_the_same_contents_share_an_archive(world: World) -> None:
    infos = [world.shop.info(n, b"same") for n in range(3)]
    await world.cache.push(infos, world.shop)
    assert sum(name.startswith("nar/") for name in world.objects.contents) == 1
    entries = await world.entries()
    await world.cache.remove(entries[:2])
    await world.cache.sweep(0, 1e9)
    assert await world.cache.verify(entries[2]) == []
    await world.cache.remove(entries[2:])
    assert await world.cache.sweep(0, 1e9) > 0
    assert world.objects.contents == {}


async def test_an_archive_stays_for_a_while_after_it_was_taken_off(world: World) -> None:
    infos = world.chain(3)
    await world.cache.push(infos, world.shop)
    world.objects.now = 1000.0
    await world.cache.remove(await world.entries())
    assert world.kinds() == {"nar", "ls", "gone"}
    assert await world.cache.sweep(100.0, 1099.0) == 0
    assert world.kinds() == {"nar", "ls", "gone"}
    assert await world.cache.sweep(100.0, 1100.0) > 0
    assert world.objects.contents == {}


async def test_what_is_published_again_is_not_swept(world: World) -> None:
    infos = world.chain(3)
    await world.cache.push(infos, world.shop)
    await world.cache.remove(await world.entries())
    await world.cache.push(infos, world.shop)
    assert await world.cache.sweep(0.0, 1e9) == 0
    for entry in await world.entries():
        assert await world.cache.verify(entry) == []


async def test_referrers_go_first(world: World) -> None:
    await world.cache.push(world.chain(9), world.shop)
    deleted: list[str] = []
    delete = world.objects.delete

    async def noted(doomed: list[str]) -> None:
        deleted.extend(doomed)
        await delete(doomed)

    world.objects.delete = noted  # type: ignore[method-assign,assignment]
    await world.cache.remove(await world.entries())
    assert deleted == [names.narinfo_name(path_of(n)) for n in reversed(range(9))]


async def test_what_is_claimed_while_a_collector_looks_is_not_deleted(world: World) -> None:
    claims = world.cache._claims
    async with claims.holding({"nar/a"}):
        with claims.watching():
            async with claims.holding({"nar/b"}):
                pass
            async with claims.dooming({"nar/a", "nar/b", "nar/c"}) as free:
                assert free == {"nar/c"}


async def test_an_entry_is_found_by_its_hash(world: World) -> None:
    infos = world.chain(2)
    await world.cache.push(infos, world.shop)
    found = await world.cache.entry(hash_part(infos[1].path))
    assert found is not None
    assert found in await world.entries()
    assert found.objects == (found.narinfo.url, names.listing_name(infos[1].path))
    assert await world.cache.entry(hash_part(path_of(99))) is None


@pytest.mark.parametrize("kind", ["archive", "cut", "gone", "narinfo", "signature", "listing", "mine"])
async def test_what_is_corrupt_is_told(world: World, kind: str) -> None:
    await world.cache.push(world.chain(2), world.shop)
    entry = next(e for e in await world.entries() if e.narinfo.info.path == path_of(1))
    contents = world.objects.contents
    name = names.narinfo_name(path_of(1))
    match kind:
        case "archive":
            data = bytearray(contents[entry.narinfo.url])
            data[20] ^= 1
            contents[entry.narinfo.url] = bytes(data)
        case "cut":
            contents[entry.narinfo.url] = contents[entry.narinfo.url][:-3]
        case "gone":
            del contents[entry.narinfo.url]
        case "narinfo":
            contents[name] = b"nonsense"
        case "signature":
            contents[name] = contents[name].replace(b"Sig: new-1:", b"Sig: new-1:A")
        case "listing":
            contents[names.listing_name(path_of(1))] = b'{"version":1,"root":{"type":"symlink","target":"x"}}'
        case _:
            contents[name] = contents[names.narinfo_name(path_of(0))]
    assert len(await world.cache.verify(entry)) == 1


async def test_an_archive_that_was_cut_off_is_mended_by_the_next_push(world: World) -> None:
    infos = world.chain(1)
    await world.cache.push(infos, world.shop)
    (entry,) = await world.entries()
    await world.cache.remove([entry])
    whole = world.objects.contents[entry.narinfo.url]
    world.objects.contents[entry.narinfo.url] = whole[:-1]
    await world.cache.push(infos, world.shop)
    assert world.objects.contents[entry.narinfo.url] == whole


async def test_a_new_key_signs_what_stands(world: World) -> None:
    await world.open([OLD_KEY]).push(world.chain(2), world.shop)
    for entry in await world.entries():
        assert await world.cache.verify(entry) != []
        assert await world.cache.sign(entry)
        assert not await world.cache.sign(entry)
        assert await world.cache.verify(entry) == []
    for entry in await world.entries():
        assert signed_by(entry.narinfo.info, [public_key(OLD_KEY.public())])


async def test_a_cache_of_another_store_is_refused(world: World) -> None:
    await world.cache.prepare()
    assert b"StoreDir: /nix/store\n" in world.objects.contents["nix-cache-info"]
    other = BinaryCache(world.objects, [], store_dir="/other", scratch=lambda: world.scratch)
    with pytest.raises(DoorError, match="holds paths of /nix/store"):
        await other.prepare()


def test_a_key_is_made_for_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "key"
    public = make_key(file, "ci.example.org-1")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_key(file).public() == public
    assert read_keys(["a"], {"a": file})[0].name == "ci.example.org-1"
    with pytest.raises(DoorError, match="left as it is"):
        make_key(file, "ci.example.org-2")
    assert read_key(file).public() == public
    with pytest.raises(DoorError, match="cannot be a key's name"):
        make_key(tmp_path / "other", "a b:c")


def test_a_key_that_others_may_read_is_refused_and_no_message_repeats_one(tmp_path: Path) -> None:
    file = tmp_path / "key"
    make_key(file, "k")
    file.chmod(0o604)
    with pytest.raises(DoorError, match="open to every user"):
        read_key(file)
    with pytest.raises(DoorError, match="no credential absent"):
        read_keys(["absent"], {})
    with pytest.raises(DoorError, match="could not be read"):
        read_key(tmp_path / "absent")
    file.chmod(0o600)
    secret = file.read_text().strip()
    file.write_text(secret[:-4])
    with pytest.raises(DoorError) as caught:
        read_key(file)
    assert secret[3:20] not in str(caught.value)


def test_a_signature_that_holds_is_not_made_again() -> None:
    info = Shop().info(0, b"x")
    signer = Signer([KEY, OLD_KEY])
    signed = signer.signed(info)
    assert [text.partition(":")[0] for text in signed.signatures] == ["new-1", "old-1"]
    assert signer.signed(signed) is signed


async def test_what_a_killed_server_left_is_tidied_and_never_listed(tmp_path: Path) -> None:
    objects = DiskObjects(tmp_path / "cache", private=True)
    await objects.tidy()
    left = objects.make_scratch() / "left"
    left.write_bytes(b"x")
    (tmp_path / "cache/a file that is not ours").write_bytes(b"")
    assert [page async for page in objects.names()] == []
    await objects.tidy()
    assert left.exists()
    left.touch()
    os.utime(left, (0, 0))
    await objects.tidy()
    assert not left.exists()
    await objects.put("nar/x", b"x")
    assert stat.S_IMODE((tmp_path / "cache/nar/x").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "cache/nar").stat().st_mode) == 0o750


def test_settings_say_where_a_cache_is_and_who_may_write(tmp_path: Path) -> None:
    credentials = {name: tmp_path / name for name in ("id", "secret")}
    for name, file in credentials.items():
        file.write_text(f"the {name}\n")
    settings = CacheSettings(name="a", kind=CacheKind.S3, bucket="b", access_key="id", secret_key="secret")  # noqa: S106
    place = s3_place(settings, credentials)
    assert (place.bucket, place.access_key, place.secret_key) == ("b", "the id", "the secret")
    assert "secret" not in repr(place)
    with pytest.raises(DoorError, match="no credential id"):
        s3_place(settings, {})
    disk = CacheSettings(name="a")
    assert disk_directory(disk, tmp_path) == tmp_path / "caches/a"
    assert isinstance(open_cache(disk, {}, tmp_path, "/nix/store").objects, DiskObjects)
    assert list(tmp_path.glob("caches*")) == []
    with pytest.raises(ValueError, match="not one of ours"):
        open_cache(CacheSettings(name="a", kind=CacheKind.COPY), {}, tmp_path, "/nix/store")
