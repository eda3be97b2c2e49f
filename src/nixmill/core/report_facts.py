"""What a report to a forge is made of: one run as far as it is, with everything that its text needs.

The engine fills it; `nixmill.core.forge_report` decides which statuses follow, `nixmill.core.forge_summary` writes the
text. Names, messages and log lines in it come from strangers.
"""

import msgspec

from nixmill.core.run_event import Change
from nixmill.core.size_change import SizeChange
from nixmill.core.view.parts import AttributeLine, Cause, RunLine


class ReportLinks(msgspec.Struct, frozen=True, kw_only=True):
    """Where pages are, in full: `https://ci.example.org/r/12`."""

    run: str
    log: str
    """What the number of an attempt is put behind: `https://ci.example.org/log/`."""
    base: str = ""
    """Of the base's run."""
    compare: str = ""
    """Of the comparison with the base."""
    approve: str = ""
    """Where a commit that waits is approved."""


class ReportPlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where statuses of a run belong."""

    forge: str
    project: int
    repository: str
    """Path."""
    commit: str
    """The one that statuses are put on: the head, not the merge that is tested."""
    context: str
    """What the required check is called."""
    pull_request: int | None = None


class ReportCost(msgspec.Struct, frozen=True, kw_only=True):
    """What the attempts of a run took."""

    built: int = 0
    fetched: int = 0
    wall_s: float = 0.0
    """Seconds of all attempts, added."""
    cpu_s: float | None = None
    """Seconds of processors; None where nobody measured."""


class RunForReport(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and what is known around it."""

    run: RunLine
    """`counts` by `nixmill.core.view.parts.Filter`; empty before anything is known."""
    links: ReportLinks
    base: RunLine | None = None
    """The run that recorded the base's evaluation."""
    base_name: str = ""
    """Short name of the branch that is compared with: `main`."""
    base_commit: str = ""
    """The commit that is compared with, whether or not a run has checked it; empty where there is none."""
    evaluated: bool = True
    """Whether evaluation was begun: not after a merge conflict, nor where the commit could not be fetched."""
    causes: tuple[Cause, ...] = ()
    """Root causes, those with the most victims first; `tail` filled for the first few."""
    causes_total: int = 0
    lines: tuple[AttributeLine, ...] = ()
    """Every attribute that is not good or differs from the base (removed ones too), at most some thousands; those that
    are not good are never left out. What is not in here when the run is done is good and the same."""
    failing_since: dict[str, int] = {}
    """For attributes (by `AttributeLine.name`) that fail on the base too: the run since which they do."""
    unchanged: int = 0
    """Attributes that were not built since the very same derivation is known to be good."""
    elsewhere: dict[str, int] = {}
    """Attributes by system for which no machine is there."""
    changed: int | None = None
    """Attributes that differ from the base, as the plan has it (`Planned.changed`); None before."""
    to_build: int | None = None
    """Derivations that are to be built; None before the plan is made."""
    left_s: float | None = None
    """Seconds that the rest takes, estimated."""
    sizes: tuple[SizeChange, ...] = ()
    cost: ReportCost | None = None
    notices: tuple[str, ...] = ()
    tier_note: str = ""
    """A sentence about what was kept from untrusted code; empty where there is none."""
    skipped: str = ""
    """Why nothing is run though the check has to be there, such as `the commit's message says [skip ci]`."""

    @property
    def compared(self) -> bool:
        """Say whether lines are compared with a base; that may have been evaluated by this very run."""
        if self.base is not None:
            return True
        return bool(self.base_commit) and any(line.change is not Change.UNKNOWN for line in self.lines)
