"""What one run is asked to do, and the doors it may use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from nixmill.core.attempt import RetryPolicy
from nixmill.core.evaluation import EvaluationLimits, EvaluationSettings
from nixmill.core.fairness import Party
from nixmill.core.machine import Machine
from nixmill.core.pin import PinRule
from nixmill.core.run_event import RunEvent
from nixmill.core.target import Word
from nixmill.core.trust import Tier, may_reuse
from nixmill.doors import Archive, Builder, BuildLimits, Clock, Evaluator, History, Logs, Source, Store
from nixmill.doors.cache import Published
from nixmill.doors.roots import Leases
from nixmill.doors.server import Failures
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath

Tell = Callable[[RunEvent], None]
"""Hears each event of a run, in order; must return at once."""


def least(said: int, most: int) -> int:
    """Return the smaller of two limits, of which 0 is none."""
    return min(said, most) if said and most else said or most


class CacheDuty(msgspec.Struct, frozen=True, kw_only=True):
    """A cache that takes the results of a run."""

    name: str
    intermediate: bool = True
    """Whether it takes every output that was built, and not only those of attributes."""


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is tested, how, and how far."""

    directory: str
    words: tuple[Word, ...]
    """Empty: chosen by what the tree has."""
    revision: str | None = None
    base: str | None = None
    """A commit to compare with; None: the merge base with the default branch."""
    base_reason: str = ""
    """Why that commit; empty: the person asked for it."""
    compare: bool = True
    """Whether to look at a base at all."""
    rebuild: bool = False
    """Build also what equals a base that is known good ("run anyway")."""
    anyway: frozenset[AttrPath] = frozenset()
    """Attributes that are built also where they equal a base that is known good."""
    plan_only: bool = False
    evaluate_again: bool = False
    """Evaluate even a tree whose evaluation is known."""
    fail_fast: bool = False
    retry: RetryPolicy = RetryPolicy()
    settings: EvaluationSettings = EvaluationSettings()
    evaluation_limits: EvaluationLimits = EvaluationLimits()
    build_limits: BuildLimits = BuildLimits()
    place: str = ""
    """The store directory: part of an evaluation's identity."""
    number: int | None = None
    """The run that was recorded before; None: one is recorded when it begins."""
    same_tree_is_enough: bool = False
    """Take a known evaluation of the same tree also for another commit (`docs/decisions/009-tree-identity.md`)."""
    insist: bool = False
    """Go no further than what could be recorded: wait for the database instead of going on without it."""
    party: Party = Party()
    forgive: frozenset[StorePath] = frozenset()
    """Derivations whose remembered failure does not count."""
    remember: bool = False
    """Believe and remember failures (semantics §6)."""
    pin: PinRule | None = None
    """As what its good results are pinned; None: they are not."""
    caches: tuple[CacheDuty, ...] = ()
    """Where its good results are published."""
    typed: bool = True
    """Whether its sentences say what to type next; not on a server, where pages lead on."""

    def inherits_from(self, tier: Tier) -> bool:
        """Say whether failures that were found under a tier stand in this run without another try."""
        return self.remember and not (self.rebuild or self.forgive) and may_reuse(tier, self.party.tier)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDoors:
    """Everything outside that a run touches."""

    clock: Clock
    source: Source
    evaluator: Evaluator
    store: Store
    machines: tuple[Machine, ...]
    builders: Mapping[str, Builder]
    """One for each machine, by its address."""
    logs: Logs
    history: History
    archive: Archive | None
    """The same history for looking back; None where there is none."""
    leases: Leases | None = None
    """Who roots what the run relies on beyond its own life; None: nobody, as on a person's own machine."""
    published: Published | None = None
    """What our caches hold; None where there are none."""
    failures: Failures | None = None
    """What is remembered of failures; None where nothing is, as on a person's own machine."""
    may_fetch: bool
    """Whether some cache can be reached at all."""
    refused: Callable[[], Sequence[str]] = tuple
    """Returns, in sentences, what the sandbox of the evaluation has refused."""
