"""Tries out the evaluation sandbox: lays bait on this machine and has everything forbidden attempted within it."""

import asyncio
import contextlib
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from nixmill.core.errors import InputError
from nixmill.core.isolation import Isolation, Property
from nixmill.doors import DoorError
from nixmill.edge.sandbox import attempts
from nixmill.edge.sandbox.cell import CellProcess
from nixmill.edge.sandbox.private_etc import PROXY_PORT
from nixmill.edge.sandbox.sandbox import Enclosure, Sandbox, SandboxLimits
from nixmill.edge.sandbox.upstream import Connect

TIMEOUT_S: Final = 20.0
ENDING_S: Final = 2.0
"""How long the kernel may take to end what is left."""
_MEMORY: Final = 64 * 1024**2
_LIMITS: Final = SandboxLimits(processes=64, scratch_bytes=16 * 1024**2)
_TOO_MUCH: Final = 3 * 1024**3
"""More than the address space that goes with `_MEMORY`; nothing of it is touched."""
_SEEN: Final = 10
"""The guard, the relay and its children, and ourselves."""


class Bait(msgspec.Struct, frozen=True, kw_only=True):
    """What is there to be found; see `attempts.py`."""

    secret: str
    files: tuple[str, ...]
    sockets: tuple[str, ...]
    """Paths; those that begin with `@` are abstract."""
    port: int
    """Of a listener on 127.0.0.1 of this machine."""
    proxy_port: int = PROXY_PORT
    store: str
    store_paths: tuple[str, ...]
    """Some that are there but not for the sandbox."""
    closure: tuple[str, ...]
    """Names of store paths that may be seen."""
    shown: tuple[str, ...]
    processes_seen: int = _SEEN
    too_much_memory: int = _TOO_MUCH
    too_many_processes: int = _LIMITS.processes


async def try_isolation(
    environment: Mapping[str, str], connect: Connect, *, files: tuple[Path, ...], sockets: tuple[Path, ...]
) -> Isolation:
    """Attempt everything in a sandbox such as evaluations for strangers get; return what could be done.

    `files` and `sockets` are what must be out of reach, beside the bait.
    """
    secret = f"nixmill-canary-{secrets.token_hex(8)}"
    sandbox = Sandbox(
        {**environment, "NIXMILL_CANARY": secret, "NIX_CONFIG": f"access-tokens = example.org={secret}"},
        connect=connect,
        network="proxy",
        limits=_LIMITS,
    )
    try:
        with _laid(secret) as (listener, places), tempfile.TemporaryDirectory(prefix="nixmill-") as shown:
            async with sandbox.enclosure("nix", allow_builds=False) as enclosure:
                bait = Bait(
                    secret=secret,
                    files=(*map(str, files), *places),
                    sockets=(*map(str, sockets), *_socket_names(secret, places)),
                    port=listener.getsockname()[1],
                    store=enclosure.store_dir,
                    store_paths=_some_paths(enclosure),
                    closure=enclosure.closure,
                    shown=(shown,),
                )
                return await _attempted(enclosure, bait, Path(shown))
    except (InputError, DoorError, OSError) as error:
        return Isolation(unavailable=f"Evaluations cannot be isolated: {error}")


@contextlib.contextmanager
def _laid(secret: str) -> Iterator[tuple[socket.socket, tuple[str, ...]]]:
    """Lay bait: files, a port and sockets; return the port's listener and the paths."""
    with (
        tempfile.TemporaryDirectory(prefix="nixmill-bait-") as directory,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX) as named,
    ):
        file = Path(directory, "canary")
        file.write_text(secret)
        abstract.bind(f"\0{secret}")
        named.bind(f"{directory}/socket")
        for sock in (abstract, named):
            sock.listen()
        yield listener, (directory, str(file))


def _socket_names(secret: str, places: tuple[str, ...]) -> tuple[str, ...]:
    return (f"@{secret}", f"{places[0]}/socket")


def _some_paths(enclosure: Enclosure) -> tuple[str, ...]:
    """Return paths of the store that a sandbox that was given nothing must not see."""
    with os.scandir(enclosure.store_dir) as entries:
        names = [entry.name for _, entry in zip(range(_SEEN), entries, strict=False)]
    return tuple(f"{enclosure.store_dir}/{name}" for name in names if name not in enclosure.closure)


async def _attempted(enclosure: Enclosure, bait: Bait, shown: Path) -> Isolation:
    script = attempts.__file__
    process = await enclosure.start(
        ["python", "-I", "-S", script, msgspec.json.encode(bait).decode()],
        shown=[shown, Path(script)],
        memory_bytes=_MEMORY,
        output=True,
        keeps_python=True,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            done = await _told(process)
    except TimeoutError:
        return Isolation(unavailable=f"The trial of the evaluation sandbox did not end within {TIMEOUT_S:.0f} s.")
    finally:
        inside = _inside(process)
        await process.kill()
    if isinstance(done, str):
        return Isolation(unavailable=f"Evaluations cannot be isolated: {done}")
    escapes = {Property[name]: how for name, how in done.items()}
    return Isolation(escapes=escapes | {Property.ENDING: await _left(inside)})


async def _told(process: CellProcess) -> dict[str, str] | str:
    """Return what the attempts say; in words what is wrong where they could not be made."""
    assert process.output is not None  # noqa: S101 - it was asked for
    try:
        while not (lines := await process.output.more()):
            pass
    except EOFError:
        said = b" ".join(await process.errors.more()).decode(errors="replace").strip()
        return said or f"the trial ended with status {await process.wait()}."
    return msgspec.json.decode(lines[0], type=dict[str, str])


def _inside(process: CellProcess) -> list[int]:
    """Return all processes that are in the namespace of a sandboxed one."""
    namespace = _namespace(process.measured_pid)
    running = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in running if namespace and _namespace(pid) == namespace]


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


async def _left(inside: list[int]) -> str:
    """Wait until processes are gone; say in a few words which are not."""
    if not inside:
        return "they could not be counted"
    until = time.monotonic() + ENDING_S
    while left := [pid for pid in inside if _namespace(pid)]:
        if time.monotonic() > until:
            return f"{len(left)} of {len(inside)} are"
        await asyncio.sleep(0.01)
    return ""
