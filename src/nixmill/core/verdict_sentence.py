"""The sentence of a verdict: state, cause, duration, next step. Every such sentence is made here.

Names in it come from repositories: whoever shows the sentence encodes it for the place where it goes.
"""

import shlex
from collections.abc import Sequence
from typing import Final, assert_never

import msgspec

from nixmill.core.outcome import Outcome
from nixmill.core.report_parts import AttributeReport, CauseReport, CountsReport, ErrorReport
from nixmill.core.run_event import Verdict
from nixmill.core.status import Status
from nixmill.core.terminal_text import brief, counted, duration
from nixmill.nix.attr_path import show

NAMES_MAX: Final = 3

CAUSE: Final[dict[Outcome, str]] = {
    Outcome.BUILD_FAILED: "failed",
    Outcome.DEPENDENCY_FAILED: "depends on something that failed",
    Outcome.TIMED_OUT: "took too long",
    Outcome.SILENT: "was silent for too long",
    Outcome.LOG_TOO_LARGE: "wrote too large a log",
    Outcome.OUTPUT_TOO_LARGE: "made too large an output",
    Outcome.HASH_MISMATCH: "has another hash than it says",
    Outcome.NOT_DETERMINISTIC: "is not deterministic",
    Outcome.NO_MACHINE: "cannot be built by any machine",
    Outcome.INFRASTRUCTURE: "could not be built",
    Outcome.CANCELLED: "was cancelled",
    Outcome.SUCCEEDED: "is good",
}
"""What is said of a derivation at fault, after its name."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a sentence is made of."""

    verdict: Verdict
    seconds: float
    counts: CountsReport
    causes: Sequence[CauseReport]
    attributes: Sequence[AttributeReport]
    errors: Sequence[ErrorReport]
    stopped: str = ""
    """Why the run as a whole could not go on, in a sentence; empty where it could."""
    typed: bool = True
    """Whether the next step is a command; not on a server, whose pages and messages lead on by themselves."""


def sentence(facts: Facts) -> str:
    """Return the verdict in one sentence."""
    after = f"after {duration(facts.seconds)}"
    match facts.verdict:
        case Verdict.GOOD:
            return _good(facts, after)
        case Verdict.BUILD_FAILED:
            return f"Failed {after}: {_faults(facts)}{_step(facts)}."
        case Verdict.EVALUATION_FAILED:
            return _evaluation(facts, after)
        case Verdict.NOT_ALLOWED:
            return f"Not allowed: {_clause(facts.stopped) or 'the store does not let you do this'}."
        case Verdict.INFRASTRUCTURE:
            return _trouble(facts, after)
        case Verdict.CANCELLED:
            return _cancelled(facts, after)
        case _:
            assert_never(facts.verdict)


def _good(facts: Facts, after: str) -> str:
    counts = facts.counts
    if not counts.attributes:
        return f"Passed {after}, but there was nothing to check: the targets hold no derivation; name others."
    ways = ", ".join(f"{number:,} {how}" for how, number in counts.by_how.items() if how)
    all_good = "the attribute is good" if counts.attributes == 1 else f"all {counts.attributes:,} attributes are good"
    return f"Passed {after}: {all_good}{f' ({ways})' if ways else ''}."


def _faults(facts: Facts) -> str:
    """Say what is at fault and how much else is not good because of it."""
    theirs = [cause for cause in facts.causes if cause.outcome not in {Outcome.INFRASTRUCTURE, Outcome.NO_MACHINE}]
    first = theirs[0] if theirs else None
    if first is None:
        return f"{counted(len(_not_good(facts)), 'attribute')} not good"
    if len(theirs) == 1:
        return f"{_one_cause(first)}{_depend(first)}{_also(facts)}"
    names = _some([cause.name for cause in theirs])
    bad = counted(len(_not_good(facts)), "attribute is", "attributes are")
    return f"{len(theirs):,} derivations failed ({names}), so {bad} not good{_also(facts)}"


