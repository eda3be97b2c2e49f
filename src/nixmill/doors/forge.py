"""The doors to forges, and to what the server keeps of them. The rules of `nixmill.doors` hold here too.

An edge for one kind of forge is one class that implements `Forge`, `ForgeVoice` and `ForgeEntrance`. Paths of
repositories, numbers and names come from strangers and are checked before they become part of a URL.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol

from nixmill.core.access import Sight
from nixmill.core.change import Change
from nixmill.core.forge import Comment, Event, ForgeUser, Hint, Repository
from nixmill.core.merged import Comparison, Merged
from nixmill.core.message import Parcel
from nixmill.core.posting import Posting, PostOutcome, Reply
from nixmill.core.project import Project
from nixmill.core.pull_request import Approval, Known, PullRequest
from nixmill.core.trust import Permission
from nixmill.core.view.pulls import ApprovalsPage, PullPage, PullsPage


class Forge(Protocol):
    """What is true on a forge. Rate limits raise `RetryLaterError`; what is not there (or hidden from us) is None."""

    async def repositories(self) -> Sequence[Repository]:
        """Return all repositories that we were given: of App installations, or where the token's user is an admin."""

    async def repository(self, path: str) -> Repository | None:
        """Return one repository, by its present or a former path."""

    async def pull_requests(self, path: str) -> Sequence[PullRequest]:
        """Return the open pull requests, the newest first, at most 1,000."""

    async def pull_request(self, path: str, number: int) -> PullRequest | None:
        """Return one pull request as it is now, closed ones too."""

    async def comment(self, path: str, number: int, comment: str) -> Comment | None:
        """Return a comment on a pull request, by the forge's id of it."""

    async def permission(self, path: str, user: ForgeUser) -> Permission:
        """Return what somebody may do in a repository, as the forge sees it now; `NONE` where nobody is so called."""


class ForgeVoice(Protocol):
    """What we say on a forge. Saying something twice is as good as saying it once."""

    async def post(self, posting: Posting) -> str:
        """Put up a status; return what the forge calls it.

        It takes the place of the one called `posting.external_id`, where that is given. `DoorError` with `retryable`
        False: the forge will never take it (the commit is gone).
        """

    async def reply(self, reply: Reply, key: str) -> None:
        """Answer on a pull request.

        `key` stays the same when it is tried again: it is said once at most where the forge lets us find out.
        """


class ForgeEntrance(Protocol):
    """How a forge reaches us, and how git reaches it."""

    def event(self, headers: Mapping[str, str], body: bytes) -> Event:
        """Verify a delivery on its raw body, then read it; `headers` have lower-case names.

        Any of the forge's webhook secrets will do (rotation). Raises `ForgeryError` or `MalformedEventError`.
        """

    async def ensure_hook(self, repository: Repository, url: str) -> str:
        """Make or mend the webhook of a repository; return in words what was done, empty where all was well."""

    async def git_credential(self, path: str) -> str:
        """Return what git shows to fetch a repository, `user:secret` or `secret`; empty: what the project names."""

    async def protects(self, path: str, branch: str) -> bool:
        """Say whether the forge protects a branch."""

    def events(self) -> AsyncIterator[Hint] | None:
        """Listen for ever to the forge's own stream of events; None where it has none, or none is configured."""

    async def aclose(self) -> None:
        """Let connections go."""


class AnyForge(Forge, ForgeVoice, ForgeEntrance, Protocol):
    """One forge, whole."""


