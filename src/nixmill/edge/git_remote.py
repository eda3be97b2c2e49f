"""The door `Remote`: repositories elsewhere, looked at and fetched into mirrors below the state directory.

    <state>/mirrors/<project id>.git    `nixmill.edge.git_mirror`
    <state>/git/known_hosts             keys of ssh hosts, kept at first sight
    <state>/cache                       files of trees, `nixmill.edge.tree_cache`

A look lists branches and tags only: a big repository has ten times as many refs of pull requests. git cannot ask for
`HEAD` beside them (2.39), so the default branch is asked for apart, once in `HEAD_AGE_S` or when its branch vanishes.
One project's fetches come one after another; different projects' go side by side.
Submodules, where a project wants them, are `nixmill.edge.git_submodules`.
"""

import asyncio
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from nixmill.core.errors import InputError
from nixmill.core.project import Project, Ref, check_url
from nixmill.core.source import Tree, TreeRequest
from nixmill.doors import DoorError
from nixmill.edge.git import GitSource
from nixmill.edge.git_access import Access, Room, access
from nixmill.edge.git_command import GitFailedError
from nixmill.edge.git_fault import fault, hints_damage
from nixmill.edge.git_fetch import Fetching, Wanted
from nixmill.edge.git_mirror import Mirror
from nixmill.edge.git_refs import COMMIT, is_watched, parse_head, parse_listing
from nixmill.edge.git_submodules import Submodules
from nixmill.edge.git_transport import DOOR, Command, Limits, transport
from nixmill.edge.private_files import make_directory

HEAD_AGE_S: Final = 3600.0
_LOG: Final = logging.getLogger(__name__)
_SUBJECT: Final = 500
"""Characters of a commit's first line or author that are kept."""


class _Head(msgspec.Struct, frozen=True, kw_only=True):
    """What a remote's HEAD was."""

    url: str
    branch: str
    object_format: str
    asked_at: float


class GitRemote:
    """Remotes of projects."""

    def __init__(
        self, state: Path, credentials: Mapping[str, Path], *, schemes: Sequence[str], limits: Limits | None = None
    ) -> None:
        """Keep everything below `state`; reach repositories by `schemes`, with `credentials` by name."""
        self._state, self._credentials, self._schemes = state.resolve(), credentials, tuple(schemes)
        self._room = Room(directory=self._state / "git", limits=limits or Limits())
        self._mirrors: dict[int, Mirror] = {}
        self._heads: dict[int, _Head] = {}
        self._refused: dict[int, int] = {}
        self.source = GitSource(self._state / "cache")
        """Trees of mirrors: `TreeRequest(directory=mirror, revision=commit)`."""

    async def look(self, project: Project) -> tuple[Sequence[Ref], str]:
        """Return branches and tags, and the default branch."""
        reached = self._reach(project)
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
        reached, mirror = self._reach(project), self._mirror(project.id)
        async with mirror.held(self._room.limits.fetch_s) as lock:
            wanted = await self._wanted(project, reached, ref, commit)
            fetching = Fetching(mirror, reached, self._room, lock)
            found = await fetching.fetch(wanted)
            submodules = Submodules(mirror, fetching, self._room, self._schemes)
            await submodules.bring(found, reached.url, wanted=project.submodules)
            await fetching.maintain()
        return found

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
                aside = await asyncio.to_thread(mirror.put_aside)
        _LOG.warning("The mirror of %s was damaged; it is in %s and is fetched again.", project.name, aside)
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
        for memory in (self._mirrors, self._heads, self._refused):
            memory.pop(project, None)

    async def keep_only(self, projects: Collection[int]) -> None:
        """Delete the mirrors of projects that are not among these."""
        for directory in await asyncio.to_thread(lambda: list((self._state / "mirrors").glob("*.git"))):
            if directory.stem.isdecimal() and int(directory.stem) not in projects:
                await self.forget(int(directory.stem))

    def mirror(self, project: int) -> str:
        """Return the directory of the mirror."""
        return str(self._mirror(project).directory)

    async def _tree(self, project: Project, commit: str) -> tuple[Tree, str, str]:
        mirror = self._mirror(project.id)
        if not mirror.exists:
            raise InputError(f"{project.name} was not fetched yet.", "Fetch the commit first.")
        await mirror.describe(project.name, "")
        tree = await self.source.tree(TreeRequest(directory=str(mirror.directory), revision=commit))
        shown = await mirror.git.ask("show", "--no-patch", "--encoding=UTF-8", "--format=%an%x00%B", commit)
        author, _, message = shown.output.decode(errors="replace").partition("\0")
        return tree, _line(message), _line(author)

    def _mirror(self, project: int) -> Mirror:
        return self._mirrors.setdefault(project, Mirror(self._state / "mirrors" / f"{project}.git"))

    def _reach(self, project: Project) -> Access:
        """Return how to reach a project's repository; `InputError` where settings and project do not go together."""
        url = check_url(project.url, self._schemes)
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
        make_directory(self._room.directory)
        return access(url, self._room, name=project.credential, secret=secret)

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


def _line(text: str) -> str:
    """Return the first line, printable and short."""
    first = text.lstrip("\n").split("\n", 1)[0].strip()
    shown = "".join(char if char.isprintable() else "�" for char in first)
    return shown if len(shown) <= _SUBJECT else shown[: _SUBJECT - 1] + "…"
