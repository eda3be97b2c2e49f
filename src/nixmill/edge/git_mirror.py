"""The mirror of a project: a bare repository of ours that only whoever holds its lock writes to.

    <state>/mirrors/<id>.git        branches and tags under their own names, HEAD on the default branch
    <state>/mirrors/<id>.git.lock   held (flock) while one works on it, by git's own processes too; a killed
                                    server's are ended (`nixmill.edge.git_orphans`)
    <state>/mirrors/<id>.git.aside  the last one that was found damaged, for whoever wants to know why

What is no longer on any branch stays for two weeks, git's own time. Does not know remotes (`nixmill.edge.git_fetch`).
Source: gitrepository-layout(5), git-gc(1), flock(2).
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from nixmill.doors import DoorError
from nixmill.edge.git_checkout import MIRROR_NAME
from nixmill.edge.git_command import Git
from nixmill.edge.git_orphans import end_orphans, sign
from nixmill.edge.git_transport import DOOR, size_of
from nixmill.edge.private_files import make_directory

_CLEAN: Final = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "HOME": os.devnull,
    "XDG_CONFIG_HOME": os.devnull,
}
_LOCK_WAIT_S: Final = 0.05
_LEFT_BEHIND: Final = (
    "*.lock",
    "refs/**/*.lock",
    "objects/**/tmp_*",
    "objects/info/**/*.lock",
    "objects/pack/*.keep",
    "gc.pid",
)


class Mirror:
    """One mirror."""

    def __init__(self, directory: Path) -> None:
        """Only say where it is; `made` makes it."""
        self.directory = directory
        self._turn = asyncio.Lock()

    @property
    def git(self) -> Git:
        """Return git in the mirror, without anybody's settings."""
        return Git(str(self.directory), GIT_DIR=str(self.directory), **_CLEAN)

    def git_with_work_tree(self, directory: str) -> Git:
        """Return git with an index and a work tree of its own in an empty directory."""
        variables = {"GIT_DIR": str(self.directory), "GIT_WORK_TREE": directory, "GIT_INDEX_FILE": f"{directory}/index"}
        return Git(directory, **variables, **_CLEAN)

    @property
    def exists(self) -> bool:
        """Whether there is one; it may be damaged."""
        return self.directory.is_dir()

    @contextlib.asynccontextmanager
    async def held(self, limit_s: float) -> AsyncIterator[int]:
        """Hold the lock; gives its descriptor, for children. Raises `DoorError` where others keep it too long."""
        async with self._turn:
            descriptor = await self._lock(limit_s)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    async def make(self, object_format: str) -> None:
        """Make an empty mirror; it appears whole."""
        make_directory(self.directory.parent)
        with tempfile.TemporaryDirectory(dir=self.directory.parent, prefix="new-") as room:
            new = Path(room, "new.git")
            make_directory(new)
            git = Git(str(new), **_CLEAN)
            await git.run("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", ".")
            await asyncio.to_thread(new.rename, self.directory)

    def clean(self) -> None:
        """Remove what a killed git left behind; the lock is held, so nobody needs it any more."""
        for pattern in _LEFT_BEHIND:
            for left in self.directory.glob(pattern):
                left.unlink(missing_ok=True)

    async def has(self, commit: str) -> bool:
        """Say whether a commit, named by its id, is here with everything it needs (as git itself checks a fetch)."""
        if not self.exists:
            return False
        answer = await self.git.ask("rev-list", "--objects", "--quiet", commit, "--not", "--all")
        return answer.status == 0

    async def commit_of(self, ref: str) -> str | None:
        """Return the commit of a ref; None where it has none."""
        answer = await self.git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", ref + "^{commit}")
        return answer.text if answer.status == 0 else None

    async def default_branch(self) -> str:
        """Return the default branch as it was last recorded; empty where there is no mirror."""
        answer = await self.git.ask("symbolic-ref", "--quiet", "HEAD") if self.exists else None
        return answer.text.removeprefix("refs/heads/") if answer and answer.status == 0 else ""

    async def describe(self, name: str, default_branch: str) -> None:
        """Record what trees are called and which branch is the default."""
        if (await self.git.ask("config", "--get", MIRROR_NAME)).text != name:
            await self.git.run("config", MIRROR_NAME, name)
        if default_branch and await self.default_branch() != default_branch:
            await self.git.run("symbolic-ref", "HEAD", f"refs/heads/{default_branch}")

    async def make_room(self, ref: str) -> None:
        """Remove refs that cannot be beside `ref`: of `a` and `a/b` the remote has one, the other is of yesterday."""
        above = [str(path) for path in Path(ref).parents if len(path.parts) > 2]
        listed = await self.git.run("for-each-ref", "--format=%(refname)", ref + "/", *above)
        for name in listed.split("\n"):
            if name and (name in above or name.startswith(ref + "/")):
                await self.git.run("update-ref", "--no-deref", "-d", name)

    async def is_sound(self) -> bool:
        """Read everything; say whether it is all there."""
        if not (self.directory / "HEAD").is_file():
            return False
        return (await self.git.ask("fsck", "--no-dangling", "--no-progress")).status == 0

    def put_aside(self) -> Path:
        """Move a damaged mirror out of the way; return where it is. Only the last one is kept."""
        aside = self.directory.with_name(self.directory.name + ".aside")
        shutil.rmtree(aside, ignore_errors=True)
        self.directory.rename(aside)
        return aside

    def delete(self) -> None:
        """Delete it all; the lock is held."""
        for place in (self.directory, self.directory.with_name(self.directory.name + ".aside")):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(place)
        self._lock_file.unlink(missing_ok=True)

    def size(self) -> int:
        """Return its size in bytes."""
        return size_of(self.directory)

    @property
    def _lock_file(self) -> Path:
        return self.directory.with_name(self.directory.name + ".lock")

    async def _lock(self, limit_s: float) -> int:
        make_directory(self.directory.parent)
        try:
            async with asyncio.timeout(limit_s):
                while (descriptor := self._try_lock()) is None:  # noqa: ASYNC110 - other processes set no event
                    await asyncio.sleep(_LOCK_WAIT_S)
        except TimeoutError:
            raise DoorError(
                f"Another process has been working on {self.directory} for {limit_s:.0f} s. It is tried again; "
                "see that only one server uses this state directory.",
                door=DOOR,
                action="lock",
                subject=str(self.directory),
                retryable=True,
            ) from None
        return descriptor

    def _try_lock(self) -> int | None:
        """Return a descriptor that holds the lock; None where somebody else does, or the file was just deleted."""
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), self._lock_file.stat()):
                sign(descriptor)
                return descriptor
        os.close(descriptor)
        end_orphans(self._lock_file, self.directory)
        return None
