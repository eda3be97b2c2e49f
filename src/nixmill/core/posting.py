"""Statuses on a forge: what is said of a commit, when it may be said, and what never overwrites what.

One required check a commit always reaches a final state; at most `EXTRA_MAX` failing attributes have one of their own
(semantics §10). Each posting has a generation; a stale one never overwrites a newer one, and of several that wait only
the newest is sent. What this file does not know: how a forge is told (`nixmill.edge.forge`).
"""

from enum import StrEnum
from typing import Final

import msgspec

EXTRA_MAX: Final = 10
SUMMARY_MAX: Final = 60_000
"""Bytes of a summary in UTF-8; GitHub takes 65,535 characters."""
TITLE_MAX: Final = 140
"""Characters: GitHub's commit statuses take no more."""
STEPS: Final = 16
"""Generations of one run: room for each state it goes through."""


class CheckState(StrEnum):
    """What a check says."""

    WAITING = "waiting"
    HELD = "waiting for approval"
    """Not final on a forge that can show it otherwise (GitHub: `action_required`); never green."""
    RUNNING = "running"
    GOOD = "good"
    FAILED = "failed"
    TROUBLE = "trouble"
    """Ours: never looks like the author's, and never green."""
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """Asked for by the commit's message or a label. Not green: what was not checked is not good."""


FINAL_CHECKS: Final = frozenset(
    {CheckState.GOOD, CheckState.FAILED, CheckState.TROUBLE, CheckState.CANCELLED, CheckState.SKIPPED}
)


class Button(StrEnum):
    """What can be done from a check itself, where the forge has buttons."""

    APPROVE = "approve"
    RETRY = "retry"
    CANCEL = "cancel"


class Posting(msgspec.Struct, frozen=True, kw_only=True):
    """One status, as it should stand on the forge."""

    forge: str
    """Name of the forge in the server's settings."""
    project: int
    repository: str
    """Path."""
    commit: str
    context: str
    """What the check is called there: `nixmill`, or `nixmill: checks.x86_64-linux.foo`."""
    state: CheckState
    title: str
    """One line, at most `TITLE_MAX` characters."""
    summary: str = ""
    """The forge's Markdown, at most `SUMMARY_MAX` bytes."""
    url: str
    """Of the page that tells more."""
    run: int
    generation: int
    """Rises with every change of the run's state, and with the run: `generation_of`."""
    pull_request: int | None = None
    required: bool = True
    buttons: tuple[Button, ...] = ()
    started_at: float | None = None
    ended_at: float | None = None
    external_id: str = ""
    """What the forge called it when it was posted last; empty before."""
    tries: int = 0


class PostOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a try to post ended: well, to be tried again at a time, or for good in vain."""

    project: int
    commit: str
    context: str
    generation: int
    """The one that was tried."""
    at: float
    external_id: str = ""
    fault: str = ""
    again_at: float | None = None


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """Something said on a pull request in answer to a comment; the body of a message of the outbox."""

    forge: str
    repository: str
    pull_request: int
    comment: str = ""
    """The comment it answers; empty for one by itself."""
    text: str = ""
    """Markdown; empty: a reaction to the comment is enough."""
    understood: bool = True
    """The reaction."""


def generation_of(run: int, step: int) -> int:
    """Return the generation of the `step`th state (from 0, below `STEPS`) of a run."""
    return run * STEPS + min(step, STEPS - 1)


_STEP: Final[dict[CheckState, int]] = {
    CheckState.WAITING: 1,
    CheckState.HELD: 0,
    CheckState.RUNNING: 2,
    CheckState.GOOD: STEPS - 1,
    CheckState.FAILED: STEPS - 1,
    CheckState.TROUBLE: STEPS - 1,
    CheckState.CANCELLED: STEPS - 1,
    CheckState.SKIPPED: STEPS - 1,
}


def step_of(state: CheckState, *, failing: int = 0) -> int:
    """Return the step of a state; one that runs and has `failing` attributes comes after one with fewer (up to 12)."""
    return _STEP[state] + (min(failing, STEPS - 4) if state is CheckState.RUNNING else 0)
