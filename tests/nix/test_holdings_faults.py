"""Caches that fail, hang and lie: the store never takes what is false, the lie is told, and another cache helps."""

import gzip
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from nixmill.doors import BuildLimits
from nixmill.edge.binary_cache.holdings import ReadCache
from nixmill.edge.binary_cache.holdings_http import HttpFiles
from nixmill.nix import narinfo, signature
from nixmill.nix.build_result import BuildResult
from nixmill.nix.store_path import StorePath
from tests.support.faulty_cache import PUBLIC, SECRET, Answer, Directory, Fault, FaultyCache, always, faulty_cache, once
from tests.support.held_world import Needs, Restoring, needs, restoring
from tests.support.nix_world import Recorder, Spec
from tests.support.scratch_store import ScratchStore

NO_LIMITS = BuildLimits()
LARGE = Spec("lib", "/usr/bin/head -c 3000000 /dev/urandom > $out")
SMALL = Spec("lib", "echo from the cache > $out")


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def made(fresh_store: ScratchStore, request: pytest.FixtureRequest) -> Needs:
    return needs(fresh_store, request.param, compression="gzip")


@pytest.fixture
async def cache(made: Needs) -> AsyncIterator[FaultyCache]:
    async with faulty_cache(made.directory) as served:
        yield served


@pytest.fixture
async def doors(fresh_store: ScratchStore, cache: FaultyCache) -> AsyncIterator[Restoring]:
    files = HttpFiles(cache.url, "main")
    async with restoring(fresh_store, ReadCache(name="main", files=files, keys=(PUBLIC,))) as opened:
        yield opened
    await files.aclose()


async def fetched(doors: Restoring, made: Needs) -> BuildResult:
    """Fetch what `app` needs; whatever the result says must be so."""
    (output,) = made.outputs
    result = (await doors.builder.fetch([output], Recorder()))[output]
    assert result.good is (output in await doors.plain.valid([output]))
    return result


def archive(made: Needs) -> bytes:
    (file,) = (made.directory / "nar").iterdir()
    return file.read_bytes()


def bomb(_: Needs) -> bytes:
    return gzip.compress(bytes(100_000_000))


