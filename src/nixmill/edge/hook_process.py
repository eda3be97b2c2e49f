"""The processes of one hook: started in a session of their own, their output drained, ended together.

How the first one ended is asked of the kernel while it is not yet reaped (`waitid` with `WNOWAIT`): until then its
number, which is also that of the group, belongs to nobody else, and the answer tells a core dump from a plain signal.
Source: waitid(2), pidfd_open(2), proc(5).
"""

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

LINGER_S: Final = 2.0
"""How long output is waited for after everything was killed: what cannot be killed must not hold us."""
CHUNK: Final = 64 * 1024
MARK: Final = "NIXMILL_HOOK_RUN"
"""The variable by which processes of a hook's run are found that left its group."""


class Ending(NamedTuple):
    """How the first process of a hook ended."""

    status: int
    """Exit code, or number of the signal."""
    signalled: bool
    core_dumped: bool


class HookProcess:
    """A running hook. Raises `OSError` where it cannot be started."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        write: Callable[[bytes], None],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> None:
        """Start a command; a thread hands what it writes to `write`, in order, as it comes.

        `stdin` is a descriptor it reads, nothing unless given; `stdout` one that takes its standard output instead.
        """
        self._mark = environment[MARK]
        self._output = _Output(write)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=self._output.writing if stdout is None else stdout,
                stderr=self._output.writing,
                env=environment,
                cwd=directory,
                start_new_session=True,
            )
        finally:
            self._output.start()
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._signal(signal.SIGKILL)
            self._process.wait()
            raise
        self._ended = _watch(self._pidfd)

    async def ended_within(self, seconds: float) -> bool:
        """Wait for the first process to end; say whether it did so in time."""
        await asyncio.wait([self._ended], timeout=seconds)
        return self._ended.done()

    async def finish(self, grace_s: float) -> Ending:
        """End everything: politely if the first process still runs, then by force. Returns once all output is taken."""
        if not self._ended.done():
            self._signal(signal.SIGTERM)
            await self.ended_within(grace_s)
        self._signal(signal.SIGKILL)
        await self._ended
        await asyncio.to_thread(kill_marked, self._mark)
        await asyncio.to_thread(self._output.finish)
        return self._reap()

    def _signal(self, number: signal.Signals) -> None:
        # The first process is not reaped yet, so the group is still ours.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _reap(self) -> Ending:
        told = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        self._process.wait()
        os.close(self._pidfd)
        if told is None:
            raise RuntimeError(f"Process {self._process.pid} has not ended although its descriptor says so.")
        return Ending(told.si_status, told.si_code != os.CLD_EXITED, told.si_code == os.CLD_DUMPED)


class _Output:
    """A pipe and the thread that empties it: neither a flood of output nor a slow disk holds up anything else."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._reading, self.writing = os.pipe()
        self._give_up_at = float("inf")
        self._thread = threading.Thread(target=self._run, name="nixmill-hook-output", daemon=True)

    def start(self) -> None:
        """Close our writing end and read until the others are closed too."""
        os.close(self.writing)
        self._thread.start()

    def finish(self) -> None:
        """Return once all output is taken, at the latest after `LINGER_S`."""
        self._give_up_at = time.monotonic() + LINGER_S
        self._thread.join()

    def _run(self) -> None:
        ready = select.poll()  # `select` itself knows no descriptor above 1023
        ready.register(self._reading, select.POLLIN)
        try:
            while time.monotonic() < self._give_up_at:
                if ready.poll(200):
                    data = os.read(self._reading, CHUNK)
                    if not data:
                        return
                    self._write(data)
        finally:
            os.close(self._reading)


def _watch(pidfd: int) -> "asyncio.Future[None]":
    """Return a future that is done once a process has ended."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        loop.remove_reader(pidfd)
        ended.set_result(None)

    loop.add_reader(pidfd, tell)
    return ended


def kill_marked(mark: str) -> None:
    """Kill the processes whose environment has this mark, wherever they are, until two looks find none.

    One look is not enough: in the middle of an exec a process has no environment.
    """
    wanted, clean = f"{MARK}={mark}".encode(), 0
    for _ in range(20):  # one that forks faster than we look is not worth more
        found = [pid for pid in _processes() if wanted in _environment(pid).split(b"\0")]
        clean = 0 if found else clean + 1
        if clean == 2:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _processes() -> list[int]:
    try:
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    except FileNotFoundError:
        return []


def _environment(pid: int) -> bytes:
    """Return the environment of a process; empty where it has ended or is not ours."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
