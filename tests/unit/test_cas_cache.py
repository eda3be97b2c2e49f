"""A cache by content over objects in memory: publishing, reading, taking off, and everything that is damaged."""

import pytest
from blake3 import blake3

from nixmill.doors import DoorError
from nixmill.doors.cache import Entry
from nixmill.edge.binary_cache.cas import CasCache
from nixmill.nix.path_info import PathInfo
from nixmill.nix.signature import PublicKey, SecretKey, public_key, secret_text, signed_by
from nixmill.nix.store_path import hash_part
from tests.fakes.objects import MemoryObjects
from tests.support.trees import FakeContents, Link, Plain, Tree, nar, store_path

DAY = 86400.0
KEY = SecretKey(secret_text("cache-1", b"k" * 32))
LARGE = blake3(b"large").digest(2_000_000)
TREE: Tree = {
    b"bin": {b"tool": Plain(b"#!/bin/sh\n" * 50, executable=True), b"again": Link(b"tool")},
    b"empty": {},
    b"large": Plain(LARGE),
    b"nothing": Plain(b""),
    b"\xff": Plain(b"\xff\x00"),
}


class World:
    """A cache, and store paths to publish."""

    def __init__(self) -> None:
        self.objects = MemoryObjects()
        self.cache = CasCache(self.objects, [KEY], store_dir="/nix/store")
        self.contents = FakeContents()

    async def publish(self, name: str, tree: Tree, *references: PathInfo) -> Entry:
        info = self.contents.add(name, tree, [reference.path for reference in references])
        pushed = await self.cache.push([info], self.contents)
        assert pushed.new == {info.path}, pushed.faults
        return await self.entry(name)

    async def entry(self, name: str) -> Entry:
        entry = await self.cache.entry(hash_part(store_path(name)))
        assert entry is not None
        return entry

    async def read(self, entry: Entry, start: int = 0, length: int | None = None) -> bytes:
        return b"".join([piece async for piece in self.cache.nar(entry.narinfo, start, length)])

    async def names(self) -> set[str]:
        return {entry.narinfo.info.path[44:] async for some in self.cache.entries() for entry in some}


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("tree", [TREE, {}, Plain(b"x"), Plain(b"", executable=True), Plain(LARGE), Link(b"/else")])
async def test_an_archive_comes_out_as_it_went_in(world: World, tree: Tree) -> None:
    entry = await world.publish("a", tree)

    assert await world.read(entry) == nar(tree)
    assert await world.cache.verify(entry) == []
    for start, length in ((0, 1), (100, 1000), (1_000_000, 600_000), (len(nar(tree)) - 5, None), (10**9, 5)):
        assert await world.read(entry, start, length) == nar(tree)[start:][:length]


async def test_a_narinfo_is_signed_and_names_an_archive_by_its_hash(world: World) -> None:
    told = (await world.publish("a", TREE)).narinfo

    assert told.compression == "none"
    assert told.url.endswith(f"-{hash_part(store_path('a'))}.nar")
    assert signed_by(told.info, [public_key(KEY.public())])


async def test_publishing_again_changes_nothing(world: World) -> None:
    await world.publish("a", TREE)
    before = dict(world.objects.contents)
    info = world.contents.add("a", TREE)

    pushed = await world.cache.push([info], world.contents)

    assert not pushed.new
    assert pushed.known == {info.path}
    assert pushed.sent_bytes == 0
    assert world.objects.contents == before
    assert await world.cache.lacks([info.path, store_path("b")]) == {store_path("b")}


async def test_a_second_build_adds_what_is_different(world: World) -> None:
    files: dict[bytes, Tree] = {b"%d" % n: Plain(blake3(b"%d" % n).digest(2000)) for n in range(100)}
    first = await world.publish("a", {b"lib": files, b"share": {b"doc": Plain(LARGE)}})
    changed: dict[bytes, Tree] = files | {b"7": Plain(blake3(b"new").digest(2000))}

    second = await world.publish("b", {b"lib": changed, b"share": {b"doc": Plain(LARGE)}})

    assert first.size > 2_000_000
    assert second.size < 2000 + 100 * 45 + 500  # the file, the directory that names it, and the one above


