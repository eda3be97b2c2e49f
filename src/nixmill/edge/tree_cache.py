"""Files of trees on disk, written once, found again by tree hash, removed by age.

    <cache>/trees/<tree hash>/<project>/      the files, exactly the tree's: no filter, no local setting has a say
    <cache>/repositories/<id>-<commit>/.git   a repository with nothing but a way to another one's objects

Everything appears by renaming, so what has a name is complete; two processes may make the same thing at once.
What a run uses is touched; what nobody touched for `MAX_AGE_S` is removed when a run begins.
Decides neither what is exported nor why (`nixmill.edge.git`). Source: gitrepository-layout(5), git-checkout-index(1).
"""

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from nixmill.edge.git_checkout import Checkout
from nixmill.edge.git_command import Git
from nixmill.edge.private_files import make_directory

MAX_AGE_S: Final = 14 * 24 * 3600.0
"""No run lasts as long; git keeps unreferenced objects as long by default."""
_CLEAN_ROOM: Final = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "XDG_CONFIG_HOME": os.devnull,
    "HOME": os.devnull,
}
"""Nobody's settings: the files of a tree depend on the tree alone."""

_SETTINGS: Final = {
    "sha1": "[core]\n\trepositoryformatversion = 0\n\tbare = false\n",
    "sha256": "[core]\n\trepositoryformatversion = 1\n\tbare = false\n[extensions]\n\tobjectFormat = sha256\n",
}


class TreeCache:
    """The cache below one directory."""

    def __init__(self, directory: Path) -> None:
        """Make the directory with its first use; only its owner and group may look into it."""
        self.directory = directory

    async def export(self, checkout: Checkout, tree: str, project: str) -> Path:
        """Return the directory with the files of a git tree."""
        place = self._place("trees", tree) / project
        if not place.exists():
            async with self._made(place) as new:
                await _check_out(checkout, tree, new)
        return place

    def copy(self, directory: Path, identity: str, project: str) -> Path:
        """Return a copy of a plain directory whose content has that identity (a name without slashes)."""
        place = self._place("trees", identity) / project
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=self._temporary()) as temporary:
                shutil.copytree(directory, Path(temporary, "new"), symlinks=True)
                _rename(Path(temporary, "new"), place)
        return place

    async def repository(self, checkout: Checkout, commit: str) -> Path:
        """Return a repository at a plain path whose HEAD is `commit`, with the objects of `checkout`."""
        owner = hashlib.sha256(os.fsencode(checkout.common_directory)).hexdigest()[:16]
        place = self._place("repositories", f"{owner}-{commit}")
        if not place.exists():
            async with self._made(place) as new:
                make_repository(new / ".git", checkout, head=commit)
                _link_objects(new / ".git", checkout)
        return place

    def temporary(self) -> tempfile.TemporaryDirectory[str]:
        """Return a directory of one's own for short use."""
        return tempfile.TemporaryDirectory(dir=self._temporary())

    def touch(self, place: Path) -> None:
        """Say that a tree is in use."""
        if place.is_relative_to(self.directory):
            os.utime(self.directory.joinpath(*place.relative_to(self.directory).parts[:2]))

    def prune(self, now: float | None = None) -> None:
        """Remove what nobody used for `MAX_AGE_S`, what a killed process left in the temporary folder included."""
        oldest = (time.time() if now is None else now) - MAX_AGE_S
        for kind in ("trees", "repositories", "temporary"):
            for entry in (self.directory / kind).glob("*"):
                with contextlib.suppress(FileNotFoundError):  # another process prunes too
                    if entry.lstat().st_mtime < oldest:
                        _remove(entry)

    def _place(self, kind: str, name: str) -> Path:
        return self.directory / kind / name

    def _temporary(self) -> Path:
        place = self.directory / "temporary"
        make_directory(place)
        return place

    @contextlib.asynccontextmanager
    async def _made(self, place: Path) -> AsyncIterator[Path]:
        """Give a directory to fill, and let it appear at `place` when the block ends well."""
        with self.temporary() as temporary:
            new = Path(temporary, "new")
            make_directory(new)
            yield new
            _rename(new, place)


def make_repository(git_directory: Path, checkout: Checkout, *, head: str) -> None:
    """Write the least that git takes for a repository; no setting but the format of its objects."""
    (git_directory / "objects").mkdir(parents=True)
    (git_directory / "refs").mkdir()
    (git_directory / "HEAD").write_text(head + "\n")
    (git_directory / "config").write_text(_SETTINGS[checkout.object_format])


async def _check_out(checkout: Checkout, tree: str, directory: Path) -> None:
    """Write a tree's files into `directory`, by a git that sees the objects and no settings."""
    with tempfile.TemporaryDirectory(dir=directory.parent) as room:
        make_repository(Path(room, "git"), checkout, head="ref: refs/heads/none")
        variables = {
            "GIT_DIR": str(Path(room, "git")),
            "GIT_WORK_TREE": str(directory),
            "GIT_OBJECT_DIRECTORY": checkout.objects,
        }
        git = Git(str(directory), **_CLEAN_ROOM, **variables)
        await git.run("read-tree", "-m", "-u", tree)


def _link_objects(git_directory: Path, checkout: Checkout) -> None:
    (git_directory / "objects/info").mkdir()
    (git_directory / "objects/info/alternates").write_bytes(os.fsencode(checkout.objects) + b"\n")
    if checkout.shallow:
        shutil.copy(Path(checkout.common_directory, "shallow"), git_directory / "shallow")


def _rename(new: Path, place: Path) -> None:
    """Let `new` appear at `place`; where another process was faster, its work is as good."""
    make_directory(place.parent)
    try:
        new.rename(place)
    except OSError:
        if not place.exists():
            raise


def _remove(place: Path) -> None:
    """Remove a directory; a copied one may hold directories that are read-only."""
    for directory, _, _ in os.walk(place):
        Path(directory).chmod(stat.S_IRWXU)
    shutil.rmtree(place)
