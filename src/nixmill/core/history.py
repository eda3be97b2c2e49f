"""What is remembered of runs, as rows. The edge that stores them is `nixmill.edge.database`."""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from nixmill.core.evaluation import (
    Attribute,
    EvalError,
    EvalFault,
    EvaluationRequest,
    ExpressionTarget,
    FileTarget,
    FlakeTarget,
    Target,
)
from nixmill.core.outcome import Outcome
from nixmill.core.pin import Pin
from nixmill.core.realised import Realised
from nixmill.core.run_event import Change, Verdict, Work
from nixmill.core.trust import Tier, may_reuse
from nixmill.core.upload import Made, Upload
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run. `ended_at` is None while it goes on, or for ever where it was killed."""

    number: int = 0
    project: str
    checkout: str
    commit: str
    tree_hash: str
    targets: tuple[str, ...]
    base_commit: str = ""
    process: int
    """Id of the process that owns the run."""
    started_at: float
    ended_at: float | None = None
    verdict: Verdict | None = None
    sentence: str = ""


class RunEndRow(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a run."""

    number: int
    ended_at: float
    verdict: Verdict
    sentence: str


class EvaluationRow(msgspec.Struct, frozen=True, kw_only=True):
    """A complete evaluation: every attribute and every error of one tree under one identity.

    Recorded under a key that is known already it replaces what was known, outcomes excepted.
    """

    key: str
    """Digest of tree hash, targets, settings, evaluator: what makes two evaluations equal."""
    run: int
    """The run that recorded it; read back as 0 where that run was pruned."""
    tree_hash: str
    commit: str
    seconds: float
    tier: Tier = Tier.BRANCH
    """How far what was evaluated is trusted: a lower one was evaluated in a sandbox."""
    attributes: tuple[Attribute, ...]
    errors: tuple[EvalError, ...]
    in_parts: bool = False
    """All records were recorded as parts before; only read as False."""
    outcomes: dict[AttrPath, tuple[Outcome, int]] = {}
    """Latest outcome of each attribute under this evaluation and the run that found it; empty until builds ended.

    Only read, never recorded: they come from `AttributeRow`s.
    """


_BY_CHANCE: Final = frozenset({EvalFault.TIMEOUT, EvalFault.OUT_OF_MEMORY, EvalFault.KILLED, EvalFault.STACK_OVERFLOW})
"""Faults that another try, or another machine, may not have."""


def reusable(row: EvaluationRow, commit: str, tier: Tier = Tier.BRANCH) -> bool:
    """Say whether a recorded evaluation may stand for evaluating the same tree again, under `tier`.

    Not for another commit with the same tree (a flake can see its revision), nor where chance or a sandbox that is not
    asked for any more had a part in it.
    """
    if row.errors and not may_reuse(row.tier, tier):
        return False
    return row.commit == commit and not any(error.fault in _BY_CHANCE for error in row.errors)


class AttributeRow(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of an attribute in a run."""

    run: int
    evaluation: str
    """Key of the evaluation it belongs to."""
    path: AttrPath
    drv_path: StorePath
    outcome: Outcome
    change: Change
    how: str
    culprit: StorePath | None = None
    seconds: float = 0.0


class AttemptRow(msgspec.Struct, frozen=True, kw_only=True):
    """One try at a build or a fetch. Recorded when it starts (`outcome` None) and again when it has ended."""

    number: int
    run: int
    drv_path: StorePath
    name: str
    """The derivation's name without its version: what estimates are keyed by (`nixmill.core.estimate.stem`)."""
    system: str
    work: Work
    machine: str
    started_at: float
    seconds: float = 0.0
    outcome: Outcome | None = None
    message: str = ""
    exit_status: int | None = None
    log: str = ""
    output_bytes: int = 0


class DifferenceRow(msgspec.Struct, frozen=True, kw_only=True):
    """How a run differs from its base in something that has no outcome: a removed attribute, an evaluation error."""

    run: int
    path: AttrPath
    change: Change
    renamed_to: AttrPath | None = None
    """For a removed attribute: the new one with the same derivation."""
    hidden_by: AttrPath | None = None
    """For a removed attribute: the evaluation error that hides it."""


class PastBuild(msgspec.Struct, frozen=True, kw_only=True):
    """The newest ended attempts at one derivation on this machine."""

    drv_path: StorePath
    last_outcome: Outcome
    last_run: int
    last_attempt: int
    last_at: float
    failed_in_run: int | None = None
    """The newest run with a failure that enters failure memory (semantics §6); None where it was good since."""


class EvaluationPartRow(msgspec.Struct, frozen=True, kw_only=True):
    """Records of an evaluation that goes on, so that people see them before it has ended.

    The first part (`start` and `errors_start` 0) takes the place of what an evaluation that was broken off left. Where
    the key is known as complete a part changes nothing.
    """

    key: str
    run: int
    start: int
    """How many attributes came before."""
    attributes: tuple[Attribute, ...]
    errors_start: int
    errors: tuple[EvalError, ...]


Row = (
    RunEndRow
    | EvaluationRow
    | EvaluationPartRow
    | AttributeRow
    | AttemptRow
    | DifferenceRow
    | Pin
    | Upload
    | Made
    | Realised
)
"""What a run records as it goes; of equal identity the last one wins, but for what says otherwise.

A pin never moves to an older order (`nixmill.core.roots.move`). An upload that is there stays as it is, unless it was
given up: then it waits anew. Of who made a path the more trusted stands."""


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """Which ended runs stay: the newest `runs` of them, and all that began in the last `days` days."""

    runs: int
    days: float


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What a pruning removed, or would remove."""

    runs: tuple[int, ...]
    attempts: tuple[int, ...]
    """Numbers of their attempts: the logs that can go with them."""
    evaluations: int


def runs_to_prune(runs: Iterable[tuple[int, float]], keep: Keep, now: float) -> list[int]:
    """Return which ended runs, given as (number, start), go; the oldest first, as a pruning may be broken off."""
    newest_first = sorted(runs, reverse=True)
    youngest_to_go = now - keep.days * 86_400
    return sorted(number for number, started_at in newest_first[keep.runs :] if started_at < youngest_to_go)


def evaluation_key(tree_hash: str, request: EvaluationRequest, evaluator: str, place: str) -> str:
    """Return the identity of an evaluation: equal keys mean equal records.

    `place` is what else decides the records: the store directory, the project's name, the subdirectory.
    Limits (workers, memory, time) do not belong to it. Targets name the tree by path; the hash stands for it instead.
    """
    targets = [_without_place(target) for target in request.targets]
    parts = (tree_hash, targets, msgspec.to_builtins(request.settings), evaluator, place)
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:32]


def _without_place(target: Target) -> tuple[str, str, AttrPath]:
    match target:
        case FlakeTarget():
            return "flake", "", target.attr
        case FileTarget():
            return "file", target.file.removeprefix(target.tree_path), target.attr
        case ExpressionTarget():
            return "expression", target.text.replace(target.tree_path, ""), target.attr
