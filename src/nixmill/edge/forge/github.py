"""github.com and GitHub Enterprise Server, as a GitHub App.

What this file does not know: how we prove who we are (`github_app`), what answers and events mean (`github_wire`,
`github_events`), how statuses look (`github_checks`).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from nixmill.config.forges import ForgeSettings
from nixmill.core.forge import Comment, Event, ForgeryError, ForgeUser, Hint, Repository
from nixmill.core.posting import Posting, Reply
from nixmill.core.pull_request import PullRequest
from nixmill.core.trust import Permission
from nixmill.doors import Clock, DoorError
from nixmill.edge.forge import github_events
from nixmill.edge.forge.credentials import ForgeCredentials
from nixmill.edge.forge.delivery import delivery_of, is_signed
from nixmill.edge.forge.github_app import GitHubApp, Installation
from nixmill.edge.forge.github_checks import GitHubChecks
from nixmill.edge.forge.github_hook import GitHubHook
from nixmill.edge.forge.github_replies import GitHubReplies
from nixmill.edge.forge.github_wire import (
    WireBranch,
    WireComment,
    WirePermission,
    WirePull,
    WireRepository,
    comment,
    is_authors_fork,
    is_path,
    permission_of,
    person,
    pull_request,
    repository,
)
from nixmill.edge.forge.web import Ask, RefusedError, path_of

PULLS_MAX: Final = 1000
REPOSITORIES_MAX: Final = 10_000
"""Of one installation."""
PERMISSION_S: Final = 300.0
"""Seconds that the permission of an author is believed."""
_AUTHORS_AT_ONCE: Final = 8
_READ: Final = "Contents: read, Metadata: read, Pull requests: read"


class GitHubForge:
    """Implements `Forge`, `ForgeVoice` and `ForgeEntrance` for GitHub."""

    def __init__(self, settings: ForgeSettings, credentials: Mapping[str, Path], clock: Clock) -> None:
        """Be the App that the settings name, with its secrets in these files."""
        self._settings = settings
        self._secrets = ForgeCredentials(settings.name, credentials)
        self._clock = clock
        self._app = GitHubApp(settings, self._secrets, clock)
        self._checks = GitHubChecks(self._app)
        self._replies = GitHubReplies(self._app)
        self._hook = GitHubHook(self._app, settings, self._secrets)
        self._authors: dict[tuple[str, str], tuple[float, Permission]] = {}

    async def repositories(self) -> Sequence[Repository]:
        """See `Forge`."""
        found: list[Repository] = []
        for installation in await self._app.installations():
            try:
                found += await self._of_installation(installation)
            except RefusedError as error:
                if error.status != 404:  # the App was taken off since
                    raise
        return found

    async def _of_installation(self, installation: Installation) -> list[Repository]:
        ask = Ask(
            "GET",
            "/installation/repositories",
            "list the repositories of an installation",
            needs=_READ,
            query={"per_page": 100},
            remember=True,
        )
        wire = await self._app.list_of(WireRepository, installation, ask, key="repositories", limit=REPOSITORIES_MAX)
        for one in wire:
            self._app.remember(one.full_name, installation)
        return [repository(one) for one in wire if is_path(one.full_name)]

    async def repository(self, path: str) -> Repository | None:
        """See `Forge`."""
        if not is_path(path):
            return None
        found = await self._app.read(WireRepository, path, _get(path, f"read {path}"))
        return repository(found) if found is not None else None

    async def pull_requests(self, path: str) -> Sequence[PullRequest]:
        """See `Forge`."""
        if not is_path(path):
            return []
        query: dict[str, str | int] = {"state": "open", "sort": "created", "direction": "desc", "per_page": 100}
        ask = _get(path, f"list the pull requests of {path}", "pulls")._replace(query=query)
        wire = await self._app.read_all(WirePull, path, ask, limit=PULLS_MAX)
        permissions = await self._of_authors(path, wire)
        return [pull_request(one, permissions.get(person(one.user).id, Permission.NONE)) for one in wire]

    async def pull_request(self, path: str, number: int) -> PullRequest | None:
        """See `Forge`."""
        if not is_path(path) or number <= 0:
            return None
        ask = _get(path, f"read pull request {number} of {path}", "pulls", number)
        found = await self._app.read(WirePull, path, ask)
        if found is None:
            return None
        permissions = await self._of_authors(path, [found])
        return pull_request(found, permissions.get(person(found.user).id, Permission.NONE))

    async def comment(self, path: str, number: int, comment_id: str) -> Comment | None:
        """See `Forge`."""
        if not is_path(path) or not (comment_id.isascii() and comment_id.isdigit() and len(comment_id) < 20):
            return None
        ask = _get(path, f"read a comment in {path}", "issues", "comments", comment_id)
        found = await self._app.read(WireComment, path, ask)
        if found is None or not found.issue_url.endswith(f"/issues/{number}"):
            return None
        return comment(found)

    async def permission(self, path: str, user: ForgeUser) -> Permission:
        """See `Forge`."""
        if not is_path(path) or not user.id or not user.login:
            return Permission.NONE
        ask = _get(path, f"read what {user.login} may do in {path}", "collaborators", user.login, "permission")
        found = await self._app.read(WirePermission, path, ask)
        return permission_of(found, user) if found is not None else Permission.NONE

    async def _of_authors(self, path: str, pulls: Sequence[WirePull]) -> dict[str, Permission]:
        """Return the permissions of the authors, by id, where they decide anything; believed for `PERMISSION_S`."""
        authors = {person(one.user).id: person(one.user) for one in pulls if is_authors_fork(one)}
        room = asyncio.Semaphore(_AUTHORS_AT_ONCE)
        found = await asyncio.gather(*(self._of_author(path, author, room) for author in authors.values()))
        return dict(zip(authors, found, strict=True))

    async def _of_author(self, path: str, author: ForgeUser, room: asyncio.Semaphore) -> Permission:
        async with room:
            at, known = self._authors.get((path, author.id), (-PERMISSION_S, Permission.NONE))
            if self._clock.now() < at + PERMISSION_S:
                return known
            told = await self.permission(path, author)
            self._remember_author(path, author, told)
            return told

    def _remember_author(self, path: str, author: ForgeUser, told: Permission) -> None:
        now = self._clock.now()
        if len(self._authors) > 10 * PULLS_MAX:
            self._authors = {key: one for key, one in self._authors.items() if now < one[0] + PERMISSION_S}
        self._authors[path, author.id] = (now, told)

    async def post(self, posting: Posting) -> str:
        """See `ForgeVoice`."""
        return await self._checks.post(posting, self._clock.now())

    async def reply(self, reply: Reply, key: str) -> None:
        """See `ForgeVoice`."""
        await self._replies.reply(reply, key, self._clock.now())

    def event(self, headers: Mapping[str, str], body: bytes) -> Event:
        """See `ForgeEntrance`."""
        shown = headers.get("x-hub-signature-256", "")
        if not shown.startswith("sha256="):
            raise ForgeryError("The delivery has no signature by SHA-256: give the App's webhook a secret.")
        if not is_signed(shown.removeprefix("sha256="), self._webhook_secrets(), body):
            raise ForgeryError("The signature of the delivery is wrong: the App's webhook has another secret.")
        kind = headers.get("x-github-event", "")
        return Event(
            delivery=delivery_of(headers.get("x-github-delivery", ""), body, kind),
            hints=github_events.hints(kind, body, self._app.id),
        )

    def _webhook_secrets(self) -> list[str]:
        """Return the secrets that can be read: while they are changed, one may be missing."""
        found: list[str] = []
        missing: DoorError | None = None
        for name in self._settings.webhook_secrets:
            try:
                found.append(self._secrets.secret(name))
            except DoorError as error:
                missing = error
        if not found and missing is not None:
            raise missing
        return found

    async def ensure_hook(self, repository: Repository, url: str) -> str:  # noqa: ARG002 - an App has one for all
        """See `ForgeEntrance`."""
        return await self._hook.ensure(url, self._clock.now())

    async def git_credential(self, path: str) -> str:
        """See `ForgeEntrance`; the token may read just this repository."""
        installation = await self._app.installation(path)
        if installation is None:
            return ""
        return f"x-access-token:{await self._app.token(installation, path.split('/')[1])}"

    async def protects(self, path: str, branch: str) -> bool:
        """See `ForgeEntrance`."""
        if not is_path(path) or not branch:
            return False
        ask = _get(path, f"read a branch of {path}", "branches", branch)
        found = await self._app.read(WireBranch, path, ask)
        return found is not None and found.protected

    def events(self) -> AsyncIterator[Hint] | None:
        """See `ForgeEntrance`: GitHub has no stream."""
        return None

    async def aclose(self) -> None:
        """See `ForgeEntrance`."""
        await self._app.web.aclose()


def _get(path: str, action: str, *parts: str | int) -> Ask:
    owner, name = path.split("/")
    return Ask("GET", path_of("repos", owner, name, *parts), action, needs=_READ, remember=True)
