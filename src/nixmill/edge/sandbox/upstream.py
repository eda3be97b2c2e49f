"""Connections to the store's daemon for the proxy of a sandbox: plain streams, on which nothing has been said yet."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Final, assert_never

from nixmill.core.errors import InputError
from nixmill.edge.daemon import address, errors
from nixmill.edge.daemon.address import SocketAddress, SshAddress, StdioAddress
from nixmill.edge.daemon.settings import DaemonSettings
from nixmill.edge.daemon.transport import connected_socket

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Streams]]
EXIT_PATIENCE_S: Final = 2.0
"""How long a spawned daemon may take to exit once nobody speaks to it any more."""


def connector(text: str, settings: DaemonSettings) -> Connect:
    """Return what connects to the daemon at the address `text` (see `address.py`).

    Raises `InputError` for one on another machine: what an evaluation adds must be seen in its sandbox.
    """
    match address.parse(text, settings):
        case SocketAddress(path=path):
            return lambda: _socket(path)
        case StdioAddress():
            return lambda: _spawned(settings)
        case SshAddress():
            raise InputError(
                "Evaluations for strangers cannot use the store of another machine.",
                "Use the store of this machine for evaluation, and the other as a builder.",
            )
        case other:
            assert_never(other)


async def _socket(path: str) -> Streams:
    return await asyncio.open_connection(sock=await connected_socket(path, f"unix://{path}"))


async def _spawned(settings: DaemonSettings) -> Streams:
    """Spawn a daemon on one end of a socket; it exits when the other is closed."""
    ours, theirs = socket.socketpair()
    arguments = address.spawn_arguments(settings)
    with theirs:
        try:
            process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=asyncio.subprocess.DEVNULL,
                env=address.spawn_environment(settings),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            reason = f"`{arguments[0]}` cannot be started ({error.strerror}). Install Nix, or name the program."
            raise errors.unreachable("stdio", reason) from error
    streams = await asyncio.open_connection(sock=ours)
    _buried(streams[1], process)
    return streams


_burials: Final[dict[asyncio.StreamWriter, asyncio.Task[None]]] = {}
"""By the connection, what sees to it that its daemon is gone soon after."""


async def settled() -> None:
    """Wait until the daemons of connections that are closed are gone; it takes some seconds at most."""
    await asyncio.gather(*(task for writer, task in _burials.items() if writer.is_closing()))


def _buried(writer: asyncio.StreamWriter, process: asyncio.subprocess.Process) -> None:
    task = asyncio.get_running_loop().create_task(_bury(writer, process))
    _burials[writer] = task
    task.add_done_callback(lambda _: _burials.pop(writer))


async def _bury(writer: asyncio.StreamWriter, process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    try:
        async with asyncio.timeout(EXIT_PATIENCE_S):
            await process.wait()
    except TimeoutError:
        pass  # it has had its time
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
