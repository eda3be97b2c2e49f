"""One run of nix-eval-jobs: its lines turned into records, its limits kept.

Decides when it has failed as a whole, so that what is left must be asked elsewhere. It keeps no limit on one attribute
itself: when a process of it grows far beyond the memory limit, or nothing comes for the time one attribute may take, it
is ended.
What this file does not know: what is done about what is left (`nix_eval_jobs.py`).
"""

import asyncio
import contextlib
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nixmill.core.evaluation import (
    Attribute,
    EvalError,
    EvalRecord,
    EvaluationFailedError,
    EvaluationRequest,
    EvaluationTrace,
    ImportFromDerivation,
)
from nixmill.edge.evaluator import complaints, faults
from nixmill.edge.evaluator.account import Account, Groups
from nixmill.edge.evaluator.log_lines import LineReader, Noted, Said
from nixmill.edge.evaluator.process import EvalProcess, Lines
from nixmill.edge.evaluator.records import Builds, UnknownAttributeError, too_deep
from nixmill.edge.evaluator.source_text import Group
from nixmill.nix import eval_record

WATCH_SECONDS: Final = 0.1
OVERSHOOT: Final = 1.25
"""Its workers look at their size only between attributes; beyond this they are not going to come back."""
_ADDRESSABLE: Final = re.compile(r'[^"]*[^0-9"][^"]*\Z', re.DOTALL)
"""Names that survive its dotted paths: it does not escape quotes, and takes numbers for list indices."""

Found = EvalRecord | None
"""A record; None where something was left unanswered."""
_Read = Callable[[bytes], list[Found]]


class JobsRun:
    """Give it a process, then take its records; closing those ends the process."""

    def __init__(
        self,
        group: Group,
        request: EvaluationRequest,
        token: str,
        account: Account,
        things: contextlib.AsyncExitStack,
    ) -> None:
        """Prepare to evaluate `group`, whose walker was given `token`; `things` are closed at the end."""
        self.complete = True
        """Everything was answered; known when the groups have ended."""
        self._things = things
        self._group = group
        self._request = request
        self._account = account
        self._reader = LineReader(token)
        self._queue: asyncio.Queue[list[Found] | Exception | None] = asyncio.Queue(maxsize=4)
        self._builds = Builds()
        self._heard = time.monotonic()
        self._process: EvalProcess | None = None

    def begin(self, process: EvalProcess) -> None:
        """Take over the process, which has just been started, its stdout with it."""
        self._process = process
        self._heard = time.monotonic()

    async def groups(self) -> Groups:
        """Yield records; raise `EvaluationFailedError` for the whole."""
        process = self._process
        assert process is not None and process.output is not None  # noqa: S101, PT018 - `begin` comes first
        tasks = [asyncio.create_task(self._run(process, process.output)), asyncio.create_task(self._watch(process))]
        try:
            while (found := await self._account.within_time(self._queue.get(), list)) is not None:
                if isinstance(found, Exception):
                    raise found
                self.complete = self.complete and None not in found
                yield [record for record in found if record is not None]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await process.kill()
            self._account.measured(process.peak_bytes, self._request.limits.workers)
            await self._things.aclose()

    async def _run(self, process: EvalProcess, output: Lines) -> None:
        try:
            await asyncio.gather(self._listen(output, self._answer), self._listen(process.errors, self._aside))
            if await process.wait() != 0:
                await self._queue.put([None])
        except UnknownAttributeError as error:
            target = self._group.targets[error.found.target]
            await self._queue.put(complaints.unknown(target, error.found.index, error.found.names))
        except EvaluationFailedError as error:
            await self._queue.put(error)
        await self._queue.put(None)

    async def _listen(self, lines: Lines, read: _Read) -> None:
        while True:
            try:
                more = await lines.more()
            except EOFError:
                return
            self._heard = time.monotonic()
            found = [record for line in more for record in read(line)]
            if found:
                await self._queue.put(found)
                self._heard = time.monotonic()

    def _answer(self, line: bytes) -> list[Found]:
        try:
            parsed = eval_record.parse(line)
        except eval_record.EvalRecordError:
            return [None]
        target = self._group.targets[int(parsed.path[0][1:])] if parsed.path else None
        # An error at the root of a target may be one of the target itself; our own evaluator tells them apart.
        if target is None or not all(map(_ADDRESSABLE.match, parsed.path)):
            return [None]
        path = (*target.attr, *parsed.path[1:])
        match parsed:
            case eval_record.JobLine():
                return [_attribute(path, parsed)]
            case eval_record.ErrorLine(error=text):
                return [None] if len(parsed.path) == 1 else [self._error(path, text)]

    def _error(self, path: tuple[str, ...], text: str) -> EvalError:
        error = faults.error(text, path, tree_path=self._group.tree_path, show_trace=self._request.settings.show_trace)
        return too_deep(path) if error.message == "nested too deeply" else error

    def _aside(self, line: bytes) -> list[Found]:
        event = self._reader.read(line)
        if isinstance(event, Said) and event.letter == "u":
            raise UnknownAttributeError(event.rest)
        if isinstance(event, Noted):
            return [EvaluationTrace(text=event.text)]
        built: ImportFromDerivation | None = self._builds.hear(event, None, time.monotonic())
        return [built] if built is not None else []

    async def _watch(self, process: EvalProcess) -> None:
        limits = self._request.limits
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            largest = max(map(_resident_bytes, _children(process.measured_pid)), default=0)
            process.peak_bytes = max(process.peak_bytes, largest)
            silent = time.monotonic() - self._heard > limits.attribute_time_s and not self._queue.full()
            if silent or largest > limits.memory_bytes * OVERSHOOT:
                process.signal(signal.SIGKILL)
                return


def _attribute(path: tuple[str, ...], job: eval_record.JobLine) -> Attribute:
    return Attribute(
        path=path,
        name=job.name,
        system=job.system,
        drv_path=job.drv_path,
        outputs=job.outputs,
        description=job.meta.description,
        maintainers=job.meta.maintainers,
        timeout_s=job.meta.timeout_s,
        max_silent_s=job.meta.max_silent_s,
    )


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(word) for task in tasks for word in (task / "children").read_text(encoding="ascii").split()]
    except OSError:
        return []


def _resident_bytes(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
