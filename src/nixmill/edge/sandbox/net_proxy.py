"""The only way to the network from an evaluation sandbox: a small HTTP proxy that looks at where a connection goes.

A name is looked up once; what it resolves to is checked, and to just that the connection is made. `CONNECT` is for
port 443, absolute `GET` and `HEAD` for port 80. Everything is bounded: connections, bytes, time, the length of a head.
Source: RFC 9110 §9.3.6, RFC 9112 §3.2.
"""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec

from nixmill.edge.notify.outgoing import is_public

HEAD_BYTES: Final = 16 * 1024
CONNECT_S: Final = 20.0
HEAD_S: Final = 20.0
LOOKUPS_MAX: Final = 4
"""So many names are looked up at a time."""
HOST_MAX: Final = 253
_CHUNK: Final = 64 * 1024
_PORTS: Final = {"CONNECT": 443, "GET": 80, "HEAD": 80}
_HOP_BY_HOP: Final = frozenset(
    {"connection", "proxy-connection", "proxy-authorization", "keep-alive", "te", "trailer", "upgrade", "host"}
)
"""Headers that are not passed on; `Host` is written anew."""


class NetLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds the proxy of an evaluation."""

    connections: int = 64
    """At a time; more wait."""
    bytes: int = 8 * 1024**3
    """In both directions and in all."""
    connection_s: float = 3600.0
    idle_s: float = 120.0
    hosts: int = 1000
    """How many are remembered."""


_LIMITS: Final = NetLimits()


class Hosts:
    """Which hosts were reached and which refused, as `host:port`, in order of first appearance."""

    def __init__(self, limit: int = _LIMITS.hosts) -> None:
        """Remember so many of each kind."""
        self._limit = limit
        self._reached: dict[str, None] = {}
        self._refused: dict[str, str] = {}

    @property
    def reached(self) -> tuple[str, ...]:
        """Return those that were connected to."""
        return tuple(self._reached)

    @property
    def refused(self) -> dict[str, str]:
        """Return those that were not, with the reason."""
        return dict(self._refused)

    def reach(self, name: str) -> None:
        """Remember one that was connected to."""
        if len(self._reached) < self._limit:
            self._reached[name] = None

    def refuse(self, name: str, reason: str) -> None:
        """Remember one that was not, and the first reason."""
        if len(self._refused) < self._limit:
            self._refused.setdefault(name, reason)


class _RefusedError(Exception):
    """The request is answered with a status and a reason, and goes nowhere."""

    def __init__(self, status: str, reason: str, name: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.name = name


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for."""

    method: str
    host: str
    port: int
    forwarded: bytes
    """What is sent on first; empty for `CONNECT`."""

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"


def is_allowed(address: str, port: int) -> bool:
    """Say whether the proxy may connect there: only to public addresses, only to the ports of HTTP."""
    return port in _PORTS.values() and is_public(address)


