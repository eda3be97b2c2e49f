"""A cache over real HTTP on loopback: served as the server does it, asked by hand, byte for byte."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from nixmill.app.connection import ImpatientProtocol
from nixmill.doors.serving import CacheInfo, ServedObject
from tests.support.web import listening

HASH = "0c0q0m8rjkxnnjcm5z0w6l1xk8f3wv2a"
OTHER = "1c0q0m8rjkxnnjcm5z0w6l1xk8f3wv2a"


@dataclass
class FakeServed:
    """A cache of what a test puts into it."""

    objects: dict[str, ServedObject] = field(default_factory=dict)
    info: CacheInfo = field(default_factory=CacheInfo)
    asked: list[str] = field(default_factory=list)
    fault: Exception | None = None

    async def open(self, name: str) -> ServedObject | None:
        self.asked.append(name)
        if self.fault is not None:
            raise self.fault
        return self.objects.get(name)


def text(content: bytes, media_type: str = "text/x-nix-narinfo") -> ServedObject:
    """Return a small object."""
    return ServedObject(size=len(content), media_type=media_type, content=content)


async def beyond(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand for the application behind the caches: says which address came through."""
    del receive
    body = f"the application got {scope['path']}".encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the wire."""

    code: int
    headers: Mapping[str, str]
    body: bytes


class RawClient:
    """One connection, kept alive; knows nothing but lengths."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, path: str, method: str = "GET", **headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read status and headers."""
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {}
        for line in raw[1:-2]:
            name, _, value = line.partition(":")
            assert name.lower() not in headers, f"{name} came twice"
            headers[name.lower()] = value.strip()
        return int(raw[0].split()[1]), headers

    async def ask(self, path: str, method: str = "GET", **headers: str) -> Reply:
        async with asyncio.timeout(20):
            await self.send(path, method, **headers)
            code, got = await self.head()
            length = 0 if method == "HEAD" or code == 304 else int(got["content-length"])
            return Reply(code, got, await self.reader.readexactly(length))


@contextlib.asynccontextmanager
async def connected(url: str, *, receive_buffer: int = 0) -> AsyncIterator[RawClient]:
    """Connect to a server on loopback; a small `receive_buffer` makes a client that is easily full."""
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)))
    if receive_buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    reader, writer = await asyncio.open_connection(sock=connection, limit=2**16)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def cache_server(app: ASGIApp, listener: socket.socket | None = None) -> AsyncIterator[str]:
    """Serve an application over connections of the server's kind; yield its URL, where it has a port."""
    listener = listener or listening()
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        log_config=None,
        lifespan="off",
        ws="none",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with listener:
        running = asyncio.create_task(server._serve([listener]))  # without handlers for signals
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}" if listener.family == socket.AF_INET else ""
        finally:
            server.should_exit = True
            await running
