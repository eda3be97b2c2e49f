"""A binary cache on loopback that serves a directory, and misbehaves as it is told."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

from nixmill.nix import signature
from nixmill.nix.store_path import StorePath
from tests.support.nix_world import run
from tests.support.scratch_store import ScratchStore

SEED = bytes(range(32))
SECRET = signature.secret_text("ours-1", SEED)
PUBLIC = signature.public_key(signature.SecretKey(SECRET).public())


class Fault(Enum):
    """What becomes of a request."""

    HANG = auto()
    """Nothing is ever answered."""
    ENDLESS = auto()
    """A body that does not end."""
    BREAK = auto()
    """Half of the file, then the connection is cut."""
    STALL = auto()
    """Half of the file, then nothing."""


Answer = Fault | int | bytes | None
"""A fault, a bare status, another body, or the file itself."""


@dataclass
class FaultyCache:
    """What it does, and what it was asked."""

    directory: Path
    url: str = ""
    fault: Callable[[str], Answer] = lambda _: None
    """Decides about each name that is asked for."""
    redirect: Callable[[str], bytes] | None = None
    """Returns where each name is instead."""
    asked: Counter[str] = field(default_factory=Counter)
    authorisations: set[str] = field(default_factory=set)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            name = head.split(" ")[1].removeprefix("/")
            self.authorisations |= {
                line.split(": ", 1)[1] for line in head.split("\r\n") if line.lower().startswith("authorization:")
            }
            self.asked[name] += 1
            await self._answer(name, writer)
            await writer.drain()
        writer.close()

    async def _answer(self, name: str, writer: asyncio.StreamWriter) -> None:
        file = self.directory / name
        if self.redirect is not None:
            where = self.redirect(name).decode()
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        answer = self.fault(name)
        match answer:
            case Fault.HANG:
                await self.ended.wait()
            case Fault.ENDLESS:
                writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
                while True:
                    writer.write(bytes(65536))
                    await writer.drain()
            case Fault.BREAK | Fault.STALL:
                body = file.read_bytes()
                writer.write(_head(200, len(body)) + body[: len(body) // 2])
                await writer.drain()
                if answer is Fault.STALL:
                    await self.ended.wait()
            case int():
                writer.write(_head(answer, 0))
            case bytes():
                writer.write(_head(200, len(answer)) + answer)
            case None:
                body = file.read_bytes() if file.is_file() else b""
                writer.write(_head(200 if file.is_file() else 404, len(body)) + body)


def _head(status: int, length: int) -> bytes:
    return f"HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n".encode()


@contextlib.asynccontextmanager
async def faulty_cache(directory: Path) -> AsyncIterator[FaultyCache]:
    """Serve a directory."""
    cache = FaultyCache(directory)
    async with await asyncio.start_server(cache.serve, "127.0.0.1", 0) as server:
        cache.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield cache
        finally:
            cache.ended.set()


def once(name_end: str, answer: Answer) -> Callable[[str], Answer]:
    """Return a fault that befalls the first request for each name with this end."""
    seen: set[str] = set()

    def fault(name: str) -> Answer:
        if not name.endswith(name_end) or name in seen:
            return None
        seen.add(name)
        return answer

    return fault


def always(part: str, answer: Answer) -> Callable[[str], Answer]:
    """Return a fault that befalls all names with this part."""
    return lambda name: answer if part in name else None


def publish(
    store: ScratchStore, *paths: StorePath, name: str = "published", signed: bool = True, compression: str = "zstd"
) -> Path:
    """Copy paths with their closures into a directory, with Nix's own program; return it."""
    directory = store.root / name
    address = f"file://{directory}?compression={compression}"
    if signed:
        key = store.root / "secret-key"
        key.write_text(SECRET)
        address += f"&secret-key={key}"
    run(store, "nix", "copy", "--to", address, *paths)
    return directory


class Directory:
    """The files of a directory, read without more ado."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    async def read(self, name: str) -> AsyncIterator[bytes]:
        """Yield a file; nothing where there is none."""
        if (self.directory / name).is_file():
            with (self.directory / name).open("rb") as file:
                while chunk := file.read(65536):
                    yield chunk
