"""One process in a sandbox of its own, from the server's side.

Decides how the sandbox is started (as nobody where the server is root), ordered about, and ended: with `bwrap` or its
first process end all. What is in a sandbox: `bwrap_command.py`.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from nixmill.doors import DoorError
from nixmill.edge.evaluator.process import LINGER_S, EvalProcess, Meter
from nixmill.edge.sandbox import enter, inside
from nixmill.edge.sandbox.bwrap_command import Interior, command
from nixmill.nix.store_path import StorePath, base_name

START_S: Final = 30.0
"""How long a sandbox may take to be set up; it takes 40 ms."""
EXPOSE_S: Final = 30.0
_SIGNALLED: Final = 128


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the first process is told; see `inside.py`."""

    argv: tuple[str, ...]
    """The program by its full path, and its arguments."""
    environment: Mapping[str, str]
    directory: str
    limits: Mapping[str, int]
    """`memory_bytes` of address space, `processes`, `files`, `file_bytes`."""
    store: str
    exposed: tuple[str, ...]
    """Names of store paths that are there from the start."""
    relay: tuple[int, str] | None
    """A port of the sandbox and the socket that it leads to."""
    forgotten: tuple[str, ...]
    """Mounts to be taken away before the program starts."""


class Control:
    """Our end of the socket to the first process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, store_dir: str) -> None:
        """Speak over the two."""
        self._reader = reader
        self._writer = writer
        self._prefix = store_dir + "/"
        self._turn = asyncio.Lock()
        self._exposed: set[StorePath] = set()

    async def begin(self, orders: Orders) -> int:
        """Give the orders; return the number of the program's process, as it sees it itself."""
        said = await self._ask(msgspec.json.encode(orders), START_S)
        if not said.strip().isdigit():
            raise EOFError
        return int(said)

    async def expose(self, path: StorePath) -> None:
        """Make a path visible, read-only; return when it is. Raise `DoorError` where that cannot be."""
        if path not in self._exposed:
            # Answers come in the order of questions: one that nobody waits for any more would be taken for the next.
            await asyncio.shield(asyncio.ensure_future(self._expose(path)))

    async def _expose(self, path: StorePath) -> None:
        if not path.startswith(self._prefix):
            raise _trouble(f"{path} is of another store.")
        said = await self._ask(base_name(path).encode(), EXPOSE_S)
        if not said.startswith(b"+"):
            raise _trouble(
                f"{path} cannot be shown to it ({said[1:].decode(errors='replace').strip() or 'it is gone'})."
            )
        self._exposed.add(path)

    async def _ask(self, line: bytes, limit_s: float) -> bytes:
        try:
            async with self._turn, asyncio.timeout(limit_s):
                self._writer.write(line + b"\n")
                return await self._reader.readline()
        except (OSError, TimeoutError):
            self.hang_up()
            return b""

    def hang_up(self) -> None:
        """Close our end: the sandbox ends, if it has not."""
        self._writer.close()


class CellProcess(EvalProcess):
    """A program in a sandbox: `pid` is that of `bwrap`, what is measured is the program."""

    _program_pid: int | None = None
    _things: contextlib.AsyncExitStack | None = None

    @property
    def measured_pid(self) -> int:
        """The process id, as we see it, of the program."""
        return self._program_pid or self.pid

    def attach(self, program_pid: int | None, things: contextlib.AsyncExitStack) -> None:
        """Hear which process is the program, and what is to be closed after the end."""
        self._program_pid, self._things = program_pid, things

    def also_close(self, thing: contextlib.AsyncExitStack) -> None:
        """Hear what else is to be closed after the end."""
        assert self._things is not None  # noqa: S101 - `start` has attached it
        self._things.push_async_callback(thing.aclose)

    async def wait(self) -> int:
        """Return the exit status; `bwrap` and the first process pass signals on as a shell does."""
        status = await super().wait()
        return _SIGNALLED - status if status > _SIGNALLED else status

    async def kill(self) -> None:
        """End everything in the sandbox at once."""
        try:
            await super().kill()
        finally:
            things, self._things = self._things, None
            if things is not None:
                await asyncio.shield(asyncio.ensure_future(things.aclose()))


async def start(
    bwrap: str,
    interior: Interior,
    orders: Orders,
    *,
    python: str,
    user: int | None,
    output: bool = False,
    linger_s: float = LINGER_S,
    meter: Meter | None = None,
) -> tuple[CellProcess, Control]:
    """Start a program in a new sandbox, as `user` where we are root; raise `DoorError` where it cannot be started.

    Where it cannot be set up, the process ends soon, having said why on its stderr.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        control = Control(*await asyncio.open_connection(sock=ours), interior.store_dir)
        things = contextlib.AsyncExitStack()
        things.callback(control.hang_up)
        first = [python, "-I", "-S", f"{inside.HIDDEN}/inside.py", str(theirs.fileno())]
        argv = command(bwrap, interior, first)
        if user is not None:
            argv = [python, "-I", "-S", enter.__file__, str(user), str(user), "--", *argv]
        try:
            process = await CellProcess.start(
                argv,
                environment={"PATH": os.defpath},
                directory="/",
                output=output,
                linger_s=linger_s,
                inherited=(theirs.fileno(),),
                meter=meter,
            )
        except BaseException:
            await things.aclose()
            raise
    process.attach(None, things)
    await _begin(process, control, orders, things)
    return process, control


async def _begin(process: CellProcess, control: Control, orders: Orders, things: contextlib.AsyncExitStack) -> None:
    try:
        number = await control.begin(orders)
    except EOFError:
        return  # it has said why
    except BaseException:
        await process.kill()
        raise
    process.attach(_seen_from_here(process.pid, number), things)


def _seen_from_here(bwrap: int, number: int) -> int | None:
    """Return the process id of the program, whose number in its own namespace is known; None where it is gone."""
    for first in _children(bwrap):
        for each in _children(first):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{each}/status").read_text(encoding="ascii", errors="replace")
                numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
                if numbers[-1:] == [str(number)]:
                    return each
    return None


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def _trouble(reason: str) -> DoorError:
    return DoorError(
        f"The evaluation sandbox failed: {reason}", door="evaluator", action="sandbox", subject="", retryable=True
    )
