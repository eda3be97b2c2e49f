"""Rows and pieces that several pages share. Instants are seconds since 1970 in UTC."""

from enum import StrEnum
from typing import Final

import msgspec

from nixmill.core.access import Visibility
from nixmill.core.change import BuildClass, ChangeState, Origin
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change, Verdict, Work
from nixmill.core.status import Status
from nixmill.core.trust import Tier
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class Filter(StrEnum):
    """What the table of an evaluation shows; each is a link with its count (interface, Web 6)."""

    DIFFERENT = "different"
    """The default: new failures, failed, fixed, changed, new, removed. Falls back to `all` where there is no base."""
    NEWLY_FAILING = "newly-failing"
    FAILED = "failed"
    """All that are not good, evaluation errors included, dependents too."""
    ERRORS = "errors"
    """Did not evaluate."""
    FIXED = "fixed"
    CHANGED = "changed"
    NEW = "new"
    REMOVED = "removed"
    RUNNING = "running"
    """Not ended yet."""
    PASSED = "passed"
    TROUBLE = "trouble"
    """Our own trouble, cancelled."""
    ALL = "all"


FILTERS: Final = tuple(Filter)
PAGE_SIZE: Final = 200
"""Rows of a page of an evaluation."""


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody with an account."""

    id: int
    name: str


class ProjectLink(msgspec.Struct, frozen=True, kw_only=True):
    """A project, as other pages name it."""

    id: int
    name: str
    title: str
    visibility: Visibility


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """A run in a list; also the head of its own page."""

    number: int
    project: ProjectLink
    jobset: str
    """Empty for a run that belongs to none."""
    ref: str
    """In full; `nixmill.core.project.short` shortens it."""
    commit: str
    subject: str
    author: str
    origin: Origin
    build_class: BuildClass
    requested_by: Person | None
    requested_at: float
    started_at: float | None
    ended_at: float | None
    state: ChangeState
    verdict: Verdict | None
    sentence: str
    status: Status
    """As it is drawn: from state and verdict."""
    counts: dict[str, int]
    """By `Filter`; empty until something is known."""
    retry_of: int | None = None
    superseded_by: int | None = None
    cancel_asked: bool = False
    pull_request: int | None = None
    """Its number, for a run of a pull request."""
    tier: Tier = Tier.BRANCH
    base_ref: str = ""
    """What the commit is merged into before it is tested, in full; empty where it is tested as it is."""
    wait: str = ""
    """For a run that is not final: who has it, why it waits, and until when."""


class AttributeLine(msgspec.Struct, frozen=True, kw_only=True):
    """An attribute of an evaluation in a table."""

    path: AttrPath
    name: str
    """As people write it: `checks.x86_64-linux.foo`, quoted where needed."""
    system: str
    drv_path: StorePath | None
    """None where it did not evaluate."""
    status: Status
    outcome: Outcome | None
    """None while it is not final, or where it did not evaluate."""
    change: Change
    how: str
    """`built`, `fetched`, `unchanged (passed in run 12)`; for a failure what failed; for an error its first line."""
    seconds: float
    about_s: float | None = None
    """For one that is not done: the median of recent builds of its name."""
    attempt: int | None = None
    """The attempt whose log explains it: its own, else its culprit's."""
    culprit: StorePath | None = None
    renamed_to: AttrPath | None = None
    """For a removed one: the new attribute with the same derivation."""
    error: str = ""
    """The evaluation error in full, for one that did not evaluate."""


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """A derivation at fault, above its victims: "libfoo failed; 37 depend on it"."""

    drv_path: StorePath
    name: str
    outcome: Outcome
    message: str
    attempt: int | None
    victims: int
    """Attributes that failed because of it, its own included."""
    new: bool
    """At least one of them is newly failing."""
    attributes: tuple[str, ...]
    """The first few of its victims, as people write them."""
    tail: tuple[str, ...] = ()
    """The last lines of its log; filled by who shows it."""
    first_failed: int | None = None
    """The run in which this derivation failed first, where that was not this one."""


class AttemptLine(msgspec.Struct, frozen=True, kw_only=True):
    """One try at a build or a fetch."""

    number: int
    run: int
    project: ProjectLink | None
    drv_path: StorePath
    name: str
    system: str
    work: Work
    machine: str
    started_at: float
    seconds: float
    outcome: Outcome | None
    """None while it runs, or where it was interrupted."""
    status: Status
    message: str
    exit_status: int | None
    has_log: bool
    output_bytes: int
    about_s: float | None = None
    """For a running one: the median of recent builds of its name."""


class RefLine(msgspec.Struct, frozen=True, kw_only=True):
    """A branch or tag in a list."""

    ref: str
    jobset: str
    latest: RunLine | None
    last_good: RunLine | None
    """The newest run that passed; None where there is none."""
    failing_since: RunLine | None
    """The first of the runs that have failed since then."""
    gone_at: float | None


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a chart over runs."""

    run: int
    at: float
    value: float
    good: bool


class Paging(msgspec.Struct, frozen=True, kw_only=True):
    """Where in a long list a page is. Pages are counted from 1; `size` 0 means everything on one page."""

    page: int
    pages: int
    size: int
    total: int
