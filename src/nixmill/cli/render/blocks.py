"""Blocks: what is known → lines that stay. Pure; a block is a list of lines without line ends.

Here: the header, the plan, verdicts of attributes, the failure block. The end of a run is `summary`.
Every line that holds foreign text begins with a glyph, a word of ours, or the rule `│`: nothing that a builder prints
can stand at the start of a line, where continuous-integration systems look for commands.
"""

import signal
from typing import Final

from nixmill.cli.render import commands
from nixmill.cli.render.flow import flow, sentence
from nixmill.cli.render.names import host, listed
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.state import Failure, RunState
from nixmill.core.evaluation import EvalError, ImportFromDerivation
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import AttributeSettled, Change, Planned, RunStarted, WorkEnded
from nixmill.core.status import Status, of_outcome
from nixmill.core.terminal_text import about, counted, duration, number, size, width
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath, derivation_name

BUILT: Final = "built"
"""What an attribute's `how` says where it was built in this run."""
TAIL_LINES: Final = 10
MESSAGE_LINES: Final = 20
"""Lines of a message of Nix that are shown; traces can have thousands."""
SHORT_COMMIT: Final = 10
_WITH_SHELL: Final = frozenset(
    {Outcome.BUILD_FAILED, Outcome.TIMED_OUT, Outcome.SILENT, Outcome.LOG_TOO_LARGE, Outcome.OUTPUT_TOO_LARGE}
)


def header(started: RunStarted, paint: Paint, columns: int) -> list[str]:
    """Return what is being run: number, project, commit, targets, and what it is compared with."""
    commit = paint.text(started.commit[:SHORT_COMMIT])
    dirty = "with uncommitted changes" if started.dirty else ""
    # A run that is only planned has no number.
    parts = [
        paint.bold(f"nixmill run {started.run}" if started.run else "nixmill plan"),
        paint.text(started.project),
        f"{commit} {dirty}".strip(),
    ]
    parts.append(paint.text(", ".join(started.targets)))
    against = f"compared with {paint.text(started.base[:SHORT_COMMIT]) or 'nothing'}"
    if reason := paint.text(started.base_reason):
        against += f", the {reason.removeprefix('the ')}" if started.base else f": {reason}"
    head = flow([part for part in parts if part], f" {paint.marks.dot} ", columns)
    return [*head, *map(paint.dim, sentence(against, columns))]


def notice(text: str, paint: Paint, columns: int) -> list[str]:
    """Return a sentence that the person should read."""
    first, *rest = paint.lines(text)
    label = paint.style("note", "yellow")
    return [*sentence(f"{label} {first}", columns, "     "), *quoted(rest, paint)]


def quoted(lines: list[str], paint: Paint, indent: str = "  ") -> list[str]:
    """Return harmless foreign lines behind a rule."""
    rule = paint.dim(paint.marks.rule)
    return [f"{indent}{rule} {line}".rstrip() for line in lines]


def message(text: str, paint: Paint, indent: str = "  ") -> list[str]:
    """Return the lines of a message behind a rule; of a long one the beginning."""
    lines = [line for line in paint.lines(text.strip("\n")) if line.strip()]
    left = len(lines) - MESSAGE_LINES
    shown = quoted(lines[:MESSAGE_LINES], paint, indent)
    return [*shown, paint.dim(f"{indent}{paint.marks.rule} {counted(left, 'line')} more")] if left > 0 else shown


def plan(planned: Planned, state: RunState, paint: Paint, columns: int) -> list[str]:
    """Return what is going to be done: a line about attributes, a line about work."""
    attributes = [paint.bold(counted(planned.attributes, "attribute"))]
    if state.base is not None:
        attributes.append(f"{number(planned.changed)} changed")
    if planned.skipped:
        attributes.append(f"{number(planned.skipped)} as on the base, known good")
    if planned.present:
        attributes.append(f"{number(planned.present)} present")
    dot = f" {paint.marks.dot} "
    return [*flow(attributes, dot, columns), *flow(_work_ahead(planned, paint), dot, columns)]


def _work_ahead(planned: Planned, paint: Paint) -> list[str]:
    if not planned.to_build and not planned.to_fetch:
        return ["nothing to build, nothing to fetch"]
    parts = [f"{paint.bold(number(planned.to_build))} to build"]
    if planned.to_fetch:
        parts.append(f"{paint.bold(number(planned.to_fetch))} to fetch{sizes(planned)}")
    if planned.about_s is not None:
        parts.append(about(planned.about_s))
    return parts


