"""GitLab, by an access token.

Its scope is `api` (and `read_repository` for git), its role Maintainer: hooks need that. Source: `doc/api/` of GitLab.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from nixmill.config.forges import ForgeSettings
from nixmill.core.forge import Comment, Event, ForgeUser, Hint, Repository
from nixmill.core.posting import Posting, Reply
from nixmill.core.pull_request import PullRequest
from nixmill.core.trust import Permission
from nixmill.doors import Clock, DoorError
from nixmill.edge.forge.credentials import ForgeCredentials
from nixmill.edge.forge.gitlab_ask import PAGE, READ, GitLabAsk, check_path
from nixmill.edge.forge.gitlab_events import event_of
from nixmill.edge.forge.gitlab_hooks import GitLabHooks
from nixmill.edge.forge.gitlab_replies import GitLabReplies
from nixmill.edge.forge.gitlab_statuses import GitLabStatuses
from nixmill.edge.forge.gitlab_wire import (
    MAINTAINER,
    WireBranch,
    WireMember,
    WireMergeRequest,
    WireNote,
    WireProject,
)
from nixmill.edge.forge.numbered_pages import read_pages
from nixmill.edge.forge.web import ForgeWeb

REPOSITORIES_MAX: Final = 5000
PULLS_MAX: Final = 1000


class GitLabForge:
    """Implements `Forge`, `ForgeVoice` and `ForgeEntrance` of `nixmill.doors.forge`."""

    def __init__(self, settings: ForgeSettings, credentials: Mapping[str, Path], clock: Clock) -> None:
        """Speak to the forge that the settings name; secrets are read from their files when they are used."""
        self._settings = settings
        self._credentials = ForgeCredentials(settings.name, credentials)
        self._clock = clock
        self._web = ForgeWeb(settings.api_url or f"{settings.url.rstrip('/')}/api/v4", name=settings.name, clock=clock)
        self._ask = GitLabAsk(self._credentials, settings.token)
        self._statuses = GitLabStatuses(self._web, self._ask)
        self._replies = GitLabReplies(self._web, self._ask)
        self._hooks = GitLabHooks(self._web, self._ask)

    # Forge

    async def repositories(self) -> Sequence[Repository]:
        """See `Forge`; asked for by id, as GitLab gives no deep page of a list."""
        found: list[WireProject] = []
        after = 0
        while len(found) < REPOSITORIES_MAX:
            query: dict[str, str | int] = {
                "membership": "true",
                "min_access_level": MAINTAINER,
                "order_by": "id",
                "sort": "asc",
                "per_page": PAGE,
                "id_after": after,
            }
            ask = self._ask.plain(("projects",), "list our projects", READ, **query)
            page = [one for one in await self._web.do(list[WireProject], ask) if one.id > after]
            if not page:
                break
            found += page
            after = max(one.id for one in page)
        return [one.repository() for one in found]

    async def repository(self, path: str) -> Repository | None:
        """See `Forge`; former paths lead to a redirect, which is followed."""
        wire = await self._web.read(WireProject, self._ask.of(path, (), f"read the project {path}", READ))
        return wire.repository() if wire is not None else None

    async def pull_requests(self, path: str) -> Sequence[PullRequest]:
        """See `Forge`."""
        query: dict[str, str | int] = {
            "state": "opened",
            "per_page": PAGE,
            "order_by": "created_at",
            "sort": "desc",
        }
        ask = self._ask.of(path, ("merge_requests",), f"list the merge requests of {path}", READ, query=query)
        wires = await read_pages(self._web, WireMergeRequest, ask, limit=PULLS_MAX)
        forks: dict[int, WireProject | None] = {}
        known: dict[str, Permission] = {}
        pulls = [await self._pull(path, wire, forks, known) for wire in wires if wire.sha]
        return sorted(pulls, key=lambda pull: pull.number, reverse=True)

    async def pull_request(self, path: str, number: int) -> PullRequest | None:
        """See `Forge`."""
        action = f"read merge request {number} of {path}"
        wire = await self._web.read(WireMergeRequest, self._ask.of(path, ("merge_requests", number), action, READ))
        if wire is None:
            return None
        if wire.is_open() and not wire.sha:
            raise DoorError(
                f"The forge does not say yet which commit merge request {number} of {path} is at; this is tried again.",
                door="forge",
                action=action,
                subject=path,
                retryable=True,
            )
        return await self._pull(path, wire, {}, {})

    async def _pull(
        self,
        path: str,
        wire: WireMergeRequest,
        forks: dict[int, WireProject | None],
        known: dict[str, Permission],
    ) -> PullRequest:
        """Return a merge request; its author's permission is asked for only where something follows from it."""
        source = await self._source(wire, forks)
        author = wire.author.user()
        if source is None or source.owner_id() != author.id:
            return wire.pull(source, Permission.NONE)
        if author.id not in known:
            known[author.id] = await self.permission(path, author)
        return wire.pull(source, known[author.id])

    async def _source(self, wire: WireMergeRequest, forks: dict[int, WireProject | None]) -> WireProject | None:
        """Return the fork that a merge request comes from; None where there is none that we can see."""
        number = wire.source_project_id
        if number is None or not wire.is_from_fork():
            return None
        if number not in forks:
            action = f"read the fork {number}"
            forks[number] = await self._web.read(WireProject, self._ask.of(number, (), action, READ))
        return forks[number]

    async def comment(self, path: str, number: int, comment: str) -> Comment | None:
        """See `Forge`; what GitLab itself wrote into the history is no comment."""
        if not (comment.isascii() and comment.isdigit()):
            return None
        action = f"read a comment on merge request {number} of {path}"
        ask = self._ask.of(path, ("merge_requests", number, "notes", comment), action, READ)
        wire = await self._web.read(WireNote, ask)
        return wire.comment() if wire is not None and not wire.system else None

    async def permission(self, path: str, user: ForgeUser) -> Permission:
        """See `Forge`; roles by groups count. Who has no role can read what is public, and that is not told."""
        if not (user.id.isascii() and user.id.isdigit()):
            return Permission.NONE
        action = f"read what {user.login} may do in {path}"
        wire = await self._web.read(WireMember, self._ask.of(path, ("members", "all", user.id), action, READ))
        return wire.permission() if wire is not None and str(wire.id) == user.id else Permission.NONE

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
        secrets = self._credentials.secrets(self._settings.webhook_secrets)
        return event_of(headers, body, secrets, self._clock.now())

    async def ensure_hook(self, repository: Repository, url: str) -> str:
        """See `ForgeEntrance`."""
        if not self._settings.create_hooks:
            return ""
        return await self._hooks.ensure(repository, url, self._credentials.first(self._settings.webhook_secrets))

    async def git_credential(self, path: str) -> str:
        """See `ForgeEntrance`; any name will do beside the token."""
        check_path(path)
        return f"oauth2:{self._ask.secret()}"

    async def protects(self, path: str, branch: str) -> bool:
        """See `ForgeEntrance`; rules with wildcards count."""
        action = f"read whether a branch of {path} is protected"
        ask = self._ask.of(path, ("repository", "branches", branch), action, READ)
        wire = await self._web.read(WireBranch, ask)
        return wire is not None and wire.protected

    def events(self) -> AsyncIterator[Hint] | None:
        """See `ForgeEntrance`; there is no stream."""
        return None

    async def aclose(self) -> None:
        """See `ForgeEntrance`."""
        await self._web.aclose()
