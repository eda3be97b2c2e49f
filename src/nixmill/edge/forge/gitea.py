"""Gitea and Forgejo, by an access token.

Its scopes are `read:user`, `write:repository` and `write:issue`; its user has to be an administrator of the
repositories (hooks, permissions of others). Source: the interface's description, `templates/swagger/v1_json.tmpl`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from nixmill.config.forges import ForgeSettings
from nixmill.core.forge import Comment, Event, ForgeUser, Hint, Repository
from nixmill.core.posting import Posting, Reply
from nixmill.core.pull_request import PullRequest
from nixmill.core.trust import Permission
from nixmill.doors import Clock, DoorError
from nixmill.doors.server import RetryLaterError
from nixmill.edge.forge.credentials import ForgeCredentials
from nixmill.edge.forge.gitea_ask import ADMIN_HOOKS, PAGE, READ_CODE, READ_ISSUES, READ_USER, GiteaAsk, owner_and_name
from nixmill.edge.forge.gitea_events import event_of
from nixmill.edge.forge.gitea_hooks import GiteaHooks
from nixmill.edge.forge.gitea_replies import GiteaReplies
from nixmill.edge.forge.gitea_statuses import GiteaStatuses
from nixmill.edge.forge.gitea_wire import (
    WireBranch,
    WireComment,
    WirePermission,
    WirePull,
    WireRepository,
    WireTopics,
)
from nixmill.edge.forge.numbered_pages import read_pages
from nixmill.edge.forge.web import ForgeWeb

REPOSITORIES_MAX: Final = 5000
PULLS_MAX: Final = 1000
_TOPICS_AT_ONCE: Final = 5
_LOG: Final = logging.getLogger(__name__)


class GiteaForge:
    """Implements `Forge`, `ForgeVoice` and `ForgeEntrance` of `nixmill.doors.forge`."""

    def __init__(self, settings: ForgeSettings, credentials: Mapping[str, Path], clock: Clock) -> None:
        """Speak to the forge that the settings name; secrets are read from their files when they are used."""
        self._settings = settings
        self._credentials = ForgeCredentials(settings.name, credentials)
        api = settings.api_url or f"{settings.url.rstrip('/')}/api/v1"
        self._web = ForgeWeb(api, name=settings.name, clock=clock)
        self._ask = GiteaAsk(self._credentials, settings.token)
        self._statuses = GiteaStatuses(self._web, self._ask)
        self._replies = GiteaReplies(self._web, self._ask, clock)
        self._hooks = GiteaHooks(self._web, self._ask)

    # Forge

    async def repositories(self) -> Sequence[Repository]:
        """See `Forge`."""
        ask = self._ask.plain(("user", "repos"), "list our repositories", READ_USER, limit=PAGE)
        found = await read_pages(self._web, WireRepository, ask, limit=REPOSITORIES_MAX)
        gate = asyncio.Semaphore(_TOPICS_AT_ONCE)
        return await asyncio.gather(*(self._with_topics(one, gate) for one in found if one.may_admin()))

    async def _with_topics(self, wire: WireRepository, gate: asyncio.Semaphore) -> Repository:
        """Return a repository; one whose topics cannot be read has none, and the others are not the worse for it."""
        if wire.topics is not None or not self._settings.topic:
            return wire.repository()
        async with gate:
            try:
                action = f"read the topics of {wire.full_name}"
                topics = await self._web.read(WireTopics, self._ask.of(wire.full_name, ("topics",), action, READ_CODE))
            except RetryLaterError:
                raise
            except DoorError as error:
                _LOG.warning("The topics of %s are taken as none: %s", wire.full_name, error)
                topics = None
        return wire.repository((topics.topics if topics is not None else None) or ())

    async def repository(self, path: str) -> Repository | None:
        """See `Forge`; former paths lead to a redirect, which is followed."""
        wire = await self._web.read(WireRepository, self._ask.of(path, (), f"read the repository {path}", READ_CODE))
        return await self._with_topics(wire, asyncio.Semaphore(1)) if wire is not None else None

    async def pull_requests(self, path: str) -> Sequence[PullRequest]:
        """See `Forge`."""
        query: dict[str, str | int] = {"state": "open", "limit": PAGE}
        ask = self._ask.of(path, ("pulls",), f"list the pull requests of {path}", READ_CODE, query=query)
        wires = await read_pages(self._web, WirePull, ask, limit=PULLS_MAX)
        known: dict[str, Permission] = {}
        pulls = [await self._pull(path, wire, known) for wire in wires if wire.head.sha]
        return sorted(pulls, key=lambda pull: pull.number, reverse=True)

    async def pull_request(self, path: str, number: int) -> PullRequest | None:
        """See `Forge`."""
        action = f"read pull request {number} of {path}"
        wire = await self._web.read(WirePull, self._ask.of(path, ("pulls", number), action, READ_CODE))
        if wire is None:
            return None
        if wire.is_open() and not wire.head.sha:
            raise DoorError(
                f"The forge does not say yet which commit pull request {number} of {path} is at; this is tried again.",
                door="forge",
                action=action,
                subject=path,
                retryable=True,
            )
        return await self._pull(path, wire, {})

    async def _pull(self, path: str, wire: WirePull, known: dict[str, Permission]) -> PullRequest:
        """Return a pull request; its author's permission is asked for only where something follows from it."""
        if not wire.is_from_own_fork():
            return wire.pull(Permission.NONE)
        author = wire.author()
        if author.id not in known:
            known[author.id] = await self.permission(path, author)
        return wire.pull(known[author.id])

    async def comment(self, path: str, number: int, comment: str) -> Comment | None:
        """See `Forge`."""
        if not (comment.isascii() and comment.isdigit()):
            return None
        action = f"read a comment on pull request {number} of {path}"
        ask = self._ask.of(path, ("issues", "comments", comment), action, READ_ISSUES)
        answer = await self._web.send(ask)
        # An answer without content: an event of the pull request's history, not a comment.
        if answer.status != 200:
            return None
        wire = self._web.decoded(WireComment, answer, ask)
        return wire.comment() if wire.is_on(number) else None

    async def permission(self, path: str, user: ForgeUser) -> Permission:
        """See `Forge`; found by name, and only where the name still is that user's."""
        if not user.login:
            return Permission.NONE
        action = f"read what {user.login} may do in {path}"
        ask = self._ask.of(path, ("collaborators", user.login, "permission"), action, ADMIN_HOOKS)
        wire = await self._web.read(WirePermission, ask)
        return wire.of(user) if wire is not None else Permission.NONE

    # ForgeVoice

    async def post(self, posting: Posting) -> str:
        """See `ForgeVoice`."""
        return await self._statuses.post(posting)

    async def reply(self, reply: Reply, key: str) -> None:
        """See `ForgeVoice`."""
        await self._replies.say(reply, key)

    # ForgeEntrance

    def event(self, headers: Mapping[str, str], body: bytes) -> Event:
        """See `ForgeEntrance`."""
        return event_of(headers, body, self._credentials.secrets(self._settings.webhook_secrets))

    async def ensure_hook(self, repository: Repository, url: str) -> str:
        """See `ForgeEntrance`."""
        if not self._settings.create_hooks:
            return ""
        return await self._hooks.ensure(repository, url, self._credentials.first(self._settings.webhook_secrets))

    async def git_credential(self, path: str) -> str:
        """See `ForgeEntrance`; any name will do beside the token."""
        owner_and_name(path)
        return f"oauth2:{self._ask.secret()}"

    async def protects(self, path: str, branch: str) -> bool:
        """See `ForgeEntrance`."""
        action = f"read whether a branch of {path} is protected"
        wire = await self._web.read(WireBranch, self._ask.of(path, ("branches", branch), action, READ_CODE))
        return wire is not None and wire.protected

    def events(self) -> AsyncIterator[Hint] | None:
        """See `ForgeEntrance`; there is no stream."""
        return None

    async def aclose(self) -> None:
        """See `ForgeEntrance`."""
        await self._web.aclose()
