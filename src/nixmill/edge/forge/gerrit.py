"""Gerrit: changes are pull requests, patch sets are their heads, a vote and a message are the status.

Everybody may upload a patch set to everybody's change, and all of them lie in the same repository. So who counts is the
uploader of the current patch set: a member of one of `ForgeSettings.groups` is known (tier `member`), everybody else is
a stranger whose patch set waits for approval (tier `fork`). A patch set that only rebases or changes the message holds
the code of the one before, so its uploader must be known too: a member who presses "Rebase" vouches for nothing.

A patch set without new code (kinds NO_CHANGE, NO_CODE_CHANGE, TRIVIAL_REBASE) is looked at like any other: its tree is
mostly known and the result is there at once, and Gerrit may have dropped the vote, so it has to be given again.

Private changes are as if they were not there, since pages about them would be seen by others. Statuses are put on
changes only. Hooks are scripts in Gerrit's site (`nixmill gerrit hook`), so none are made from here.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from nixmill.config.forges import ForgeSettings
from nixmill.core.forge import Comment, Event, ForgeUser, Hint, Repository
from nixmill.core.posting import Posting, Reply
from nixmill.core.pull_request import PullRequest, PullState
from nixmill.core.trust import Permission, may_write
from nixmill.doors import Clock, DoorError
from nixmill.edge.forge import gerrit_review
from nixmill.edge.forge.gerrit_comments import Comments
from nixmill.edge.forge.gerrit_events import verified
from nixmill.edge.forge.gerrit_people import People
from nixmill.edge.forge.gerrit_rest import (
    LOOK,
    LOOK_BACK,
    AccountInfo,
    ChangeInfo,
    GerritRest,
    ProjectInfo,
    RevisionInfo,
    change_path,
    instant,
    read_secret,
    short_text,
)
from nixmill.edge.forge.gerrit_stream import follow, stream_address
from nixmill.edge.forge.web import ForgeWeb, RefusedError, path_of

PAGE: Final = 50
CHANGES_MAX: Final = 1000
REPOSITORIES_MAX: Final = 2000
AT_ONCE: Final = 8
"""Requests that are under way together where one is needed for each repository."""
_SAME_CODE: Final = frozenset({"NO_CHANGE", "NO_CODE_CHANGE", "TRIVIAL_REBASE", "MERGE_FIRST_PARENT_UPDATE"})
"""Kinds of patch sets that hold the code of the one before (json.txt, `patchSet`)."""
_STATES: Final = {"NEW": PullState.OPEN, "DRAFT": PullState.OPEN, "MERGED": PullState.MERGED}


class GerritForge:
    """Implements `Forge`, `ForgeVoice` and `ForgeEntrance` of `nixmill.doors.forge`."""

    def __init__(
        self,
        settings: ForgeSettings,
        credentials: Mapping[str, Path],
        clock: Clock,
        *,
        known_hosts: Path | None = None,
        web: ForgeWeb | None = None,
    ) -> None:
        """Use files of `credentials` by name; keys of ssh servers are kept in `known_hosts`."""
        self._settings = settings
        self._files = credentials
        self._clock = clock
        self._known_hosts = known_hosts
        self._url = settings.url.rstrip("/")
        web = web or ForgeWeb(settings.api_url or self._url, name=settings.name, clock=clock)
        self._rest = GerritRest(web, user=settings.user, token=settings.token, files=credentials)
        self._people = People(self._rest, settings.groups, clock)
        self._comments = Comments(self._rest)
        self._self: AccountInfo | None = None

    async def repositories(self) -> Sequence[Repository]:
        """Return all repositories that our user can see and that hold code."""
        visible = await self._list(anonymous=False)
        public = (await self._list(anonymous=True)).keys()
        names = [name for name, info in visible.items() if info.state != "HIDDEN"]
        found: list[Repository] = []
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            heads = await asyncio.gather(*(self._head(name) for name in some))
            found += [
                self._repository(name, visible[name], head, name in public)
                for name, head in zip(some, heads, strict=True)
            ]
        return found

    async def repository(self, path: str) -> Repository | None:
        """Return one repository. Gerrit knows no former names."""
        action = f"look at {path}"
        info = await self._rest.read(ProjectInfo, path_of("projects", path), action)
        if info is None:
            return None
        return self._repository(path, info, await self._head(path), await self._is_public(path))

    async def pull_requests(self, path: str) -> Sequence[PullRequest]:
        """Return the open changes, the newest first."""
        found: list[PullRequest] = []
        for start in range(0, CHANGES_MAX, PAGE):
            query = f"q={quote(_query(path), safe='')}&n={PAGE}&S={start}&{LOOK}"
            changes = await self._rest.read(list[ChangeInfo], "/changes/", f"read changes of {path}", query=query) or []
            seen = [await self._pull(change, path) for change in changes]
            found += [pull for pull in seen if pull is not None]
            if not changes or not changes[-1].more:
                break
        return found

    async def pull_request(self, path: str, number: int) -> PullRequest | None:
        """Return one change with its current patch set."""
        action = f"read change {number} of {path}"
        change = await self._rest.read(ChangeInfo, change_path(path, number), action, query=LOOK)
        return None if change is None else await self._pull(change, path)

    async def comment(self, path: str, number: int, comment: str) -> Comment | None:
        """Return a message or patch set comment, by its id or by the digest that events give it."""
        return await self._comments.find(path, number, comment)

    async def permission(self, path: str, user: ForgeUser) -> Permission:
        """Return `WRITE` for members of the groups that the settings name, in whatever repository."""
        del path
        return await self._people.permission(user.id)

    async def post(self, posting: Posting) -> str:
        """Vote and say so on the patch set whose commit it is, current or not; return `change~revision`."""
        name = f"{posting.pull_request}~{posting.commit}"
        if posting.pull_request is None or not gerrit_review.says_something(posting):
            return name
        action = f"vote on change {posting.pull_request} of {posting.repository}"
        path = change_path(posting.repository, posting.pull_request)
        change = await self._rest.read(ChangeInfo, path, action, query=LOOK_BACK)
        revision = change.revisions.get(posting.commit) if change else None
        if change is None or revision is None:
            raise _gone(action, posting)
        if gerrit_review.is_said(posting, change.messages, await self._own_id(), str(revision.number)):
            return name
        body = gerrit_review.review(posting, self._settings.label, votes=change.status == "NEW")
        where = f"{path}/revisions/{quote(posting.commit, safe='')}/review"
        if not await self._rest.post(where, body, action, needs=f"Label {self._settings.label}: -1..+1"):
            raise _gone(action, posting)
        return name

    async def reply(self, reply: Reply, key: str) -> None:
        """Answer on a change. Gerrit has no reactions: what was understood and needs no words gets none."""
        await self._comments.reply(reply, key, await self._own_id())

    def event(self, headers: Mapping[str, str], body: bytes) -> Event:
        """Verify and read an event that `nixmill gerrit hook` sent: HMAC-SHA256 over the body."""
        secrets = [read_secret(self._files, name) for name in self._settings.webhook_secrets]
        return verified(headers, body, secrets)

    async def ensure_hook(self, repository: Repository, url: str) -> str:
        """Do nothing: hooks are scripts in Gerrit's site, which an administrator puts there."""
        del repository, url
        return ""

    async def git_credential(self, path: str) -> str:
        """Return user and HTTP password, which are good for git below `/a/` too."""
        del path
        return self._rest.credential()

    async def protects(self, path: str, branch: str) -> bool:
        """Say no: Gerrit protects patterns of refs by rights. The default branch counts as protected anyway."""
        del path, branch
        return False

    def events(self) -> AsyncIterator[Hint] | None:
        """Listen to `gerrit stream-events`; None where the settings name no ssh server."""
        if not self._settings.stream:
            return None
        key = self._files.get(self._settings.private_key)
        address = stream_address(self._settings.stream, self._settings.user, key, self._known_hosts)
        return follow(address, self._clock)

    async def aclose(self) -> None:
        """Let connections go."""
        await self._rest.aclose()

    async def _list(self, *, anonymous: bool) -> dict[str, ProjectInfo]:
        query = f"n={REPOSITORIES_MAX}&type=CODE"
        kind = dict[str, ProjectInfo]
        try:
            found = await self._rest.read(kind, "/projects/", "list repositories", query=query, anonymous=anonymous)
        except RefusedError:
            if anonymous:
                return {}  # this Gerrit shows nothing to people who did not sign in
            raise
        return found or {}

    async def _is_public(self, path: str) -> bool:
        action = f"look at {path} without signing in"
        try:
            return await self._rest.read(ProjectInfo, path_of("projects", path), action, anonymous=True) is not None
        except RefusedError:
            return False

    async def _head(self, path: str) -> str:
        """Return the default branch; empty where there is no commit yet, or we may not know."""
        try:
            head = await self._rest.read(str, path_of("projects", path, "HEAD"), f"read the default branch of {path}")
        except RefusedError as error:
            if error.retryable:
                raise
            return ""
        return (head or "").removeprefix("refs/heads/")

    def _repository(self, name: str, info: ProjectInfo, head: str, public: bool) -> Repository:  # noqa: FBT001 - one caller a line
        path = quote(name, safe="/")
        return Repository(
            id=name,
            path=name,
            owner=name.partition("/")[0] if "/" in name else "",
            clone_url=f"{self._url}/a/{path}",
            default_branch=head,
            private=not public,
            archived=info.state == "READ_ONLY",
        )

    async def _pull(self, change: ChangeInfo, path: str) -> PullRequest | None:
        """Return a change as a pull request; None for private ones and those of another repository."""
        patch_set = change.revisions.get(change.current_revision)
        if change.is_private or change.project != path or patch_set is None:
            return None
        uploader = patch_set.uploader.user()
        permission = await self._people.permission(uploader.id)
        is_known = await self._are_known(change)
        return PullRequest(
            number=change.number,
            title=short_text(change.subject),
            author=uploader,
            url=f"{self._url}/c/{quote(path, safe='/')}/+/{change.number}",
            state=_STATES.get(change.status, PullState.CLOSED),
            draft=change.work_in_progress,
            labels=_labels(change),
            head_ref=f"{change.number}/{patch_set.number}",
            head_commit=change.current_revision,
            # Patch sets lie in the repository whoever uploaded them, so that their place alone would say nothing.
            head_repository=path if is_known else "",
            fetch_ref=_fetch_ref(change, patch_set),
            base_ref=f"refs/heads/{change.branch.removeprefix('refs/heads/')}",
            author_permission=permission,
            updated_at=instant(change.updated),
        )

    async def _are_known(self, change: ChangeInfo) -> bool:
        """Say whether everybody may write whose code the current patch set holds."""
        return all([may_write(await self._people.permission(author)) for author in sorted(_authors(change))])

    async def _own_id(self) -> int:
        if self._self is None:
            path = path_of("accounts", "self")
            self._self = await self._rest.read(AccountInfo, path, "find out who we are")
        return self._self.id if self._self else 0


