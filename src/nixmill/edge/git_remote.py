"""The doors `Remote` and `Merging`: repositories elsewhere, fetched into mirrors below the state directory.

    <state>/mirrors/<project id>.git    `nixmill.edge.git_mirror`
    <state>/git/known_hosts             keys of ssh hosts, kept at first sight
    <state>/git/token-<project id>      `nixmill.edge.git_tokens`
    <state>/cache                       files of trees, `nixmill.edge.tree_cache`

A look lists branches and tags only: a big repository has ten times as many refs of pull requests. git cannot ask for
`HEAD` beside them (2.39), so the default branch is asked for apart, once in `HEAD_AGE_S` or when its branch vanishes.
One project's fetches come one after another; different projects' go side by side.
Submodules, where a project wants them, are `nixmill.edge.git_submodules`; heads of pull requests `git_heads`, merges
`git_merge`, comparisons `git_compare`.
"""

import asyncio
import datetime as dt
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from nixmill.core.commit_text import first_line
from nixmill.core.errors import InputError
from nixmill.core.merged import Comparison, Merged
from nixmill.core.project import Project, Ref, check_url, short
from nixmill.core.source import Tree, TreeRequest
from nixmill.doors import DoorError
from nixmill.edge.git import GitSource
from nixmill.edge.git_access import Access, Room, access, scheme_of
from nixmill.edge.git_bounds import check_bounds
from nixmill.edge.git_command import GitFailedError
from nixmill.edge.git_compare import compared, said_in
from nixmill.edge.git_fault import fault, hints_damage
from nixmill.edge.git_fetch import Fetching, Wanted
from nixmill.edge.git_heads import forget_old_merges, head_ref, keep, keep_merge, was_merged
from nixmill.edge.git_merge import merged
from nixmill.edge.git_mirror import Mirror
from nixmill.edge.git_refs import COMMIT, is_ref, is_watched, parse_head, parse_listing
from nixmill.edge.git_submodules import Submodules
from nixmill.edge.git_tokens import forget_token, write_token
from nixmill.edge.git_transport import DOOR, Command, Limits, transport
from nixmill.edge.git_version import check_version
from nixmill.edge.private_files import make_directory

HEAD_AGE_S: Final = 3600.0
_LOG: Final = logging.getLogger(__name__)


Tokens = Callable[[Project], Awaitable[str | None]]
"""Gives the token that a project is fetched with now, `secret` or `user:secret`; None where it has none."""


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a remote's HEAD was."""

    url: str
    branch: str
    object_format: str
    asked_at: float


