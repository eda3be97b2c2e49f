"""One struct a page, in the order in which a person meets them. Addresses are in `docs/guide.md`."""

import msgspec

from nixmill.core.access import Role
from nixmill.core.machine import Machine
from nixmill.core.project import Jobset, Polled, Project
from nixmill.core.size_change import SizeChange
from nixmill.core.trust import Tier
from nixmill.core.view.parts import (
    AttemptLine,
    AttributeLine,
    Cause,
    Filter,
    Paging,
    Person,
    Point,
    ProjectLink,
    RefLine,
    RunLine,
)
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class ChecklistItem(msgspec.Struct, frozen=True, kw_only=True):
    """A step of setting up a new installation."""

    done: bool
    title: str
    hint: str
    """A sentence: what to do, or what was found."""
    link: str = ""


class ProjectLine(msgspec.Struct, frozen=True, kw_only=True):
    """A project on the home page."""

    project: ProjectLink
    default: RefLine | None
    """Its default branch."""
    recent: tuple[RunLine, ...]
    """The newest runs of the default branch, newest first, at most 20: a strip of squares."""
    running: int
    fault: str
    """Why it cannot be fetched; empty where it can."""
    enabled: bool


class HomePage(msgspec.Struct, frozen=True, kw_only=True):
    """`/`: what needs you, what broke on default branches, what runs, all projects."""

    checklist: tuple[ChecklistItem, ...]
    """Empty once everything is done; then the rest is shown."""
    needs_you: tuple["Need", ...]
    broken: tuple[RefLine, ...]
    """Default branches that fail, with since when and the last good run."""
    running: tuple[RunLine, ...]
    projects: tuple[ProjectLine, ...]


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """Something only a person can put right."""

    what: str
    """A sentence."""
    link: str
    since: float | None = None
    urgent: bool = False


class ProjectPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/p/NAME`: its branches, tags, jobsets and newest runs."""

    project: Project
    role: Role
    polled: Polled | None
    jobsets: tuple[Jobset, ...]
    refs: tuple[RefLine, ...]
    runs: tuple[RunLine, ...]


class BranchPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/p/NAME/b/BRANCH`: the history of one branch, with charts."""

    project: ProjectLink
    line: RefLine
    runs: tuple[RunLine, ...]
    older: int | None
    """Pass as `before` for the next page; None where there is none."""
    durations: tuple[Point, ...]
    """Seconds of each run, oldest first."""
    sizes: tuple[Point, ...]
    """Bytes of all outputs built or known, oldest first; empty where nothing is known."""


class RunsPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/runs`: the newest runs of all projects, or of one."""

    project: ProjectLink | None
    runs: tuple[RunLine, ...]
    older: int | None
    """Pass as `before` for the next page; None where there is none."""


class EvaluationPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/r/NUMBER`: verdict first, then counts, causes, and the table of what changed against the base."""

    run: RunLine
    base: RunLine | None
    """The run that recorded the base's evaluation."""
    base_commit: str
    base_reason: str
    tested: str = ""
    """The commit that is tested where that is not the run's own: its commit merged into the base."""
    tree_hash: str
    targets: tuple[str, ...]
    evaluator: str
    evaluation_s: float | None
    notices: tuple[str, ...]
    sizes: tuple[SizeChange, ...] = ()
    """What changed in versions and closures, the largest first, at most 50."""
    counts: dict[str, int]
    filter: Filter
    find: str
    """Only attributes whose name has this text."""
    causes: tuple[Cause, ...]
    causes_total: int
    rows: tuple[AttributeLine, ...]
    paging: Paging
    attempts_running: tuple[AttemptLine, ...]
    newer: int | None
    """A newer run of the same stream."""
    retries: tuple[int, ...]
    """Runs that tried this one again."""


class AttributeRun(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an attribute in one run."""

    run: RunLine
    line: AttributeLine


class AttributePage(msgspec.Struct, frozen=True, kw_only=True):
    """`/p/NAME/a/ATTR?ref=BRANCH`: one attribute across the runs of a branch."""

    project: ProjectLink
    ref: str
    path: AttrPath
    name: str
    description: str
    maintainers: tuple[str, ...]
    runs: tuple[AttributeRun, ...]
    older: int | None
    durations: tuple[Point, ...]
    sizes: tuple[Point, ...]
    """Closure or output size in bytes, oldest first."""


class DerivationPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/d/HASH-NAME.drv`: every attempt at it, who needs it, what is remembered of it."""

    drv_path: StorePath
    name: str
    attempts: tuple[AttemptLine, ...]
    attributes: tuple[tuple[ProjectLink, int, str], ...]
    """(project, newest run, attribute) that have it as their own derivation; at most 50."""
    remembered: tuple["RememberedFailure", ...]


class RememberedFailure(msgspec.Struct, frozen=True, kw_only=True):
    """A failure that is believed without trying again (semantics §6)."""

    project: ProjectLink
    drv_path: StorePath
    run: int
    attempt: int
    machine: str
    at: float
    expires_at: float
    message: str
    tier: Tier = Tier.BRANCH
    """Of the run that found it: a failure of a pull request is not believed where it is trusted more."""


class ComparePage(msgspec.Struct, frozen=True, kw_only=True):
    """`/compare/A/B`: any two evaluations."""

    before: RunLine
    after: RunLine
    counts: dict[str, int]
    """By what follows: `newly failing`, `fixed`, `changed`, `new`, `removed`, `same`."""
    rows: tuple["ComparedLine", ...]
    paging: Paging


class ComparedLine(msgspec.Struct, frozen=True, kw_only=True):
    """An attribute in two evaluations."""

    name: str
    path: AttrPath
    change: str
    before: AttributeLine | None
    after: AttributeLine | None


class LogPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/log/ATTEMPT`: what a log page says around its lines; the lines themselves come from the door `Logs`."""

    attempt: AttemptLine
    run: RunLine | None
    others: tuple[AttemptLine, ...]
    """Other attempts at the same derivation, newest first, at most 20."""


