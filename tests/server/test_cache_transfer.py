"""Large answers: clients that go away, that are slow, that ask for much at once, and answers that cannot be ended."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nixmill.app import connection
from nixmill.doors import DoorError
from nixmill.doors.serving import ServedObject
from nixmill.web.cache_front import CacheFront
from tests.support.cache_serving import HASH, FakeServed, RawClient, beyond, cache_server, connected, text
from tests.support.web import listening, serving

LARGE = 64 * 1024 * 1024
MADE = "nar/made.nar"
FILE = "nar/file.nar"
TCP_CLOSE = 7
"""The state of a connection that the other side reset, as `TCP_INFO` tells it."""


def a_file(directory: Path, size: int = LARGE) -> Path:
    """Return a file of zeros that takes no room."""
    path = directory / "large"
    with path.open("wb") as file:
        file.truncate(size)
    return path


class Made:
    """An object that is made on the way, and tells how much of it was."""

    def __init__(self, fault: Exception | None = None, *, short: bool = False) -> None:
        self.fault = fault
        self.short = short
        self.given = 0
        self.closed = asyncio.Event()

    async def read(self, start: int, length: int) -> AsyncIterator[bytes]:
        try:
            for _ in range(start, start + length, 2**20):
                if self.given >= 2**20 and (self.fault or self.short):
                    if self.fault:
                        raise self.fault
                    return
                self.given += 2**20
                yield bytes(2**20)
                await asyncio.sleep(0)
        finally:
            self.closed.set()

    def served(self) -> FakeServed:
        return FakeServed({MADE: ServedObject(size=LARGE, media_type="x/y", content=self.read)})


def of_file(path: Path) -> FakeServed:
    small = text(b"narinfo")
    return FakeServed({FILE: ServedObject(size=0, media_type="x/y", content=path), f"{HASH}.narinfo": small})


async def whole(client: RawClient, path: str) -> int:
    """Ask for something large; return how many bytes came before the end of it, or of the connection."""
    await client.send(path)
    code, headers = await client.head()
    assert code == 200
    return await rest(client, int(headers["content-length"]))


async def rest(client: RawClient, most: int) -> int:
    """Return how many bytes come, at most so many, before the connection ends."""
    got = 0
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while got < most and (data := await client.reader.read(2**20)):
                got += len(data)
    return got


async def refused(url: str, path: str) -> bool:
    """Say whether another download is refused now."""
    async with connected(url) as client:
        await client.send(path)
        return (await client.head())[0] == 503


async def until_free(url: str, path: str) -> None:
    """Return once a download is not refused any more."""
    async with asyncio.timeout(20):
        while await refused(url, path):  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(0.01)


async def test_a_large_file_arrives_whole_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with cache_server(CacheFront(beyond, {"main": of_file(a_file(tmp_path))})) as url, connected(url) as client:
        for _ in range(2):
            assert await whole(client, f"/{FILE}") == LARGE
        assert (await client.ask(f"/{HASH}.narinfo")).body == b"narinfo"


async def test_requests_that_are_sent_ahead_are_answered_in_order(tmp_path: Path) -> None:
    path = a_file(tmp_path, 300_000)
    async with cache_server(CacheFront(beyond, {"main": of_file(path)})) as url, connected(url) as client:
        for name in (FILE, f"{HASH}.narinfo", FILE):
            await client.send(f"/{name}")
        for size in (300_000, 7, 300_000):
            code, headers = await client.head()
            assert (code, int(headers["content-length"])) == (200, size)
            await client.reader.readexactly(size)


async def test_a_client_of_http_1_0_gets_the_file_and_the_end(tmp_path: Path) -> None:
    async with cache_server(CacheFront(beyond, {"main": of_file(a_file(tmp_path))})) as url, connected(url) as client:
        client.writer.write(f"GET /{FILE} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        code, _ = await client.head()
        assert code == 200
        async with asyncio.timeout(20):
            assert len(await client.reader.read()) == LARGE


@pytest.mark.parametrize("name", [FILE, MADE])
async def test_clients_that_go_away_are_forgotten_without_a_word(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Made()
    served = of_file(a_file(tmp_path)) if name == FILE else made.served()
    front = CacheFront(beyond, {"main": served}, transfers_max=1)
    async with cache_server(front) as url:
        async with connected(url, receive_buffer=4096) as client:
            await client.send(f"/{name}")
            await client.head()
            assert await refused(url, f"/{name}")
        if name == MADE:
            await asyncio.wait_for(made.closed.wait(), 20)
        await until_free(url, f"/{name}")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", [FILE, MADE])
async def test_clients_that_take_nothing_are_ended(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "STALL_S", 0.05)
    monkeypatch.setattr(connection, "PIECE_S", 0.05)
    served = of_file(a_file(tmp_path)) if name == FILE else Made().served()
    async with cache_server(CacheFront(beyond, {"main": served})) as url:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address) as client:  # nobody reads from it
            client.sendall(f"GET /{name} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            async with asyncio.timeout(20):
                while client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO) & 0xFF != TCP_CLOSE:  # noqa: ASYNC110 - the kernel's
                    await asyncio.sleep(0.01)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_downloads_of_one_address_are_counted(tmp_path: Path) -> None:
    front = CacheFront(beyond, {"main": of_file(a_file(tmp_path))}, transfers_max=2, trusted_proxies=["127.0.0.1"])
    async with cache_server(front) as url:
        async with connected(url, receive_buffer=4096) as one, connected(url, receive_buffer=4096) as two:
            for client in (one, two):
                await client.send(f"/{FILE}")
                await client.head()
            async with connected(url) as third:
                reply = await third.ask(f"/{FILE}")
                assert (reply.code, "retry-after" in reply.headers) == (503, True)
                assert (await third.ask(f"/{HASH}.narinfo")).code == 200
                await third.send(f"/{FILE}", X_Forwarded_For="203.0.113.9")
                assert (await third.head())[0] == 200
        await until_free(url, f"/{FILE}")


@pytest.mark.parametrize("how", ["fault", "short"])
async def test_what_cannot_be_sent_to_its_end_is_broken_off(how: str, caplog: pytest.LogCaptureFixture) -> None:
    fault = DoorError("The disk broke.", door="store", action="read", retryable=False)
    made = Made(fault if how == "fault" else None, short=how == "short")
    async with cache_server(CacheFront(beyond, {"main": made.served()})) as url, connected(url) as client:
        assert await whole(client, f"/{MADE}") < LARGE
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_file_that_becomes_shorter_is_broken_off(tmp_path: Path) -> None:
    path = a_file(tmp_path)
    async with cache_server(CacheFront(beyond, {"main": of_file(path)})) as url, connected(url) as client:
        await client.send(f"/{FILE}")
        await client.head()
        with path.open("r+b") as file:
            file.truncate(1000)
        assert await rest(client, LARGE) < LARGE


async def test_files_go_over_unix_sockets_and_through_servers_that_cannot_send_them(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    (tmp_path / "file").write_bytes(content)
    front = CacheFront(beyond, {"main": of_file(tmp_path / "file")})
    listener = listening()
    async with serving(front, listener), connected(f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
        assert (await client.ask(f"/{FILE}")).body == content
        assert (await client.ask(f"/{FILE}", Range="bytes=5-1500000")).body == content[5:1_500_001]
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        async with cache_server(front, unix):
            client = RawClient(*await asyncio.open_unix_connection(tmp_path / "socket"))
            assert (await client.ask(f"/{FILE}")).body == content
            assert (await client.ask(f"/{FILE}", Range="bytes=5-1500000")).body == content[5:1_500_001]
            client.writer.close()
            await client.writer.wait_closed()
