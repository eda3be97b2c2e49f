"""Keeps a token that expires in a private file, for as long as git may need it.

    <state>/git/token-<project id>    mode 0600, replaced whole; only git's credential helper reads it

Tokens of installations of an App last an hour, so they are asked for before each command. A fetch that began with an
older one goes on with what it has read.
"""

import contextlib
import os
from pathlib import Path
from typing import Final

from nixmill.doors import DoorError
from nixmill.edge.git_transport import DOOR
from nixmill.edge.private_files import make_directory

_MODE: Final = 0o600


def token_file(directory: Path, project: int) -> Path:
    """Return where the token of a project is."""
    return directory / f"token-{project}"


def write_token(directory: Path, project: int, token: str) -> Path:
    """Write `secret` or `user:secret`; return the file. Raises `DoorError` where that cannot be a token."""
    if not token or any(ord(char) < 32 or ord(char) == 127 for char in token):
        raise DoorError(
            "The forge gave a token that has odd characters in it, or none; it was not used.",
            door=DOOR,
            action="take a token",
            subject=str(project),
            retryable=False,
        )
    make_directory(directory)
    place = token_file(directory, project)
    new = directory / f".{place.name}.{os.getpid()}"
    new.unlink(missing_ok=True)  # a killed server with the same process id left it
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
    try:
        os.write(descriptor, token.encode() + b"\n")
    finally:
        os.close(descriptor)
    new.replace(place)
    return place


def forget_token(directory: Path, project: int) -> None:
    """Delete the token of a project, if there is one."""
    with contextlib.suppress(FileNotFoundError):
        token_file(directory, project).unlink()
