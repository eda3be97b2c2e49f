"""Binary caches on loopback, good ones and all kinds of others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """Serve `answer` to each request; with None accept connections and never answer. Yields the address."""
    asked = asyncio.Event()
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        if answer is None:
            await ended.wait()
        else:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            ended.set()


def response(status: str, body: bytes) -> bytes:
    """Return a whole HTTP response."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


GOOD = response("200 OK", b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n")
