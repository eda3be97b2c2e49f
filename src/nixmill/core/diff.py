"""The diff: how the attributes of a tree stand towards those of its base, and what need not be built because of it.

What it decides: new, changed, same, removed, renamed, newly failing, fixed; and the one thing that may be skipped:
the very same derivation whose result is known. "Unchanged" is not "good" (semantics §4): one that failed on the base
inherits that failure and says where from, one of unknown result is built.
What it does not know: which base is right (`nixmill.edge.git`), and why a derivation changed (`why_changed`).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from nixmill.core.evaluation import Attribute, EvalError
from nixmill.core.history import EvaluationRow
from nixmill.core.outcome import MEANING, Outcome
from nixmill.core.run_event import Change
from nixmill.nix.attr_path import AttrPath, show
from nixmill.nix.store_path import StorePath

_SAYS_NOTHING: Final = frozenset({Outcome.CANCELLED, Outcome.INFRASTRUCTURE, Outcome.NO_MACHINE})
"""Outcomes after which nobody knows whether the derivation itself is good."""

ALWAYS_CHANGING_MIN: Final = 6
"""Evaluations in a row with different derivations before an attribute counts as always changing."""


class Skip(StrEnum):
    """Why an attribute is not built."""

    UNCHANGED = "unchanged"
    RENAMED = "renamed"
    FAILS_ON_BASE = "fails on base"


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an attribute without building it: what a skip has to show."""

    skip: Skip
    outcome: Outcome
    run: int
    """The run that found it."""
    drv_path: StorePath
    how: str
    """In words, such as `unchanged (passed in run 12)`."""
    culprit: StorePath | None = None


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """Something the base has and the tree has not."""

    path: AttrPath
    renamed_to: AttrPath | None = None
    """The new attribute with the same derivation, if there is one."""
    hidden_by: AttrPath | None = None
    """The evaluation error at this path or above it, if there is one: then it is failing, not removed."""


class Base:
    """A complete evaluation that others are compared with."""

    def __init__(self, row: EvaluationRow, *, inherit: bool = True) -> None:
        """Compare with `row`; without `inherit`, what failed on the base is built again."""
        self.row = row
        self._inherit = inherit
        self._attributes = {attribute.path: attribute for attribute in row.attributes}
        self._errors = {error.path: error for error in row.errors}
        self._by_drv: dict[StorePath, list[AttrPath]] = {}
        for attribute in row.attributes:
            self._by_drv.setdefault(attribute.drv_path, []).append(attribute.path)

    def same(self, attribute: Attribute) -> bool:
        """Say whether the base has the very same derivation under the same path."""
        found = self._attributes.get(attribute.path)
        return found is not None and found.drv_path == attribute.drv_path

    def before(self, path: AttrPath) -> Attribute | EvalError | None:
        """Return what the base has under that path."""
        return self._attributes.get(path) or self._errors.get(path)

    def reuse(self, attribute: Attribute) -> Known | None:
        """Return the known result of the very same derivation; None where it has to be built.

        Only a success, or a failure that enters failure memory, is known well enough.
        """
        if self.same(attribute):
            return self._known(attribute, attribute.path, Skip.UNCHANGED)
        if attribute.path in self._attributes:
            return None
        others = (self._known(attribute, path, Skip.RENAMED) for path in self._by_drv.get(attribute.drv_path, ()))
        return next((known for known in others if known is not None), None)

    def change(self, attribute: Attribute) -> Change:
        """Return how an attribute stands towards the base before its result is known."""
        if self.same(attribute):
            return Change.SAME
        return Change.NEW if self.before(attribute.path) is None else Change.CHANGED

    def erred(self, error: EvalError) -> Change:
        """Return how an evaluation error stands towards the base."""
        if error.path in self._errors:
            return Change.SAME
        depth = len(error.path)
        broken = error.path in self._attributes or any(path[:depth] == error.path for path in self._attributes)
        return Change.NEWLY_FAILING if broken else Change.NEW

    def removed(self, attributes: Collection[Attribute], errors: Iterable[EvalError]) -> tuple[Removed, ...]:
        """Return what is no longer there, in the order of paths; only a complete evaluation may be asked for this."""
        here = {attribute.path for attribute in attributes}
        erred = {error.path for error in errors}
        new_names: dict[StorePath, AttrPath] = {}
        for attribute in sorted(attributes, key=lambda one: one.path):
            if self.before(attribute.path) is None:
                new_names.setdefault(attribute.drv_path, attribute.path)
        gone = sorted((self._attributes.keys() | self._errors.keys()) - here - erred)
        return tuple(
            Removed(path=path, renamed_to=self._new_name(path, new_names), hidden_by=_above(path, erred))
            for path in gone
        )

    def _new_name(self, path: AttrPath, new_names: Mapping[StorePath, AttrPath]) -> AttrPath | None:
        attribute = self._attributes.get(path)
        return new_names.get(attribute.drv_path) if attribute else None

    def _known(self, attribute: Attribute, path: AttrPath, skip: Skip) -> Known | None:
        outcome, run = self.row.outcomes.get(path, (None, 0))
        if outcome is Outcome.SUCCEEDED:
            word = "unchanged" if skip is Skip.UNCHANGED else f"was {show(path)}"
            how = f"{word} (passed in run {run})"
        elif outcome is not None and MEANING[outcome].remembered and self._inherit:
            skip, how = Skip.FAILS_ON_BASE, f"fails on the base too (run {run})"
        else:
            return None
        return Known(skip=skip, outcome=outcome, run=run, drv_path=attribute.drv_path, how=how)

    def good(self, path: AttrPath) -> bool | None:
        """Say whether an attribute was good on the base; None where nobody knows."""
        if path in self._errors:
            return False
        outcome, _ = self.row.outcomes.get(path, (None, 0))
        return None if outcome is None or outcome in _SAYS_NOTHING else outcome is Outcome.SUCCEEDED


def change_of(base: Base | None, attribute: Attribute, outcome: Outcome) -> Change:
    """Return how an attribute with its final outcome stands towards the base."""
    if base is None:
        return Change.UNKNOWN
    before = base.good(attribute.path)
    if before is None or outcome in _SAYS_NOTHING:
        return base.change(attribute)
    now = outcome is Outcome.SUCCEEDED
    if now == before:
        return base.change(attribute)
    return Change.FIXED if now else Change.NEWLY_FAILING


def always_changing(rows: Sequence[EvaluationRow], least: int = ALWAYS_CHANGING_MIN) -> frozenset[AttrPath]:
    """Return attributes whose derivation differed in each of at least `least` evaluations of different trees.

    Such an attribute depends on the commit itself: comparing says nothing about it, and it is never cached.
    """
    newest = {row.tree_hash: row for row in rows}
    if len(newest) < least:
        return frozenset()
    seen: dict[AttrPath, set[StorePath]] = {}
    for row in newest.values():
        for attribute in row.attributes:
            seen.setdefault(attribute.path, set()).add(attribute.drv_path)
    return frozenset(path for path, drv_paths in seen.items() if len(drv_paths) == len(newest))


def _above(path: AttrPath, erred: Collection[AttrPath]) -> AttrPath | None:
    """Return the longest erring path that leads to `path`."""
    return next((path[:depth] for depth in range(len(path), -1, -1) if path[:depth] in erred), None)
