"""Outcomes of an attempt, and the one table of what each of them means (semantics §6)."""

from enum import StrEnum
from typing import Final, NamedTuple


class Outcome(StrEnum):
    """How an attempt at a build, or a fetch, ended."""

    SUCCEEDED = "succeeded"
    BUILD_FAILED = "build failed"
    DEPENDENCY_FAILED = "dependency failed"
    TIMED_OUT = "timed out"
    SILENT = "silent too long"
    LOG_TOO_LARGE = "log too large"
    OUTPUT_TOO_LARGE = "output too large"
    HASH_MISMATCH = "hash mismatch"
    NOT_DETERMINISTIC = "not deterministic"
    NO_MACHINE = "no machine can build it"
    INFRASTRUCTURE = "infrastructure"
    CANCELLED = "cancelled"


class Meaning(NamedTuple):
    """What follows from an outcome."""

    remembered: bool
    """Enters failure memory."""
    propagates: bool
    """Dependents become `dependency failed`, naming this one."""
    retried: bool
    """Tried again automatically, with back-off, elsewhere where there is an elsewhere."""


MEANING: Final[dict[Outcome, Meaning]] = {
    Outcome.SUCCEEDED: Meaning(remembered=False, propagates=False, retried=False),
    Outcome.BUILD_FAILED: Meaning(remembered=True, propagates=True, retried=False),
    Outcome.DEPENDENCY_FAILED: Meaning(remembered=False, propagates=True, retried=False),
    Outcome.TIMED_OUT: Meaning(remembered=False, propagates=True, retried=False),
    Outcome.SILENT: Meaning(remembered=False, propagates=True, retried=False),
    Outcome.LOG_TOO_LARGE: Meaning(remembered=False, propagates=True, retried=False),
    Outcome.OUTPUT_TOO_LARGE: Meaning(remembered=False, propagates=True, retried=False),
    Outcome.HASH_MISMATCH: Meaning(remembered=False, propagates=True, retried=False),
    Outcome.NOT_DETERMINISTIC: Meaning(remembered=False, propagates=True, retried=False),
    Outcome.NO_MACHINE: Meaning(remembered=False, propagates=True, retried=False),
    Outcome.INFRASTRUCTURE: Meaning(remembered=False, propagates=False, retried=True),
    Outcome.CANCELLED: Meaning(remembered=False, propagates=False, retried=False),
}
