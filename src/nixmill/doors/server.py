"""The doors of the server: what it keeps, who knocks, what it sends. The rules of `nixmill.doors` hold here too.

All of the first five are one database; they are apart so that each part of the program sees only what it needs.
Each write is one transaction and durable when it returns.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Protocol, TypeVar

from nixmill.core.access import Role, Sight, Viewer
from nixmill.core.account import ApiToken, AuditEntry, Identity, Member, Session, User
from nixmill.core.change import Change, Progress
from nixmill.core.hook import Hook, HookRun
from nixmill.core.message import Delivered, Ended, Parcel, Rule
from nixmill.core.project import Jobset, Polled, Project, Ref
from nixmill.core.source import Tree
from nixmill.core.view.pages import RememberedFailure
from nixmill.doors import DoorError
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath

T = TypeVar("T")


class RetryLaterError(DoorError):
    """The other side asks to be left alone for `after_s` seconds; always retryable."""

    def __init__(self, message: str, *, door: str, action: str, subject: str = "", after_s: float) -> None:
        """Keep the time."""
        super().__init__(message, door=door, action=action, subject=subject, retryable=True)
        self.after_s = after_s


class Projects(Protocol):
    """Projects and their jobsets."""

    async def projects(self) -> Sequence[Project]:
        """Return all projects that are not being deleted, by name."""

    async def project(self, name: str) -> Project | None:
        """Return the project that is, or once was, called so: who asks by an old name is redirected to the new one."""

    async def save_project(self, project: Project) -> Project:
        """Add (id 0) or change a project; an old name keeps leading to it. `InputError`: the name is taken."""

    async def delete_project(self, project: int) -> None:
        """Make a project vanish at once; its rows go in the background, in batches. Its running runs are cancelled."""

    async def jobsets(self, project: int) -> Sequence[Jobset]:
        """Return the jobsets of a project, by name."""

    async def save_jobsets(self, project: int, jobsets: Sequence[Jobset]) -> Sequence[Jobset]:
        """Make these the jobsets of a project: those with an id are changed, new ones added, others removed."""


class Refs(Protocol):
    """What was last seen of remotes, and deliveries of webhooks."""

    async def refs(self, project: int) -> Sequence[Ref]:
        """Return the refs of a project that exist, as they were last seen."""

    async def saw(
        self, project: int, polled: Polled, refs: Sequence[Ref] | None, changes: Sequence[Change]
    ) -> list[int]:
        """Record a look at the remote and, in the same transaction, the changes that follow from it.

        `refs` None: the look failed and nothing is known anew. Refs that are not among `refs` are gone.
        Returns the numbers of the changes.
        """

    async def polled(self, project: int) -> Polled | None:
        """Return how the last look went."""

    async def fired(self, jobset: int, due_at: float, changes: Sequence[Change]) -> list[int]:
        """Record that a timer fired: nothing happens where one with this `due_at` was recorded already."""

    async def last_fired(self, jobset: int) -> float | None:
        """Return the `due_at` that was recorded last; None where the timer never fired."""

    async def first_delivery(self, project: int, delivery: str, at: float) -> bool:
        """Record a webhook's delivery id; say whether it is new. Kept for a month."""


class Changes(Protocol):
    """Changes on their way; a change is a run of the history."""

    async def accept(self, changes: Sequence[Change]) -> list[int]:
        """Record changes and the work that they mean in one transaction; return their numbers."""

    async def change(self, number: int) -> Change | None:
        """Return a change."""

    async def open_changes(self) -> Sequence[Change]:
        """Return all that have no verdict, the oldest first."""

    async def progress(self, progress: Progress) -> None:
        """Record what became known of a run."""

    async def stop(self, number: int, superseded_by: int | None = None) -> bool:
        """Ask that a change be cancelled; say whether it had no verdict yet.

        One that waits for approval ends at once, and what is left to do of it begins in the same transaction.
        """

    async def ended(self, number: int, parcels: Sequence[Parcel], hooks: Sequence[HookRun]) -> None:
        """Record what follows from the end of a run: messages and hooks. Doing so again changes nothing."""


