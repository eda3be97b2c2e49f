"""Asking substituters on loopback: which can be used, and how long that takes."""

import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from nixmill.core.installation import Reachability
from nixmill.edge.substituters import TIME_LIMIT_S, probe
from tests.support.cache_servers import GOOD, answering, response


@pytest.fixture(autouse=True)
def _without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def servers() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def _asked(*urls: str) -> Reachability:
    return await probe(urls, store_dir="/nix/store")


async def _reason(url: str) -> str:
    found = await _asked(url)
    assert found.reachable == ()
    return found.unreachable[0].reason


async def test_a_good_cache_is_reachable_whatever_its_parameters(servers: AsyncExitStack) -> None:
    url = await servers.enter_async_context(answering(GOOD))
    urls = (url, f"{url}/", f"{url}?priority=10&trusted=1", f"{url}/some/where")
    assert (await _asked(*urls)).reachable == urls


async def test_nothing_configured_takes_no_time() -> None:
    assert await _asked() == Reachability(reachable=(), unreachable=())


async def test_a_refusing_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert await _reason(f"http://127.0.0.1:{port}") == "connection refused"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (response("404 Not Found", b""), "it answered 404 Not Found"),
        (response("503 Service Unavailable", b""), "it answered 503 Service Unavailable"),
        (response("200 OK", b"<html>Sign in to the hotel</html>"), "what answers there is no binary cache"),
        (response("200 OK", b"StoreDir: /other\n"), "it is for stores at /other, not /nix/store"),
    ],
)
async def test_a_wrong_answer_is_told(servers: AsyncExitStack, answer: bytes, reason: str) -> None:
    assert await _reason(await servers.enter_async_context(answering(answer))) == reason


async def test_an_answer_that_is_no_http_is_told(servers: AsyncExitStack) -> None:
    assert "nonsense" in await _reason(await servers.enter_async_context(answering(b"SSH-2.0-OpenSSH\r\n\r\n")))


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_a_cache_that_wants_credentials_is_left_to_nix(servers: AsyncExitStack, status: str) -> None:
    url = await servers.enter_async_context(answering(response(status, b"")))
    assert (await _asked(url)).reachable == (url,)


async def test_a_directory_must_exist(tmp_path: Path) -> None:
    found = await _asked(f"file://{tmp_path}", f"file://{tmp_path}/missing", f"file://{tmp_path}?priority=1")
    assert len(found.reachable) == 2
    assert [each.reason for each in found.unreachable] == ["its directory does not exist"]


async def test_other_kinds_are_taken_to_be_reachable() -> None:
    urls = ("ssh-ng://builder.invalid", "s3://bucket?region=eu", "daemon", "local?root=/x", "/some/path", "auto")
    assert (await _asked(*urls)).reachable == urls


async def test_black_holes_together_cost_one_time_limit(servers: AsyncExitStack) -> None:
    good = await servers.enter_async_context(answering(GOOD))
    holes = [await servers.enter_async_context(answering(None)) for _ in range(5)]
    before = time.monotonic()
    found = await _asked(*holes, good)
    assert time.monotonic() - before < TIME_LIMIT_S + 1
    assert found.reachable == (good,)
    assert {each.url for each in found.unreachable} == set(holes)
    assert all("did not answer" in each.reason for each in found.unreachable)


async def test_a_password_in_an_address_is_neither_sent_nor_shown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = await _asked(f"http://user:secret@127.0.0.1:{port}")
    sentence = found.unreachable[0].sentence
    assert sentence == f"The substituter http://127.0.0.1:{port} is left out: connection refused."
