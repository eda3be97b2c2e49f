"""Ranks: where an attribute stands in the table of its evaluation, so that a page is one piece of an index.

Decides what is worth showing first, and which ranks a filter shows. A rank joins how an outcome is shown (`Group`) and
how it stands towards the base; it is stored beside the outcome. Ranks are stored: never change what a number means.
"""

from enum import IntEnum
from typing import Final

from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change
from nixmill.core.status import Status, of_outcome
from nixmill.core.view.parts import Filter


class Group(IntEnum):
    """What is shown together, in this order."""

    NEWLY_FAILING = 0
    FAILED = 1
    ERROR = 2
    """Did not evaluate; newly failing ones are moved up by `PLACES`."""
    TROUBLE = 3
    FIXED = 4
    REMOVED = 5
    NEW = 6
    CHANGED = 7
    RUNNING = 8
    SAME = 9
    LEFT = 10
    """Without an outcome in a run that has ended."""


_CHANGES: Final = (
    Change.NEWLY_FAILING,
    Change.NEW,
    Change.CHANGED,
    Change.UNKNOWN,
    Change.SAME,
    Change.FIXED,
    Change.REMOVED,
)
"""Within a group what this change brought comes first."""
_WIDTH: Final = 10
_GOOD: Final = {Change.FIXED: Group.FIXED, Change.NEW: Group.NEW, Change.CHANGED: Group.CHANGED}
_STATUS: Final = {Status.TROUBLE: Group.TROUBLE, Status.CANCELLED: Group.TROUBLE}


def make(group: Group, change: Change) -> int:
    """Return the rank of a group and a change."""
    return group * _WIDTH + _CHANGES.index(change)


def group_of(rank: int) -> Group:
    """Return the group of a rank."""
    return Group(rank // _WIDTH)


def change_of(rank: int) -> Change:
    """Return the change of a rank."""
    return _CHANGES[rank % _WIDTH]


def rank_of(outcome: Outcome, change: Change) -> int:
    """Return the rank of an attribute with an outcome."""
    if outcome is Outcome.SUCCEEDED:
        return make(_GOOD.get(change, Group.SAME), change)
    failed = Group.NEWLY_FAILING if change is Change.NEWLY_FAILING else Group.FAILED
    return make(_STATUS.get(of_outcome(outcome), failed), change)


OUTCOME_RANKS: Final = tuple(sorted({rank_of(outcome, change) for outcome in Outcome for change in Change}))
FAILED_RANKS: Final = tuple(r for r in OUTCOME_RANKS if group_of(r) in {Group.NEWLY_FAILING, Group.FAILED})
TROUBLE_RANKS: Final = tuple(r for r in OUTCOME_RANKS if group_of(r) is Group.TROUBLE)
NEWLY_FAILING_RANKS: Final = tuple(r for r in OUTCOME_RANKS if change_of(r) is Change.NEWLY_FAILING)
REMOVED_RANK: Final = make(Group.REMOVED, Change.REMOVED)
RUNNING_RANK: Final = make(Group.RUNNING, Change.UNKNOWN)
LEFT_RANK: Final = make(Group.LEFT, Change.UNKNOWN)

_DIFFERENT: Final = frozenset(Group) - {Group.RUNNING, Group.SAME, Group.LEFT}
_GROUPS: Final[dict[Filter, frozenset[Group]]] = {
    Filter.DIFFERENT: _DIFFERENT,
    Filter.FAILED: frozenset({Group.NEWLY_FAILING, Group.FAILED, Group.ERROR}),
    Filter.ERRORS: frozenset({Group.ERROR}),
    Filter.REMOVED: frozenset({Group.REMOVED}),
    Filter.RUNNING: frozenset({Group.RUNNING}),
    Filter.PASSED: frozenset({Group.FIXED, Group.NEW, Group.CHANGED, Group.SAME}),
    Filter.TROUBLE: frozenset({Group.TROUBLE, Group.LEFT}),
    Filter.ALL: frozenset(Group) - {Group.REMOVED},
}
_BY_CHANGE: Final = {
    Filter.NEWLY_FAILING: Change.NEWLY_FAILING,
    Filter.FIXED: Change.FIXED,
    Filter.CHANGED: Change.CHANGED,
    Filter.NEW: Change.NEW,
}


def shows(filter_: Filter, rank: int) -> bool:
    """Say whether a filter shows a rank."""
    if filter_ in _BY_CHANGE:
        return change_of(rank) is _BY_CHANGE[filter_]
    return group_of(rank) in _GROUPS[filter_]


def place(rank: int) -> tuple[int, int]:
    """Return what ranks are ordered by: newly failing errors directly after what else is newly failing."""
    moved = group_of(rank) is Group.ERROR and change_of(rank) is Change.NEWLY_FAILING
    return (Group.NEWLY_FAILING if moved else group_of(rank), rank)