class Failures(Protocol):
    """Failure memory: per derivation and project (semantics §6)."""

    async def believed(
        self, project: int, drv_paths: Sequence[StorePath], now: float
    ) -> dict[StorePath, RememberedFailure]:
        """Return the failures that are remembered and have not expired."""

    async def remember(self, project: int, failures: Sequence[RememberedFailure], good: Sequence[StorePath]) -> None:
        """Remember failures, and forget those of derivations that turned out good."""

    async def forget(self, project: int, drv_paths: Sequence[StorePath] | None) -> int:
        """Forget failures, all of the project where `drv_paths` is None; return how many there were."""


class Accounts(Protocol):
    """Users, and what they are known by."""

    async def users(self) -> Sequence[User]:
        """Return all users, by name."""

    async def user(self, name_or_id: str | int) -> User | None:
        """Return a user by name (case does not matter) or id."""

    async def save_user(self, user: User, identity: Identity | None = None) -> User:
        """Add (id 0) or change a user; `identity` is added to it. Raises `InputError` where the name is taken.

        Disabling a user, or changing the password, ends all sessions.
        """

    async def delete_user(self, user: int) -> None:
        """Delete a user; what the audit log says stays."""

    async def known_as(self, identity: Identity) -> User | None:
        """Return the user who signs in elsewhere as `identity`."""

    async def viewer(self, user: int) -> Viewer | None:
        """Return what a user may, from their roles; None where there is no such user or they are disabled."""


class Keys(Protocol):
    """Sessions and API tokens."""

    async def open_session(self, session: Session) -> None:
        """Record a session."""

    async def session(self, token_hash: str, now: float) -> Session | None:
        """Return a session that has not expired, and note, at most once a minute, that it was used."""

    async def sessions(self, user: int, *, end: Sequence[str] = (), end_all: bool = False) -> Sequence[Session]:
        """End some sessions of a user, or all; return those that are left."""

    async def save_token(self, token: ApiToken) -> ApiToken:
        """Record a new token."""

    async def token(self, token_hash: str, now: float) -> ApiToken | None:
        """Return a token that has not expired, and note that it was used."""

    async def tokens(self, user: int, *, revoke: Sequence[int] = ()) -> Sequence[ApiToken]:
        """Revoke some tokens of a user; return those that are left."""


class Members(Protocol):
    """Roles in projects, and the log of who did what."""

    async def members(self, project: int) -> Sequence[Member]:
        """Return who has a role in a project, by name."""

    async def set_member(self, project: int, user: int, role: Role | None) -> None:
        """Give somebody a role in a project, or take it away."""

    async def identity(self, user: int, provider: str) -> Identity | None:
        """Return who a user is at a sign-in provider or forge."""

    async def audit(self, entry: AuditEntry) -> None:
        """Write a line of the audit log. Lines are never changed."""

    async def setting(self, name: str) -> str | None:
        """Return a setting that pages can change, as JSON."""

    async def save_setting(self, name: str, value: str) -> None:
        """Record a setting."""


class Outbox(Protocol):
    """Messages on their way out, and hooks that are to run. Durable before anything is sent."""

    async def rules(self, project: int) -> Sequence[Rule]:
        """Return the rules of a project, by name."""

    async def save_rules(self, project: int, rules: Sequence[Rule]) -> Sequence[Rule]:
        """Make these the rules of a project, as `Projects.save_jobsets` does."""

    async def due(self, now: float, limit: int) -> Sequence[Parcel]:
        """Return messages whose time has come, the oldest first."""

    async def delivered(self, outcome: Delivered) -> None:
        """Record how a try ended."""

    async def replay(self, parcel: int) -> bool:
        """Send a dead letter again; say whether there was one."""

    async def hook_runs(self, *, save: HookRun | None = None, waiting: bool = True) -> Sequence[HookRun]:
        """Record how a hook's run stands, where given; return those that wait, or those that were running."""


class Story(Protocol):
    """What messages need to know of a finished run."""

    async def told(self, number: int) -> Ended | None:
        """Return a finished run as messages tell it; None where it is not finished. `url` is left empty."""

    async def attributes_for_hooks(self, number: int) -> Sequence[tuple[str, bool, bytes]]:
        """Return (attribute, good, JSON document of the build) of every attribute with a final result."""


