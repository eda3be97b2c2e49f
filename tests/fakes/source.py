"""A source in memory: commits on one line of history, and changes that are not committed."""

import hashlib
from collections.abc import Mapping

import msgspec

from nixmill.core.errors import InputError
from nixmill.core.source import NoBase, Tree, TreeRequest


class FakeSource:
    """One project whose history a test writes; `files` maps names to texts. Nothing is on disk."""

    def __init__(self, directory: str = "/fake/project") -> None:
        self.directory = directory
        self.commits: dict[str, dict[str, str]] = {}
        self.changed: dict[str, str] | None = None
        self.released: list[Tree] = []
        self._files: dict[str, dict[str, str]] = {}

    def commit(self, files: Mapping[str, str]) -> str:
        """Add a commit with exactly these files on top of the others; return its id."""
        name = _digest(f"{len(self.commits)}{sorted(files.items())}")
        self.commits[name] = dict(files)
        self.changed = None
        return name

    def change(self, files: Mapping[str, str]) -> None:
        """Let the checkout have these files, not committed."""
        self.changed = dict(files)

    async def tree(self, request: TreeRequest) -> Tree:
        if request.directory != self.directory:
            raise InputError(f"{request.directory} is no directory.", "Name a directory that exists.")
        if request.revision is not None:
            return self._tree(self._known(request.revision))
        if not self.commits:
            raise InputError("Nothing is committed yet.", "Commit something.")
        return self._tree(list(self.commits)[-1], self.changed)

    async def base(self, tree: Tree, wanted: str | None) -> Tree | NoBase:
        if wanted is not None:
            return msgspec.structs.replace(self._tree(self._known(wanted)), reason=f"you asked for {wanted}")
        if tree.dirty:
            return msgspec.structs.replace(self._tree(tree.commit), reason="the last commit")
        older = list(self.commits)[: list(self.commits).index(tree.commit)]
        if not older:
            return NoBase(reason="this is the first commit")
        return msgspec.structs.replace(self._tree(older[-1]), reason="the commit before")

    async def read(self, tree: Tree, path: str) -> str | None:
        return self._files[tree.tree_hash].get(path)

    async def release(self, tree: Tree) -> None:
        self.released.append(tree)

    def _known(self, revision: str) -> str:
        if revision not in self.commits:
            raise InputError(f"There is no commit called {revision}.", "See the history.")
        return revision

    def _tree(self, commit: str, changed: dict[str, str] | None = None) -> Tree:
        files = self.commits[commit] if changed is None else changed
        tree_hash = _digest(str(sorted(files.items())))
        self._files[tree_hash] = files
        return Tree(
            project="project",
            path=f"/fake/trees/{tree_hash}/project",
            tree_hash=tree_hash,
            commit=commit,
            dirty=changed is not None,
            flake_reference=f"git+file://{self.directory}?rev={commit if changed is None else tree_hash}",
            checkout=self.directory,
        )


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