class QueueLine(msgspec.Struct, frozen=True, kw_only=True):
    """A derivation that waits or runs."""

    run: int
    project: ProjectLink
    name: str
    drv_path: StorePath
    status: str
    """`running` or `waiting`."""
    reason: str
    """For a waiting one: what it waits for, in a sentence; for a running one: where."""
    machine: str
    since: float
    about_s: float | None
    attempt: int | None


class QueuePage(msgspec.Struct, frozen=True, kw_only=True):
    """`/queue`: runs in the order in which they go on, and what each waits for."""

    runs: tuple[RunLine, ...]
    lines: tuple[QueueLine, ...]
    waiting: int
    """Derivations that wait, shown or not."""


class MachineLine(msgspec.Struct, frozen=True, kw_only=True):
    """A builder."""

    machine: Machine
    running: tuple[QueueLine, ...]
    away: str
    """Why it is not used now; empty where it is."""
    done_today: int
    failed_today: int
    busy_share: float
    """Of its places over the last 24 hours, 0 to 1."""


class MachinesPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/machines`: builders and what they do."""

    machines: tuple[MachineLine, ...]


class TimelinePage(msgspec.Struct, frozen=True, kw_only=True):
    """`/r/NUMBER/timeline`: attempts by builder over time (Gantt), with the table beneath."""

    run: RunLine
    attempts: tuple[AttemptLine, ...]
    """At most 2,000, the longest ones; in order of their start."""
    left_out: int
    critical: tuple[StorePath, ...]
    """Derivations on the longest chain of what was built, first to last."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a search found."""

    kind: str
    """`project`, `attribute`, `derivation`, `store path`, `commit`, `run`, `branch`."""
    title: str
    detail: str
    link: str


class SearchPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/search?q=TEXT`: what a text may mean; a single find is gone to at once."""

    query: str
    found: tuple[Found, ...]
    more: bool


class AuditLine(msgspec.Struct, frozen=True, kw_only=True):
    """Who did what."""

    id: int
    at: float
    who: str
    action: str
    subject: str
    detail: str
    address: str


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/admin/audit`: who did what, newest first."""

    lines: tuple[AuditLine, ...]
    older: int | None


class DeliveryLine(msgspec.Struct, frozen=True, kw_only=True):
    """A message on its way out."""

    id: int
    channel: str
    target: str
    run: int | None
    project: str
    state: str
    tries: int
    due_at: float | None
    fault: str
    created_at: float


class HookRunLine(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a hook."""

    id: str
    hook: str
    command: str
    run: int
    project: str
    attribute: str
    started_at: float
    ended_at: float | None
    state: str
    """In words: `could not start: No such file or directory`, `exit code 3`, `signal 9 (core dumped)`, `running`."""
    good: bool


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """A place on disk and when it will be full."""

    place: str
    path: str
    used_bytes: int
    free_bytes: int
    per_day_bytes: float
    full_in_days: float | None


class UserLine(msgspec.Struct, frozen=True, kw_only=True):
    """An account, for administrators."""

    person: Person
    email: str
    admin: bool
    disabled: bool
    sign_in: str
    """`password`, `OIDC`, or both."""
    last_seen: float | None
    sessions: int
    tokens: int


class AdminPage(msgspec.Struct, frozen=True, kw_only=True):
    """`/admin`: one page that says what needs attention."""

    needs: tuple[Need, ...]
    forecasts: tuple[Forecast, ...]
    users: tuple[UserLine, ...]
    dead: tuple[DeliveryLine, ...]
    pending_deliveries: int
    audit: tuple[AuditLine, ...]
    database: str
    """`SQLite 3.40 at …` or `PostgreSQL 15`."""
    rows: dict[str, int]
    """Rows of the large tables, about."""
    version: str
    retention: dict[str, int]
