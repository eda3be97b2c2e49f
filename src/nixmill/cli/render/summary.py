"""The end of a run, verdict first: sentence, counts, changes, warnings, evaluation errors, root causes above victims.

Pure. On a terminal root causes are a line each, since their blocks stand further up in the scrollback; in a pipe the
blocks themselves come here, last and unfolded.
"""

from itertools import chain
from typing import Final

from nixmill.cli.render import blocks, commands
from nixmill.cli.render.flow import flow, sentence
from nixmill.cli.render.names import listed
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.state import Failure, RunState
from nixmill.core.evaluation import EvalError
from nixmill.core.run_event import Change, RunEnded, Verdict
from nixmill.core.status import LOOK, Status, of_outcome
from nixmill.core.terminal_text import counted, number, pad, width

CAUSES_MAX: Final = 20
ERRORS_MAX: Final = 20
TRACES_MAX: Final = 10
LONG: Final = 25
"""Lines after which the verdict is said again at the end, where the eye is."""
_VERDICT: Final = {
    Verdict.GOOD: Status.PASSED,
    Verdict.BUILD_FAILED: Status.FAILED,
    Verdict.EVALUATION_FAILED: Status.FAILED,
    Verdict.NOT_ALLOWED: Status.FAILED,
    Verdict.INFRASTRUCTURE: Status.TROUBLE,
    Verdict.CANCELLED: Status.CANCELLED,
}
_CHANGES: Final = (Change.NEWLY_FAILING, Change.FIXED, Change.NEW, Change.CHANGED, Change.REMOVED)
_HOW: Final = ("built", "fetched", "present", "unchanged")


def summary(ended: RunEnded, state: RunState, paint: Paint, columns: int, *, unfolded: bool) -> list[str]:
    """Return the summary; `unfolded` puts whole failure blocks into it."""
    causes = _unfolded_causes(state, paint, columns) if unfolded else _listed_causes(state, paint, columns)
    parts = [_counts(state, paint, columns), _changes(state, paint, columns), _traces(state, paint, columns)]
    parts += [_errors(state, paint, columns), causes]
    body = list(chain.from_iterable(["", *part] for part in parts if part))
    verdict = verdict_lines(ended, paint, columns)
    return [*verdict, *body, "", *verdict] if len(body) > LONG else [*verdict, *body]


def verdict_lines(ended: RunEnded, paint: Paint, columns: int) -> list[str]:
    """Return the verdict sentence with its sign."""
    status = _VERDICT[ended.verdict]
    colour = LOOK[status].colour
    style = colour if "bold" in colour else f"bold {colour}"
    first, *rest = sentence(paint.text(ended.sentence), columns - 2, indent="")
    return [f"{paint.glyph(status)} {paint.style(first, style)}", *(f"  {paint.style(line, style)}" for line in rest)]


def causes_in_order(state: RunState) -> list[Failure]:
    """Return root causes, what most depends on first; among equals the order in which they came up."""
    return sorted(state.failures.values(), key=lambda failure: -len(failure.victims))


def _counts(state: RunState, paint: Paint, columns: int) -> list[str]:
    parts = []
    for status, look in LOOK.items():
        if count := state.settled[status]:
            detail = _how(state) if status is Status.PASSED else ""
            parts.append(f"{paint.glyph(status)} {paint.status(status, f'{number(count)} {look.word}')}{detail}")
    if state.errors:
        words = f"{number(len(state.errors))} not evaluated"
        parts.append(f"{paint.glyph(Status.FAILED)} {paint.status(Status.FAILED, words)}")
    return [f"  {line}" for line in flow(parts, "   ", columns - 2, indent="")]


def _how(state: RunState) -> str:
    known = [(how, state.passed_by[how]) for how in _HOW if state.passed_by[how]]
    return f" ({', '.join(f'{number(count)} {how}' for how, count in known)})" if known else ""


def _changes(state: RunState, paint: Paint, columns: int) -> list[str]:
    """Return how attributes stand towards the base, by kind: what broke first."""
    rows = [
        (_count(state.changes[change], change.value, _style(change), paint), state.changed[change])
        for change in _CHANGES
        if state.changes[change]
    ]
    if state.started is None or not state.started.base or not (rows or state.renamed):
        return []
    if state.renamed:
        rows.append((_count(len(state.renamed), "renamed", "cyan", paint), []))
    label_width = max(width(label) for label, _ in rows)
    room = columns - label_width - 4
    lines = [f"  {paint.bold('changes')} against {paint.text(state.started.base[: blocks.SHORT_COMMIT])}"]
    for label, paths in rows:
        names = listed(paths, paint, room) if paths else _renames(state, paint, room)
        lines.append(f"  {pad(label, label_width)}  {names}".rstrip())
    return lines


