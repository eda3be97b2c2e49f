"""Runs git so that nothing but git itself runs, and nobody's repository is changed by accident.

Decides the environment and the fixed options of every git command; turns failures into sentences.
Does not know what the commands are for (`nixmill.edge.git`). What is guarded against (`docs/security.md`):
hooks and a file-system monitor set in a repository, questions on the terminal, transports of any kind (a partial
clone would fetch lazily), variables inherited from a git hook that started us, commands that never end.
Filters that the user's own configuration names do run when changed files are read, as they do for `git status`.
Arguments that come from people are checked with `refuse_option` and stand behind `--end-of-options`.
Source: git(1), gitprotocol(7), git-config(1) of git 2.39; 2.31 or newer is needed.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping
from typing import Final

import msgspec

from nixmill.core.errors import InputError
from nixmill.doors import DoorError

_DRAIN_S: Final = 5.0
_CHUNK: Final = 1 << 16
TIME_LIMIT_S: Final = 120.0
"""For one command. `git status` on a cold disk with 500,000 files takes about a minute."""
_KEPT: Final = frozenset({"GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM", "GIT_CEILING_DIRECTORIES"})
"""Variables that say where the user's configuration is; every other `GIT_…` is dropped."""
_FIXED_ENVIRONMENT: Final = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_FIXED_OPTIONS: Final = (
    "--no-pager",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "i18n.commitEncoding=UTF-8",
)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a command left behind."""

    status: int
    output: bytes
    complaint: str
    """Standard error, decoded."""

    @property
    def text(self) -> str:
        """The output as text without its final line end; bytes that are no UTF-8 survive a way back."""
        return os.fsdecode(self.output).removesuffix("\n")


class Beginning(msgspec.Struct, frozen=True, kw_only=True):
    """The first bytes of what a command writes."""

    output: bytes
    cut: bool
    """There was more, or it took too long; the command was stopped."""


class GitFailedError(DoorError):
    """A git command failed; `complaint` is git's own text."""

    def __init__(self, message: str, *, action: str, subject: str, complaint: str) -> None:
        """Keep git's own text apart, so that callers can tell cases."""
        super().__init__(message, door="source", action=action, subject=subject, retryable=False)
        self.complaint = complaint


def git_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Return what is inherited without what could lead git to another repository: for git and for Nix that runs it."""
    return {name: value for name, value in inherited.items() if not name.startswith("GIT_") or name in _KEPT}


def refuse_option(revision: str) -> str:
    """Return `revision`; raise `InputError` where it could be read as an option or cannot be a name at all."""
    if not revision or revision.startswith("-") or any(ord(c) < 32 or ord(c) == 127 for c in revision):
        raise InputError(f"{revision!r} is no name of a commit.", "Give a commit id, a branch or a tag.")
    return revision


class Git:
    """Git in one directory."""

    def __init__(self, directory: str, **variables: str) -> None:
        """Add `variables` to the environment of each command."""
        self.directory = directory
        self._variables = variables

    def with_variables(self, **variables: str) -> "Git":
        """Return git in the same directory with more variables."""
        return Git(self.directory, **(self._variables | variables))

    async def run(self, *arguments: str, stdin: bytes = b"") -> str:
        """Return the output of a command as text; raise `GitFailedError` where it fails."""
        answer = await self.ask(*arguments, stdin=stdin)
        if answer.status != 0:
            raise self._failure(arguments, answer)
        return answer.text

    async def ask(self, *arguments: str, stdin: bytes = b"") -> Answer:
        """Run a command whose failure is an answer; raise only where it cannot run or does not end."""
        process = await self._start(arguments)
        try:
            async with asyncio.timeout(TIME_LIMIT_S):
                output, complaint = await process.communicate(stdin)
        except TimeoutError:
            raise self._too_slow(arguments) from None
        finally:
            await end(process)
        return Answer(status=process.returncode or 0, output=output, complaint=complaint.decode(errors="replace"))

    async def beginning(self, limit: int, *arguments: str, limit_s: float = TIME_LIMIT_S) -> Beginning:
        """Return at most `limit` bytes of the output; raise `GitFailedError` where the command fails by itself.

        For what a stranger may make as long as they like: git is stopped at the limits.
        """
        process = await self._start(arguments)
        assert process.stdin and process.stderr  # noqa: S101, PT018 - pipes were asked for
        process.stdin.close()
        output = bytearray()
        complaining = asyncio.ensure_future(_end_of(process.stderr))
        try:
            cut = await _is_cut_off(process, complaining, output, limit, limit_s)
        finally:
            complaining.cancel()
            await asyncio.gather(complaining, return_exceptions=True)
            await end(process)
        if not cut and process.returncode:
            complaint = complaining.result().decode(errors="replace")
            raise self._failure(arguments, Answer(status=process.returncode, output=b"", complaint=complaint))
        return Beginning(output=bytes(output[:limit]), cut=cut)

    async def _start(self, arguments: tuple[str, ...]) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                "git",
                *_FIXED_OPTIONS,
                *arguments,
                cwd=self.directory,
                env=git_environment(os.environ) | _FIXED_ENVIRONMENT | self._variables,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            missing = self.directory if shutil.which("git") else "git on PATH"
            raise InputError(f"{missing} was not found.", "See that it exists, then try again.") from error

    def _failure(self, arguments: tuple[str, ...], answer: Answer) -> Exception:
        if "dubious ownership" in answer.complaint:
            return InputError(
                f"git refuses to read {self.directory}, since it belongs to another user.",
                f"If you trust it, type: git config --global --add safe.directory '{self.directory}'",
            )
        action = f"git {arguments[0]}"
        last = answer.complaint.strip().rsplit("\n", 1)[-1].removeprefix("fatal: ") or f"exit {answer.status}"
        return GitFailedError(
            f"{action} failed in {self.directory}: {last}",
            action=action,
            subject=self.directory,
            complaint=answer.complaint,
        )

    def _too_slow(self, arguments: tuple[str, ...]) -> DoorError:
        return DoorError(
            f"git {arguments[0]} in {self.directory} did not end within {TIME_LIMIT_S:.0f} s and was stopped. "
            "Type the same command yourself to see what it waits for.",
            door="source",
            action=f"git {arguments[0]}",
            subject=self.directory,
            retryable=True,
        )


async def _is_cut_off(
    process: asyncio.subprocess.Process,
    complaining: asyncio.Future[bytes],
    output: bytearray,
    limit: int,
    limit_s: float,
) -> bool:
    """Read into `output` until the command has ended, and say False, or until a limit, and say True."""
    assert process.stdout  # noqa: S101 - a pipe was asked for
    try:
        async with asyncio.timeout(limit_s):
            while len(output) <= limit and (chunk := await process.stdout.read(_CHUNK)):
                output += chunk
            if len(output) <= limit:
                await complaining
                await process.wait()
    except TimeoutError:
        return True
    return len(output) > limit


async def _end_of(stream: asyncio.StreamReader) -> bytes:
    kept = b""
    while chunk := await stream.read(_CHUNK):
        kept = (kept + chunk)[-_CHUNK:]
    return kept


async def end(process: asyncio.subprocess.Process) -> None:
    """Kill the command with its children if it still runs; a filter may have started some."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await _drain(process)  # one that has ended, too, may have left more than was read
    await process.wait()


async def _drain(process: asyncio.subprocess.Process) -> None:
    """Read what a command left in its pipes: asyncio waits for their end before it closes them and tells of its end."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DRAIN_S):  # somebody outside its group may hold the other end
            for stream in (process.stdout, process.stderr):
                while stream is not None and await stream.read(1 << 16):
                    pass
