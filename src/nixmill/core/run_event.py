"""What happens in a run, as data: the engine tells, the terminal (and later the server) shows.

Events come in the order in which things happened. Texts in them are hostile data from repositories and
builders: whoever shows them encodes them for the place where they go.
"""

from enum import StrEnum

import msgspec

from nixmill.core.evaluation import Attribute, EvalError, EvaluationEnded, ImportFromDerivation
from nixmill.core.outcome import Outcome
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class Change(StrEnum):
    """How an attribute stands towards the base evaluation."""

    NEW = "new"
    CHANGED = "changed"
    SAME = "same"
    REMOVED = "removed"
    NEWLY_FAILING = "newly failing"
    """It evaluated on the base and does not now, or was good there and fails now."""
    FIXED = "fixed"
    """It failed on the base (evaluation or build) and is good now."""
    UNKNOWN = "unknown"
    """There is no base to compare with."""


class Work(StrEnum):
    """What has to be done for a derivation."""

    NONE = "present"
    FETCH = "fetch"
    BUILD = "build"


class RunStarted(msgspec.Struct, frozen=True, kw_only=True, tag="run started"):
    """The first event."""

    run: int
    project: str
    commit: str
    """Empty where the directory is no git checkout."""
    dirty: bool
    targets: tuple[str, ...]
    """As a person would type them: `.#checks`, `release.nix -A tests`."""
    base: str
    """The base commit; empty where there is none."""
    base_reason: str
    """Why this base: `merge base with origin/main`, or why there is none."""


class Noticed(msgspec.Struct, frozen=True, kw_only=True, tag="noticed"):
    """A sentence that the person should read: a warning, a fallback that was taken."""

    text: str


class BaseCompared(msgspec.Struct, frozen=True, kw_only=True, tag="base compared"):
    """The base evaluation is known; from here on `AttributeFound.change` is not `UNKNOWN`."""

    attributes: int
    errors: int
    reused: bool
    """Taken from history instead of evaluated."""


class AttributesRemoved(msgspec.Struct, frozen=True, kw_only=True, tag="attributes removed"):
    """What the base has and the tree has not; told once, when both evaluations are complete."""

    removed: tuple[tuple[AttrPath, AttrPath | None, AttrPath | None], ...]
    """(path, the new attribute with the same derivation, the evaluation error that hides it)."""


class ErrorsCompared(msgspec.Struct, frozen=True, kw_only=True, tag="errors compared"):
    """How evaluation errors stand towards the base; told once, when both evaluations are complete."""

    changes: tuple[tuple[AttrPath, Change], ...]


class AttributeFound(msgspec.Struct, frozen=True, kw_only=True, tag="attribute found"):
    """An attribute was evaluated and leased."""

    attribute: Attribute


class AttributeErred(msgspec.Struct, frozen=True, kw_only=True, tag="attribute erred"):
    """An attribute did not evaluate."""

    error: EvalError


class ImportedFromDerivation(msgspec.Struct, frozen=True, kw_only=True, tag="imported from derivation"):
    """Evaluation built something because it is allowed to."""

    build: ImportFromDerivation


class EvaluationTold(msgspec.Struct, frozen=True, kw_only=True, tag="evaluation ended"):
    """Evaluation is complete; the counts of attributes and errors are final."""

    ended: EvaluationEnded
    attributes: int
    errors: int


class Planned(msgspec.Struct, frozen=True, kw_only=True, tag="planned"):
    """The plan grew. Cumulative; `complete` once evaluation has ended and all edges are known."""

    complete: bool
    attributes: int
    changed: int
    skipped: int
    """Attributes not built because they equal a base that is known good."""
    present: int
    """Attributes whose outputs are all valid in the store."""
    to_build: int
    """Derivations, dependencies included."""
    to_fetch: int
    fetch_bytes: int
    """Download size; 0 where caches do not say."""
    unpacked_bytes: int
    about_s: float | None
    """Estimated seconds along the critical path and the machines' capacity; None without history."""


