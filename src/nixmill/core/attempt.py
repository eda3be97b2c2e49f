"""An attempt: one try at a build or a fetch. What its end means, whether it is tried again, what is remembered of it.

Classes of outcomes and what follows from each are semantics §6 (`nixmill.core.outcome`). Source of the numbers:
Nix's worker protocol as run against 2.8, 2.26 and 2.34. The number decides; what only a text tells is read where
results are (`nixmill.nix.build_result`). What it does not know: who starts attempts and where logs are.
"""

import re
from typing import Final

import msgspec

from nixmill.core.outcome import MEANING, Outcome
from nixmill.nix.build_result import BuildResult, BuildStatus, Detail, is_wrong_machine

_EXIT: Final = re.compile(r"failed with exit code (\d{1,9})")
_SIGNAL: Final = re.compile(r"failed due to signal (\d{1,9})")
_LOG_LINES: Final = re.compile(r"[;.]?\s*last \d{1,4} log lines:", re.IGNORECASE)
_DISK_FULL: Final = re.compile(r"[Nn]o space left on device|[Dd]isk quota exceeded")

MEMORY_MAX_AGE_S: Final = 7 * 24 * 3600.0
"""A failure is believed for a week: long enough to spare a broken branch, short enough for the world to change."""


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """What we know of an attempt besides the daemon's answer."""

    fixed_output: bool = False
    """The derivation is fixed-output or impure, so that Nix reports its failure as transient."""
    inputs_present: bool = True
    """We made all inputs present before: a dependency that fails now was lost."""
    cancelled: bool = False
    """We stopped it, as the run was cancelled."""


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that came to no result: what a door said went wrong."""

    message: str
    retryable: bool


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What the end of an attempt means."""

    outcome: Outcome
    message: str = ""
    exit_status: int | None = None
    """The builder's exit status where the message tells it; negative for a signal."""
    retryable: bool = False
    """Another attempt may end differently."""


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often, and after how many seconds, our own trouble is tried again."""

    attempts_max: int = 4
    first_s: float = 2.0
    factor: float = 3.0
    cap_s: float = 60.0

    def delay_s(self, ending: Ending, attempts: int) -> float | None:
        """Return the pause before the attempt after `attempts` ones; None where there is none."""
        if not ending.retryable or not MEANING[ending.outcome].retried or attempts >= self.attempts_max:
            return None
        return min(self.cap_s, self.first_s * self.factor ** max(0, attempts - 1))


def classify(result: BuildResult | Trouble, facts: Circumstances) -> Ending:
    """Say what the end of an attempt means."""
    outcome = _outcome(result, facts)
    return Ending(
        outcome=outcome,
        message=_without_log(result.message),
        exit_status=exit_status(result.message),
        retryable=outcome is Outcome.INFRASTRUCTURE and not (isinstance(result, Trouble) and not result.retryable),
    )


def _without_log(message: str) -> str:
    """Return a message of Nix without the end of the log that it repeats: the log itself is kept."""
    found = _LOG_LINES.search(message)
    return message if found is None else message[: found.start()].rstrip(" \n;")


def exit_status(message: str) -> int | None:
    """Return the exit status that a message of Nix names, negative for a signal; None where it names none."""
    if found := _SIGNAL.search(message):
        return -int(found[1])
    if found := _EXIT.search(message):
        return int(found[1])
    return None


_DETAILED: Final = {
    Detail.SILENCE: Outcome.SILENT,
    Detail.HASH_MISMATCH: Outcome.HASH_MISMATCH,
    Detail.OUTPUT_SIZE: Outcome.OUTPUT_TOO_LARGE,
    Detail.WRONG_MACHINE: Outcome.NO_MACHINE,
}


def _outcome(result: BuildResult | Trouble, facts: Circumstances) -> Outcome:
    """Map the daemon's answer, by its number and what its words add to it."""
    good = isinstance(result, BuildResult) and result.good
    if facts.cancelled and not good:
        return Outcome.CANCELLED  # then the answer only shows the connection that we closed
    if isinstance(result, Trouble):
        return Outcome.NO_MACHINE if is_wrong_machine(result.message) else Outcome.INFRASTRUCTURE
    if result.detail is not None:
        return _DETAILED[result.detail]
    return _of_number(result, facts)


def _of_number(result: BuildResult, facts: Circumstances) -> Outcome:
    match result.status:
        case (
            BuildStatus.BUILT
            | BuildStatus.SUBSTITUTED
            | BuildStatus.ALREADY_VALID
            | BuildStatus.RESOLVES_TO_ALREADY_VALID
        ):
            return Outcome.SUCCEEDED
        case (
            BuildStatus.PERMANENT_FAILURE
            | BuildStatus.CACHED_FAILURE
            | BuildStatus.INPUT_REJECTED
            | BuildStatus.OUTPUT_REJECTED
        ):
            return Outcome.BUILD_FAILED
        case _:
            return _of_rarer_number(result, facts)


def _of_rarer_number(result: BuildResult, facts: Circumstances) -> Outcome:
    match result.status:
        case BuildStatus.TRANSIENT_FAILURE:
            return _transient(result.message, facts)
        case BuildStatus.TIMED_OUT:
            return Outcome.TIMED_OUT
        case BuildStatus.DEPENDENCY_FAILED:
            return Outcome.INFRASTRUCTURE if facts.inputs_present else Outcome.DEPENDENCY_FAILED
        case BuildStatus.LOG_LIMIT_EXCEEDED:
            return Outcome.LOG_TOO_LARGE
        case BuildStatus.NOT_DETERMINISTIC:
            return Outcome.NOT_DETERMINISTIC
        case _:
            # Nix has no number for it: ours, unless the builder ran and failed.
            return Outcome.INFRASTRUCTURE if exit_status(result.message) is None else Outcome.BUILD_FAILED


def _transient(message: str, facts: Circumstances) -> Outcome:
    """Tell a download that fails, an ordinary failure, from a full disk, which is ours.

    Nix calls every failure of a fixed-output builder transient; of another one only where the disk was full.
    """
    if facts.fixed_output and not _DISK_FULL.search(message):
        return Outcome.BUILD_FAILED
    return Outcome.INFRASTRUCTURE
