"""Forges: where repositories, pull requests and the people who may do things to them live.

The words are those of GitHub; a merge request of GitLab and a change of Gerrit are pull requests here. Everything of a
forge is a stranger's text: names, titles, comments. What this file does not know: how a forge is asked
(`nixmill.edge.forge`).
"""

from enum import StrEnum
from typing import Final

import msgspec

TEXT_MAX: Final = 300
"""Characters of a title or name of a forge that are kept."""


class ForgeKind(StrEnum):
    """Which program a forge is."""

    GITHUB = "github"
    """github.com or GitHub Enterprise Server, as a GitHub App."""
    GITEA = "gitea"
    """Gitea or Forgejo."""
    GITLAB = "gitlab"
    GERRIT = "gerrit"


class ForgeUser(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody on a forge."""

    id: str
    """Never changes and is never given to somebody else."""
    login: str
    """May change."""


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """A repository of a forge."""

    id: str
    """Never changes, unlike the path."""
    path: str
    """`owner/name`; deeper on GitLab; a project's name on Gerrit."""
    owner: str
    clone_url: str
    default_branch: str
    """Empty where there is no commit yet."""
    private: bool
    archived: bool = False
    topics: tuple[str, ...] = ()


class HintKind(StrEnum):
    """What a webhook (or an event of Gerrit's stream) hints at. What is true is asked of the forge."""

    PUSH = "push"
    """Branches or tags moved, came or went."""
    PULL_REQUEST = "pull request"
    """Opened, updated, reopened, retargeted, ready, labelled, closed or merged."""
    COMMENT = "comment"
    """Somebody wrote a comment on a pull request."""
    RERUN = "re-run"
    """Somebody pressed the button to run a check again."""
    APPROVE = "approve"
    """Somebody pressed the button to approve a commit."""
    MERGE_QUEUE = "merge queue"
    """The forge's merge queue wants a commit checked, or (with `closed`) no longer."""
    REPOSITORY = "repository"
    """Repositories came, went or were renamed, or who may see them changed."""
    NOTHING = "nothing"
    """A ping, or an event that means nothing here."""


class Hint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an event says. Only which thing to look at is taken from it, and who pressed a button."""

    kind: HintKind
    repository: str = ""
    """Its path."""
    repository_id: str = ""
    pull_request: int = 0
    ref: str = ""
    """In full."""
    commit: str = ""
    base_ref: str = ""
    """Of a merge queue, in full."""
    comment: str = ""
    """The forge's id of a comment."""
    actor: ForgeUser | None = None
    """Who did it, as the signed event says."""
    run: int = 0
    """Of a button: the run that its check told of; 0 where it does not say."""
    closed: bool = False


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A verified delivery."""

    delivery: str
    """The forge's id of it, else a digest of the body: equal ones are the same delivery, sent again."""
    hints: tuple[Hint, ...]


class Comment(msgspec.Struct, frozen=True, kw_only=True):
    """A comment on a pull request."""

    id: str
    author: ForgeUser
    text: str
    """At most 64 KiB."""
    edited: bool = False
    """Changed after it was written: not obeyed, as somebody else may have done so."""
    commit: str = ""
    """The head that it was written on, where the forge says so (Gerrit); an approval means that one."""
    at: float = 0.0
    """When it was written, by the forge's clock; an approval never means a head that came later. 0: not known."""


class ForgeryError(Exception):
    """An event whose signature is missing or wrong. Its text is for the answer and names no secret."""


class MalformedEventError(Exception):
    """An event that was signed and still makes no sense."""