def _authors(change: ChangeInfo) -> set[str]:
    """Return ids of those whose code the current patch set holds: back to the last one that brought new code."""
    numbered = [(one.number, one) for one in change.revisions.values() if isinstance(one.number, int)]
    found = {change.revisions[change.current_revision].uploader.user().id}
    for _, patch_set in sorted(numbered, key=lambda pair: pair[0], reverse=True):
        found.add(patch_set.uploader.user().id)
        if patch_set.kind not in _SAME_CODE:
            break
    return found


def _labels(change: ChangeInfo) -> tuple[str, ...]:
    return tuple(short_text(label) for label in (*change.hashtags[:50], change.topic) if label)


def _fetch_ref(change: ChangeInfo, patch_set: RevisionInfo) -> str:
    return patch_set.ref or f"refs/changes/{change.number % 100:02}/{change.number}/{patch_set.number}"


def _query(path: str) -> str:
    if '"' in path or "\\" in path:
        raise DoorError(
            f"Gerrit cannot be asked for the changes of a repository called {short_text(path)!r}.",
            door="forge",
            action="read changes",
            subject=short_text(path),
            retryable=False,
        )
    return f'project:"{path}" status:open'


def _gone(action: str, posting: Posting) -> DoorError:
    return DoorError(
        f"Gerrit was asked to {action}: there is no patch set with commit {posting.commit[:12]} (any more).",
        door="forge",
        action=action,
        subject=posting.repository,
        retryable=False,
    )