class NetProxy:
    """Listens while it is open."""

    def __init__(
        self,
        path: Path,
        hosts: Hosts,
        *,
        allow: Callable[[str, int], bool] = is_allowed,
        limits: NetLimits = _LIMITS,
    ) -> None:
        """Listen at the socket `path`, and connect where `allow`, told an address and a port, agrees."""
        self._path = path
        self._hosts = hosts
        self._allow = allow
        self._limits = limits
        self._left = limits.bytes
        self._room = asyncio.Semaphore(limits.connections)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(LOOKUPS_MAX, thread_name_prefix="names")

    async def __aenter__(self) -> Self:
        """Begin to listen, for this user only."""
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            self._server = await asyncio.start_unix_server(self._accepted, sock=listener, limit=HEAD_BYTES)
        except BaseException:
            listener.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all connections."""
        del kind, error, trace
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with self._room, asyncio.timeout(self._limits.connection_s):
                await self._carry(reader, writer)
        except _RefusedError as refused:
            self._hosts.refuse(refused.name or "?", str(refused))
            with contextlib.suppress(OSError):
                writer.write(_answer(refused.status, str(refused)))
                await writer.drain()
        except (OSError, TimeoutError, EOFError):
            pass  # either side is gone, or has been silent for too long
        finally:
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read(reader)
        far_reader, far_writer = await self._connected(request)
        try:
            self._hosts.reach(request.name)
            if request.forwarded:
                far_writer.write(request.forwarded)
                await self._pumped((far_reader, writer))
            else:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await self._pumped((reader, far_writer), (far_reader, writer))
        finally:
            far_writer.close()

    async def _connected(self, request: _Request) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Look the name up once and connect to the first address that may be reached and answers."""
        found = await self._addresses(request)
        allowed = [address for address in found if self._allow(address, request.port)]
        if not allowed:
            reason = "is not a public address" if found else "is not known"
            raise _RefusedError("403 Forbidden", f"{request.name} {reason} on a port of HTTP.", request.name)
        for address in allowed:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_S):
                    return await asyncio.open_connection(address, request.port)
        raise _RefusedError("502 Bad Gateway", f"{request.name} does not answer.", request.name)

    async def _pumped(self, *ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Carry everything until all ways have ended, one fails, or nothing moves on any of them for too long."""
        async with asyncio.timeout(self._limits.idle_s) as idle:
            tasks = [asyncio.create_task(self._pump(source, sink, idle)) for source, sink in ways]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, idle: asyncio.Timeout) -> None:
        while data := await source.read(_CHUNK):
            self._left -= len(data)
            if self._left < 0:
                raise EOFError
            idle.reschedule(asyncio.get_running_loop().time() + self._limits.idle_s)
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof():
            sink.write_eof()

    async def _addresses(self, request: _Request) -> list[str]:
        """Look up in threads of our own: names that are slow must not hold up the rest of the server."""
        loop = asyncio.get_running_loop()
        look = functools.partial(socket.getaddrinfo, request.host, request.port, type=socket.SOCK_STREAM)
        try:
            async with asyncio.timeout(CONNECT_S):
                found = await loop.run_in_executor(self._threads, look)
        except (OSError, UnicodeError, TimeoutError):
            return []
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _read(reader: asyncio.StreamReader) -> _Request:
    """Read the head of a request."""
    try:
        async with asyncio.timeout(HEAD_S):
            head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.LimitOverrunError, asyncio.IncompleteReadError) as error:
        raise _RefusedError("400 Bad Request", "The head of the request is too long, or ends early.") from error
    first, *headers = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    match first.split(" "):
        case ["CONNECT", target, "HTTP/1.1" | "HTTP/1.0"]:
            return _tunnel(target)
        case ["GET" | "HEAD" as method, target, "HTTP/1.1" | "HTTP/1.0"]:
            return _plain(method, target, headers)
        case [_, target, "HTTP/1.1" | "HTTP/1.0"]:  # among them POST, with which git asks
            reason = "Over plain http only GET and HEAD are possible. Use https."
            raise _RefusedError("405 Method Not Allowed", reason, _short(target))
        case _:
            raise _RefusedError("405 Method Not Allowed", "Only CONNECT, GET and HEAD are possible.")


def _tunnel(target: str) -> _Request:
    host, _, port = target.rpartition(":")
    if not port.isascii() or not port.isdigit() or len(port) > 5:
        raise _RefusedError("400 Bad Request", "The port is no number.", _short(target))
    return _Request(method="CONNECT", host=_host(host.strip("[]"), target), port=int(port), forwarded=b"")


def _plain(method: str, target: str, headers: list[str]) -> _Request:
    try:
        url = urlsplit(target)
        host, port = _host(url.hostname or "", target), url.port or _PORTS[method]
    except ValueError as error:
        raise _RefusedError("400 Bad Request", "The address cannot be read.", _short(target)) from error
    if url.scheme != "http" or url.username is not None:
        raise _RefusedError("400 Bad Request", "Only plain http:// addresses can be asked for.", _short(target))
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    kept = [line for line in headers if _is_kept(line)]
    lines = [f"{method} {path} HTTP/1.1", f"Host: {url.netloc}", *kept, "Connection: close", "", ""]
    return _Request(method=method, host=host, port=port, forwarded="\r\n".join(lines).encode("latin-1"))


def _is_kept(header: str) -> bool:
    """Say whether a header goes on: not those of the connection, and none that announces a body."""
    name = header.partition(":")[0].strip().lower()
    return bool(name) and name not in _HOP_BY_HOP and name not in {"content-length", "transfer-encoding", "expect"}


def _host(host: str, target: str) -> str:
    if not host or len(host) > HOST_MAX or not host.isascii() or any(c <= " " or c in "/@\\%" for c in host):
        raise _RefusedError("400 Bad Request", "The name of the host cannot be read.", _short(target))
    return host.lower()


def _short(target: str) -> str:
    return "".join(c if " " < c <= "~" else "?" for c in target[:HOST_MAX])


def _answer(status: str, reason: str) -> bytes:
    body = f"{reason}\n".encode()
    return b"HTTP/1.1 %b\r\nContent-Type: text/plain\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
        status.encode(),
        len(body),
        body,
    )
