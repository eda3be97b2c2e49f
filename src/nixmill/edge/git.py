"""The door `Source` for what is on this machine: a git checkout as it stands, a commit of it, or a plain directory.

Decides what belongs to a tree:

    nothing changed     the last commit
    tracked changes     a snapshot: a commit that nothing refers to, on top of the last one. It is made with an index of
                        our own, so neither the person's index nor a branch nor a hook is touched; author and date are
                        fixed, so the same content is the same commit. git's own collector removes it after two weeks
    untracked files     left out, as flakes leave them out; a notice counts them
    submodules          left out (an empty directory), as flakes do by default; a notice says so. Mirrors of the server
                        may have them put in (`nixmill.edge.git_submodules`)

Nix reads flakes from the repository itself. Where Nix 2.8 cannot (odd characters in the path, a bare repository, no
commit yet) it is pointed to a repository of ours that borrows the objects (`nixmill.edge.tree_cache`).
Does not know how commands are run (`nixmill.edge.git_command`) or how a base is chosen (`nixmill.edge.git_base`).
"""

import asyncio
import shutil
from pathlib import Path
from typing import Final

import msgspec

from nixmill.core.errors import InputError
from nixmill.core.source import NoBase, Tree, TreeRequest, git_reference, is_plain, project_name
from nixmill.edge.git_base import choose_base
from nixmill.edge.git_checkout import (
    Changes,
    Checkout,
    changes,
    commit_of,
    find_checkout,
    has_file,
    mirrored_name,
    origin_url,
    tree_of,
    wanted_commit,
    whole_commit,
)
from nixmill.edge.git_command import Git
from nixmill.edge.plain_directory import plain_tree
from nixmill.edge.tree_cache import TreeCache

_NO_CHANGES: Final = Changes(tracked=False, untracked=0, unmerged=0)
_SNAPSHOT_NAME: Final = "nixmill"
_SNAPSHOT_MAIL: Final = "nixmill@localhost"


