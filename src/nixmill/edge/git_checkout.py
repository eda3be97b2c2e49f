"""A checkout as git describes it: where its parts are, where it stands, what is changed in it.

Knows which questions to ask git; decides nothing about trees or bases (`nixmill.edge.git`, `nixmill.edge.git_base`).
Source: gitrepository-layout(5), git-rev-parse(1), git-status(1) "Porcelain Format Version 2".
"""

import difflib
import re
from pathlib import Path
from typing import Final

import msgspec

from nixmill.core.errors import InputError
from nixmill.edge.git_command import Git, GitFailedError, refuse_option

_NOT_A_REPOSITORY: Final = re.compile(r"not a git repository \(or any ")
"""Git's words where no folder above has a `.git`; a broken repository is told in other words."""
MIRROR_NAME: Final = "nixmill.project"
"""Setting of a mirror: what its trees are called."""
WHOLE: Final = "refs/nixmill/whole/"
"""Where a mirror keeps commits with the files of their submodules, by the id of the commit itself."""
_LOOKED_AT: Final = 1 << 20
_COMMIT_ID: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """Where a repository and its work tree are. All paths are absolute."""

    top: str
    """Top of the work tree; of a bare repository the repository itself."""
    git_directory: str
    common_directory: str
    """What all work trees of a repository share: objects, refs, configuration."""
    prefix: str
    """Where the person stands below `top`, without a slash at the end."""
    bare: bool
    shallow: bool
    object_format: str
    """`sha1` or `sha256`."""

    @property
    def git(self) -> Git:
        """Return git at the top of this checkout."""
        return Git(self.top)

    @property
    def objects(self) -> str:
        """Return the directory of the repository's objects."""
        return str(Path(self.common_directory) / "objects")


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What differs from the last commit."""

    tracked: bool
    """Files that git knows are changed, added or deleted."""
    untracked: int
    """Files, and folders of nothing but such files, that git neither knows nor ignores."""
    unmerged: int
    """Files with conflicts of a merge."""


async def find_checkout(directory: str) -> Checkout | None:
    """Return the checkout that `directory` is in; None where it is in none; `InputError` where it is inside `.git`."""
    git = Git(directory)
    try:
        git_directory = await git.run("rev-parse", "--absolute-git-dir")
    except GitFailedError as error:
        if _NOT_A_REPOSITORY.search(error.complaint):
            return None
        raise
    return await _describe(git, git_directory)


async def _describe(git: Git, git_directory: str) -> Checkout:
    flags = await git.run(
        "rev-parse", "--is-bare-repository", "--is-inside-work-tree", "--is-shallow-repository", "--show-object-format"
    )
    bare, inside, shallow, object_format = flags.split("\n")
    if inside == "false" and bare == "false":
        raise InputError(f"{git.directory} is inside a repository's .git.", "Go to the checkout itself.")
    common_directory = await git.run("rev-parse", "--path-format=absolute", "--git-common-dir")
    return Checkout(
        top=git_directory if bare == "true" else await git.run("rev-parse", "--show-toplevel"),
        git_directory=git_directory,
        common_directory=common_directory,
        prefix="" if bare == "true" else (await git.run("rev-parse", "--show-prefix")).removesuffix("/"),
        bare=bare == "true",
        shallow=shallow == "true",
        object_format=object_format,
    )


async def commit_of(checkout: Checkout, revision: str) -> str | None:
    """Return the id of the commit that a name stands for, None where there is none; `InputError` for no name."""
    name = refuse_option(revision)
    answer = await checkout.git.ask("rev-parse", "--verify", "--quiet", "--end-of-options", name + "^{commit}")
    return answer.text if answer.status == 0 and _COMMIT_ID.fullmatch(answer.text) else None


async def wanted_commit(checkout: Checkout, revision: str) -> str:
    """Return the id of the commit a person named; raise `InputError` with the nearest name where it is unknown."""
    commit = await commit_of(checkout, revision)
    if commit is not None:
        return commit
    names = (
        await checkout.git.run("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes")
    ).split()
    near = difflib.get_close_matches(revision, names, n=1)
    remedy = f"Did you mean {near[0]}?" if near else "Type `git branch --all` to see the branches."
    if checkout.shallow:
        remedy += " This clone is shallow; `git fetch --unshallow` gets the rest of the history."
    raise InputError(f"There is no commit called {revision} in {checkout.top}.", remedy)


async def tree_of(checkout: Checkout, commit: str) -> str:
    """Return the id of a commit's tree."""
    return await checkout.git.run("rev-parse", "--verify", commit + "^{tree}")


async def current_branch(checkout: Checkout) -> str | None:
    """Return the full name of the branch that is checked out; None for a detached HEAD."""
    answer = await checkout.git.ask("symbolic-ref", "--quiet", "HEAD")
    return answer.text if answer.status == 0 else None


async def origin_url(checkout: Checkout) -> str:
    """Return the URL of the remote `origin`; empty where there is none. It may hold a password: never show it."""
    return (await checkout.git.ask("config", "--get", "remote.origin.url")).text


async def mirrored_name(checkout: Checkout) -> str:
    """Return what a mirror of the server says its trees are called; empty where this is no mirror."""
    return (await checkout.git.ask("config", "--get", MIRROR_NAME)).text if checkout.bare else ""


async def whole_commit(checkout: Checkout, commit: str) -> str:
    """Return the commit of a mirror that has the files of `commit` and of its submodules; else `commit` itself."""
    return (await commit_of(checkout, WHOLE + commit) if checkout.bare else None) or commit


async def changes(checkout: Checkout) -> Changes:
    """Compare the work tree with the last commit; nothing is written, not even git's index."""
    status = await checkout.git.run("status", "--porcelain=v2", "-z", "--no-renames", "--ignore-submodules=dirty")
    kinds = [line[:1] for line in status.split("\0")]
    return Changes(
        tracked="1" in kinds or "u" in kinds,
        untracked=kinds.count("?"),
        unmerged=kinds.count("u"),
    )


async def has_file(checkout: Checkout, tree: str, path: str, *, containing: bytes = b"") -> bool:
    """Say whether a tree has a file with that text in it, in its first MiB."""
    try:
        found = await checkout.git.beginning(_LOOKED_AT, "cat-file", "blob", f"{tree}:{path}")
    except GitFailedError:
        return False
    return containing in found.output
