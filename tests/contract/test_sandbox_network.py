"""The network proxy of evaluation sandboxes, over real sockets: what it lets through, refuses, bounds and remembers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from nixmill.edge.sandbox.net_proxy import Hosts, NetLimits, NetProxy, is_allowed

DEADLINE_S = 20


class World:
    """A proxy, a server that echoes behind it, and what they heard."""

    def __init__(self, path: Path, port: int, hosts: Hosts) -> None:
        self.path = path
        self.port = port
        self.hosts = hosts

    async def ask(self, text: str, *, then: bytes = b"") -> bytes:
        """Return everything that comes back."""
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_unix_connection(self.path)
            writer.write(text.replace("PORT", str(self.port)).replace("\n", "\r\n").encode() + then)
            writer.write_eof()
            try:
                return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.close()


@contextlib.asynccontextmanager
async def world(
    place: Path, *, allow: Callable[[str, int], bool] | None = None, limits: NetLimits | None = None
) -> AsyncIterator[World]:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
                if data.startswith(b"GET"):
                    break
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        hosts = Hosts()
        let = allow or (lambda address, wanted: (address, wanted) == ("127.0.0.1", port))
        async with NetProxy(place / "proxy", hosts, allow=let, limits=limits or NetLimits()):
            yield World(place / "proxy", port, hosts)


async def test_a_tunnel_passes_on_what_is_said(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        said = await here.ask("CONNECT localhost:PORT HTTP/1.1\nHost: x\n\n", then=b"hello")
        assert said == b"HTTP/1.1 200 Connection established\r\n\r\nhello"
        assert here.hosts.reached == (f"localhost:{here.port}",)
        assert here.path.stat().st_mode & 0o777 == 0o600


async def test_a_plain_request_is_written_anew(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        head = "GET http://127.0.0.1:PORT/a?b=c HTTP/1.1\nHost: other\nProxy-Authorization: x\nAccept: y\n"
        said = await here.ask(head + "Content-Length: 3\nConnection: keep-alive\n\n", then=b"abc")
        wanted = f"GET /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:{here.port}\r\nAccept: y\r\nConnection: close\r\n\r\n"
        assert said == wanted.encode()


@pytest.mark.parametrize(
    "request_line",
    [
        "CONNECT 127.0.0.1:443",
        "CONNECT localhost:443",
        "CONNECT 169.254.169.254:80",
        "CONNECT 10.0.0.1:443",
        "CONNECT 192.168.1.1:443",
        "CONNECT 100.64.0.1:443",
        "CONNECT 0.0.0.0:443",
        "CONNECT 224.0.0.1:443",
        "CONNECT [::1]:443",
        "CONNECT [::ffff:127.0.0.1]:443",
        "CONNECT [64:ff9b::7f00:1]:443",
        "CONNECT [2002:7f00:1::]:443",
        "CONNECT [fe80::1]:443",
        "CONNECT [fd00::1]:443",
        "CONNECT 2130706433:443",
        "CONNECT 0x7f.1:443",
        "CONNECT 127.1:443",
        "CONNECT 1.1.1.1:22",
        "CONNECT 1.1.1.1:8080",
        "GET http://127.0.0.1/",
        "GET http://169.254.169.254/latest/meta-data/",
        "GET http://[::1]/",
        "HEAD http://10.0.0.1:443/",
    ],
)
async def test_addresses_that_are_not_public_are_refused(tmp_path: Path, request_line: str) -> None:
    async with world(tmp_path, allow=is_allowed) as here:
        said = await here.ask(f"{request_line} HTTP/1.1\nHost: x\n\n")
        assert said.startswith(b"HTTP/1.1 403 "), said
        assert len(here.hosts.refused) == 1
        assert here.hosts.reached == ()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST http://127.0.0.1:PORT/ HTTP/1.1\n\n", 405),
        ("GET / HTTP/1.1\n\n", 400),
        ("GET https://127.0.0.1:PORT/ HTTP/1.1\n\n", 400),
        ("GET http://user:secret@127.0.0.1:PORT/ HTTP/1.1\n\n", 400),
        ("GET ftp://127.0.0.1:PORT/ HTTP/1.1\n\n", 400),
        ("GET http://127.0.0.1:99999/ HTTP/1.1\n\n", 400),
        ("GET http://[::1/ HTTP/1.1\n\n", 400),
        ("CONNECT 127.0.0.1 HTTP/1.1\n\n", 400),
        ("CONNECT 127.0.0.1:99999999 HTTP/1.1\n\n", 400),
        ("CONNECT :PORT HTTP/1.1\n\n", 400),
        (f"CONNECT {'a' * 300}:PORT HTTP/1.1\n\n", 400),
        ("CONNECT a/b:PORT HTTP/1.1\n\n", 400),
        ("CONNECT 127.0.0.1:PORT\n\n", 405),
        ("CONNECT 127.0.0.1:PORT HTTP/2\n\n", 405),
        ("\n\n", 405),
        ("", 400),
        ("GET http://127.0.0.1:PORT/ HTTP/1.1\n", 400),
        (f"GET http://127.0.0.1:PORT/ HTTP/1.1\nX: {'x' * 40_000}\n\n", 400),
    ],
    ids=range(18),
)
async def test_what_is_no_request_for_it_is_refused(tmp_path: Path, head: str, status: int) -> None:
    async with world(tmp_path) as here:
        assert (await here.ask(head)).startswith(f"HTTP/1.1 {status} ".encode())
        assert here.hosts.reached == ()


async def test_what_git_asks_over_plain_http_is_told_with_its_address(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        await here.ask("POST http://127.0.0.1:PORT/a.git/git-upload-pack HTTP/1.1\n\n")
        [(address, reason)] = here.hosts.refused.items()
        assert address == f"http://127.0.0.1:{here.port}/a.git/git-upload-pack"
        assert "https" in reason


async def test_a_name_is_looked_up_once_and_its_address_connected_to(tmp_path: Path) -> None:
    asked: list[str] = []

    def allow(address: str, _: int) -> bool:
        asked.append(address)
        return address == "127.0.0.1"

    async with world(tmp_path, allow=allow) as here:
        assert b"200" in await here.ask("CONNECT localhost:PORT HTTP/1.1\n\n")
    assert sorted(asked) == sorted(set(asked))


async def test_a_name_that_is_not_known_and_a_host_that_does_not_answer(tmp_path: Path) -> None:
    async with world(tmp_path, allow=lambda *_: True) as here:
        assert b"is not known" in await here.ask("CONNECT no-such-host.invalid:443 HTTP/1.1\n\n")
        assert (await here.ask("CONNECT 127.0.0.1:1 HTTP/1.1\n\n")).startswith(b"HTTP/1.1 502 ")


async def test_the_bytes_of_all_connections_are_bounded(tmp_path: Path) -> None:
    async with world(tmp_path, limits=NetLimits(bytes=100_000)) as here:
        first = await here.ask("CONNECT 127.0.0.1:PORT HTTP/1.1\n\n", then=b"x" * 40_000)
        assert len(first) > 40_000
        second = await here.ask("CONNECT 127.0.0.1:PORT HTTP/1.1\n\n", then=b"x" * 40_000)
        assert len(second) < 40_000


async def test_a_silent_connection_is_ended(tmp_path: Path) -> None:
    async with world(tmp_path, limits=NetLimits(idle_s=0.05)) as here:
        reader, writer = await asyncio.open_unix_connection(here.path)
        writer.write(f"CONNECT 127.0.0.1:{here.port} HTTP/1.1\r\n\r\n".encode())
        async with asyncio.timeout(DEADLINE_S):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_a_connection_that_moves_in_one_direction_only_is_not_idle(tmp_path: Path) -> None:
    async with world(tmp_path, limits=NetLimits(idle_s=1)) as here:
        reader, writer = await asyncio.open_unix_connection(here.path)
        writer.write(f"CONNECT 127.0.0.1:{here.port} HTTP/1.1\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - began < 1.5:
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            await asyncio.sleep(0.05)
        writer.close()


async def test_leaving_ends_connections(tmp_path: Path) -> None:
    async with world(tmp_path) as here:
        reader, writer = await asyncio.open_unix_connection(here.path)
        writer.write(f"CONNECT 127.0.0.1:{here.port} HTTP/1.1\r\n\r\n".encode())
        assert await reader.readline()
    async with asyncio.timeout(DEADLINE_S):
        assert await reader.read() == b"\r\n"
    writer.close()


def test_only_so_many_hosts_are_remembered() -> None:
    hosts = Hosts(limit=2)
    for n in range(5):
        hosts.reach(f"a{n}:1")
        hosts.refuse(f"b{n}:1", "no")
    assert hosts.reached == ("a0:1", "a1:1")
    assert hosts.refused == {"b0:1": "no", "b1:1": "no"}