def _count(count: int, word: str, style: str, paint: Paint) -> str:
    return paint.style(f"{number(count)} {word}", style)


def _style(change: Change) -> str:
    return {Change.NEWLY_FAILING: "bold red", Change.FIXED: "green"}.get(change, "cyan")


def _renames(state: RunState, paint: Paint, columns: int) -> str:
    """Return the first renaming, and how many more there are."""
    old, new = state.renamed[0]
    left = len(state.renamed) - 1
    more = f" and {number(left)} more" if left else ""
    return paint.fit(f"{paint.plain_attribute(old)} {paint.marks.arrow} {paint.plain_attribute(new)}{more}", columns)


def _listed_causes(state: RunState, paint: Paint, columns: int) -> list[str]:
    """Return a line for each root cause, the command for its log in a column at the right where that fits."""
    causes = causes_in_order(state)
    if not causes:
        return []
    rows = [(_cause_line(failure, state, paint, columns), _log_command(failure)) for failure in causes[:CAUSES_MAX]]
    edge = max(width(line) for line, _ in rows) + 3
    fits = edge + max(len(command) for _, command in rows) <= columns
    lines = [f"  {paint.bold('root causes' if len(causes) > 1 else 'root cause')}"]
    for line, command in rows:
        shown = paint.style(command, "cyan")
        if fits:
            lines.append(f"{pad(line, edge)}{shown}".rstrip())
        else:
            lines += [*sentence(line, columns, "    "), *([f"    {shown}"] if command else [])]
    return _with_rest(lines, len(causes) - CAUSES_MAX, "root cause", paint)


def _cause_line(failure: Failure, state: RunState, paint: Paint, columns: int) -> str:
    own = blocks.attribute_of(failure, state)
    who = paint.attribute(own, columns // 2) if own is not None else paint.bold(paint.text(failure.name))
    glyph = paint.glyph(of_outcome(failure.outcome))
    return f"  {glyph} {who} {paint.text(blocks.cause(failure))}{blocks.depend(failure)}"


def _log_command(failure: Failure) -> str:
    return commands.log(failure.ended.attempt) if failure.ended and failure.ended.log else ""


def _unfolded_causes(state: RunState, paint: Paint, columns: int) -> list[str]:
    causes = causes_in_order(state)
    shown = [blocks.failure_block(failure, state, paint, columns) for failure in causes[:CAUSES_MAX]]
    lines = [line for block in shown for line in ("", *block)][1:]
    return _with_rest(lines, len(causes) - CAUSES_MAX, "root cause", paint)


def _errors(state: RunState, paint: Paint, columns: int) -> list[str]:
    """Return evaluation errors; attributes that fail with the same words share a block."""
    groups: dict[tuple[str, str, str], list[EvalError]] = {}
    for error in state.errors:
        groups.setdefault((error.fault, error.message, error.position), []).append(error)
    lines: list[str] = []
    for errors in list(groups.values())[:ERRORS_MAX]:
        lines += blocks.evaluation_error_block(errors, paint, columns)
    return _with_rest(lines, len(groups) - ERRORS_MAX, "evaluation error", paint)


def _traces(state: RunState, paint: Paint, columns: int) -> list[str]:
    lines: list[str] = []
    for text, paths in list(state.traces.items())[:TRACES_MAX]:
        label, said = _label(text.strip())
        first, *rest = paint.lines(said)
        of = "of " if len(paths) == 1 else f"of {counted(len(paths), 'attribute')}: "
        lines.append(f"  {paint.style(label, 'yellow')} {first}")
        lines += blocks.quoted(rest, paint, "    ")
        lines.append(paint.dim(f"    {of}{listed(paths, paint, columns - len(of) - 4)}"))
    return _with_rest(lines, len(state.traces) - TRACES_MAX, "text from evaluation", paint)


def _label(text: str) -> tuple[str, str]:
    """Split what evaluation printed into Nix's own label and the text."""
    for start, label in (("evaluation warning: ", "warning"), ("warning: ", "warning"), ("trace: ", "trace")):
        if text.startswith(start):
            return label, text.removeprefix(start)
    return "trace", text


def _with_rest(lines: list[str], left: int, noun: str, paint: Paint) -> list[str]:
    return [*lines, paint.dim(f"  and {counted(left, f'more {noun}')}")] if left > 0 else lines
