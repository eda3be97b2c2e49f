"""Messages about runs: who is told what, and when. Decides from a finished run and the rules of its project.

Each message has a key: putting it into the outbox twice is putting it there once. What it does not know: how a
message travels (`nixmill.edge.notify`) and when it is tried again (`nixmill.engine.courier`).
"""

from enum import StrEnum
from typing import Final

import msgspec

from nixmill.core.run_event import Verdict


class ChannelKind(StrEnum):
    """How a message travels."""

    EMAIL = "email"
    WEBHOOK = "webhook"
    """A signed POST of JSON."""
    SLACK = "slack"
    """An incoming webhook as Slack, Mattermost and others take it."""
    MATRIX = "matrix"
    """A message to a room by the client-server API."""
    FORGE = "forge"
    """An answer on a pull request; no rule sends by it."""


RULE_CHANNELS: Final = (ChannelKind.EMAIL, ChannelKind.WEBHOOK, ChannelKind.SLACK, ChannelKind.MATRIX)
"""What rules may send by."""


class When(StrEnum):
    """Which runs a rule tells of."""

    CHANGE = "change"
    """It broke or it was fixed."""
    FAILURE = "failure"
    """Every run that is not good."""
    ALWAYS = "always"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a project tells what."""

    id: int = 0
    project: int = 0
    name: str
    """Unique in its project."""
    channel: ChannelKind
    """`email`, `webhook`, `slack` or `matrix`."""
    target: str
    """E-mail address (or `maintainers`), URL, or Matrix room; never a secret."""
    credential: str = ""
    """Name of a credential in the server's settings: signing secret, access token."""
    when: When = When.CHANGE
    """`change`, `failure` or `always`."""
    branches: tuple[str, ...] = ()
    """Globs as of a jobset; empty: every branch of a jobset."""
    attributes: tuple[str, ...] = ()
    """Globs over attribute names: only what happened to these counts; empty: the run as a whole."""
    enabled: bool = True
    """Whether it tells anybody."""


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """An attribute that a message names."""

    name: str
    status: str
    cause: str
    maintainers: tuple[str, ...] = ()
    """E-mail addresses."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run, as messages and hooks tell it. Its JSON is what a webhook posts (`version` says which form)."""

    version: int = 1
    run: int
    project: str
    jobset: str
    ref: str
    commit: str
    subject: str
    author: str
    verdict: Verdict
    before: Verdict | None
    """Of the run before on this branch; None for the first."""
    sentence: str
    url: str
    counts: dict[str, int]
    newly_failing: tuple[Broken, ...]
    """At most 50, as the others."""
    failing: tuple[Broken, ...]
    fixed: tuple[Broken, ...]
    seconds: float
    ended_at: float


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """A message in the outbox."""

    id: int = 0
    key: str
    """Equal keys are the same message, put there once."""
    project: int | None
    run: int | None
    channel: ChannelKind
    target: str
    credential: str
    title: str
    """One line."""
    text: str
    """Plain text."""
    body: str
    """JSON of `Ended`: what a webhook posts."""
    tries: int = 0
    created_at: float = 0.0


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """How a try to deliver ended: well, to be tried again at a time, or for good in vain (a dead letter)."""

    id: int
    at: float
    fault: str = ""
    again_at: float | None = None
