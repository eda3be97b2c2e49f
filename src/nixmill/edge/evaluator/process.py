"""One evaluation process: started in a process group of its own, fed, read line by line, measured, killed.

Decides when to read: nothing is read that nobody asked for, so a process whose reader waits sleeps on its full pipe.
What this file does not know: what the lines mean.
"""

import asyncio
import contextlib
import fcntl
import os
import select
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from nixmill.doors import DoorError

PIPE_BYTES: Final = 16 * 1024
"""Capacity of the pipe and size of a read. `pure.nix` writes more than twice as much to be put to sleep."""


class EvalProcess:
    """A running process; its stdout is thrown away, its stderr is what we read."""

    def __init__(self, process: Process, stderr: int) -> None:
        """Take over a process and the reading end of its stderr; use `start`."""
        self._process = process
        self._stderr = stderr
        self._partial: list[bytes] = []
        self._open = True
        self.peak_bytes = 0

    @classmethod
    async def start(cls, argv: Sequence[str], *, environment: Mapping[str, str], directory: str) -> "EvalProcess":
        """Start a program; raise `DoorError` where it cannot be started."""
        reading, writing = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(reading, False)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=PIPE, stdout=DEVNULL, stderr=writing, env=environment, cwd=directory, start_new_session=True
            )
        except OSError as error:
            os.close(reading)
            raise DoorError(
                f"{argv[0]} could not be started: {error.strerror}. Is Nix installed and on PATH?",
                door="evaluator", action="start", subject=argv[0], retryable=False,
            ) from error
        finally:
            os.close(writing)
        return cls(process, reading)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs."""
        return self._process.returncode

    def write(self, text: str) -> None:
        """Hand text to its stdin; a process that is gone is noticed by reading."""
        assert self._process.stdin is not None  # noqa: S101 - we asked for a pipe
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._process.stdin.write(text.encode())

    async def lines(self) -> list[bytes]:
        """Wait for output; return the complete lines so far, without ends; raise `EOFError` after the last."""
        chunk = await self._read()
        if not chunk:
            last = b"".join(self._partial)
            self._partial.clear()
            if last:
                return [last]
            raise EOFError
        self._partial.append(chunk)
        if b"\n" not in chunk:
            return []
        *lines, rest = b"".join(self._partial).split(b"\n")
        self._partial = [rest] if rest else []
        return lines

    def line_begins(self, start: bytes) -> bool:
        """Say whether the line whose end has not been read begins with `start`."""
        return b"".join(self._partial[:2]).startswith(start)

    async def _read(self) -> bytes:
        while self._open:
            try:
                return os.read(self._stderr, PIPE_BYTES)
            except BlockingIOError:
                await _readable(self._stderr)
        return b""

    def quiet(self) -> bool:
        """Say whether nothing waits to be read."""
        return not self._open or not select.select([self._stderr], [], [], 0)[0]

    def memory_bytes(self) -> int | None:
        """Return its resident memory; None where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()
        except OSError:
            return None
        resident = int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0
        self.peak_bytes = max(self.peak_bytes, resident)
        return resident

    def measure_peak(self) -> None:
        """Read the kernel's own account of the peak; nothing where there is none."""
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace")
            for line in status.splitlines():
                if line.startswith("VmHWM:"):
                    self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * 1024)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, if it is still there."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def kill(self) -> None:
        """End the group at once and reap it; nothing is left behind, even if this is cancelled."""
        self.signal(signal.SIGKILL)
        if self._open:
            self._open = False
            os.close(self._stderr)
        await asyncio.shield(asyncio.ensure_future(self._reap()))

    async def _reap(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()

    async def wait(self) -> int:
        """Wait for the end of a process whose stderr has ended; return its exit status."""
        return await self._process.wait()


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
