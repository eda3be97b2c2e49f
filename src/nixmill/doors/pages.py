"""The doors through which pages read. One method a page; what `sight` does not cover is not there.

Answers come from the database alone, in time that does not grow with what is not shown. What only the running
server knows (why a build waits now) is added by `nixmill.engine`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from nixmill.core.access import Sight
from nixmill.core.view.pages import (
    AttributePage,
    AuditPage,
    BranchPage,
    ComparePage,
    DeliveryLine,
    DerivationPage,
    EvaluationPage,
    HomePage,
    HookRunLine,
    LogPage,
    MachineLine,
    ProjectPage,
    SearchPage,
    TimelinePage,
    UserLine,
)
from nixmill.core.view.parts import AttemptLine, AttributeLine, Filter, RunLine
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class ProjectPages(Protocol):
    """Home, projects and branches."""

    async def home(self, sight: Sight) -> HomePage:
        """Return the home page; `checklist` and `needs_you` are empty and filled by the engine."""

    async def project(self, sight: Sight, name: str) -> ProjectPage | None:
        """Return a project by its name, present or former; `role` is filled by who asks."""

    async def branch(self, sight: Sight, project: str, ref: str, before: int | None, limit: int) -> BranchPage | None:
        """Return a branch (`main`) or tag (`refs/tags/v1`) with its newest runs, or those before a number."""

    async def attribute(
        self, sight: Sight, project: str, ref: str, path: AttrPath, before: int | None
    ) -> AttributePage | None:
        """Return one attribute across the runs of a branch."""

    async def runs(self, sight: Sight, project: int | None, before: int | None, limit: int) -> Sequence[RunLine]:
        """Return the newest runs."""

    async def search(self, sight: Sight, query: str, limit: int) -> SearchPage:
        """Look for projects, branches, attributes, store paths, derivations, commits and runs."""


class RunPages(Protocol):
    """Evaluations and what belongs to them."""

    async def evaluation(
        self, sight: Sight, number: int, filter_: Filter | None, find: str, page: int, size: int
    ) -> EvaluationPage | None:
        """Return an evaluation's page; `filter_` None chooses what is worth showing. `size` 0: all rows."""

    async def run(self, sight: Sight, number: int) -> RunLine | None:
        """Return the head of a run."""

    async def attribute_of(self, sight: Sight, number: int, path: AttrPath) -> tuple[RunLine, AttributeLine] | None:
        """Return one attribute in a run: what the why page starts from."""

    async def compare(self, sight: Sight, before: int, after: int, page: int, size: int) -> ComparePage | None:
        """Compare two evaluations; rows that are the same in both are left out."""

    async def timeline(self, sight: Sight, number: int) -> TimelinePage | None:
        """Return the attempts of a run over time; `critical` is filled by the engine."""

    async def failing(self, sight: Sight, number: int) -> Sequence[AttributeLine]:
        """Return every attribute of a run that is not good and could be tried again."""


class BuildPages(Protocol):
    """Derivations, attempts, machines."""

    async def derivation(self, sight: Sight, drv_path: StorePath) -> DerivationPage | None:
        """Return what is known of a derivation; None where nothing is."""

    async def log(self, sight: Sight, attempt: int) -> LogPage | None:
        """Return what surrounds a log."""

    async def running(self, sight: Sight) -> Sequence[AttemptLine]:
        """Return the attempts that run now, the oldest first."""

    async def queued(self, sight: Sight) -> Sequence[RunLine]:
        """Return the runs that have no verdict, the oldest first."""

    async def machines(self, addresses: Sequence[str], now: float) -> Mapping[str, MachineLine]:
        """Return what each machine did in the last 24 hours; the engine fills `machine`, `running`, `away`."""

    async def numbers(self, sight: Sight, project: str | None) -> Mapping[str, float]:
        """Return numbers for metrics: runs and attempts by outcome, seconds, sizes of queues."""


class AdminPages(Protocol):
    """What administrators look at; without `sight`, since they see everything."""

    async def audit(self, before: int | None, limit: int, find: str) -> AuditPage:
        """Return lines of the audit log, newest first."""

    async def deliveries(self, state: str | None, limit: int) -> Sequence[DeliveryLine]:
        """Return messages, newest first; only those in `state`: `waiting`, `sent`, `dead`."""

    async def hook_runs(self, sight: Sight, run: int | None, limit: int) -> Sequence[HookRunLine]:
        """Return runs of hooks, newest first."""

    async def users(self) -> Sequence[UserLine]:
        """Return all accounts."""

    async def rows(self) -> Mapping[str, int]:
        """Return about how many rows the large tables have."""

    async def describe(self) -> str:
        """Return which database this is, for people."""
