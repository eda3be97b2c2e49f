"""Copying closures from one store to another: what is missing there, references first, NAR by NAR.

Each path is one AddToStoreNar with its data behind it; answers are awaited at the end, so that a slow line costs
bandwidth and not a round trip per path. Nothing larger than a few chunks is ever in memory.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from typing import Final

import msgspec

from nixmill.edge.daemon import errors
from nixmill.edge.daemon.connection import Connection
from nixmill.edge.daemon.store import DaemonStore
from nixmill.nix import operations
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath
from nixmill.nix.worker_protocol import RemoteError

FRAME_BYTES: Final = 64 * 1024
BUFFER_BYTES: Final = 1024 * 1024
"""What may wait between two stores before the first one is told to pause."""


async def copy_closure(source: DaemonStore, target: DaemonStore, paths: Collection[StorePath]) -> None:
    """Make `paths`, valid in `source`, and all they refer to valid in `target`, where they are held from now on."""
    infos = await _lacking(source, target, paths)
    if not infos:
        return
    with errors.explained(f"copy from {source.name} to", target.name):
        async with (
            source.queries.use(source.query_options) as sender,
            target.queries.use(target.query_options) as receiver,
        ):
            await _send(sender, receiver, in_order(infos))
    gone = set(infos) - await target.hold(list(infos))
    if gone:
        with errors.explained(f"copy from {source.name} to", target.name):
            raise RemoteError(f"{len(gone)} paths, such as {min(gone)}, are still not there")


async def _lacking(source: DaemonStore, target: DaemonStore, paths: Collection[StorePath]) -> dict[StorePath, PathInfo]:
    """Walk references in `source`, stopping at what `target` has: whatever is valid has its closure."""
    found: dict[StorePath, PathInfo] = {}
    level = set(paths)
    while level:
        level -= await target.hold(level)
        infos = await source.path_infos(level)
        if len(infos) < len(level):
            with errors.explained("copy from", source.name):
                raise RemoteError(f"{min(level - infos.keys())} is not valid there")
        found |= infos
        level = {reference for info in infos.values() for reference in info.references} - found.keys()
    return found


def in_order(infos: Mapping[StorePath, PathInfo]) -> list[PathInfo]:
    """Return paths so that references come before what refers to them; a path may refer to itself."""
    waiting = {path: {r for r in info.references if r in infos and r != path} for path, info in infos.items()}
    referrers: dict[StorePath, list[StorePath]] = {}
    for path, references in waiting.items():
        for reference in references:
            referrers.setdefault(reference, []).append(path)
    ready = deque(sorted(path for path, references in waiting.items() if not references))
    ordered = []
    while ready:
        path = ready.popleft()
        ordered.append(infos[path])
        for referrer in referrers.get(path, ()):
            waiting[referrer].discard(path)
            if not waiting[referrer]:
                ready.append(referrer)
    return ordered


async def _send(sender: Connection, receiver: Connection, infos: Iterable[PathInfo]) -> None:
    answers = []
    for info in infos:
        passing = Passing(sender)
        contents = sender.submit(operations.nar_from_path(info.path, passing.put))
        contents.add_done_callback(passing.finish)
        plain = msgspec.structs.replace(info, ultimate=False)
        answer = await receiver.send_framed(operations.add_to_store_nar(plain), passing.chunks())
        answer.add_done_callback(_seen)
        answers.append(answer)
        if not receiver.usable:
            break  # the answers say why; the sender may have been told to pause
        await contents
    await asyncio.gather(*answers)


def _seen(answer: asyncio.Future[None]) -> None:
    """Mark an error as noticed: of many answers that fail together, the first is told."""
    if not answer.cancelled():
        answer.exception()


class Passing:
    """Data on its way from one connection to another; pauses the sender while too much waits."""

    def __init__(self, sender: Connection) -> None:
        """Pause `sender` where it must be."""
        self._sender = sender
        self._buffer = bytearray()
        self._finished = False
        self._news = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Take a piece from the sender's reader."""
        self._buffer += data
        if len(self._buffer) >= FRAME_BYTES:
            self._news.set()
        if len(self._buffer) >= BUFFER_BYTES:
            self._sender.pause_reading()

    def finish(self, contents: asyncio.Future[None]) -> None:
        """Hear that the sender has nothing more to say, or was lost."""
        _seen(contents)
        self._finished = True
        self._news.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what arrives in pieces of a frame or more."""
        while not self._finished or self._buffer:
            await self._news.wait()
            self._news.clear()
            if self._finished:
                self._news.set()
            data = bytes(self._buffer)
            self._buffer.clear()
            self._sender.resume_reading()
            if data:
                yield data