class PullRequests(Protocol):
    """What the server knows of pull requests, and who approved what."""

    async def pull_request(self, project: int, number: int) -> Known | None:
        """Return what is known of a pull request, with at most its 50 newest changes."""

    async def open_pull_requests(self, project: int) -> Sequence[PullRequest]:
        """Return those that were open when they were last seen."""

    async def saw(self, project: int, seen: PullRequest, changes: Sequence[Change]) -> list[int]:
        """Record what a forge said of a pull request and, in the same transaction, the changes that follow from it.

        Its tier is that of `Change.tier`, or what was known. Changes that wait for approval are recorded and no work
        is begun; one that was approved meanwhile does not wait. A change for a commit and base that an open or ended,
        not withdrawn or superseded change has already is left out: two looks at the same time are one. Returns the
        numbers of the new changes.
        """

    async def approve(self, approval: Approval) -> list[int]:
        """Record an approval, once, and let go on what waits for just that commit; return the numbers of its changes.

        The work begins in the same transaction.
        """

    async def withdraw(self, numbers: Collection[int], why: str) -> list[int]:
        """Cancel changes whose pull request was closed; they may be begun anew.

        Held ones end at once, with the sentence `Cancelled{why}.`, and are concluded by whoever works. Returns the
        numbers of those that were not final.
        """

    async def approvals(self, project: int, number: int) -> Sequence[Approval]:
        """Return all approvals of a pull request, the newest first."""


class Inbox(Protocol):
    """Verified events that were not looked into yet. Durable before they are acknowledged."""

    async def put(self, forge: str, event: Event, at: float) -> bool:
        """Record an event; False where its delivery was seen before."""

    async def due(self, now: float, limit: int) -> Sequence[tuple[int, str, Hint, int]]:
        """Return (id, forge, hint, tries) of hints whose time has come, the oldest first."""

    async def handled(
        self, ids: Collection[int], *, fault: str = "", again_at: float | None = None, replies: Sequence[Parcel] = ()
    ) -> None:
        """Record that hints were looked into and, in the same transaction, put answers into the outbox (by key, once).

        With `again_at` the hints come again, with a fault alone they are given up.
        """


class Statuses(Protocol):
    """Statuses as they should stand on forges, and as they do."""

    async def want(self, postings: Sequence[Posting]) -> None:
        """Record how statuses should stand; one with a generation that is not newer changes nothing."""

    async def of_commit(self, project: int, commit: str) -> Sequence[Posting]:
        """Return the statuses of a commit as they should stand."""

    async def due(self, now: float, limit: int) -> Sequence[Posting]:
        """Return those that do not stand as they should and whose time has come, the longest waiting first."""

    async def posted(self, outcome: PostOutcome) -> None:
        """Record how a try ended. One of an older generation than is wanted by now leaves it to be posted."""

    async def again(self, since: float) -> None:
        """Let what was given up since then be tried again: access may have been given back meanwhile."""

    async def stuck(self) -> Sequence[tuple[str, str, int]]:
        """Return (forge, fault, how many) of statuses that were refused several times or given up, most first."""


class Merging(Protocol):
    """What git does for pull requests, in the project's mirror; beside `nixmill.doors.server.Remote`."""

    async def fetch_head(self, project: Project, ref: str, commit: str) -> str:
        """Fetch the head of a pull request, never as a branch; return the commit. As `Remote.fetch` otherwise."""

    async def merge(self, project: Project, head: str, base_ref: str, base: str = "") -> Merged:
        """Return `head` merged into the newest commit of `base_ref` (or into commit `base`); equal for equal inputs.

        Raises `nixmill.core.merged.MergeConflictError`.
        """

    async def compare(self, project: Project, old: str, new: str, patch_of: Collection[str] = ()) -> Comparison:
        """Return which files differ between two fetched commits, with patches of those that match a glob."""

    async def said(self, project: Project, commit: str) -> tuple[str, str]:
        """Return the whole message of a fetched commit, at most 64 KiB, and its author's name."""

    async def keep_heads(self, project: int, refs: Collection[str]) -> None:
        """Let go the heads that were fetched from other refs than these: their pull requests are closed."""

    async def contains(self, project: Project, ancestor: str, descendant: str) -> bool:
        """Say whether one fetched commit is, or comes before, another."""


class PullPages(Protocol):
    """Pages about pull requests; what `sight` does not cover is not there."""

    async def pulls(self, sight: Sight, project: str, *, closed: bool, before: int | None) -> PullsPage | None:
        """Return the open (or the closed) pull requests of a project, by number, the newest first."""

    async def pull(self, sight: Sight, project: str, number: int) -> PullPage | None:
        """Return one pull request with its runs and approvals."""

    async def waiting(self, sight: Sight) -> ApprovalsPage:
        """Return what waits for approval in all projects, the longest waiting first."""