LIES: dict[str, tuple[Callable[[Needs], Answer], str]] = {
    "no NAR": (lambda _: 404, "no archive at all"),
    "corrupt": (lambda made: archive(made)[:-40] + bytes(40), "cannot be unpacked|another hash"),
    "another's": (lambda _: gzip.compress(b"nix-archive-of-something-else"), "bytes of an archive|longer than"),
    "short": (lambda made: archive(made)[:-9], "bytes of an archive of"),
    "too long": (lambda made: archive(made) + b"x", "longer than"),
    "endless": (lambda _: Fault.ENDLESS, "longer than|cannot be unpacked"),
    "a bomb": (bomb, "longer than"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_about_a_nar_is_told_and_what_needs_it_is_built(
    doors: Restoring, made: Needs, cache: FaultyCache, lie: str
) -> None:
    answer, words = LIES[lie]
    cache.fault = always("nar/", answer(made))
    result = await fetched(doors, made)
    assert not result.good
    assert f"The cache main announced {made.outputs[0]}, but delivered" in result.message
    assert any(word in result.message for word in words.split("|")), result.message
    assert "It is taken from elsewhere, or built." in doors.notices[0]
    assert await doors.builder.prepare(made.app, made.outputs) == set(made.outputs)
    assert made.lib in (await doors.store.missing([made.app])).build
    assert (await doors.builder.build(made.lib, NO_LIMITS, Recorder())).good


FALSE_NARINFOS: dict[str, Callable[[str], str]] = {
    "another path": lambda text: text.replace("-lib\n", "-bil\n", 1),
    "size": lambda text: text.replace("NarSize: ", "NarSize: 1"),
    "signature": lambda text: text.replace("Sig: ours-1:", "Sig: ours-1:AAAA"),
    "references": lambda text: text.replace("References: ", "References: ../../etc"),
    "store": lambda text: text.replace("StorePath: /tmp", "StorePath: /nix"),
    "nonsense": lambda _: "<html>Sign in to go on</html>",
    "binary": lambda _: "\0\udcff" * 100,
}


@pytest.mark.parametrize("made", [SMALL], indirect=True, ids=["small"])
@pytest.mark.parametrize("false", FALSE_NARINFOS)
async def test_a_false_narinfo_is_told_and_ignored(
    doors: Restoring, made: Needs, cache: FaultyCache, false: str
) -> None:
    (file,) = made.directory.glob("*.narinfo")
    told = FALSE_NARINFOS[false](file.read_text())
    cache.fault = always(file.name, told.encode("utf-8", "surrogateescape"))
    assert made.lib in (await doors.store.missing([made.app])).build
    assert not (await fetched(doors, made)).good
    assert f"The narinfo of {made.outputs[0]} in the cache main is not believed: " in doors.notices[0]
    assert not any(name.startswith("nar/") for name in cache.asked)


@pytest.mark.parametrize("field", ["FileHash", "NarHash", "URL", "Compression"])
async def test_a_false_narinfo_that_was_signed_delivers_nothing(
    doors: Restoring, made: Needs, cache: FaultyCache, field: str
) -> None:
    (file,) = made.directory.glob("*.narinfo")
    told = narinfo.parse(file.read_text(), str(Path(made.outputs[0]).parent))
    changed: dict[str, dict[str, object]] = {
        "FileHash": {"file_hash": "sha256:" + "0" * 52},
        "NarHash": {"info": _rehashed(told)},
        "URL": {"url": "nar/../../../../etc/passwd"},
        "Compression": {"compression": "br"},
    }
    cache.fault = always(file.name, narinfo.write(msgspec.structs.replace(told, **changed[field])).encode())
    assert not (await fetched(doors, made)).good
    assert "but delivered" in doors.notices[0]


def _rehashed(told: narinfo.NarInfo) -> object:
    info = msgspec.structs.replace(told.info, nar_hash="sha256:" + "0" * 64, signatures=())
    return msgspec.structs.replace(info, signatures=(signature.SecretKey(SECRET).sign(info),))


PASSING: dict[str, tuple[str, Answer]] = {
    "narinfo 500": (".narinfo", 500),
    "narinfo hangs": (".narinfo", Fault.HANG),
    "narinfo endless": (".narinfo", Fault.ENDLESS),
    "narinfo 404": (".narinfo", 404),
    "narinfo 502": (".narinfo", 502),
}


@pytest.mark.parametrize("made", [SMALL], indirect=True, ids=["small"])
@pytest.mark.parametrize("trouble", PASSING)
async def test_what_passes_is_not_remembered(doors: Restoring, made: Needs, cache: FaultyCache, trouble: str) -> None:
    part, answer = PASSING[trouble]
    cache.fault = always(part, answer)
    assert made.lib in (await doors.store.missing([made.app])).build
    assert not (await fetched(doors, made)).good
    cache.fault = lambda _: None
    doors.holdings._rests_until.clear()
    assert made.lib not in (await doors.store.missing([made.app])).build
    assert (await fetched(doors, made)).good
    assert len(doors.notices) <= 3


@pytest.mark.parametrize("answer", [404, 500, Fault.HANG, Fault.BREAK, Fault.STALL], ids=str)
async def test_a_nar_that_fails_once_is_asked_for_again(
    doors: Restoring, made: Needs, cache: FaultyCache, answer: Answer
) -> None:
    cache.fault = once(".nar", answer)
    assert (await fetched(doors, made)).good
    assert len(doors.notices) == 1


@pytest.mark.parametrize("answer", [404, 500, Fault.BREAK, b"something else"], ids=str)
async def test_another_cache_delivers_what_the_first_one_does_not(
    fresh_store: ScratchStore, made: Needs, cache: FaultyCache, answer: Answer
) -> None:
    cache.fault = always("nar/", answer)
    files = HttpFiles(cache.url, "first")
    caches = [
        ReadCache(name="first", files=files, keys=(PUBLIC,)),
        ReadCache(name="second", files=Directory(made.directory), keys=(PUBLIC,)),
    ]
    async with restoring(fresh_store, *caches) as doors:
        assert (await fetched(doors, made)).good
    await files.aclose()
    assert len(doors.notices) == 1
    assert "The cache first announced" in doors.notices[0]


@pytest.mark.parametrize("made", [SMALL], indirect=True, ids=["small"])
async def test_what_lets_us_in_is_shown_to_the_cache_alone(made: Needs, cache: FaultyCache) -> None:
    async with faulty_cache(made.directory) as bucket:
        cache.redirect = lambda name: f"{bucket.url}/{name}".encode()
        files = HttpFiles(cache.url, "main", headers={"authorization": "Bearer secret"})
        (file,) = made.directory.glob("*.narinfo")
        assert b"".join([chunk async for chunk in files.read(file.name)]) == file.read_bytes()
        await files.aclose()
    assert cache.authorisations == {"Bearer secret"}
    assert bucket.asked[file.name] == 1
    assert bucket.authorisations == set()


@pytest.mark.parametrize("made", [SMALL], indirect=True, ids=["small"])
async def test_a_cache_that_hangs_costs_its_limit_once_and_keeps_nothing_from_another(
    fresh_store: ScratchStore, made: Needs, cache: FaultyCache
) -> None:
    cache.fault = always("", Fault.HANG)
    files = HttpFiles(cache.url, "first")
    caches = [
        ReadCache(name="first", files=files, keys=(PUBLIC,)),
        ReadCache(name="second", files=Directory(made.directory), keys=(PUBLIC,)),
    ]
    others = [StorePath(f"{fresh_store.store_dir}/{number:032}-other") for number in range(500)]
    async with restoring(fresh_store, *caches) as doors:
        assert set(await doors.holdings.narinfos([*others, *made.outputs])) == set(made.outputs)
        assert set(await doors.holdings.narinfos([*others, *made.outputs])) == set(made.outputs)
    await files.aclose()
    assert cache.asked.total() <= 50
    assert len(doors.notices) == 1