def sizes(planned: Planned) -> str:
    """Return what a fetch weighs as far as caches say, such as ` (12.3 MiB, 63.9 MiB unpacked)`."""
    known = [size(planned.fetch_bytes)] if planned.fetch_bytes else []
    known += [f"{size(planned.unpacked_bytes)} unpacked"] if planned.unpacked_bytes else []
    return f" ({', '.join(known)})" if known else ""


def imported(build: ImportFromDerivation, paint: Paint, columns: int) -> list[str]:
    """Return the line for a build that evaluation needed."""
    name = paint.text(derivation_name(build.drv_path))
    whom = f" for {paint.plain_attribute(build.path)}" if build.path is not None else ""
    mark = paint.status(Status.RUNNING, paint.marks.arrow)
    took = duration(build.seconds)
    return sentence(f"{mark} evaluation built {name}{whom} in {took} (import from derivation)", columns)


def passed(event: AttributeSettled, paint: Paint, columns: int) -> list[str]:
    """Return the verdict of a good attribute: its name, how long its build took (or why there was none), its change."""
    detail = duration(event.seconds) if event.how == BUILT else paint.text(event.how)
    tag = event.change.value if event.change in {Change.NEW, Change.FIXED} else ""
    name = paint.attribute(event.attribute.path, max(columns - width(detail) - len(tag) - 8, 16), style="")
    words = [f"{paint.glyph(Status.PASSED)} {name}", paint.dim(detail), paint.style(tag, "cyan")]
    return [paint.fit("  ".join(filter(None, words)), columns)]


