"""Runs hooks: commands of the administrator, without a shell, each with a log, a time limit and an end (semantics §9).

When a hook's first process has ended, or has to, everything of its group is killed, and everything elsewhere that
carries the mark of the hook's run in its environment: what went into the background ends with the hook.
What this file does not know: which hooks run and when, and where it is recorded.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

import msgspec
from structlog.typing import FilteringBoundLogger

from nixmill.core.errors import InputError
from nixmill.core.hook import Hook, HookRun, HookState
from nixmill.doors import Clock
from nixmill.edge.hook_log import LOG_BYTES, HookLog, read_piece
from nixmill.edge.hook_process import MARK, Ending, HookProcess, kill_marked
from nixmill.edge.private_files import create_file, make_directory

GRACE_S: Final = 5.0
"""From SIGTERM to SIGKILL."""
READ_MAX: Final = 1024 * 1024
DOCUMENT: Final = "document.json"

T = TypeVar("T")


class CommandHookRunner:
    """Implements `nixmill.doors.server.HookRunner` below a directory: `logs` stay, `scratch` goes with each run."""

    def __init__(
        self,
        directory: Path,
        clock: Clock,
        complain: FilteringBoundLogger,
        *,
        grace_s: float = GRACE_S,
        log_bytes: int = LOG_BYTES,
    ) -> None:
        """Keep logs below `directory`, which is made when needed; `complain` hears of incomplete logs."""
        self._logs = directory / "logs"
        self._scratch = directory / "scratch"
        self._clock = clock
        self._complain = complain
        self._grace_s = grace_s
        self._log_bytes = log_bytes

    async def run(self, hook: Hook, run: HookRun, document: bytes, started: Callable[[], Awaitable[None]]) -> HookRun:
        """See `HookRunner`. Where log or document cannot be written the hook could not start."""
        path, scratch = self._path(run.id), self._scratch / run.id
        begun = msgspec.structs.replace(run, command=hook.command, started_at=self._clock.now())
        try:
            log = await asyncio.to_thread(_prepared, path, scratch, document, self._log_bytes)
        except OSError as error:
            self._complain.error("hook files cannot be written", hook=hook.name, id=run.id, reason=str(error))
            await asyncio.to_thread(_remove, scratch)
            return self._not_started(begun, error)
        try:
            ended = await self._run(hook, begun, scratch, log, started)
        finally:
            log.close()
            await _in_any_case(asyncio.to_thread(_remove, scratch))
            if log.trouble is not None:
                self._complain.warning("hook log incomplete", hook=hook.name, id=run.id, reason=str(log.trouble))
        return ended

    async def _run(
        self, hook: Hook, run: HookRun, scratch: Path, log: HookLog, started: Callable[[], Awaitable[None]]
    ) -> HookRun:
        try:
            process = HookProcess(hook.command, _environment(hook, run, scratch), scratch, log.write)
        except OSError as error:
            return self._not_started(run, error)
        timed_out = False
        try:
            await started()
            timed_out = not await process.ended_within(hook.timeout_s)
        finally:
            ending = await _in_any_case(process.finish(self._grace_s))
        ended = msgspec.structs.replace(run, ended_at=self._clock.now(), timed_out=timed_out)
        return _with_ending(ended, ending)

    def _not_started(self, run: HookRun, error: OSError) -> HookRun:
        return msgspec.structs.replace(
            run, state=HookState.COULD_NOT_START, errno=error.errno, ended_at=self._clock.now()
        )

    def log_location(self, run: str) -> str:
        """See `HookRunner`."""
        return str(self._path(run))

    async def read_log(self, run: str, offset: int = 0, limit: int | None = None) -> bytes:
        """See `HookRunner`; a log that is not there is empty."""
        return await asyncio.to_thread(read_piece, self._path(run), offset, READ_MAX if limit is None else limit)

    async def delete_logs(self, runs: Sequence[str]) -> None:
        """See `HookRunner`."""
        paths = [self._path(run) for run in runs]
        await asyncio.to_thread(_delete, paths)

    async def keep_only(self, known: Callable[[Sequence[str]], Awaitable[Collection[str]]]) -> None:
        """See `HookRunner`."""
        for directory in await asyncio.to_thread(lambda: sorted(self._logs.glob("[0-9a-f][0-9a-f]"))):
            names = [path.stem for path in await asyncio.to_thread(lambda: list(directory.glob("*.log")))]  # noqa: B023 - awaited at once
            kept = set(await known(names)) if names else set()
            await self.delete_logs([name for name in names if name not in kept])

    async def clean_up(self) -> None:
        """See `HookRunner`."""
        await asyncio.to_thread(_clean_up, self._scratch)

    def _path(self, run: str) -> Path:
        _check_id(run)
        return self._logs / run[:2] / f"{run}.log"


def _prepared(path: Path, scratch: Path, document: bytes, log_bytes: int) -> HookLog:
    """Make the scratch directory with the document, then the log."""
    make_directory(scratch.parent)
    scratch.mkdir(mode=0o750)
    with os.fdopen(create_file(scratch / DOCUMENT), "wb") as file:
        file.write(document)
    return HookLog(path, log_bytes)


def _environment(hook: Hook, run: HookRun, scratch: Path) -> dict[str, str]:
    """Return all that a hook gets: nothing of the server's environment but where programs are."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(scratch),
        "LANG": "C.UTF-8",
        "NIXMILL_JSON": str(scratch / DOCUMENT),
        "NIXMILL_RUN": str(run.run),
        "NIXMILL_HOOK": hook.name,
        MARK: run.id,
    }


def _delete(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _with_ending(run: HookRun, ending: Ending) -> HookRun:
    if not ending.signalled:
        return msgspec.structs.replace(run, state=HookState.EXITED, exit_code=ending.status)
    return msgspec.structs.replace(run, state=HookState.SIGNALLED, signal=ending.status, core_dumped=ending.core_dumped)


async def _in_any_case(work: Coroutine[object, object, T]) -> T:
    """Finish work although the task is cancelled meanwhile, then let the cancellation go on."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()


def _clean_up(scratch: Path) -> None:
    if not scratch.is_dir():
        return
    for left in scratch.iterdir():
        kill_marked(left.name)
        _remove(left)


def _remove(scratch: Path) -> None:
    """Delete what a hook left, directories that it made read-only too. What cannot be deleted waits for `clean_up`."""
    shutil.rmtree(scratch, ignore_errors=True)
    for directory, names, _ in os.walk(scratch):
        for path in (Path(directory, name) for name in names):
            if not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.chmod(0o700)
    shutil.rmtree(scratch, ignore_errors=True)


def _check_id(run: str) -> None:
    """Raise `InputError` unless this is a UUID as we write it: it becomes part of a path."""
    try:
        good = str(UUID(run)) == run
    except ValueError:
        good = False
    if not good:
        raise InputError(f"{run!r} cannot be the run of a hook.", "Follow a link on the page of a run.")
