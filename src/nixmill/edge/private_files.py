"""Files that may hold secrets: made with their final mode in one call, never tightened afterwards (semantics §9)."""

import errno
import os
from pathlib import Path
from typing import Final

DIRECTORY_MODE: Final = 0o750
FILE_MODE: Final = 0o640


def make_directory(path: Path) -> None:
    """Make a directory and those above it that are missing, all with mode 0750 (less where the umask says so)."""
    missing: list[Path] = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        try:
            directory.mkdir(mode=DIRECTORY_MODE)
        except FileExistsError as error:
            if not directory.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", str(directory)) from error


def create_file(path: Path, flags: int = 0) -> int:
    """Create a file that must not exist yet, with mode 0640; return a descriptor open for writing at its end."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | flags, FILE_MODE)