class Remote(Protocol):
    """Repositories elsewhere. Raises `DoorError` whose message names the repository and what to do."""

    async def look(self, project: Project) -> tuple[Sequence[Ref], str]:
        """Return the remote's branches and tags, and its default branch (`main`; empty where it names none)."""

    async def fetch(self, project: Project, ref: str, commit: str) -> str:
        """Fetch a ref into the project's mirror; return the commit.

        `commit` empty: the newest of `ref`. Where `commit` is given and the ref has moved on (or was force-pushed)
        the commit is fetched by itself; where the remote no longer gives it, `InputError` says so.
        """

    async def tree(self, project: Project, commit: str) -> tuple[Tree, str, str]:
        """Return the files of a fetched commit, the first line of its message and its author."""

    async def forget(self, project: int) -> None:
        """Delete the mirror of a project."""

    async def keep_only(self, projects: Collection[int]) -> None:
        """Delete the mirrors of projects that are not among these: they were deleted."""

    def mirror(self, project: int) -> str:
        """Return the directory of the mirror, a bare repository, whether or not it exists yet."""


class Courier(Protocol):
    """Delivers messages of one kind of channel. Delivering twice is as good as once where the other side allows."""

    async def deliver(self, parcel: Parcel) -> None:
        """Hand over a message; raise `DoorError`, whose `retryable` says whether another try makes sense.

        A time that the other side asks to wait stands in `RetryLaterError`.
        """


class HookRunner(Protocol):
    """Runs commands of the administrator."""

    async def run(self, hook: Hook, run: HookRun, document: bytes, started: Callable[[], Awaitable[None]]) -> HookRun:
        """Run a hook to its end and return how it ended. Calls `started` once it runs; cancelling kills its group."""

    def log_location(self, run: str) -> str:
        """Return the path of a hook run's log. Raises `InputError` where `run` cannot be the id of one."""

    async def read_log(self, run: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Return `limit` bytes (default 1 MiB) of a log from `offset`; raises `InputError` as `log_location` does."""

    async def delete_logs(self, runs: Sequence[str]) -> None:
        """Delete logs; those that are not there are none the worse for it."""

    async def keep_only(self, known: Callable[[Sequence[str]], Awaitable[Collection[str]]]) -> None:
        """Delete the logs of runs that `known`, asked for some at a time, does not return."""

    async def clean_up(self) -> None:
        """Kill what a killed server left running and delete its scratch files; before the first run."""


class Durable(Protocol):
    """A durable engine of workflows: what was started goes on after a crash at the first step not recorded."""

    def define(self, name: str, body: Callable[[str], Awaitable[None]]) -> None:
        """Name a workflow; before `launch`. Its one argument is the key."""

    async def start(self, name: str, key: str, *, again: bool = False) -> None:
        """Start a workflow by its deterministic id `name:key`; starting it twice is starting it once.

        With `again`, one that has ended, well or by a fault, begins anew; one that goes on is left alone.
        """

    async def step(self, name: str, work: Callable[[], Awaitable[T]]) -> T:
        """Run a step of the current workflow at least once, and never again once its result is recorded.

        The result must be JSON: None, numbers, texts.
        """

    async def forget(self, before: float) -> None:
        """Delete what is kept of workflows that ended before a time."""

    async def launch(self) -> None:
        """Begin: workflows that a crash broke off go on."""

    async def close(self) -> None:
        """Stop working; what is under way goes on at the next launch."""


class Past(Protocol):
    """What the server asks of its own past when it starts and when it compares."""

    async def interrupted(self, now: float) -> int:
        """End the attempts that were under way when the server was killed; return how many there were."""

    async def previous_commit(self, number: int) -> str:
        """Return the commit of the newest run before this one, of the same project and ref, that was evaluated whole.

        Empty where there is none.
        """

    async def earlier(self, change: Change) -> Sequence[Change]:
        """Return the changes without a verdict of the same project and ref, older than this one."""

    async def out_of_reach(self, sight: Sight) -> Sequence[tuple[str, str, float]]:
        """Return (project, sentence, since) of remotes that could not be looked at the last time."""

    async def before(self, number: int, path: AttrPath) -> StorePath | None:
        """Return the derivation that an attribute of a run had on the run's base; None where there is none."""

    async def counts(self, number: int) -> dict[str, int]:
        """Count the attributes of a run, by `nixmill.core.view.parts.Filter`."""