class GitRemote:
    """Remotes of projects."""

    def __init__(
        self,
        state: Path,
        credentials: Mapping[str, Path],
        *,
        schemes: Sequence[str],
        limits: Limits | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        """Keep everything below `state`; reach repositories by `schemes`, with `credentials` by name.

        `tokens` is asked before each command that uses http(s); where it gives nothing the credential is used.
        """
        self._state, self._credentials, self._schemes = state.resolve(), credentials, tuple(schemes)
        self._tokens, self._tidied, self._can_merge = tokens, dict[int, dt.date](), False
        self._room = Room(directory=self._state / "git", limits=limits or Limits())
        self._mirrors: dict[int, Mirror] = {}
        self._heads: dict[int, _Head] = {}
        self._refused: dict[int, int] = {}
        self.source = GitSource(self._state / "cache")
        """Trees of mirrors: `TreeRequest(directory=mirror, revision=commit)`."""

    async def look(self, project: Project) -> tuple[Sequence[Ref], str]:
        """Return branches and tags, and the default branch."""
        reached = await self._reach(project)
        listing = parse_listing(await self._list(reached, "--heads", "--tags", "--", reached.url))
        self._tell_refused(project, listing.refused)
        if len(listing.refs) > self._room.limits.refs:
            raise DoorError(
                f"{reached.url} has {len(listing.refs)} branches and tags; "
                f"at most {self._room.limits.refs} are watched. Delete old ones there.",
                door=DOOR,
                action="look",
                subject=reached.url,
                retryable=False,
            )
        head = await self._head(project, reached, {ref.name for ref in listing.refs})
        return listing.refs, head.branch

    async def fetch(self, project: Project, ref: str, commit: str) -> str:
        """Return a commit that is then in the mirror with its whole history."""
        if COMMIT.fullmatch(ref) and not commit:
            ref, commit = "", ref
        if (ref and not is_watched(ref)) or (commit and not COMMIT.fullmatch(commit)) or not (ref or commit):
            raise InputError(
                f"{ref or commit!r} is neither a branch, a tag nor a commit.",
                "Give refs/heads/NAME, refs/tags/NAME or the whole id of a commit.",
            )
        return await self._fetch(project, ref, commit, "")

    async def fetch_head(self, project: Project, ref: str, commit: str) -> str:
        """Return the head of a pull request, which is then in the mirror, but not as a branch; else as `fetch`.

        `ref` is what the remote calls it: `refs/pull/7/head`, `refs/changes/34/1234/5`, or any other.
        """
        if not is_ref(ref) or (commit and not COMMIT.fullmatch(commit)):
            raise InputError(
                f"{ref!r} with the commit {commit!r} is no head of a pull request.",
                "Give a whole ref such as refs/pull/7/head, and the whole id of a commit or none.",
            )
        await self._see_version()
        return await self._fetch(project, ref, commit, head_ref(ref))

    async def merge(self, project: Project, head: str, base_ref: str, base: str = "") -> Merged:
        """Return the commit that has `head` merged into the tip of `base_ref` now, or into `base`; see `git_merge`."""
        if not is_watched(base_ref) or not all(COMMIT.fullmatch(commit) for commit in (head, base or head)):
            raise InputError(
                f"{head!r} cannot be merged into {base_ref!r} {base}".rstrip() + ".",
                "Give whole ids of commits, and refs/heads/NAME.",
            )
        await self._see_version()
        reached, mirror = await self._reach(project), self._mirror(project.id)
        async with mirror.held(self._room.limits.fetch_s) as lock:
            fetching = Fetching(mirror, reached, self._room, lock)
            try:
                return await self._merge(project, fetching, head, base_ref, base)
            except GitFailedError as error:
                if not hints_damage(error.complaint) or await mirror.is_sound():
                    raise
            await self._put_aside(project)
            return await self._merge(project, fetching, head, base_ref, base)

    async def keep_heads(self, project: int, refs: Collection[str]) -> None:
        """Forget heads of pull requests but those that the remote has at `refs`: the others are closed."""
        mirror = self._mirror(project)
        if mirror.exists:
            async with mirror.held(self._room.limits.fetch_s):
                mirror.clean()
                await keep(mirror, refs)

    async def compare(self, project: Project, old: str, new: str, patch_of: Collection[str] = ()) -> Comparison:
        """Return what changed from `old` to `new`, both fetched before, with patches of files that globs match."""
        mirror = await self._having(project, old, new)
        return await compared(mirror, old, new, patch_of, self._room.limits)

    async def said(self, project: Project, commit: str) -> tuple[str, str]:
        """Return the whole message of a fetched commit, at most 64 KiB of it, and its author."""
        return await said_in(await self._having(project, commit), commit)

    async def contains(self, project: Project, ancestor: str, descendant: str) -> bool:
        """Say whether `descendant` is or comes after `ancestor`; both were fetched before."""
        mirror = await self._having(project, ancestor, descendant)
        return (await mirror.git.ask("merge-base", "--is-ancestor", ancestor, descendant)).status == 0

    async def tree(self, project: Project, commit: str) -> tuple[Tree, str, str]:
        """Return files, first line and author of a commit; fetches it again where the mirror is damaged."""
        if not COMMIT.fullmatch(commit):
            raise InputError(f"{commit!r} is no id of a commit.", "Give all its digits.")
        try:
            return await self._tree(project, commit)
        except (GitFailedError, InputError) as error:
            mirror = self._mirror(project.id)
            if not mirror.exists or (isinstance(error, GitFailedError) and not hints_damage(error.complaint)):
                raise
            async with mirror.held(self._room.limits.fetch_s):
                if await mirror.is_sound():
                    raise
                lost = was_merged(mirror, commit)
                await self._put_aside(project)
        if lost:
            raise DoorError(
                f"The merge {commit[:12]} of {project.name} was lost with a damaged mirror. It is made again.",
                door=DOOR,
                action="read a tree",
                subject=project.url,
                retryable=True,
            )
        await self.fetch(project, commit, "")
        return await self._tree(project, commit)

    async def has(self, project: int, commit: str) -> bool:
        """Say whether a commit can still be compared with: it is in the mirror, whole."""
        return COMMIT.fullmatch(commit) is not None and await self._mirror(project).has(commit)

    async def forget(self, project: int) -> None:
        """Delete the mirror of a project."""
        mirror = self._mirror(project)
        async with mirror.held(self._room.limits.fetch_s):
            await asyncio.to_thread(mirror.delete)
        forget_token(self._room.directory, project)
        for memory in (self._mirrors, self._heads, self._refused, self._tidied):
            memory.pop(project, None)

    async def keep_only(self, projects: Collection[int]) -> None:
        """Delete the mirrors of projects that are not among these."""
        for directory in await asyncio.to_thread(lambda: list((self._state / "mirrors").glob("*.git"))):
            if directory.stem.isdecimal() and int(directory.stem) not in projects:
                await self.forget(int(directory.stem))

    def mirror(self, project: int) -> str:
        """Return the directory of the mirror."""
        return str(self._mirror(project).directory)

    async def _fetch(self, project: Project, ref: str, commit: str, keep_at: str) -> str:
        reached, mirror = await self._reach(project), self._mirror(project.id)
        async with mirror.held(self._room.limits.fetch_s) as lock:
            wanted = await self._wanted(project, reached, ref, commit)
            fetching = Fetching(mirror, reached, self._room, lock)
            found = await fetching.fetch(msgspec.structs.replace(wanted, keep=keep_at))
            if keep_at:
                await check_bounds(mirror.git, found, self._room.limits)
            await self._bring_submodules(project, fetching, found)
            await fetching.maintain()
        return found

    async def _see_version(self) -> None:
        if not self._can_merge:
            make_directory(self._state)
            await check_version(str(self._state))
            self._can_merge = True

    async def _bring_submodules(self, project: Project, fetching: Fetching, commit: str) -> None:
        submodules = Submodules(self._mirror(project.id), fetching, self._room, self._schemes)
        await submodules.bring(commit, project.url, wanted=project.submodules)

    async def _merge(self, project: Project, fetching: Fetching, head: str, base_ref: str, base: str) -> Merged:
        mirror, today = self._mirror(project.id), dt.datetime.now(dt.UTC).date()
        tip = await fetching.fetch(await self._wanted(project, fetching.reached, base_ref, base))
        if not await mirror.has(head):
            await fetching.fetch(await self._wanted(project, fetching.reached, "", head))
        await check_bounds(mirror.git, head, self._room.limits)
        made = await merged(mirror, head, tip, short(base_ref))
        await keep_merge(mirror, made.commit, today)
        if self._tidied.get(project.id) != today:
            await forget_old_merges(mirror, today)
            self._tidied[project.id] = today
        await self._bring_submodules(project, fetching, made.commit)
        return made

    async def _put_aside(self, project: Project) -> None:
        """Move a damaged mirror out of the way; the lock is held."""
        aside = await asyncio.to_thread(self._mirror(project.id).put_aside)
        _LOG.warning("The mirror of %s was damaged; it is in %s and is fetched again.", project.name, aside)

    async def _having(self, project: Project, *commits: str) -> Mirror:
        """Return the mirror; `InputError` where it does not have these commits."""
        mirror = self._mirror(project.id)
        for commit in commits:
            if not COMMIT.fullmatch(commit):
                raise InputError(f"{commit!r} is no id of a commit.", "Give all its digits.")
            if not mirror.exists or await mirror.commit_of(commit) != commit:
                raise InputError(
                    f"Commit {commit[:12]} of {project.name} is not here.",
                    "Fetch it first; one that was force-pushed away is gone after a while.",
                )
        return mirror

    async def _tree(self, project: Project, commit: str) -> tuple[Tree, str, str]:
        mirror = self._mirror(project.id)
        if not mirror.exists:
            raise InputError(f"{project.name} was not fetched yet.", "Fetch the commit first.")
        await mirror.describe(project.name, "")
        tree = await self.source.tree(TreeRequest(directory=str(mirror.directory), revision=commit))
        message, author = await said_in(mirror, commit)
        return tree, first_line(message), first_line(author)

    def _mirror(self, project: int) -> Mirror:
        return self._mirrors.setdefault(project, Mirror(self._state / "mirrors" / f"{project}.git"))

    async def _reach(self, project: Project) -> Access:
        """Return how to reach a project's repository; `InputError` where settings and project do not go together."""
        url = check_url(project.url, self._schemes)
        make_directory(self._room.directory)
        token = await self._tokens(project) if self._tokens and scheme_of(url) in {"https", "http"} else None
        if token is None:
            return access(url, self._room, name=project.credential, secret=self._secret(project))
        return access(url, self._room, name="of its forge", secret=write_token(self._room.directory, project.id, token))

    def _secret(self, project: Project) -> Path | None:
        secret = self._credentials.get(project.credential) if project.credential else None
        if project.credential and secret is None:
            raise InputError(
                f"{project.name} uses the credential {project.credential!r}, which the server does not have.",
                "Add it to `credentials` in the server's settings, or choose another one.",
            )
        if secret is not None and not os.access(secret, os.R_OK):
            raise InputError(
                f"The file of the credential {project.credential!r} cannot be read.",
                f"Let the server's user read {secret}, and nobody else.",
            )
        return secret

    async def _list(self, reached: Access, *arguments: str) -> bytes:
        command = Command(
            arguments=("ls-remote", *arguments),
            directory=self._room.directory,
            environment=reached.environment | {"GIT_CEILING_DIRECTORIES": str(self._state)},
            limit_s=self._room.limits.look_s,
            who=reached.url,
        )
        answer = await transport(command)
        if answer.status != 0:
            raise fault(answer.complaint, reached, self._room, "git ls-remote")
        return answer.output

    async def _head(self, project: Project, reached: Access, names: set[str] | None) -> _Head:
        """Return the remote's HEAD, asked anew where it is old or its branch is not among `names`."""
        known, now = self._heads.get(project.id), time.monotonic()
        if (
            known is not None
            and known.url == reached.url
            and now - known.asked_at < HEAD_AGE_S
            and (names is None or f"refs/heads/{known.branch}" in names)
        ):
            return known
        branch, commit = parse_head(await self._list(reached, "--symref", "--", reached.url, "HEAD"))
        object_format = "sha256" if len(commit) == 64 else "sha1"
        head = _Head(url=reached.url, branch=branch, object_format=object_format, asked_at=now)
        self._heads[project.id] = head
        return head

    async def _wanted(self, project: Project, reached: Access, ref: str, commit: str) -> Wanted:
        mirror, default, object_format = self._mirror(project.id), project.default_branch, "sha1"
        if not mirror.exists:
            head = await self._head(project, reached, None)
            default, object_format = default or head.branch, head.object_format
        elif not default:
            known = self._heads.get(project.id)
            default = known.branch if known and known.branch else await mirror.default_branch()
        if not is_watched(f"refs/heads/{default}"):
            default = ""
        object_format = "sha256" if len(commit) == 64 else object_format
        return Wanted(ref=ref, commit=commit, default_branch=default, name=project.name, object_format=object_format)

    def _tell_refused(self, project: Project, refused: int) -> None:
        """Log that refs are left out; again only when their number changes, since looks are frequent."""
        if refused and self._refused.get(project.id) != refused:
            _LOG.warning("%s has %d branches or tags with names that are not taken; left out.", project.name, refused)
        self._refused[project.id] = refused
