"""Gerrit's stream of events over ssh: `gerrit stream-events`, one JSON object a line, for as long as it lasts.

A stream that ends is opened again, at first soon and then once a minute. What happened meanwhile is not in it: the
server asks the forge from time to time anyway. Source: Gerrit's cmd-stream-events.txt; ssh_config(5).
"""

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Final

import msgspec

from nixmill.core.errors import InputError
from nixmill.core.forge import Hint, HintKind, MalformedEventError
from nixmill.core.terminal_text import sanitise
from nixmill.doors import Clock
from nixmill.edge.forge.gerrit_events import hints
from nixmill.edge.ssh_command import ssh_command

LINE_MAX: Final = 1 << 20
"""Bytes of an event; a longer one is left out, and the server finds out by itself."""
AGAIN_S: Final = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Waits before a stream is opened again; the last one from then on."""
COMPLAINT_MAX: Final = 2000
_CHUNK: Final = 1 << 16
_ENDPOINT: Final = re.compile(
    r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
)
_USER: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,127}")
_PORT: Final = 29418
_LOG: Final = logging.getLogger(__name__)


class StreamAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where the stream is, and the key to it."""

    host: str
    port: int
    user: str
    key: Path | None
    known_hosts: Path | None = None
    """Where keys of hosts are kept, taken at first sight; None: those that ssh knows, and no others."""


def stream_address(stream: str, user: str, key: Path | None, known_hosts: Path | None = None) -> StreamAddress:
    """Return the address that the settings mean by `HOST:PORT`; raise `InputError` where they mean none."""
    found = _ENDPOINT.fullmatch(stream)
    if found is None or not _USER.fullmatch(user) or int(found["port"] or _PORT) > 65_535:
        raise InputError(
            f"{stream!r} for the user {user!r} is no ssh server of Gerrit.",
            "Write `user`, and `stream` as HOST:PORT: review.example.org:29418.",
        )
    host = found["host"].strip("[]")
    return StreamAddress(host=host, port=int(found["port"] or _PORT), user=user, key=key, known_hosts=known_hosts)


def command(address: StreamAddress) -> list[str]:
    """Return the program and arguments that open the stream."""
    ssh = ssh_command(key=address.key, known_hosts=address.known_hosts)
    return [*ssh, "-p", str(address.port), "-l", address.user, "--", address.host, "gerrit", "stream-events"]


async def follow(address: StreamAddress, clock: Clock) -> AsyncGenerator[Hint, None]:
    """Yield what the stream hints at, for ever."""
    failures = 0
    while True:
        heard = False
        async with contextlib.aclosing(_once(address)) as lines:
            async for line in lines:
                heard = True
                for hint in _read(line):
                    yield hint
        failures = 0 if heard else failures + 1
        await clock.sleep(AGAIN_S[min(failures, len(AGAIN_S) - 1)])


def _read(line: bytes) -> list[Hint]:
    try:
        return [hint for hint in hints(line) if hint.kind is not HintKind.NOTHING]
    except MalformedEventError as error:
        _LOG.warning("A line of Gerrit's stream of events was left out: %s", error)
        return []


async def _once(address: StreamAddress) -> AsyncGenerator[bytes, None]:
    """Yield the lines of one connection; end it when nobody listens any more."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C",
        "HOME": os.environ.get("HOME", os.devnull),
    }
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command(address), stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment
        )
    except OSError as error:
        _LOG.warning("Gerrit's stream of events cannot be listened to: ssh could not start (%s).", error.strerror)
        return
    if process.stdout is None or process.stderr is None:  # impossible with PIPE; for the type checker
        raise AssertionError
    complaint = asyncio.create_task(_last(process.stderr))
    try:
        async for line in _lines(process.stdout):
            yield line
        said = sanitise((await complaint).decode(errors="replace"), colour=False, limit=300).strip()
        _LOG.warning("Gerrit's stream of events at %s ended: %s", address.host, said or "without a word")
    finally:
        complaint.cancel()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield whole lines of at most `LINE_MAX` bytes; longer ones are left out."""
    kept = bytearray()
    skipping = False
    while chunk := await reader.read(_CHUNK):
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            if not skipping and 0 < len(kept) + len(piece) <= LINE_MAX:
                yield bytes(kept) + piece
            kept.clear()
            skipping = False
        kept += rest
        if len(kept) > LINE_MAX:
            _LOG.warning("An event of more than %d bytes was left out of Gerrit's stream.", LINE_MAX)
            kept.clear()
            skipping = True


async def _last(reader: asyncio.StreamReader) -> bytes:
    """Return the end of what ssh complains of."""
    kept = b""
    while chunk := await reader.read(_CHUNK):
        kept = (kept + chunk)[-COMPLAINT_MAX:]
    return kept