class WorkStarted(msgspec.Struct, frozen=True, kw_only=True, tag="work started"):
    """An attempt at a build or a fetch began."""

    attempt: int
    """Number of the attempt, unique in the history of this machine."""
    drv_path: StorePath
    name: str
    work: Work
    machine: str
    """Address of the store that does it; `local` for this machine."""
    about_s: float | None
    for_attributes: tuple[AttrPath, ...]
    """Some attributes that need it (at most three), the direct one first."""


class WorkPhase(msgspec.Struct, frozen=True, kw_only=True, tag="work phase"):
    """A builder announced a phase such as `buildPhase`."""

    attempt: int
    phase: str


class WorkOutput(msgspec.Struct, frozen=True, kw_only=True, tag="work output"):
    """Lines of a builder's log, raw (ANSI codes included), without line ends."""

    attempt: int
    lines: tuple[str, ...]


class WorkEnded(msgspec.Struct, frozen=True, kw_only=True, tag="work ended"):
    """An attempt ended. Where `retry_in_s` is set another one follows."""

    attempt: int
    drv_path: StorePath
    name: str
    work: Work
    outcome: Outcome
    seconds: float
    message: str
    """Nix's own words on a failure, ANSI-free."""
    exit_status: int | None
    """The builder's exit status where it can be told; negative for a signal."""
    tail: tuple[str, ...]
    """The last lines of the log of a failure."""
    log: str
    """Path of the log file; empty where there were no lines."""
    retry_in_s: float | None
    failed_before: int | None
    """The run in which this derivation failed before."""
    kept_directory: str
    """The kept build directory of a failure; empty where there is none."""


class WorkWaits(msgspec.Struct, frozen=True, kw_only=True, tag="work waits"):
    """Why the first waiting builds wait; replaces what was said before."""

    reasons: tuple[tuple[str, str], ...]
    """(derivation name, reason), at most ten."""
    waiting: int


class AttributeSettled(msgspec.Struct, frozen=True, kw_only=True, tag="attribute settled"):
    """An attribute has its final outcome."""

    attribute: Attribute
    change: Change
    outcome: Outcome
    how: str
    """`built`, `fetched`, `present`, `unchanged (passed in run 12)`, or for a failure what failed."""
    culprit: StorePath | None
    """The derivation at fault where it is not the attribute's own."""
    seconds: float
    culprit_outcome: Outcome | None = None
    """How the derivation at fault ended: what the attribute's failure counts as in the verdict."""


class Verdict(StrEnum):
    """How a run ended; the exit code follows from it (interface, Terminal 1)."""

    GOOD = "passed"
    BUILD_FAILED = "failed"
    EVALUATION_FAILED = "evaluation failed"
    NOT_ALLOWED = "not allowed"
    INFRASTRUCTURE = "our trouble"
    CANCELLED = "cancelled"


EXIT_CODE = {
    Verdict.GOOD: 0,
    Verdict.BUILD_FAILED: 1,
    Verdict.EVALUATION_FAILED: 3,
    Verdict.NOT_ALLOWED: 4,
    Verdict.INFRASTRUCTURE: 5,
    Verdict.CANCELLED: 130,
}
USAGE_EXIT_CODE = 2


class RunEnded(msgspec.Struct, frozen=True, kw_only=True, tag="run ended"):
    """The last event; `report` (see `nixmill.core.report`) can be made from all the events before it."""

    run: int
    verdict: Verdict
    seconds: float
    sentence: str
    """The verdict in one sentence: state, cause, duration, next step."""


RunEvent = (
    RunStarted
    | Noticed
    | BaseCompared
    | AttributesRemoved
    | ErrorsCompared
    | AttributeFound
    | AttributeErred
    | ImportedFromDerivation
    | EvaluationTold
    | Planned
    | WorkStarted
    | WorkPhase
    | WorkOutput
    | WorkEnded
    | WorkWaits
    | AttributeSettled
    | RunEnded
)