def _one_cause(cause: CauseReport) -> str:
    attempt = cause.attempt
    if attempt is None:
        return f"{cause.name} {brief(cause.how) or CAUSE[cause.outcome]}"
    how = CAUSE[cause.outcome]
    if cause.outcome is Outcome.BUILD_FAILED and attempt.exit_status is not None:
        status = attempt.exit_status
        how += f" with exit status {status}" if status >= 0 else f" by signal {-status}"
    again = f", as in run {attempt.failed_before}" if attempt.failed_before is not None else ""
    return f"{cause.name} {how}{again}"


def _depend(cause: CauseReport) -> str:
    others = len(cause.victims)
    return f" and {counted(others, 'attribute depends', 'attributes depend')} on it" if others else ""


def _also(facts: Facts) -> str:
    """Say what else there is: what was left undone, and what did not evaluate."""
    undone = facts.counts.unfinished + facts.counts.by_status.get(Status.CANCELLED, 0)
    words = [
        f"{counted(undone, 'other was', 'others were')} not tried" if undone else "",
        f"{counted(len(facts.errors), 'attribute')} did not evaluate" if facts.errors else "",
    ]
    return "".join(f", {word}" for word in words if word)


def _step(facts: Facts) -> str:
    """Say what to type next."""
    if not facts.typed:
        return ""
    for cause in facts.causes:
        if cause.attempt is not None and cause.attempt.log:
            return f"; see `nixmill log {cause.attempt.attempt}`"
    for cause in facts.causes:
        for path in (*cause.attributes, *cause.victims):
            return f"; see `nixmill why {shlex.quote(show(path))}`"
    return ""


def _evaluation(facts: Facts, after: str) -> str:
    if facts.stopped:
        return f"Evaluation failed {after}: {_clause(facts.stopped)}."
    if len(facts.errors) == 1:
        what = f"{facts.errors[0].attribute} did not evaluate ({facts.errors[0].fault})"
    else:
        parent, names = _below([error.attribute for error in facts.errors])
        of = f" of {parent}" if parent else ""
        what = f"{len(facts.errors):,} attributes{of} did not evaluate ({_some(names)})"
    bad = len(_not_good(facts))
    others = f"; of {counted(facts.counts.attributes, 'other')} {bad:,} failed" if bad else ""
    step = "; mend it and run again" if facts.typed else ""
    return f"Evaluation failed {after}: {what}{others}{step}."


def _trouble(facts: Facts, after: str) -> str:
    what = _clause(facts.stopped)
    if not what and facts.causes:
        first = facts.causes[0]
        why = (first.attempt.message if first.attempt else first.how).strip().split("\n", 1)[0]
        what = f"{first.name} {CAUSE[first.outcome]}{f' ({_clause(why)})' if why else ''}{_depend(first)}"
        if len(facts.causes) > 1:
            what += f", and {counted(len(facts.causes) - 1, 'other derivation')} likewise"
    step = ", see `nixmill doctor`, then run again" if facts.typed else ""
    return (
        f"Our trouble {after}: {what or 'the run could not go on'}; "
        f"nothing is known to be wrong with the project{step}."
    )


def _cancelled(facts: Facts, after: str) -> str:
    counts = facts.counts
    done = counts.attributes - counts.unfinished - counts.by_status.get(Status.CANCELLED, 0)
    bad = len([one for one in _not_good(facts) if one.outcome is not Outcome.CANCELLED])
    failed = f", {bad:,} of them failed" if bad else ""
    step = "; run again to go on where it stopped" if facts.typed else ""
    return f"Cancelled {after}: {done:,} of {counted(counts.attributes, 'attribute')} had ended{failed}{step}."


def _not_good(facts: Facts) -> list[AttributeReport]:
    return [one for one in facts.attributes if one.outcome not in {None, Outcome.SUCCEEDED}]


def _below(names: Sequence[str]) -> tuple[str, list[str]]:
    """Return what names of attributes have in common before their last dot, said once, and the rest of each."""
    parents = {name.rpartition(".")[0] for name in names}
    if len(parents) != 1 or any('"' in name for name in names):
        return "", list(names)
    return parents.pop(), [name.rpartition(".")[2] for name in names]


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_MAX])
    return f"{shown} and {len(names) - NAMES_MAX:,} more" if len(names) > NAMES_MAX else shown


def _clause(text: str) -> str:
    """Return a sentence as part of another one: its first line without the stop."""
    return text.strip().split("\n", 1)[0].rstrip(". ")
