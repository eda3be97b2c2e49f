"""Nix itself reads, in pure mode and without a network, what was fetched from a remote."""

import json
import subprocess
from pathlib import Path

import pytest

from nixmill.core.project import Project
from nixmill.core.source import Tree, TreeRequest
from nixmill.edge.git_remote import GitRemote
from nixmill.nix.attr_path import quote
from tests.support.git_repository import Repository
from tests.support.scratch_store import ScratchStore

FLAKE = "{ outputs = { self }: { text = builtins.readFile ./text; revision = self.rev or null; }; }"
MAIN = "refs/heads/main"


@pytest.fixture
def upstream(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "upstream")
    made.commit(flake__nix=FLAKE, text="one")
    return made


@pytest.fixture
def remote(tmp_path: Path) -> GitRemote:
    return GitRemote(tmp_path / "state", {}, schemes=("file",))


def project(upstream: Repository, *, submodules: bool = False) -> Project:
    return Project(id=1, name="mill", url=f"file://{upstream.top}", submodules=submodules)


def read(store: ScratchStore, tree: Tree, place: Path) -> dict[str, str | None]:
    """Evaluate with a fetcher cache of the test's own: a shared one answers for repositories it never saw."""
    expression = f"{{ inherit (builtins.getFlake {quote(tree.flake_reference)}) text revision; }}"
    done = subprocess.run(
        ["nix", "eval", "--json", "--expr", expression],
        env=store.environment | {"XDG_CACHE_HOME": str(place / "nix-cache")},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str | None] = json.loads(done.stdout)
    return found


async def test_a_mirror_is_read_and_its_base_too(
    store: ScratchStore, upstream: Repository, remote: GitRemote, tmp_path: Path
) -> None:
    upstream.git("checkout", "--quiet", "-b", "feature")
    commit = upstream.commit(text="two")
    await remote.fetch(project(upstream), "refs/heads/feature", commit)
    tree = await remote.source.tree(TreeRequest(directory=remote.mirror(1), revision=commit))
    base = await remote.source.base(tree, None)
    assert isinstance(base, Tree)
    assert read(store, tree, tmp_path) == {"text": "two", "revision": commit}
    assert read(store, base, tmp_path)["text"] == "one"


async def test_a_merge_of_a_pull_request_is_read_and_its_base_too(
    store: ScratchStore, upstream: Repository, remote: GitRemote, tmp_path: Path
) -> None:
    upstream.git("checkout", "--quiet", "--detach")
    head = upstream.commit(text="two")
    upstream.git("update-ref", "refs/pull/7/head", head)
    upstream.git("checkout", "--quiet", "main")
    tip = upstream.commit(flake__nix=FLAKE.replace("./text;", './text + "!";'))
    await remote.fetch_head(project(upstream), "refs/pull/7/head", head)
    merged = await remote.merge(project(upstream), head, MAIN)
    upstream.commit(text="later")
    await remote.fetch(project(upstream), MAIN, "")
    tree = await remote.source.tree(TreeRequest(directory=remote.mirror(1), revision=merged.commit))
    base = await remote.source.base(tree, merged.base)
    assert isinstance(base, Tree)
    assert read(store, tree, tmp_path) == {"text": "two!", "revision": merged.commit}
    assert read(store, base, tmp_path) == {"text": "one!", "revision": tip}


async def test_a_commit_that_no_branch_has_any_more_is_read(
    store: ScratchStore, upstream: Repository, remote: GitRemote, tmp_path: Path
) -> None:
    lost = await remote.fetch(project(upstream), MAIN, "")
    upstream.git("commit", "--quiet", "--amend", "--message", "other")
    upstream.commit(text="two")
    await remote.fetch(project(upstream), MAIN, "")
    tree, _, _ = await remote.tree(project(upstream), lost)
    assert read(store, tree, tmp_path) == {"text": "one", "revision": lost}


async def test_submodules_are_read_as_part_of_the_tree(
    store: ScratchStore, upstream: Repository, remote: GitRemote, tmp_path: Path
) -> None:
    library = Repository(tmp_path / "library")
    commit = library.commit(text="from the library")
    upstream.write(flake__nix=FLAKE.replace("./text", "./library/text"))
    upstream.write(__gitmodules='[submodule "x"]\n\tpath = library\n\turl = ../library\n')
    upstream.git("add", ".")
    upstream.git("update-index", "--add", "--cacheinfo", f"160000,{commit},library")
    upstream.git("commit", "--quiet", "--message", "a submodule")
    found = await remote.fetch(project(upstream, submodules=True), MAIN, "")
    tree, _, _ = await remote.tree(project(upstream, submodules=True), found)
    assert read(store, tree, tmp_path)["text"] == "from the library"
