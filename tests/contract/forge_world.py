"""What the contract suite of forges needs of a world: a forge with one repository, people, and our edge to it."""

from collections.abc import Mapping
from enum import Enum, auto
from typing import NamedTuple, Protocol

import msgspec

from nixmill.core.forge import ForgeUser
from nixmill.core.trust import Permission
from nixmill.doors.forge import Forge, ForgeEntrance, ForgeVoice


class WholeForge(Forge, ForgeVoice, ForgeEntrance, Protocol):
    """An edge: one class that has all three doors."""


class Feature(Enum):
    """What some kinds of forges have and others do not; a test that needs one is skipped elsewhere."""

    FORKS = auto()
    DRAFTS = auto()
    LABELS = auto()
    EDITED_COMMENTS = auto()
    """The forge says whether a comment was edited."""
    STATUS_IDS = auto()
    """A status has an id, by which it is changed in place."""
    REACTIONS = auto()
    SIGNED_HOOKS = auto()
    """Deliveries are authenticated by something in their headers."""
    RERUN_BUTTON = auto()
    MERGE_QUEUE = auto()
    PROTECTION = auto()
    HOOKS = auto()
    """Hooks are made for each repository."""


class Where(Enum):
    """Where the head of a pull request lives."""

    SAME = auto()
    """In the base's repository."""
    OWN_FORK = auto()
    """In a fork that belongs to the author."""
    OTHER_FORK = auto()
    """In a fork that belongs to an organisation."""
    DELETED = auto()
    """In a fork that was deleted."""


class Trouble(Enum):
    """What is wrong with the forge from now on."""

    NONE = auto()
    LIMITED = auto()
    """It answers that the rate limit is reached and names 30 s."""
    OUTAGE = auto()
    """It answers every request with 502."""
    REVOKED = auto()
    """Our credential is no longer known."""
    NONSENSE = auto()
    """It answers with HTML."""
    NOT_ALLOWED = auto()
    """Our credential may only read."""


class Happening(Enum):
    """What the forge tells us of by a delivery."""

    PUSH = auto()
    """A commit was pushed to `refs/heads/main`."""
    DELETED_BRANCH = auto()
    """`refs/heads/old` was deleted."""
    PULL_REQUEST = auto()
    """The pull request of that number was opened."""
    COMMENT = auto()
    """That comment was written."""
    RERUN = auto()
    """Somebody pressed the button for another run, on our check at the head of the pull request."""
    MERGE_QUEUE = auto()
    """Commit `MERGE_COMMIT` at ref `MERGE_REF` onto `refs/heads/main` is to be checked."""
    PING = auto()


MERGE_COMMIT = "ec26c3e57ca3a959ca5aad62de7213c562f8c821"
MERGE_REF = "refs/heads/gh-readonly-queue/main/pr-2-d9c2d2ef7fe0c2a1b1a2a3a4a5a6a7a8a9aaabac"


class Colour(Enum):
    """What a status means to whatever stands between a pull request and its merge."""

    GREEN = auto()
    """Lets it through."""
    RED = auto()
    PENDING = auto()
    """Neither; it goes on waiting."""


class Shown(NamedTuple):
    """A status, as people see it on the forge."""

    context: str
    colour: Colour
    title: str
    url: str
    """Where it leads; empty where the forge shows none."""
    id: str


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A pull request to be opened on `main`."""

    author: ForgeUser
    where: Where = Where.SAME
    title: str = "Mend the roof"
    head_ref: str = "topic"
    draft: bool = False
    labels: tuple[str, ...] = ()


class ForgeWorld(Protocol):
    """Verbs for tests. People, numbers and ids are made by the world, in the form that its kind of forge uses.

    A new one holds the repository `path` (not empty, default branch `main`, that one protected where there is such a
    thing, private) and nobody.
    """

    features: frozenset[Feature]
    path: str

    @property
    def forge(self) -> WholeForge:
        """Our edge, with two webhook secrets: `new` is the first and `old` the second."""

    def user(self, login: str, permission: Permission = Permission.NONE) -> ForgeUser:
        """Return somebody, made at the first call, whose permission in the repository is that from now on."""

    def open(self, spec: Spec) -> int:
        """Open a pull request; return its number."""

    def push(self, number: int) -> str:
        """Push a new head to it; return the commit."""

    def head(self, number: int) -> str:
        """Return its head commit."""

    def close(self, number: int, *, merged: bool = False) -> None:
        """Close or merge it."""

    def write_comment(self, number: int, author: ForgeUser, text: str) -> str:
        """Write a comment; return its id in the words of `Hint.comment`."""

    def edit_comment(self, number: int, comment: str, text: str) -> None:
        """Change a comment some time later."""

    def shown(self, commit: str) -> list[Shown]:
        """Return the statuses of a commit that people see: the newest one of each context."""

    def said(self, number: int) -> list[str]:
        """Return the texts of our own comments on a pull request."""

    def reactions(self, number: int, comment: str) -> int:
        """Return how many reactions of ours a comment has."""

    def forget_status(self, commit: str, context: str) -> None:
        """Delete a status behind our back."""

    def trouble(self, trouble: Trouble) -> None:
        """Be in trouble from now on."""

    def deliver(self, happening: Happening, *, number: int = 0, comment: str = "") -> tuple[dict[str, str], bytes]:
        """Return headers (names in lower case) and body of a delivery, signed with `new`, as the forge would send it.

        A second call for the same thing is another delivery.
        """

    def sign(self, body: bytes, secret: str = "new") -> Mapping[str, str]:  # noqa: S107 - opens nothing
        """Return the headers of a push delivery with this body, signed; `secret` may be wrong."""
