"""A store proxy in front of a real daemon or a recording one, and a client that speaks the protocol by hand."""

import asyncio
import contextlib
import socket
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from nixmill.core.store_view import StoreView
from nixmill.edge.sandbox.store_proxy import Connect, StoreProxy
from nixmill.nix import wire, worker_protocol, worker_relay
from nixmill.nix.store_path import StorePath
from nixmill.nix.wire import Parser, Reader
from nixmill.nix.worker_protocol import RemoteError
from nixmill.nix.worker_requests import Opcode, encode
from tests.support.scratch_store import ScratchStore

T = TypeVar("T")


@dataclass
class Outcome:
    """What a program did."""

    code: int
    output: str
    said: str


@dataclass
class Proxied:
    """A proxy that serves, and what it did."""

    proxy: StoreProxy
    store: ScratchStore
    address: Path
    shown: list[StorePath] = field(default_factory=list)
    daemons: list[Process] = field(default_factory=list)
    """Every daemon that was spawned, one for each connection."""
    programs: list[Process] = field(default_factory=list)

    async def run(self, *arguments: str, stdin: str = "") -> Outcome:
        """Run a Nix program that knows no other store than the proxy's."""
        environment = self.store.environment | {"NIX_REMOTE": f"unix://{self.address}"}
        process = await asyncio.create_subprocess_exec(
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.programs.append(process)
        output, said = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return Outcome(process.returncode, output.decode(), said.decode())


def spawning(store: ScratchStore, spawned: list[Process]) -> Connect:
    """Return how to reach a daemon of one's own, spawned on one end of a pair of sockets, and kept in `spawned`."""
    Path(store.environment["NIX_STATE_DIR"]).mkdir(parents=True, exist_ok=True)

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        with theirs:
            environment = store.environment | {"NIX_REMOTE": "local"}
            spawned.append(
                await asyncio.create_subprocess_exec(
                    "nix-daemon", "--stdio", env=environment, stdin=theirs.fileno(), stdout=theirs.fileno()
                )
            )
        return await asyncio.open_connection(sock=ours)

    return connect


@contextlib.asynccontextmanager
async def proxied(
    store: ScratchStore,
    readable: Collection[StorePath] = (),
    *,
    allow_builds: bool = False,
    bytes_max: int = 1 << 30,
    paths_max: int = 1 << 20,
) -> AsyncIterator[Proxied]:
    """Serve a scratch store to one evaluation."""
    view = StoreView(
        readable, store_dir=store.store_dir, allow_builds=allow_builds, bytes_max=bytes_max, paths_max=paths_max
    )
    shown: list[StorePath] = []

    async def expose(path: StorePath) -> None:
        shown.append(path)

    address = store.root / "proxy"
    daemons: list[Process] = []
    async with StoreProxy(address, spawning(store, daemons), view, expose) as proxy:
        yield Proxied(proxy, store, address, shown, daemons)
    async with asyncio.timeout(20):
        await asyncio.gather(*(daemon.wait() for daemon in daemons))  # each went with its client


class HandClient:
    """Speaks to a daemon's socket byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._from, self.to = reader, writer
        self._reader = Reader()

    async def read(self, parser: Parser[T]) -> T:
        while True:
            try:
                next(parser)
            except StopIteration as stop:
                value: T = stop.value
                return value
            async with asyncio.timeout(20):
                data = await self._from.read(65536)
            if not data:
                raise EOFError
            self._reader.feed(data)

    async def greet(self, minor: int = 38) -> worker_protocol.DaemonFacts:
        return await self.read(worker_protocol.handshake(self._reader, self.to.write, minor))

    async def number(self) -> int:
        return await self.read(self._reader.u64())

    async def text(self) -> str:
        return await self.read(self._reader.text())

    async def texts(self) -> list[str]:
        return await self.read(self._reader.texts())

    async def ask(
        self, opcode: Opcode, *arguments: int | str | bytes | Sequence[str], framed: bytes | None = None
    ) -> None:
        """Send a request; return when its answer follows, or raise `RemoteError`."""
        self.to.write(encode(opcode, *arguments))
        if framed is not None:
            self.to.write((wire.frame(framed) if framed else b"") + wire.END_OF_FRAMES)
        await self.read(worker_protocol.messages(self._reader, worker_protocol.ignore))

    async def refusal(
        self, opcode: Opcode, *arguments: int | str | bytes | Sequence[str], framed: bytes | None = None
    ) -> str:
        """Send a request that must be refused; return the sentence."""
        try:
            await self.ask(opcode, *arguments, framed=framed)
        except RemoteError as error:
            return str(error)
        raise AssertionError(f"{opcode!r} was not refused")

    async def rest(self) -> bytes:
        """Return everything until the other side closes."""
        async with asyncio.timeout(20):
            return await self._from.read()


@contextlib.asynccontextmanager
async def hand_client(address: Path, minor: int | None = 38) -> AsyncIterator[HandClient]:
    """Connect, and greet unless `minor` is None."""
    reader, writer = await asyncio.open_unix_connection(address)
    client = HandClient(reader, writer)
    try:
        if minor is not None:
            await client.greet(minor)
        yield client
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


class RecordingDaemon:
    """Greets whoever connects, answers settings, and keeps every byte that comes after; answers nothing else."""

    def __init__(self, minor: int = 38) -> None:
        self.received = bytearray()
        self.connections = 0
        self._minor = minor
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        self.connections += 1
        task = asyncio.ensure_future(self._serve(*await asyncio.open_connection(sock=theirs)))
        self._tasks.add(task)
        return await asyncio.open_connection(sock=ours)

    async def ended(self) -> None:
        """Wait until every client has gone; raise what went wrong."""
        async with asyncio.timeout(20):
            await asyncio.gather(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._greet(HandClient(reader, writer))
            while data := await reader.read(65536):
                self.received += data
        except EOFError:
            pass
        finally:
            writer.close()

    async def _greet(self, peer: HandClient) -> None:
        minor = await peer.read(worker_relay.client_version(peer._reader, peer.to.write, self._minor))
        await peer.read(worker_relay.client_settings(peer._reader, peer.to.write, minor))
        peer.to.write(worker_relay.greeting(minor, "9.9") + worker_relay.LAST)
        assert await peer.number() == Opcode.SET_OPTIONS
        for _ in range(12):
            await peer.number()
        await peer.read(peer._reader.text_map())
        peer.to.write(worker_relay.LAST)
        self.received += peer._reader._data[peer._reader._at :]
