"""Merges a head into a base inside a mirror: the commit that is tested.

    the head has the base     the head itself
    the base has the head     the base itself
    otherwise                 a merge commit, parents base and head, made without files, index or work tree

The same two commits are always the same merge commit: author and message are fixed, its date is the later one of the
two. What could change the result, or run something, has no say: hooks, filters, drivers, `.gitattributes` (neither
`merge=union` nor `-diff`), anybody's settings. What is chosen is git's own default, said here so that it stays:

    renames       found, up to 7000 candidates on a side; beyond that only files that are the same but for their name
    directories   a file added to a directory that the other side renamed is a conflict
    submodules    changed on both sides: a conflict

Source: git-merge-tree(1) (2.38 or newer), git-commit-tree(1), "merge.renameLimit" in git-config(1),
`GIT_ATTR_SOURCE` in git(1) (2.41; before it, git reads no attributes from trees where there is no work tree).
"""

import os
from typing import Final

import msgspec

from nixmill.core.errors import InputError
from nixmill.core.merged import Merged, conflict, unrelated
from nixmill.edge.git_command import Git, GitFailedError
from nixmill.edge.git_mirror import Mirror

_EMPTY_TREE: Final = {
    40: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    64: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
"""By the length of a commit's id. Git knows this object without having it."""
_CHOSEN: Final = (
    "-c",
    "merge.renames=true",
    "-c",
    "merge.renameLimit=7000",
    "-c",
    "merge.directoryRenames=conflict",
)
_CONFLICTS: Final = 1
_LATEST: Final = 4102444800
"""The year 2100: dates of strangers may be beyond what git and Nix take."""
_WHO: Final = {
    "GIT_AUTHOR_NAME": "nixmill",
    "GIT_AUTHOR_EMAIL": "nixmill@localhost",
    "GIT_COMMITTER_NAME": "nixmill",
    "GIT_COMMITTER_EMAIL": "nixmill@localhost",
}


class _Side(msgspec.Struct, frozen=True, kw_only=True):
    commit: str
    tree: str
    date: int


def blind(mirror: Mirror, commit: str) -> Git:
    """Return git in a mirror to which no `.gitattributes` of a stranger says anything."""
    return mirror.git.with_variables(GIT_ATTR_SOURCE=_EMPTY_TREE[len(commit)])


async def merged(mirror: Mirror, head: str, base: str, branch: str) -> Merged:
    """Merge `head` into `base`, both here; `branch` is what the base is called, for sentences.

    Raises `nixmill.core.merged.MergeConflictError`. The lock is held.
    """
    upon, above = await _side(mirror, base), await _side(mirror, head)
    found = await mirror.git.ask("merge-base", base, head)
    if found.status != 0 and (found.status > 1 or found.complaint.strip()):
        raise GitFailedError(
            f"git merge-base failed in {mirror.directory}: {found.complaint.strip()[-300:]}",
            action="git merge-base",
            subject=str(mirror.directory),
            complaint=found.complaint,
        )
    if found.status != 0:
        raise unrelated(branch, base, head)
    if found.text in {base, head}:
        same = above if found.text == base else upon
        return Merged(commit=same.commit, tree_hash=same.tree, base=base, head=head)
    tree = await _merged_tree(mirror, base, head, branch)
    return Merged(commit=await _commit(mirror, tree, upon, above), tree_hash=tree, base=base, head=head)


async def _side(mirror: Mirror, commit: str) -> _Side:
    """Return what is needed of a commit; a date that makes no sense is the beginning of time."""
    shown = await mirror.git.ask("show", "--no-patch", "--format=%H %T %ct", "--end-of-options", commit + "^{commit}")
    if shown.status != 0 or not shown.text.startswith(commit + " "):
        raise InputError(f"{commit[:12]} is no commit that was fetched.", "Fetch it first.")
    _, tree, date = shown.text.split(" ", 2)
    return _Side(commit=commit, tree=tree, date=min(int(date), _LATEST) if date.isdecimal() else 0)


async def _merged_tree(mirror: Mirror, base: str, head: str, branch: str) -> str:
    git = blind(mirror, base)
    arguments = ("merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", base, head)
    answer = await git.ask(*_CHOSEN, *arguments)
    tree, *files = answer.output.removesuffix(b"\0").split(b"\0")
    if answer.status == 0:
        return os.fsdecode(tree)
    if answer.status == _CONFLICTS and files:
        raise conflict(branch, base, head, [file.decode(errors="replace") for file in files])
    raise GitFailedError(
        f"git merge-tree failed in {mirror.directory}: {answer.complaint.strip()[-300:] or f'exit {answer.status}'}",
        action="git merge-tree",
        subject=str(mirror.directory),
        complaint=answer.complaint,
    )


async def _commit(mirror: Mirror, tree: str, base: _Side, head: _Side) -> str:
    date = f"@{max(base.date, head.date)} +0000"
    git = mirror.git.with_variables(GIT_AUTHOR_DATE=date, GIT_COMMITTER_DATE=date, **_WHO)
    message = f"Merge {head.commit} into {base.commit}\n\nMade by nixmill to test it; it is on no branch."
    return await git.run("commit-tree", "-p", base.commit, "-p", head.commit, "-m", message, tree)
