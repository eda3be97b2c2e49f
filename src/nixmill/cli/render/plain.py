"""The plain renderer: for pipes, continuous integration, and terminals that only print. No cursor movement.

The log of a build is one contiguous block, written when the build has ended: folded to a line where it is good,
unfolded where it failed. Silence is broken by a heartbeat; a build that says nothing for long is shown line by line
from then on, so that its last words are seen even if the job is killed.
"""

from collections import deque
from itertools import islice
from typing import Final

import msgspec

from nixmill.cli.render import blocks, ci, commands
from nixmill.cli.render.ci import Ci
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.sink import Sink
from nixmill.cli.render.state import Failure, Running, RunState
from nixmill.cli.render.story import Story
from nixmill.cli.render.summary import summary
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import (
    AttributeSettled,
    RunEnded,
    RunEvent,
    Work,
    WorkEnded,
    WorkOutput,
    WorkStarted,
)
from nixmill.core.status import Status
from nixmill.core.terminal_text import counted, duration, number

COLUMNS: Final = 160
"""Where lists of names are cut; logs are not."""
TICK_S: Final = 0.5
HEARTBEAT_S: Final = 30.0
STALL_S: Final = 300.0
BUFFER_LINES: Final = 2000
"""Lines kept of a running build; earlier ones are in its log file."""
UNFOLDED_LINES: Final = 200
"""Lines shown of a failed build's log; earlier ones are folded."""
_HEARTBEAT_NAMES: Final = 5


class _Log(msgspec.Struct):
    """What a running build has printed."""

    lines: deque[str]
    heard_at: float
    live: bool = False
    """It is shown line by line."""
    count: int = 0


