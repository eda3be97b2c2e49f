"""Statuses that people see: one table of shape, word and meaning for terminal, web, forge and badge.

State is shape, word and colour, in that order; our faults never look like the user's (interface, Web 8).
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Verdict


class Status(StrEnum):
    """What people see of an attribute, a build or a run."""

    PASSED = "passed"
    FAILED = "failed"
    DEPENDENCY_FAILED = "dependency failed"
    RUNNING = "running"
    WAITING = "waiting"
    CACHED = "cached"
    CANCELLED = "cancelled"
    TROUBLE = "trouble"


class Look(NamedTuple):
    """How a status is drawn."""

    glyph: str
    ascii: str
    """The glyph where the locale is not UTF-8."""
    word: str
    colour: str
    """A rich style name; never the only carrier of the meaning."""


LOOK: Final[dict[Status, Look]] = {
    Status.PASSED: Look("✔", "ok", "passed", "green"),
    Status.FAILED: Look("✖", "X", "failed", "bold red"),
    Status.DEPENDENCY_FAILED: Look("⊘", "0", "dependency failed", "red"),
    Status.RUNNING: Look("▶", ">", "running", "cyan"),
    Status.WAITING: Look("⏸", "=", "waiting", "dim"),
    Status.CACHED: Look("↓", "v", "fetched or cached", "blue"),
    Status.CANCELLED: Look("∅", "-", "cancelled", "yellow"),
    Status.TROUBLE: Look("⚠", "!", "our trouble", "magenta"),
}

_FINAL: Final[dict[Outcome, Status]] = {
    Outcome.SUCCEEDED: Status.PASSED,
    Outcome.DEPENDENCY_FAILED: Status.DEPENDENCY_FAILED,
    Outcome.INFRASTRUCTURE: Status.TROUBLE,
    Outcome.NO_MACHINE: Status.TROUBLE,
    Outcome.CANCELLED: Status.CANCELLED,
}


def of_outcome(outcome: Outcome) -> Status:
    """Return the status that an outcome is shown as."""
    return _FINAL.get(outcome, Status.FAILED)


_SEVERITY: Final = (
    Verdict.GOOD,
    Verdict.CANCELLED,
    Verdict.INFRASTRUCTURE,
    Verdict.BUILD_FAILED,
    Verdict.EVALUATION_FAILED,
    Verdict.NOT_ALLOWED,
)
"""Which verdict wins, the last one first. A fault of the project that is certain outweighs our own trouble; what did
not evaluate outweighs what did not build, since nobody knows what it hides."""

_VERDICT: Final[dict[Status, Verdict]] = {
    Status.PASSED: Verdict.GOOD,
    Status.CANCELLED: Verdict.CANCELLED,
    Status.TROUBLE: Verdict.INFRASTRUCTURE,
}


def verdict_of(outcome: Outcome, culprit: Outcome | None = None) -> Verdict:
    """Return what one attribute means for its run; `culprit` is how the derivation at fault ended, if it is another."""
    cause = culprit if outcome is Outcome.DEPENDENCY_FAILED and culprit is not None else outcome
    return _VERDICT.get(of_outcome(cause), Verdict.BUILD_FAILED)


def fold(verdicts: Iterable[Verdict], *, errors: int = 0) -> Verdict:
    """Return the verdict of a run from those of its attributes and the number of evaluation errors, in any order."""
    found = {Verdict.GOOD, *verdicts, *([Verdict.EVALUATION_FAILED] if errors else [])}
    return max(found, key=_SEVERITY.index)
