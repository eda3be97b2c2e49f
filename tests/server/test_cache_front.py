"""Caches over HTTP: what is answered, with which headers, and what goes on to the application."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nixmill.doors import DoorError
from nixmill.doors.serving import CacheInfo, ServedObject
from nixmill.web.cache_front import CacheFront
from tests.support.cache_serving import HASH, OTHER, FakeServed, RawClient, beyond, cache_server, connected, text

NARINFO = b"StorePath: /nix/store/x\n"
NAR = bytes(range(256)) * 40
NAR_NAME = "nar/1b9p07z77phvv2hf6gm9f28syp39f1ag.nar.zst"


async def slices(start: int, length: int) -> AsyncIterator[bytes]:
    for at in range(start, start + length, 1000):
        yield NAR[at : min(at + 1000, start + length)]


def filled(file: Path) -> FakeServed:
    """Return a cache with a narinfo, an archive in a file and one that is read in parts."""
    file.write_bytes(NAR)
    archive = ServedObject(size=len(NAR), media_type="application/x-nix-nar", content=file, etag="abc", immutable=True)
    return FakeServed(
        {
            f"{HASH}.narinfo": text(NARINFO),
            NAR_NAME: archive,
            "nar/untagged.nar": ServedObject(size=len(NAR), media_type="application/x-nix-nar", content=file),
            "nar/made.nar": ServedObject(size=len(NAR), media_type="application/x-nix-nar", content=slices, etag="d"),
        }
    )


@contextlib.asynccontextmanager
async def asking(front: CacheFront) -> AsyncIterator[RawClient]:
    async with cache_server(front) as url, connected(url) as client:
        yield client


async def test_a_narinfo_below_cache_and_at_hydras_address(tmp_path: Path) -> None:
    served = filled(tmp_path / "file")
    async with asking(CacheFront(beyond, {"main": served})) as client:
        for path in (f"/cache/main/{HASH}.narinfo", f"/{HASH}.narinfo", f"/{HASH}.narinfo?x=y"):
            reply = await client.ask(path)
            assert (reply.code, reply.body) == (200, NARINFO)
            assert reply.headers["content-type"] == "text/x-nix-narinfo"
            assert reply.headers["cache-control"] == "public, max-age=3600"
            again = await client.ask(path, If_None_Match=reply.headers["etag"])
            assert (again.code, again.body, again.headers["etag"]) == (304, b"", reply.headers["etag"])
        head = await client.ask(f"/{HASH}.narinfo", "HEAD")
        assert (head.code, head.headers["content-length"]) == (200, str(len(NARINFO)))


async def test_what_a_cache_says_of_itself(tmp_path: Path) -> None:
    info = CacheInfo(store_dir="/other/store", priority=30)
    async with asking(CacheFront(beyond, {"main": FakeServed(info=info)})) as client:
        for path in ("/nix-cache-info", "/cache/main/nix-cache-info"):
            reply = await client.ask(path)
            assert reply.body == b"StoreDir: /other/store\nWantMassQuery: 1\nPriority: 30\n"
            assert reply.headers["content-type"] == "text/x-nix-cache-info"


@pytest.mark.parametrize("name", [NAR_NAME, "nar/untagged.nar", "nar/made.nar"])
async def test_archives_are_sent_whole_and_in_parts_over_one_connection(tmp_path: Path, name: str) -> None:
    async with asking(CacheFront(beyond, {"main": filled(tmp_path / "file")})) as client:
        whole = await client.ask(f"/{name}")
        assert (whole.code, whole.body, whole.headers["accept-ranges"]) == (200, NAR, "bytes")
        assert whole.headers["content-type"] == "application/x-nix-nar"
        head = await client.ask(f"/{name}", "HEAD")
        assert (head.code, head.headers["content-length"], head.body) == (200, str(len(NAR)), b"")
        part = await client.ask(f"/{name}", Range="bytes=1000-4999")
        assert (part.code, part.body) == (206, NAR[1000:5000])
        assert part.headers["content-range"] == f"bytes 1000-4999/{len(NAR)}"
        assert (await client.ask(f"/{name}", Range="bytes=-7")).body == NAR[-7:]
        rest = await client.ask(f"/{name}", Range="bytes=9999-", If_Range=whole.headers["etag"])
        assert (rest.code, rest.body) == (206, NAR[9999:])
        other = await client.ask(f"/{name}", Range="bytes=9999-", If_Range='"another"')
        assert (other.code, other.body) == (200, NAR)
        beyond_it = await client.ask(f"/{name}", Range=f"bytes={len(NAR)}-")
        assert (beyond_it.code, beyond_it.headers["content-range"]) == (416, f"bytes */{len(NAR)}")
        assert (await client.ask(f"/{name}", If_None_Match=whole.headers["etag"])).code == 304
        assert (await client.ask(f"/{name}", If_Match='"another"')).code == 412


async def test_archives_are_kept_for_a_year_and_what_is_not_there_not_at_all(tmp_path: Path) -> None:
    async with asking(CacheFront(beyond, {"main": filled(tmp_path / "file")})) as client:
        reply = await client.ask(f"/{NAR_NAME}")
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
        missing = await client.ask(f"/cache/main/{OTHER}.narinfo")
        assert (missing.code, missing.headers["cache-control"]) == (404, "no-store")
        assert missing.body == b"There is nothing of that name in this cache.\n"


@pytest.mark.parametrize(
    "path",
    [
        "/cache/main/../../etc/passwd",
        "/cache/main/nar/../../../etc/passwd",
        "/cache/main/nar/%2e%2e/%2e%2e/etc/passwd",
        "/cache/main/nar%2fx.nar",
        "/cache/main/nar/a%00b",
        "/cache/main//etc/passwd",
        "/cache/main/nar/" + "a" * 5000,
        "/cache/main/lock",
        "/cache/nowhere/nix-cache-info",
        "/cache/%00/nix-cache-info",
        "/cache//nix-cache-info",
    ],
)
async def test_hostile_names_are_never_looked_for(tmp_path: Path, path: str) -> None:
    served = filled(tmp_path / "file")
    async with asking(CacheFront(beyond, {"main": served})) as client:
        assert (await client.ask(path)).code == 404
        assert served.asked == []


@pytest.mark.parametrize(
    "path",
    ["/", "/log/5", "/p/x", "/cache", "/cache/main", "/cache/main/", "/nix-cache-info/x", "/nar/a/b", "/x.narinfo"],
)
async def test_pages_are_the_applications(tmp_path: Path, path: str) -> None:
    served = filled(tmp_path / "file")
    async with asking(CacheFront(beyond, {"main": served})) as client:
        assert (await client.ask(path)).body == f"the application got {path}".encode()
        assert served.asked == []


async def test_only_reading_is_answered(tmp_path: Path) -> None:
    async with asking(CacheFront(beyond, {"main": filled(tmp_path / "file")})) as client:
        reply = await client.ask(f"/cache/main/{HASH}.narinfo", "PUT", Content_Length="0")
        assert (reply.code, reply.headers["allow"]) == (405, "GET, HEAD")


async def test_hydras_addresses_belong_to_the_first_public_cache_or_the_one_that_is_named() -> None:
    caches = {
        "secret": FakeServed({f"{HASH}.narinfo": text(b"secret")}, CacheInfo(private=True)),
        "first": FakeServed({f"{HASH}.narinfo": text(b"first")}),
        "second": FakeServed({f"{HASH}.narinfo": text(b"second")}),
    }
    for root, expected in (
        (None, b"first"),
        ("second", b"second"),
        ("", f"the application got /{HASH}.narinfo".encode()),
    ):
        async with asking(CacheFront(beyond, caches, root=root)) as client:
            assert (await client.ask(f"/{HASH}.narinfo")).body == expected


async def test_trouble_is_ours_and_tells_strangers_nothing() -> None:
    fault = DoorError("The disk /secret/place is broken.", door="cache", action="read", retryable=True)
    async with asking(CacheFront(beyond, {"main": FakeServed(fault=fault)})) as client:
        reply = await client.ask(f"/{HASH}.narinfo")
        assert (reply.code, reply.headers["retry-after"]) == (503, "5")
        assert b"/secret" not in reply.body


async def test_a_file_that_was_deleted_meanwhile_is_not_there(tmp_path: Path) -> None:
    served = filled(tmp_path / "file")
    (tmp_path / "file").unlink()
    async with asking(CacheFront(beyond, {"main": served})) as client:
        assert (await client.ask(f"/{NAR_NAME}")).code == 404


async def test_an_empty_object(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    archive = ServedObject(size=0, media_type="application/x-nix-nar", content=tmp_path / "file", etag="abc")
    made = ServedObject(size=0, media_type="application/x-nix-nar", content=slices)
    async with asking(CacheFront(beyond, {"main": FakeServed({"nar/a.nar": archive, "nar/b.nar": made})})) as client:
        for name in ("nar/a.nar", "nar/b.nar"):
            reply = await client.ask(f"/{name}")
            assert (reply.code, reply.body) == (200, b"")
            assert (await client.ask(f"/{name}", Range="bytes=0-")).code == 416
