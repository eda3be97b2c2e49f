"""A directory of symbolic links to store paths, each named by the hash part of what it leads to.

Links appear whole or not at all, and only this user can take them away. What this file does not know: what makes a
link a root.
"""

import contextlib
import os
import re
import stat
import tempfile
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from nixmill.doors import DoorError
from nixmill.nix.store_path import HASH_LENGTH, StorePath, StorePathError, hash_part, parse

MODE: Final = 0o755
"""Everybody may look: programs that list roots run as anybody."""
_NEW: Final = ".new-"
"""Begins the name of a link that is about to take another's place."""
CLAIM: Final = ".server"
"""Names the server that a directory belongs to; no root, as no store path is called so."""
_HASH_PART: Final = re.compile(rf"[0-9a-df-np-sv-z]{{{HASH_LENGTH}}}")


def prepare(directory: Path, server: str = "") -> str:
    """Make a directory for links where there is none; return why it cannot be used, empty where it can.

    Whoever else could write there could let go of our roots. So could another server, which lets go of what it does
    not know: the first one to use a directory claims it.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=MODE)
            directory.chmod(MODE)  # whatever our umask is: nothing in it is secret, and only we may write
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode):
            return f"{directory} is no directory."
        if found.st_uid != os.geteuid():
            return f"{directory} belongs to user {found.st_uid}, and nixmill runs as user {os.geteuid()}."
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"{directory} may be written by others. Take that away with `chmod go-w`."
        for left in directory.glob(f"{_NEW}*"):
            left.unlink()
        with tempfile.TemporaryFile(dir=directory):
            pass
        if server and _claimed(directory, server) != server:
            return f"{directory} belongs to another server of this machine ({directory / CLAIM} names it)."
    except OSError as error:
        return f"{error.filename or directory}: {error.strerror}."
    return ""


def _claimed(directory: Path, server: str) -> str:
    """Return which server a directory belongs to: this one, where it belonged to none."""
    claim = directory / CLAIM
    with contextlib.suppress(FileExistsError), claim.open("x", encoding="utf-8") as stream:
        stream.write(server)
    return claim.read_text(encoding="utf-8", errors="replace")


class Made(NamedTuple):
    """What became of links that were to be made."""

    new: set[StorePath]
    """Those that did not stand before."""
    faults: dict[StorePath, str]
    """Those that could not be made, with the reason."""


class Links:
    """The links of one directory, which `prepare` has made. All of it blocks."""

    def __init__(self, directory: Path, store_dir: str) -> None:
        """Use a directory for paths of one store."""
        self.directory = directory
        self._store_dir = store_dir
        self._replacing = threading.Lock()

    def make(self, paths: Collection[StorePath]) -> Made:
        """Make links. A loss of power may undo them, as it may what they lead to."""
        new: set[StorePath] = set()
        faults: dict[StorePath, str] = {}
        with self._opened("make roots") as directory:
            for path in paths:
                try:
                    if self._make(directory, parse(path, self._store_dir)):
                        new.add(path)
                except StorePathError as error:
                    faults[path] = f"No root can be made: {error}"
                except OSError as error:
                    faults[path] = f"No root can be made for {path}: {self.directory / hash_part(path)}: {_why(error)}"
        return Made(new, faults)

    def standing(self) -> set[str]:
        """Return the names of all links."""
        with self._opened("list roots") as directory, os.scandir(directory) as entries:
            return {entry.name for entry in entries if len(entry.name) == HASH_LENGTH and entry.is_symlink()}

    def remove(self, names: Collection[str]) -> None:
        """Remove links, those that are there; raise `DoorError` where some stay."""
        stay: list[str] = []
        with self._opened("remove roots") as directory:
            for name in filter(_HASH_PART.fullmatch, names):
                try:
                    os.unlink(name, dir_fd=directory)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    stay.append(f"{self.directory / name}: {_why(error)}")
        if stay:
            raise _trouble(f"{len(stay)} roots cannot be removed, such as {stay[0]}", "remove roots", self.directory)

    @contextlib.contextmanager
    def _opened(self, action: str) -> Iterator[int]:
        """Open the directory; raise `DoorError` where it is of no use."""
        try:
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise _trouble(f"{self.directory}: {_why(error)}", action, self.directory) from error
        try:
            yield descriptor
        except OSError as error:
            raise _trouble(f"{self.directory}: {_why(error)}", action, self.directory) from error
        finally:
            os.close(descriptor)

    def _make(self, directory: int, path: StorePath) -> bool:
        """Make a link; say whether it did not stand."""
        name = hash_part(path)
        try:
            os.symlink(path, name, dir_fd=directory)
        except FileExistsError:
            if _target(directory, name) == path:
                return False
            self._replace(directory, name, path)
        return True

    def _replace(self, directory: int, name: str, path: StorePath) -> None:
        """Put a link in the place of something else, of which there is no moment without either."""
        new = _NEW + name
        with self._replacing:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=directory)
            os.symlink(path, new, dir_fd=directory)
            try:
                os.replace(new, name, src_dir_fd=directory, dst_dir_fd=directory)
            except OSError:
                os.unlink(new, dir_fd=directory)
                raise


def _target(directory: int, name: str) -> str:
    """Return where a link leads; empty for anything else."""
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return ""


def _why(error: OSError) -> str:
    return f"{error.strerror or error}."


def _trouble(what: str, action: str, directory: Path) -> DoorError:
    return DoorError(
        f"The garbage-collector roots are out of reach: {what} Look at who owns that directory, and at its disk.",
        door="roots",
        action=action,
        subject=str(directory),
        retryable=True,
    )
