"""What people and pages may ask of the running server: one method for each thing, whoever asks and by whatever way.

Whether somebody may is decided before (`nixmill.core.access`, by the web); here it is done, durably, and audited.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from nixmill.core.access import Role, Sight
from nixmill.core.account import AuditEntry, User
from nixmill.core.forge import Event
from nixmill.core.history import Pruned
from nixmill.core.project import Jobset, Project
from nixmill.core.view.pages import ChecklistItem, Forecast, MachinesPage, Need, QueuePage
from nixmill.core.view.pulls import ToApprove
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class Asker(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, for the audit log."""

    user: int | None
    name: str
    address: str = ""


class Again(StrEnum):
    """What a retry does anew. The tree and its evaluation are kept."""

    FAILED = "failed"
    """Everything that failed, with what depends on it."""
    ATTRIBUTE = "attribute"
    """One attribute."""
    BUILD = "build"
    """One attribute, also where it equals a good base."""
    ANYWAY = "anyway"
    """Everything, also what equals a good base; failure memory is ignored ("run anyway")."""
    EVALUATE = "evaluate"
    """Evaluate again too."""


class Office(Protocol):
    """Implemented by `nixmill.engine.server`."""

    async def add_project(self, asker: Asker, project: Project, jobsets: Sequence[Jobset]) -> Project:
        """Add a project and look at its remote at once. Raises `InputError`."""

    async def change_project(self, asker: Asker, project: Project, jobsets: Sequence[Jobset] | None) -> Project:
        """Change a project, and its jobsets where given. Raises `InputError`."""

    async def delete_project(self, asker: Asker, project: Project) -> None:
        """Delete a project with everything that belongs to it."""

    async def start(
        self, asker: Asker, project: Project, ref: str, targets: Sequence[str] = (), commit: str = ""
    ) -> int:
        """Start a run of a branch, tag or commit by hand; return its number. Raises `InputError`."""

    async def retry(self, asker: Asker, number: int, what: Again, path: AttrPath | None = None) -> int:
        """Try a run again as a new run of the same tree; return its number. Raises `InputError`."""

    async def cancel(self, asker: Asker, number: int) -> bool:
        """Cancel a run; say whether there was anything to cancel."""

    async def forget_failures(self, asker: Asker, project: Project, drv_paths: Sequence[StorePath] | None) -> int:
        """Forget remembered failures, all of the project where None; return how many."""

    async def look(self, asker: Asker, project: Project) -> None:
        """Look at the project's remote now; returns before the look has ended."""

    async def trigger(self, asker: Asker, project: Project, jobset: Jobset, *, force: bool) -> Sequence[int]:
        """Look at what a jobset watches; with `force` evaluate the newest commit of each of its refs anew, as runs."""

    async def streams(self, project: Project, ref: str) -> Sequence[Jobset]:
        """Return the jobsets that run when a ref is pushed."""

    async def pushed(self, project: Project, delivery: str) -> bool:
        """Take a verified webhook, a hint that the remote changed; False where this delivery was seen before."""

    async def took(self, forge: str, event: Event) -> bool:
        """Record a verified event of a forge, to be looked into; False where this delivery was seen before."""

    async def to_approve(self, project: Project, number: int) -> ToApprove | None:
        """Return what is to be looked at before the head of a pull request is approved; None where it is, or is none.

        Fetches the head; nothing of it is evaluated.
        """

    async def approve(self, asker: Asker, project: Project, number: int, commit: str, via: str) -> list[int]:
        """Allow just this head commit of a pull request to be evaluated and built; return the numbers of its runs.

        Raises `InputError` where the head has moved on.
        """

    async def forge_role(self, user: User, project: Project) -> Role:
        """Return what somebody who signs in with the project's forge is there; believed for five minutes."""

    def webhook_secret(self, project: int) -> str:
        """Return the secret that webhooks of a project are signed with."""

    async def audit(self, entry: AuditEntry) -> None:
        """Write to the audit log."""

    async def queue(self, sight: Sight) -> QueuePage:
        """Return what runs and waits, with reasons."""

    async def machines(self, sight: Sight) -> MachinesPage:
        """Return the machines and what they do; builds that `sight` does not cover are there without names."""

    async def wait_reason(self, number: int) -> str:
        """Return who has a run that is not final, why it waits, and until when."""

    async def why(self, number: int, path: AttrPath) -> Sequence[str]:
        """Return, in sentences, why an attribute is as it is: what changed, why it waits, what failed."""

    async def needs(self, sight: Sight) -> Sequence[Need]:
        """Return what only a person can put right."""

    async def checklist(self) -> Sequence[ChecklistItem]:
        """Return the steps of a new installation; empty once all are done."""

    async def numbers(self, sight: Sight) -> Mapping[str, float]:
        """Return numbers for metrics that only the running server knows; most of them for administrators alone."""

    async def forecasts(self) -> Sequence[Forecast]:
        """Return the places on disk and when they will be full."""

    async def prune(self, asker: Asker, *, dry_run: bool) -> Pruned:
        """Forget what retention does not keep."""

    async def replay(self, asker: Asker, parcel: int) -> bool:
        """Send a dead letter again."""