class _State(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be checked, as git objects."""

    commit: str
    """The commit, or the one below uncommitted changes; empty where nothing is committed."""
    snapshot: str
    """The commit that has exactly the tree; equal to `commit` where nothing is changed."""
    tree: str


class GitSource:
    """Trees of checkouts and directories on this machine."""

    def __init__(self, cache: Path) -> None:
        """Keep exported trees below `cache`, an absolute path."""
        self._cache = TreeCache(cache)

    async def tree(self, request: TreeRequest) -> Tree:
        """Return the tree that is asked for, with its files on disk."""
        await asyncio.to_thread(self._cache.prune)
        directory = _real(request.directory)
        checkout = await _checkout_of(directory)
        if checkout is None:
            if request.revision is not None:
                raise InputError(f"{directory} is no git checkout, so it has no revision {request.revision}.")
            return await plain_tree(directory, self._cache)
        if request.revision is not None:
            commit = await wanted_commit(checkout, request.revision)
            return await self._materialised(checkout, await _committed(checkout, commit), _NO_CHANGES)
        changed = await _changes_of(checkout)
        return await self._materialised(checkout, await self._as_it_stands(checkout, changed), changed)

    async def base(self, tree: Tree, wanted: str | None) -> Tree | NoBase:
        """Return the tree to compare with, or why there is none."""
        checkout = await _checkout_of(Path(tree.checkout)) if not tree.tree_hash.startswith("nar:") else None
        if checkout is None:
            if wanted is not None:
                raise InputError(f"{tree.checkout} is no git checkout, so it has no commit {wanted} to compare with.")
            return NoBase(reason="this is no git checkout")
        chosen = await choose_base(checkout, tree.commit, dirty=tree.dirty, wanted=wanted)
        if isinstance(chosen, NoBase):
            return chosen
        base = await self._materialised(checkout, await _committed(checkout, chosen.commit), _NO_CHANGES)
        return msgspec.structs.replace(base, reason=chosen.reason, subdirectory=tree.subdirectory, notices=())

    async def read(self, tree: Tree, path: str) -> str | None:
        """Return the text of a file; None where the tree has none of that name, or only a link out of the tree."""
        return await asyncio.to_thread(_read, Path(tree.path), path)

    async def release(self, tree: Tree) -> None:
        """Start the time after which the files may go; they stay until then for the next run."""
        self._cache.touch(Path(tree.path))

    async def _as_it_stands(self, checkout: Checkout, changed: Changes) -> _State:
        if changed.unmerged:
            raise InputError(
                f"{changed.unmerged} file(s) in {checkout.top} have conflicts of a merge.",
                "Resolve them, or check the last commit: --revision HEAD",
            )
        commit = await commit_of(checkout, "HEAD") or ""
        if commit and not changed.tracked:
            return _State(commit=commit, snapshot=commit, tree=await tree_of(checkout, commit))
        if not commit and not changed.tracked:
            raise InputError(f"Nothing is committed in {checkout.top} yet.", "Type: git add . (a commit is not needed)")
        with self._cache.temporary() as temporary:
            return await _snapshot(checkout, commit, Path(temporary, "index"))

    async def _materialised(self, checkout: Checkout, state: _State, changed: Changes) -> Tree:
        project = await mirrored_name(checkout) or project_name(await origin_url(checkout), checkout.top)
        files = await self._cache.export(checkout, state.tree, project)
        self._cache.touch(files)
        return Tree(
            project=project,
            path=str(files),
            tree_hash=state.tree,
            commit=state.commit,
            dirty=changed.tracked,
            flake_reference=await self._reference(checkout, state),
            checkout=checkout.top,
            subdirectory=checkout.prefix,
            notices=await _notices(checkout, state, changed),
        )

    async def _reference(self, checkout: Checkout, state: _State) -> str:
        if is_plain(checkout.top) and not checkout.bare and state.commit:
            return git_reference(checkout.top, state.snapshot, shallow=checkout.shallow)
        repository = await self._cache.repository(checkout, state.snapshot)
        self._cache.touch(repository)
        if not is_plain(str(repository)):
            raise InputError(
                f"Nix cannot read flakes from {checkout.top} or {repository}: both have characters it does not take.",
                "Move the checkout, or set XDG_CACHE_HOME to a directory with a plain name.",
            )
        return git_reference(str(repository), state.snapshot, shallow=checkout.shallow)


async def _checkout_of(directory: Path) -> Checkout | None:
    """Return the checkout; where git is missing, a directory that shows no sign of git is a plain one."""
    if shutil.which("git") is None and not _shows_git(directory):
        return None
    return await find_checkout(str(directory))


def _read(top: Path, path: str) -> str | None:
    file = (top / path).resolve()
    return file.read_text(errors="replace") if file.is_relative_to(top.resolve()) and file.is_file() else None


def _real(directory: str) -> Path:
    """Return a directory without links and dots; `InputError` where it is none."""
    real = Path(directory).resolve()
    if not real.is_dir():
        raise InputError(f"{directory} is no directory.", "Name a directory that exists.")
    return real


def _shows_git(directory: Path) -> bool:
    return any((above / ".git").exists() for above in (directory, *directory.parents))


async def _committed(checkout: Checkout, commit: str) -> _State:
    whole = await whole_commit(checkout, commit)
    return _State(commit=commit, snapshot=whole, tree=await tree_of(checkout, whole))


async def _changes_of(checkout: Checkout) -> Changes:
    return _NO_CHANGES if checkout.bare else await changes(checkout)


async def _snapshot(checkout: Checkout, commit: str, index: Path) -> _State:
    """Write the tracked files as they stand into the repository's objects, without touching anything else."""
    _copy_if_there(Path(checkout.git_directory, "index"), index)
    git = checkout.git.with_variables(GIT_INDEX_FILE=str(index))
    await git.run("add", "--update")
    tree = await git.run("write-tree")
    parents = ("-p", commit) if commit else ()
    git = git.with_variables(**await _signature(git, commit))
    below = f"on top of {commit}" if commit else "before the first commit"
    snapshot = await git.run("commit-tree", *parents, "-m", f"The checkout as it stands, {below}", tree)
    return _State(commit=commit, snapshot=snapshot, tree=tree)


def _copy_if_there(source: Path, target: Path) -> None:
    """Copy an index with its time: git takes files as old as the index for possibly changed, and looks into them."""
    if source.exists():
        shutil.copy2(source, target)


async def _signature(git: Git, commit: str) -> dict[str, str]:
    """Return who and when, such that the same content on the same commit is the same snapshot."""
    seconds = await git.run("show", "--no-patch", "--format=%ct", "--end-of-options", commit) if commit else "0"
    date = f"@{seconds} +0000"
    who = {"GIT_AUTHOR_NAME": _SNAPSHOT_NAME, "GIT_AUTHOR_EMAIL": _SNAPSHOT_MAIL, "GIT_AUTHOR_DATE": date}
    return who | {name.replace("AUTHOR", "COMMITTER"): value for name, value in who.items()}


async def _notices(checkout: Checkout, state: _State, changed: Changes) -> tuple[str, ...]:
    said: list[str] = []
    if changed.untracked:
        said.append(
            f"{changed.untracked} untracked file(s) or folder(s) are not part of what is checked; flakes ignore them "
            "too. `git add --intent-to-add` includes them."
        )
    if (state.snapshot == state.commit or changed.tracked) and await has_file(checkout, state.tree, ".gitmodules"):
        said.append("Submodules are left out: their directories are empty in what is checked.")
    if await has_file(checkout, state.tree, ".gitattributes", containing=b"filter=lfs"):
        said.append("Files kept by git-lfs are checked as the pointers that git stores, not as their content.")
    if checkout.shallow:
        said.append("This clone is shallow: the base may be a guess. `git fetch --unshallow` gets the whole history.")
    return tuple(said)
