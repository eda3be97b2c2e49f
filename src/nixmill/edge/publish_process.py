"""Runs a program that publishes: bounded in time and output, with everything it started ended when it ends.

What this file does not know: which program, and what its end means for a path.
"""

import asyncio
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple
from uuid import uuid4

from nixmill.doors import DoorError
from nixmill.edge.hook_process import MARK, HookProcess
from nixmill.edge.private_files import make_directory
from nixmill.nix.log_events import plain
from nixmill.nix.store_path import StorePath

GRACE_S: Final = 5.0
"""From SIGTERM to SIGKILL."""
TAIL_BYTES: Final = 4096
"""Of what a program says last, so much is kept."""
TAIL_LINES: Final = 8
SHOWN_MAX: Final = 800
"""Characters of it in a sentence."""
OUTPUT_MAX: Final = 64 * 1024 * 1024
_KEPT: Final = ("PATH", "HOME", "USER", "LANG", "TZ", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR")


class Ended(NamedTuple):
    """How a program ended."""

    good: bool
    how: str
    """`with exit code 1`"""
    output: bytes
    """What it wrote to its standard output, where that was asked for."""
    tail: str
    """The last lines of everything else that it said, secrets blotted out."""

    @property
    def sentence(self) -> str:
        """Return how it ended and what it said last."""
        return f"it ended {self.how}" + (f" and said last: {self.tail}" if self.tail else "; it said nothing")


def environment_of(given: Mapping[str, str], directory: Path) -> dict[str, str]:
    """Return what of our environment a program needs to find programs, Nix's store and its user's settings."""
    kept = {name: value for name, value in given.items() if name in _KEPT or name.startswith("NIX_")}
    return {"PATH": os.defpath, "HOME": str(directory), "LANG": "C.UTF-8"} | kept


async def run_program(
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    *,
    timeout_s: float,
    paths: Sequence[StorePath] = (),
    secrets: Sequence[str] = (),
    answers: bool = False,
) -> Ended:
    """Run a program in `directory`, which is made when needed; `paths` come on its standard input, one a line.

    `answers` keeps standard output apart. Raises `DoorError` where it cannot be started or takes too long. It dies with
    this process; what it started itself dies with it unless we are killed, and then does what is harmless to repeat.
    """
    tail = _Tail()
    marked = {**environment, MARK: str(uuid4())}
    try:
        given, answer = await asyncio.to_thread(_files, directory, paths)
    except OSError as error:
        raise _not_started(command[0], error) from error
    with given, answer:
        stdout = answer.fileno() if answers else None
        try:
            leashed = _leashed(command, environment)
            process = HookProcess(leashed, marked, directory, tail.add, stdin=given.fileno(), stdout=stdout)
        except OSError as error:
            raise _not_started(command[0], error) from error
        in_time = False
        try:
            in_time = await process.ended_within(timeout_s)
        finally:
            ending = await asyncio.shield(asyncio.ensure_future(process.finish(GRACE_S)))
        if not in_time:
            raise _too_slow(command[0], timeout_s, tail.text(secrets))
        how = f"by signal {ending.status}" if ending.signalled else f"with exit code {ending.status}"
        output = await asyncio.to_thread(_read, answer) if answers else b""
        return Ended(not ending.signalled and ending.status == 0, how, output, tail.text(secrets))


class _Tail:
    """The end of what a program says."""

    def __init__(self) -> None:
        self._bytes = b""

    def add(self, data: bytes) -> None:
        self._bytes = (self._bytes + data)[-TAIL_BYTES:]

    def text(self, secrets: Sequence[str]) -> str:
        """Return the last lines as one, without colours, control characters and secrets."""
        text = plain(self._bytes.decode(errors="replace"))
        for secret in sorted(filter(None, secrets), key=len, reverse=True):
            text = text.replace(secret, "[secret]")
        lines = ["".join(c for c in line if c.isprintable()).strip() for line in text.splitlines()]
        return " / ".join([line for line in lines if line][-TAIL_LINES:])[-SHOWN_MAX:]


def _files(directory: Path, paths: Sequence[StorePath]) -> tuple[IO[bytes], IO[bytes]]:
    """Return a file in memory that holds paths, and one for answers."""
    make_directory(directory)
    given, answer = (os.fdopen(os.memfd_create(name), "w+b") for name in ("paths", "answer"))
    given.write("".join(f"{path}\n" for path in paths).encode())
    given.seek(0)
    return given, answer


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(OUTPUT_MAX)


def _leashed(command: Sequence[str], environment: Mapping[str, str]) -> Sequence[str]:
    """Return the command that also ends when we are killed, where `setpriv` (util-linux) is there to say so."""
    setpriv = shutil.which("setpriv")
    if setpriv is None or shutil.which(command[0], path=environment.get("PATH")) is None:
        return command
    return [setpriv, "--pdeathsig", "KILL", *command]


def _not_started(program: str, error: OSError) -> DoorError:
    return DoorError(
        f"{program}, which publishes to a cache, could not be started: {error}. Check the cache's settings and that the"
        " program is installed for the server; it is tried again.",
        door="cache",
        action="push",
        subject=program,
        retryable=True,
    )


def _too_slow(program: str, timeout_s: float, tail: str) -> DoorError:
    said = f" It said last: {tail}" if tail else ""
    return DoorError(
        f"{program}, which publishes to a cache, had not ended after {timeout_s:g} seconds and was stopped; it is tried"
        f" again.{said}",
        door="cache",
        action="push",
        subject=program,
        retryable=True,
    )
