"""One evaluation process: started in a process group of its own, fed, read line by line, measured, killed.

Decides when to read: nothing is read that nobody asked for, so a process whose reader waits sleeps on its full pipe.
What this file does not know: what the lines mean.
"""

import asyncio
import contextlib
import fcntl
import os
import select
import shutil
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self

from nixmill.core.evaluation import EvaluationFailedError
from nixmill.doors import DoorError

PIPE_BYTES: Final = 16 * 1024
"""Capacity of a pipe and size of a read. `pure.nix` writes more than twice as much to be put to sleep."""


LINGER_S: Final = 0.003
"""How long output may gather before it is read: waking up for every line would cost more than reading them."""


class Meter:
    """Counts what the processes of an evaluation say, and ends it when it is too much."""

    def __init__(self, limit_bytes: int) -> None:
        """Allow so many bytes in all."""
        self._limit = limit_bytes
        self._said = 0

    def add(self, count: int) -> None:
        """Hear of output; raise `EvaluationFailedError` beyond the limit."""
        self._said += count
        if self._said > self._limit:
            raise EvaluationFailedError(
                f"The evaluation said more than {self._limit // 2**20} MiB and was stopped. Something in it may trace"
                " or warn without end; otherwise evaluate less at a time."
            )


class Lines:
    """The reading end of a pipe, line by line."""

    def __init__(self, linger_s: float, meter: Meter | None = None) -> None:
        """Make a pipe; hand `writing` to a process and then call `started`. Output gathers for `linger_s` seconds."""
        self._linger_s = linger_s
        self._meter = meter
        self._reading, self.writing = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(self._reading, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        os.set_blocking(self._reading, False)
        self._partial: list[bytes] = []
        self._open = True
        self._full = False
        """The last read took all that fits into the pipe, so the writer is waiting."""

    def started(self) -> None:
        """Close our copy of the writing end."""
        os.close(self.writing)

    def close(self) -> None:
        """Read no more."""
        if self._open:
            self._open = False
            os.close(self._reading)

    async def more(self) -> list[bytes]:
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

    def unfinished(self, start: bytes) -> bool:
        """Say whether a line has been read whose end has not, and begins with `start`."""
        return b"".join(self._partial[:2]).startswith(start)

    def quiet(self) -> bool:
        """Say whether nothing waits to be read."""
        return not self._open or not select.select([self._reading], [], [], 0)[0]

    async def _read(self) -> bytes:
        while self._open:
            try:
                chunk = os.read(self._reading, PIPE_BYTES)
            except BlockingIOError:
                await _readable(self._reading)
                if self._linger_s and not self._full:
                    await asyncio.sleep(self._linger_s)
            else:
                self._full = len(chunk) == PIPE_BYTES
                if self._meter is not None:
                    self._meter.add(len(chunk))
                return chunk
        return b""


class EvalProcess:
    """A running process and what it writes."""

    def __init__(self, process: Process, errors: Lines, output: Lines | None) -> None:
        """Take over a process; use `start`."""
        self._process = process
        self.errors = errors
        """What it writes to stderr."""
        self.output = output
        """What it writes to stdout, where that was asked for; else it is thrown away."""
        self.peak_bytes = 0

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        directory: str,
        output: bool = False,
        linger_s: float = LINGER_S,
        inherited: Sequence[int] = (),
        meter: Meter | None = None,
    ) -> Self:
        """Start a program, with descriptors that it is to inherit; raise `DoorError` where it cannot be started.

        What it says is counted by `meter`.
        """
        errors, stdout = Lines(linger_s, meter), Lines(linger_s, meter) if output else None
        pipes = [errors, stdout] if stdout else [errors]
        try:
            process = await asyncio.create_subprocess_exec(
                *_leashed(argv, environment),
                stdin=PIPE,
                stdout=stdout.writing if stdout else DEVNULL,
                stderr=errors.writing,
                env=environment,
                cwd=directory,
                start_new_session=True,
                pass_fds=inherited,
            )
        except BaseException as error:
            for pipe in pipes:
                pipe.close()
            if isinstance(error, OSError):
                raise not_started(argv[0], error) from error
            raise
        finally:
            for pipe in pipes:
                pipe.started()
        return cls(process, errors, stdout)

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its group."""
        return self._process.pid

    @property
    def measured_pid(self) -> int:
        """The process that evaluates: another one where that is in a sandbox."""
        return self.pid

    def write(self, text: str) -> None:
        """Hand text to its stdin; a process that is gone is noticed by reading."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._process.stdin.write(text.encode())

    def awake_s(self) -> float | None:
        """Return the seconds its main thread ran or waited for a processor; None where the system does not tell."""
        try:
            ran, waited, _ = Path(f"/proc/{self.measured_pid}/schedstat").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            return None
        return (int(ran) + int(waited)) / 1e9

    def memory_bytes(self) -> int | None:
        """Return its resident memory; None where the system does not tell."""
        try:
            fields = Path(f"/proc/{self.measured_pid}/statm").read_text(encoding="ascii").split()
        except OSError:
            return None
        resident = int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0
        self.peak_bytes = max(self.peak_bytes, resident)
        return resident

    def measure_peak(self) -> None:
        """Read the kernel's own account of the peak; nothing where there is none."""
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{self.measured_pid}/status").read_text(encoding="ascii", errors="replace")
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
        for lines in (self.errors, self.output):
            if lines is not None:
                lines.close()
        await asyncio.shield(asyncio.ensure_future(self._reap()))

    async def _reap(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        await self._process.wait()

    async def wait(self) -> int:
        """Wait for the end of a process whose pipes have ended; return its exit status, negative for a signal."""
        return await self._process.wait()


def not_started(program: str, error: OSError) -> DoorError:
    """Return the error for a program that could not be started."""
    return DoorError(
        f"{program} could not be started: {error.strerror} ({error.filename}). Is Nix installed and on PATH?",
        door="evaluator",
        action="start",
        subject=program,
        retryable=False,
    )


def _leashed(argv: Sequence[str], environment: Mapping[str, str]) -> Sequence[str]:
    """Return the command that also ends when we are killed: a pure evaluation asleep on its pipe would not notice.

    `setpriv` is part of util-linux; elsewhere such a process ends with its evaluation.
    """
    setpriv, path = shutil.which("setpriv"), environment.get("PATH")
    if setpriv is None or shutil.which(argv[0], path=path) is None:
        return argv
    return [setpriv, "--pdeathsig", "KILL", *argv]


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