class PlainRenderer:
    """Shows a run as lines. See `Renderer` for its methods."""

    def __init__(self, sink: Sink, paint: Paint, now: float, ci: Ci = Ci.NONE) -> None:
        """Write to `sink`; `ci` decides about fold markers."""
        self._sink = sink
        self._paint = paint
        self._now = now
        self._ci = ci
        self._state = RunState()
        self._story = Story(self._state, paint)
        self._logs: dict[int, _Log] = {}
        self._pending: list[str] = []
        self._wrote_at = now
        self._ticked_at = float("-inf")
        self._suspended = False

    def handle(self, event: RunEvent) -> None:
        """Take in an event; its lines are written at the next `tick`."""
        ended = self._state.apply(event, self._now)
        match event:
            case WorkOutput():
                self._output(event)
            case WorkStarted():
                if event.work is Work.BUILD:
                    self._logs[event.attempt] = _Log(deque(maxlen=BUFFER_LINES), self._now)
            case WorkEnded():
                self._work_ended(event, ended)
            case RunEnded():
                self._say(["", *summary(event, self._state, self._paint, COLUMNS, unfolded=True)])
            case AttributeSettled(outcome=Outcome.SUCCEEDED):
                pass  # the line of its build has said so
            case _:
                self._say(self._story.tell(event, ended, COLUMNS))

    def tick(self, now: float) -> None:
        """Write what is pending; say what runs where nothing was said for long."""
        self._now = now
        if self._suspended or now - self._ticked_at < TICK_S:
            return
        self._ticked_at = now
        self._say(self._story.rest(COLUMNS))
        self._show_stalled()
        if not self._pending and now - self._wrote_at >= HEARTBEAT_S:
            self._say(self._heartbeat())
        self._flush()

    def suspend(self) -> None:
        """Keep lines until `resume`."""
        self._flush()
        self._suspended = True

    def resume(self) -> None:
        """Write lines again."""
        self._suspended = False
        self._flush()

    def close(self) -> None:
        """Write what is pending."""
        self._say(self._story.rest(COLUMNS))
        self._flush()

    def _say(self, lines: list[str]) -> None:
        self._pending += [ci.neutral(line) for line in lines]

    def _flush(self) -> None:
        if self._pending:
            lines, self._pending = self._pending, []
            self._wrote_at = self._now
            self._sink.write("\n".join([*lines, ""]))

    def _output(self, event: WorkOutput) -> None:
        log = self._logs.get(event.attempt)
        if log is None:
            return
        log.heard_at = self._now
        log.count += len(event.lines)
        log.lines.extend(event.lines)
        if log.live:
            self._say(self._prefixed(event.attempt, event.lines))

    def _work_ended(self, event: WorkEnded, ended: Running | None) -> None:
        log = self._logs.pop(event.attempt, None)
        failure = self._state.failures.get(event.drv_path)
        if event.outcome is Outcome.SUCCEEDED:
            self._succeeded(event, log)
        elif event.retry_in_s is None and failure is not None and failure.ended is event:
            self._failed(failure, event, log)
        else:
            self._say(self._story.tell(event, ended, COLUMNS))

    def _succeeded(self, event: WorkEnded, log: _Log | None) -> None:
        """Say that a build is good; fetches are only counted."""
        if event.work is not Work.BUILD:
            return
        paint = self._paint
        path = self._state.attributes_of.get(event.drv_path)
        whom = f"  {paint.attribute(path, style='')}" if path is not None else ""
        took = paint.dim(f"built in {duration(event.seconds)}")
        title = ci.neutral(f"{paint.glyph(Status.PASSED)} {paint.text(event.name)}  {took}{whom}")
        lines = self._quoted(list(log.lines)) if log else []
        self._mark(ci.fold(self._ci, title, lines, f"build-{event.attempt}", self._now) if lines else [title])

    def _failed(self, failure: Failure, event: WorkEnded, log: _Log | None) -> None:
        """Say who failed and show the log, all of it as far as we have it; the head of a long one folded."""
        kept = list(log.lines if log and log.lines else event.tail)
        told = blocks.failure_block(failure, self._state, self._paint, COLUMNS, tail=kept[-UNFOLDED_LINES:])
        title, *block = map(ci.neutral, told)
        head = kept[:-UNFOLDED_LINES]
        hidden = (log.count if log and log.lines else len(kept)) - min(len(kept), UNFOLDED_LINES)
        where = f": {commands.log(event.attempt)}" if event.log else ""
        lines = ["", ci.heading(self._ci, title)]
        if hidden > 0:
            note = f"{self._paint.marks.rule} {counted(hidden, 'earlier line')}{where}"
            lines += ci.fold(self._ci, note, self._quoted(head), f"head-{event.attempt}", self._now) if head else [note]
        self._mark([*lines, *block, ""])

    def _mark(self, lines: list[str]) -> None:
        """Say lines that are neutral already, with fold markers of ours among them."""
        self._pending += lines

    def _quoted(self, lines: list[str]) -> list[str]:
        paint = self._paint
        return [ci.neutral(line) for line in blocks.quoted([paint.log_line(line) for line in lines], paint)]

    def _prefixed(self, attempt: int, lines: tuple[str, ...] | list[str]) -> list[str]:
        paint = self._paint
        name = paint.dim(f"{paint.text(self._state.running[attempt].began.name)}>")
        return [f"{name} {paint.log_line(line)}" for line in lines]

    def _show_stalled(self) -> None:
        """Show the builds that have been silent for long, and from now on every line of theirs."""
        for attempt, log in self._logs.items():
            if log.live or self._now - log.heard_at < STALL_S:
                continue
            log.live = True
            name = self._paint.text(self._state.running[attempt].began.name)
            silent = duration(self._now - log.heard_at)
            self._say(
                [f"{self._paint.glyph(Status.RUNNING)} {name} has printed nothing for {silent}; its log from here on"]
            )
            self._say(self._prefixed(attempt, list(log.lines)[-blocks.TAIL_LINES :]))

    def _heartbeat(self) -> list[str]:
        """Return a line that names what runs, the longest first."""
        state, paint = self._state, self._paint
        if state.started is None or state.ended is not None:
            return []
        parts = [self._alive(running) for running in islice(state.running.values(), _HEARTBEAT_NAMES)]
        left = len(state.running) - len(parts)
        text = ", ".join(parts) + (f" and {number(left)} more" if left else "")
        if state.waits is not None:
            text += f"; {number(state.waits.waiting)} waiting" if text else f"{number(state.waits.waiting)} waiting"
        if not text:
            text = f"evaluating, {counted(state.found, 'attribute')} so far" if not state.evaluation else "at work"
        after = duration(self._now - state.began_at)
        return [f"{paint.glyph(Status.RUNNING)} {paint.dim(f'after {after}:')} {text}"]

    def _alive(self, running: Running) -> str:
        phase = f" in {self._paint.text(running.phase)}" if running.phase else ""
        return f"{self._paint.text(running.began.name)} {duration(self._now - running.since)}{phase}"
