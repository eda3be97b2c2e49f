"""Runs the git commands that talk to another host, and bounds them: time, output, what they write.

Decides how a command ends: by itself, at a limit, or killed with its children when its caller is cancelled. Does not
know what is fetched (`nixmill.edge.git_fetch`) or what may be reached how (`nixmill.edge.git_access`).
Nothing is inherited but `_KEPT`: no setting, key, agent or stored password of whoever started the server has a say.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from nixmill.core.errors import InputError
from nixmill.doors import DoorError
from nixmill.edge.git_command import Answer, end

DOOR: Final = "remote"
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_CERTIFICATES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH", "NIX_SSL_CERT_FILE")
_KEPT: Final = frozenset({"PATH", "TMPDIR", "LOCALE_ARCHIVE", "LD_LIBRARY_PATH", *_PROXIES, *_CERTIFICATES})
_CHUNK: Final = 1 << 16
_COMPLAINT_BYTES: Final = 1 << 16
"""Of standard error the end is kept: the remote may send any amount of it."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds the work for one remote."""

    look_s: float = 60.0
    fetch_s: float = 3600.0
    slow_bytes_s: int = 1000
    """What brings less than this for `slow_s` is broken off."""
    slow_s: int = 60
    mirror_bytes: int = 32 * 1024**3
    tree_files: int = 500_000
    """Of one commit of a pull request."""
    tree_bytes: int = 8 * 1024**3
    """Of one commit of a pull request, all files together."""
    refs: int = 100_000
    """Branches and tags of a remote."""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A git command to run."""

    arguments: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    """What it gets beside `_KEPT`."""
    limit_s: float
    output_bytes: int = 32 * 1024 * 1024
    inherit: Sequence[int] = ()
    """File descriptors that it and its children keep open: a lock lasts as long as anybody works."""
    who: str
    """The remote, for sentences: `https://example.org/mill.git`."""


async def transport(command: Command, guard: Callable[[], Awaitable[None]] | None = None) -> Answer:
    """Run a command to its end; what `guard` raises meanwhile ends it. Raises `DoorError` at a limit."""
    process = await _start(command)
    tasks: set[asyncio.Future[object]] = {asyncio.ensure_future(_communicate(process, command))}
    (reading,) = tasks
    if guard is not None:
        tasks.add(asyncio.ensure_future(guard()))
    try:
        done, _ = await asyncio.wait(tasks, timeout=command.limit_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise _too_slow(command)
        for task in done - {reading}:
            task.result()
        answer = await reading
    finally:
        if not _is_good(reading):  # whoever holds the other end of its pipes works still, the command or a child
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await end(process)
    assert isinstance(answer, Answer)  # noqa: S101 - for mypy: the set holds futures of two kinds
    return answer


def _is_good(reading: asyncio.Future[object]) -> bool:
    return reading.done() and not reading.cancelled() and reading.exception() is None


async def _start(command: Command) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if name in _KEPT} | dict(command.environment)
    try:
        return await asyncio.create_subprocess_exec(
            "git",
            "--no-pager",
            *command.arguments,
            cwd=command.directory,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=tuple(command.inherit),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise InputError("git was not found on PATH.", "Install git 2.31 or newer, then try again.") from error


async def _communicate(process: asyncio.subprocess.Process, command: Command) -> Answer:
    assert process.stdout and process.stderr  # noqa: S101, PT018 - pipes were asked for
    reading = [asyncio.ensure_future(each) for each in (_all_of(process.stdout, command), _end_of(process.stderr))]
    try:
        output, complaint = await asyncio.gather(*reading)
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return Answer(status=await process.wait(), output=output, complaint=complaint.decode(errors="replace"))


async def _all_of(stream: asyncio.StreamReader, command: Command) -> bytes:
    output = bytearray()
    while chunk := await stream.read(_CHUNK):
        output += chunk
        if len(output) > command.output_bytes:
            raise DoorError(
                f"{command.who} answered with more than {command.output_bytes >> 20} MiB and was cut off. "
                "It has too many branches and tags: delete old ones there.",
                door=DOOR,
                action=f"git {command.arguments[0]}",
                subject=command.who,
                retryable=False,
            )
    return bytes(output)


async def _end_of(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while chunk := await stream.read(_CHUNK):
        kept = (kept + chunk)[-_COMPLAINT_BYTES:]
    return kept


def _too_slow(command: Command) -> DoorError:
    return DoorError(
        f"{command.who} did not give everything within {command.limit_s:.0f} s; git was stopped. "
        "It is tried again; if that does not help, see whether the host is well.",
        door=DOOR,
        action=f"git {command.arguments[0]}",
        subject=command.who,
        retryable=True,
    )


def size_of(directory: Path) -> int:
    """Return how many bytes the files below a directory hold; files that vanish meanwhile count nothing."""
    total = 0
    for above, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(above, name).lstat().st_size
    return total