async def test_a_closure_appears_in_order(world: World) -> None:
    low = world.contents.add("low", {b"x": Plain(b"1")})
    middle = world.contents.add("middle", {b"x": Plain(b"2")}, [low.path, store_path("middle")])
    high = world.contents.add("high", {b"x": Plain(b"3")}, [low.path, middle.path, store_path("elsewhere")])

    await world.cache.push([low, middle, high], world.contents)

    appeared = [name for name in world.objects.order if name.endswith(".narinfo")]
    assert appeared == [f"{hash_part(info.path)}.narinfo" for info in (low, middle, high)]
    assert world.objects.order.index(appeared[0]) == len(world.objects.order) - 3


@pytest.mark.parametrize("at", ["blob/", "directory/", "castore/", "chunks/", ".narinfo"])
async def test_a_push_that_was_broken_off_goes_on(world: World, at: str) -> None:
    info = world.contents.add("a", TREE)
    world.objects.fails_at = at
    with pytest.raises(OSError, match="broken off"):
        await world.cache.push([info], world.contents)
    assert await world.cache.lacks([info.path]) == {info.path}

    world.objects.fails_at = None
    await world.cache.push([info], world.contents)

    assert await world.cache.verify(await world.entry("a")) == []


async def test_what_is_not_what_the_store_says_is_not_published_nor_what_refers_to_it(world: World) -> None:
    bad = world.contents.add("bad", TREE)
    world.contents.archives[bad.path] = nar({b"other": Plain(b"x")})
    above = world.contents.add("above", {b"x": Plain(b"1")}, [bad.path])
    short = world.contents.add("short", TREE)
    world.contents.archives[short.path] = nar(TREE)[:-8]
    junk = world.contents.add("junk", TREE)
    world.contents.archives[junk.path] = nar(TREE).replace(b"large", b"aaaaa")
    good = world.contents.add("good", {b"x": Plain(b"2")})
    away = world.contents.add("away", TREE)
    world.contents.archives.pop(away.path)

    pushed = await world.cache.push([bad, above, short, junk, away, good], world.contents)

    assert pushed.new == {good.path}
    assert "It may be corrupt" in pushed.faults[bad.path]
    assert f"refers to {bad.path}" in pushed.faults[above.path]
    assert "breaks off" in pushed.faults[short.path]
    assert "no NAR" in pushed.faults[junk.path]
    assert "is not there" in pushed.faults[away.path]


@pytest.mark.parametrize("kind", ["blob/", "directory/", "castore/", "chunks/"])
@pytest.mark.parametrize("how", ["changed", "cut", "missing", "exchanged"])
async def test_nothing_damaged_is_delivered(world: World, kind: str, how: str) -> None:
    entry = await world.publish("a", TREE)
    for name in sorted(name for name in world.objects.contents if name.startswith(kind)):
        fresh = CasCache(world.objects, [KEY], store_dir="/nix/store")
        content = world.objects.contents[name]
        other = next(value for key, value in sorted(world.objects.contents.items()) if value != content)
        broken = {"changed": content[:-1] + bytes((content[-1] ^ 1,)), "cut": content[:-1], "exchanged": other}
        world.objects.contents.pop(name)
        if how in broken:
            world.objects.contents[name] = broken[how]
        got, fault = await until_fault(fresh, entry)
        assert nar(TREE).startswith(got)
        assert len(await fresh.verify(entry)) == 1
        assert fault is not None
        assert not fault.retryable
        world.objects.contents[name] = content


async def until_fault(cache: CasCache, entry: Entry) -> tuple[bytes, DoorError | None]:
    got = b""
    try:
        async for piece in cache.nar(entry.narinfo):
            got += piece
    except DoorError as error:
        return got, error
    return got, None


async def test_a_lost_signature_is_told_and_made_again(world: World) -> None:
    entry = await world.publish("a", TREE)
    rotated = CasCache(world.objects, [SecretKey(secret_text("cache-2", b"n" * 32)), KEY], store_dir="/nix/store")
    stranger = CasCache(world.objects, [SecretKey(secret_text("cache-2", b"n" * 32))], store_dir="/nix/store")

    assert "signed by no key" in (await stranger.verify(entry))[0]
    assert await rotated.sign(entry)
    entry = await world.entry("a")
    assert not await rotated.sign(entry)
    assert [name_of(key, entry.narinfo.info) for key in rotated.signer.public] == ["cache-2", "cache-1"]


