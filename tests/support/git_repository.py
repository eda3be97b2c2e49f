"""A real git repository for one test."""

import os
import subprocess
from pathlib import Path

import pytest

_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


def git(directory: Path, *arguments: str) -> str:
    """Run git there and return its output; an error fails the test with git's own words."""
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=directory,
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr}"
    return done.stdout.removesuffix("\n")


def git_refuses(directory: Path, *arguments: str) -> None:
    """Run git there for what it leaves behind when it fails, such as the conflicts of a merge."""
    with pytest.raises(AssertionError):
        git(directory, *arguments)


class Repository:
    """A checkout whose files and commits are written in one line each."""

    def __init__(self, top: Path, *, branch: str = "main") -> None:
        self.top = top
        top.mkdir(parents=True, exist_ok=True)
        git(top, "init", "--quiet", "--initial-branch", branch)

    def git(self, *arguments: str) -> str:
        return git(self.top, *arguments)

    def write(self, **files: str | None) -> None:
        """Write files by name (`__` stands for a dot, `_S_` for a slash), or remove them (None)."""
        for name, text in files.items():
            path = self.top / name.replace("_S_", "/").replace("__", ".")
            if text is None:
                path.unlink()
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)

    def commit(self, message: str = "a change", **files: str | None) -> str:
        """Write files, commit everything, return the commit's id."""
        self.write(**files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")