def verdict(event: AttributeSettled, twin: AttrPath | None, paint: Paint, columns: int) -> list[str]:
    """Return the verdict of an attribute that is not good and has no failure block of its own.

    `twin` is the attribute whose failure block tells all about the same derivation, if there is one.
    """
    name = paint.attribute(event.attribute.path, columns // 2)
    why = paint.text(event.how.partition("\n")[0]) or event.outcome.value
    if twin is not None:
        why = f"failed: it is the same derivation as {paint.plain_attribute(twin)}"
    return [paint.fit(f"{paint.glyph(of_outcome(event.outcome))} {name}  {why}", columns)]


def victims(culprit: StorePath, paths: list[AttrPath], paint: Paint, columns: int) -> list[str]:
    """Return one line for all attributes that failed because of one derivation."""
    name = paint.text(derivation_name(culprit))
    glyph = paint.glyph(Status.DEPENDENCY_FAILED)
    if len(paths) == 1:
        return [paint.fit(f"{glyph} {paint.attribute(paths[0], columns // 2)}  needs {name}", columns)]
    start = f"{glyph} {counted(len(paths), 'attribute')} need {name}: "
    return [start + paint.dim(listed(paths, paint, max(columns - width(start), 20)))]


def evaluation_error(error: EvalError, paint: Paint, columns: int) -> list[str]:
    """Return one line that says which attribute did not evaluate, why and where."""
    where = f"  {paint.dim(paint.text(error.position))}" if error.position else ""
    name = paint.attribute(error.path, columns // 2)
    return sentence(f"{paint.glyph(Status.FAILED)} {name}  does not evaluate: {error.fault.value}{where}", columns)


def evaluation_error_block(errors: list[EvalError], paint: Paint, columns: int) -> list[str]:
    """Return all that Nix said of attributes that did not evaluate, all with the same words."""
    error = errors[0]
    who, verb = paint.attribute(error.path), "does not evaluate"
    if len(errors) > 1:
        who, verb = paint.bold(f"{number(len(errors))} attributes"), "do not evaluate"
    where = f" at {paint.text(error.position)}" if error.position else ""
    peak = f"; the evaluator had {size(error.peak_bytes)} of memory" if error.peak_bytes else ""
    title = sentence(f"{paint.glyph(Status.FAILED)} {who} {verb}: {error.fault.value}{where}{peak}", columns)
    paths = [each.path for each in errors] if len(errors) > 1 else []
    names = [paint.dim(f"  {listed(paths, paint, columns - 2)}")] if paths else []
    return [*title, *names, *message(error.message, paint)]


def retried(event: WorkEnded, machine: str, paint: Paint, columns: int) -> list[str]:
    """Return the line for a failure that is ours, with what follows."""
    first = paint.lines(event.message)[0] or event.outcome.value
    where = f" on {paint.text(host(machine))}" if host(machine) else ""
    soon = f"tried again in {duration(event.retry_in_s)}" if event.retry_in_s else "tried again now"
    return sentence(f"{paint.glyph(Status.TROUBLE)} {paint.text(event.name)}{where}: {first}; {soon}", columns)


def cause(failure: Failure) -> str:
    """Return how a derivation failed, in a few words."""
    ended = failure.ended
    if ended is None:
        return failure.how.partition("\n")[0] or failure.outcome.value
    took = duration(ended.seconds)
    match failure.outcome:
        case Outcome.BUILD_FAILED:
            return f"failed with {exit_words(ended.exit_status)} after {took}"
        case Outcome.TIMED_OUT | Outcome.SILENT | Outcome.LOG_TOO_LARGE | Outcome.OUTPUT_TOO_LARGE:
            return f"stopped after {took}: {failure.outcome.value}"
        case Outcome.HASH_MISMATCH | Outcome.NOT_DETERMINISTIC:
            return f"failed: {failure.outcome.value}"
        case Outcome.NO_MACHINE:
            return failure.outcome.value
        case _:
            return f"could not be built, which is our trouble: {failure.outcome.value}"


def exit_words(status: int | None) -> str:
    """Return an exit status in words; negative for a signal."""
    if status is None:
        return "an unknown exit status"
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {-status} ({signal.Signals(-status).name})"
    except ValueError:
        return f"signal {-status}"


def failure_block(
    failure: Failure, state: RunState, paint: Paint, columns: int, tail: list[str] | None = None
) -> list[str]:
    """Return the block of a failed derivation: who, what, why, the log's end, and what to type next.

    `tail` is more of the log than the last ten lines, where there is room.
    """
    own = attribute_of(failure, state)
    lines = [*_failure_title(failure, own, paint, columns), *_at_fault(failure, own, paint, columns)]
    if ended := failure.ended:
        if ended.message and (failure.outcome is not Outcome.BUILD_FAILED or not ended.tail):
            lines += message(ended.message, paint)
        shown = ended.tail[-TAIL_LINES:] if tail is None else tail
        lines += quoted([paint.log_line(line) for line in shown], paint)
    return [*lines, *_next(failure, state, paint)]


def attribute_of(failure: Failure, state: RunState) -> AttrPath | None:
    """Return the attribute that is the failed derivation itself, if any is."""
    return failure.own[0] if failure.own else state.attributes_of.get(failure.drv_path)


def _failure_title(failure: Failure, own: AttrPath | None, paint: Paint, columns: int) -> list[str]:
    who = paint.attribute(own) if own is not None else paint.bold(paint.text(failure.name))
    title = f"{paint.glyph(of_outcome(failure.outcome))} {who} {paint.text(cause(failure))}{depend(failure)}"
    return sentence(title, columns)


def depend(failure: Failure) -> str:
    """Return how many attributes failed because of this failure, as the end of a sentence."""
    match len(failure.victims):
        case 0:
            return ""
        case 1:
            return "; 1 depends on it"
        case count:
            return f"; {number(count)} depend on it"


def _at_fault(failure: Failure, own: AttrPath | None, paint: Paint, columns: int) -> list[str]:
    """Return the derivation, where it ran, whether it is known to fail, and which attributes need it."""
    parts = [paint.text(failure.drv_path)]
    if machine := host(failure.machine):
        parts.append(f"on {paint.text(machine)}")
    if failure.ended and failure.ended.failed_before is not None:
        parts.append(f"failed before in run {failure.ended.failed_before}")
    lines = [f"  {line}" for line in flow(parts, f" {paint.marks.dot} ", columns - 2, indent="")]
    if needs := failure.victims or [path for path in failure.for_attributes if path != own]:
        lines.append(f"  needed by {listed(needs, paint, columns - 12)}")
    return [paint.dim(line) for line in lines]


def _next(failure: Failure, state: RunState, paint: Paint) -> list[str]:
    lines = []
    ended = failure.ended
    if ended and ended.log:
        lines.append(("log", commands.log(ended.attempt)))
    path = attribute_of(failure, state) or next(iter((*failure.victims, *failure.for_attributes)), None)
    if path is not None:
        targets = state.started.targets if state.started else ()
        lines.append(("again", paint.text(commands.again(path, targets))))
    if ended and failure.outcome in _WITH_SHELL:
        lines.append(("shell", commands.shell(ended.attempt)))
    return [f"  {paint.dim(word.ljust(6))}{paint.style(command, 'cyan')}" for word, command in lines]