def name_of(key: PublicKey, info: PathInfo) -> str:
    return key.name if key.verifies(info) else ""


async def test_what_nothing_needs_is_swept_after_a_while(world: World) -> None:
    shared: Tree = {b"shared": Plain(b"both have it"), b"large": Plain(LARGE)}
    gone = await world.publish("gone", {b"in": shared, b"own": Plain(b"its own")})
    kept = await world.publish("kept", {b"in": shared})

    world.objects.now = 10 * DAY
    assert await world.cache.sweep(DAY, world.objects.now) == 0
    await world.cache.remove([gone])
    assert await world.names() == {"kept"}
    assert await world.cache.entry(hash_part(gone.narinfo.info.path)) is None
    assert await world.cache.sweep(DAY, world.objects.now) == 0
    assert await world.read(gone) == nar({b"in": shared, b"own": Plain(b"its own")})  # for those who are reading it

    assert await world.cache.sweep(DAY, 12 * DAY) > 0
    with pytest.raises(DoorError, match="Publish it again"):
        await world.read(gone)
    assert await world.cache.verify(kept) == []

    await world.cache.remove([kept])
    await world.cache.sweep(DAY, 12 * DAY)
    await world.cache.sweep(DAY, 14 * DAY)
    assert world.objects.contents == {}


async def test_what_was_taken_off_can_be_published_again_and_is_young_then(world: World) -> None:
    entry = await world.publish("a", TREE)
    world.objects.now = 10 * DAY
    await world.cache.remove([entry])

    again = await world.publish("a", TREE)

    assert again.published_at == 10 * DAY
    await world.cache.sweep(DAY, 12 * DAY)
    assert await world.cache.verify(again) == []


async def test_another_build_of_a_path_that_was_never_announced_does_not_mix_with_it(world: World) -> None:
    world.objects.fails_at = ".narinfo"
    with pytest.raises(OSError, match="broken off"):
        await world.publish("a", {b"x": Plain(b"first")})
    world.objects.fails_at = None

    entry = await world.publish("a", {b"x": Plain(b"second")})

    assert await world.cache.verify(entry) == []
    assert await world.cache.sweep(DAY, 2 * DAY) > 0


async def test_a_sweep_that_cannot_see_everything_deletes_nothing(world: World) -> None:
    await world.publish("a", TREE)
    gone = await world.publish("b", {b"own": Plain(b"its own")})
    await world.cache.remove([gone])
    name = next(name for name in world.objects.contents if name.startswith("chunks/"))
    world.objects.contents[name] = b"damaged"
    before = dict(world.objects.contents)

    with pytest.raises(DoorError, match="damaged"):
        await world.cache.sweep(DAY, 5 * DAY)

    assert world.objects.contents == before


async def test_entries_are_what_narinfos_name(world: World) -> None:
    entry = await world.publish("a", TREE)
    await world.publish("b", {b"x": Plain(b"1")})
    world.objects.contents[f"{hash_part(store_path('b'))}.narinfo"] = b"damaged"

    assert await world.names() == {"a"}
    assert await world.cache.entry(hash_part(store_path("b"))) is None
    assert await world.cache.entry("0" * 32) is None
    assert entry.objects[0].startswith("castore/")


async def test_a_deep_tree(world: World) -> None:
    tree: Tree = {}
    for _ in range(300):
        tree = {b"d": tree}
    entry = await world.publish("deep", tree)

    assert await world.cache.verify(entry) == []
    assert await world.cache.sweep(DAY, 5 * DAY) == 0


async def test_whoever_stops_reading_leaves_no_task(world: World) -> None:
    entry = await world.publish("a", {b"%d" % n: Plain(blake3(b"%d" % n).digest(400_000)) for n in range(30)})

    reading = world.cache.reader.read((await world.cache.reader.root(entry.objects[0][8:])).node)  # type: ignore[union-attr]
    assert len(await anext(reading)) >= 4 * 1024 * 1024
    await reading.aclose()  # type: ignore[attr-defined]
