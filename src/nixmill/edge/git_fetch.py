"""Fetches one ref or one commit of a remote into its mirror.

Decides what is asked for: the ref and the default branch (for merge bases), with their whole history; the commit by
itself where the ref has moved on. A damaged mirror is put aside and fetched again, once. The mirror's lock is held by
the caller.
"""

import asyncio
import logging
from typing import Final

import msgspec

from nixmill.core.errors import GoneError, InputError
from nixmill.core.project import short
from nixmill.doors import DoorError
from nixmill.edge.git_access import Access, Room
from nixmill.edge.git_command import Answer, GitFailedError
from nixmill.edge.git_fault import fault, hints_damage, is_gone
from nixmill.edge.git_mirror import Mirror
from nixmill.edge.git_orphans import MARK
from nixmill.edge.git_transport import DOOR, Command, transport

_LOG: Final = logging.getLogger(__name__)
_GUARD_S: Final = 0.25
"""How often the size of a mirror is looked at while it grows."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be fetched."""

    ref: str
    """In full, or empty where only a commit is known."""
    keep: str = ""
    """The ref that keeps the commit in the mirror, where it must not be a branch of that name there."""
    commit: str
    """Empty: the newest of `ref`."""
    default_branch: str
    name: str
    """What trees of the mirror are called."""
    object_format: str
    """`sha1` or `sha256`: what a new mirror is made for."""


class Fetching:
    """One fetch, under the lock of its mirror."""

    def __init__(self, mirror: Mirror, reached: Access, room: Room, lock: int) -> None:
        """Let git's processes inherit `lock`."""
        self._mirror, self._reached, self._room, self._lock = mirror, reached, room, lock
        self._suspicious = False

    def to(self, reached: Access) -> "Fetching":
        """Return the same from another remote into the same mirror."""
        return Fetching(self._mirror, reached, self._room, self._lock)

    @property
    def reached(self) -> Access:
        """How the remote is reached."""
        return self._reached

    async def fetch(self, wanted: Wanted) -> str:
        """Return the commit, which is then in the mirror; see `nixmill.doors.server.Remote.fetch`."""
        answer = await self._tried(wanted)
        if self._suspicious and not await self._mirror.is_sound():
            aside = await asyncio.to_thread(self._mirror.put_aside)
            _LOG.warning("The mirror of %s was damaged; it is in %s and is fetched again.", wanted.name, aside)
            answer = await self._tried(wanted)
        if isinstance(answer, str):
            return answer
        raise fault(answer.complaint, self._reached, self._room, "git fetch")

    async def maintain(self) -> None:
        """Let git pack what became many small files; that it fails is no reason to refuse what was fetched."""
        answer = await self._run("maintenance", "run", "--auto", "--quiet")
        if answer.status != 0:
            _LOG.warning("git could not tidy %s: %s", self._mirror.directory, answer.complaint.strip()[:500])

    async def bring(self, *refspecs: str) -> Answer:
        """Fetch by refspecs from the remote; a limit is a `DoorError`, a refusal an answer."""
        options = ("--quiet", "--force", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")
        return await self._run("fetch", *options, "--no-auto-maintenance", "--", self._reached.url, *refspecs)

    async def _tried(self, wanted: Wanted) -> str | Answer:
        if not self._mirror.exists:
            await self._mirror.make(wanted.object_format)
        self._mirror.clean()
        try:
            await self._mirror.describe(wanted.name, wanted.default_branch)
            if wanted.commit and await self._mirror.has(wanted.commit):
                return await self._kept(wanted)
            self._see_size()
            return await self._newest(wanted) if wanted.ref else await self._by_commit(wanted)
        except GitFailedError as error:  # the mirror itself: perhaps it is damaged
            self._suspicious |= hints_damage(error.complaint)
            return Answer(status=1, output=b"", complaint=error.complaint)

    async def _newest(self, wanted: Wanted) -> str | Answer:
        """Fetch the ref; fall back to the commit."""
        answer = await self._bring_ref(wanted)
        if answer.status != 0 and not is_gone(answer.complaint):
            return answer
        if answer.status != 0 and not wanted.commit:
            raise GoneError(f"{short(wanted.ref)} is no longer there: it was deleted from {self._reached.url}.")
        if wanted.commit:
            return await self._kept(wanted) if await self._mirror.has(wanted.commit) else await self._by_commit(wanted)
        commit = await self._mirror.commit_of(wanted.keep or wanted.ref)
        if commit is None:
            raise InputError(f"{short(wanted.ref)} of {self._reached.url} is no commit.", "Tag a commit instead.")
        return commit

    async def _kept(self, wanted: Wanted) -> str:
        """Return the wanted commit, which is here, and see that it stays."""
        if wanted.keep:
            await self._mirror.git.run("update-ref", wanted.keep, wanted.commit)
        return wanted.commit

    async def _bring_ref(self, wanted: Wanted) -> Answer:
        places = {wanted.keep or wanted.ref: wanted.ref}
        if wanted.default_branch:
            places.setdefault(default := f"refs/heads/{wanted.default_branch}", default)
        for place in places:
            await self._mirror.make_room(place)
        refspecs = [f"+{ref}:{place}" for place, ref in places.items()]
        answer = await self.bring(*refspecs)
        if len(refspecs) > 1 and answer.status != 0 and is_gone(answer.complaint):  # perhaps the default branch is gone
            answer = await self.bring(refspecs[0])
        return answer

    async def _by_commit(self, wanted: Wanted) -> str | Answer:
        answer = await self.bring(f"+{wanted.commit}:{wanted.keep}" if wanted.keep else wanted.commit)
        if answer.status == 0 and await self._mirror.has(wanted.commit):
            return wanted.commit
        if answer.status == 0 or is_gone(answer.complaint):
            where = f" of {short(wanted.ref)}" if wanted.ref else ""
            raise GoneError(
                f"Commit {wanted.commit[:12]}{where} is no longer there: it was force-pushed or deleted.",
                f"Run the newest commit instead; {self._reached.url} no longer gives this one.",
            )
        return answer

    async def _run(self, *arguments: str) -> Answer:
        mirror = str(self._mirror.directory)
        command = Command(
            arguments=arguments,
            directory=self._mirror.directory,
            environment=self._reached.environment | {"GIT_DIR": mirror, MARK: mirror},
            limit_s=self._room.limits.fetch_s,
            inherit=(self._lock,),
            who=self._reached.url,
        )
        answer = await transport(command, self._guard)
        await asyncio.to_thread(self._see_size)  # it may have ended between two looks
        self._suspicious |= hints_damage(answer.complaint, failed=answer.status != 0)
        return answer

    async def _guard(self) -> None:
        while True:
            await asyncio.sleep(_GUARD_S)
            await asyncio.to_thread(self._see_size)

    def _see_size(self) -> None:
        limit = self._room.limits.mirror_bytes
        if self._mirror.size() > limit:
            raise DoorError(
                f"{self._reached.url} takes more than {limit >> 20} MiB here and was cut off. "
                "Make the repository smaller (large files in its history?), or raise the limit.",
                door=DOOR,
                action="git fetch",
                subject=self._reached.url,
                retryable=False,
            )
