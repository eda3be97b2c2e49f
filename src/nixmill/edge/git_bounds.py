"""Refuses trees that are too large to write out: a few kilobytes of git objects can stand for billions of files.

Directories of a tree may be the same object many times over, and so may files; only walking through them shows how many
there are. Git is stopped as soon as it is clear. What is fetched of strangers is looked at before anything else is done
with it. Source: git-ls-tree(1), `--format` (2.36).
"""

from typing import Final, NamedTuple

from nixmill.core.errors import InputError
from nixmill.core.terminal_text import number
from nixmill.edge.git_command import Git
from nixmill.edge.git_transport import Limits

WALK_S: Final = 20.0
_COUNTING: Final = ("ls-tree", "-r", "-z", "--full-tree")
_NAME_BYTES: Final = 128
"""Of a path on average: long ones cost as much as many."""


class Extent(NamedTuple):
    """How much a tree holds."""

    files: int = 0
    size: int = 0
    """Bytes of all files."""


NOTHING: Final = Extent()


async def check_bounds(git: Git, commit: str, limits: Limits, beside: Extent = NOTHING) -> Extent:
    """Return what a commit holds together with what is `beside` it; `InputError` where that is too much."""
    listed = await git.beginning(_most(limits), *_COUNTING, "--format=%(objectsize) %(path)", commit, limit_s=WALK_S)
    sizes = [entry.partition(b" ")[0] for entry in listed.output.split(b"\0")[:-1]]
    found = Extent(
        files=beside.files + len(sizes),
        size=beside.size + sum(int(size) for size in sizes if size.isdigit()),
    )
    if listed.cut or found.files > limits.tree_files:
        raise _refused(commit, f"more than {number(limits.tree_files)} files, or very long paths")
    if found.size > limits.tree_bytes:
        raise _refused(commit, f"more than {limits.tree_bytes >> 20} MiB in its files")
    return found


async def is_bounded(git: Git, commit: str, limits: Limits) -> bool:
    """Say whether a commit's files can all be listed; their size is not looked at."""
    return not (await git.beginning(_most(limits), *_COUNTING, "--name-only", commit, limit_s=WALK_S)).cut


def _most(limits: Limits) -> int:
    """Return the bytes that a list of files may have."""
    return limits.tree_files * _NAME_BYTES


def _refused(commit: str, why: str) -> InputError:
    return InputError(
        f"Commit {commit[:12]} has {why}; it is not tested.",
        "Make it smaller: it may hold the same directory many times over.",
    )
