"""Nix itself reads, in pure mode, what the git source refers to: the same files, whatever the checkout is like."""

import json
import subprocess
from pathlib import Path

import pytest

from nixmill.core.source import Tree, TreeRequest
from nixmill.edge.git import GitSource
from nixmill.nix.attr_path import quote
from tests.support.git_repository import Repository, git
from tests.support.scratch_store import ScratchStore

FLAKE = "{ outputs = { self }: { text = builtins.readFile ./text; revision = self.rev or null; }; }"


class Reader:
    """Evaluates a tree's flake with a fetcher cache of its own: a shared one answers for repositories it never saw."""

    def __init__(self, store: ScratchStore, home: Path) -> None:
        self._environment = store.environment | {"XDG_CACHE_HOME": str(home)}

    def read(self, tree: Tree) -> dict[str, str | None]:
        expression = f"{{ inherit (builtins.getFlake {quote(tree.flake_reference)}) text revision; }}"
        done = subprocess.run(
            ["nix", "eval", "--json", "--expr", expression],
            env=self._environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: dict[str, str | None] = json.loads(done.stdout)
        return found


@pytest.fixture
def reader(store: ScratchStore, tmp_path: Path) -> Reader:
    return Reader(store, tmp_path / "nix-cache")


@pytest.fixture
def source(tmp_path: Path) -> GitSource:
    return GitSource(tmp_path / "cache")


async def read_at(source: GitSource, reader: Reader, place: Path) -> tuple[Tree, dict[str, str | None]]:
    tree = await source.tree(TreeRequest(directory=str(place)))
    return tree, reader.read(tree)


def project(place: Path) -> Repository:
    repository = Repository(place)
    repository.commit(flake__nix=FLAKE, text="committed")
    return repository


async def test_a_clean_checkout_keeps_its_revision(source: GitSource, reader: Reader, tmp_path: Path) -> None:
    project(tmp_path / "project")
    tree, seen = await read_at(source, reader, tmp_path / "project")
    assert seen == {"text": "committed", "revision": tree.commit}


async def test_uncommitted_changes_are_read_from_the_snapshot(
    source: GitSource, reader: Reader, tmp_path: Path
) -> None:
    project(tmp_path / "project").write(text="changed")
    _, seen = await read_at(source, reader, tmp_path / "project")
    assert seen["text"] == "changed"


async def test_a_second_worktree_and_a_detached_head(source: GitSource, reader: Reader, tmp_path: Path) -> None:
    repository = project(tmp_path / "project")
    repository.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "second"))
    (tmp_path / "second/text").write_text("changed")
    _, seen = await read_at(source, reader, tmp_path / "second")
    assert seen["text"] == "changed"


async def test_a_shallow_clone(source: GitSource, reader: Reader, tmp_path: Path) -> None:
    project(tmp_path / "project").commit(text="later")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{tmp_path}/project", "clone")
    _, seen = await read_at(source, reader, tmp_path / "clone")
    assert seen["text"] == "later"


async def test_a_bare_repository(source: GitSource, reader: Reader, tmp_path: Path) -> None:
    project(tmp_path / "project")
    git(tmp_path, "clone", "--quiet", "--bare", "project", "bare.git")
    _, seen = await read_at(source, reader, tmp_path / "bare.git")
    assert seen["text"] == "committed"


async def test_staged_files_before_the_first_commit(source: GitSource, reader: Reader, tmp_path: Path) -> None:
    repository = Repository(tmp_path / "unborn")
    repository.write(flake__nix=FLAKE, text="staged")
    repository.git("add", ".")
    _, seen = await read_at(source, reader, tmp_path / "unborn")
    assert seen["text"] == "staged"


@pytest.mark.parametrize("name", ["with space", "hash#x", "q?x", "100%", "ünï", "a[b]", 'quote"d', "${x}", "a&b;c=d+e"])
async def test_a_directory_may_have_any_name(source: GitSource, reader: Reader, tmp_path: Path, name: str) -> None:
    project(tmp_path / name).write(text="changed")
    _, seen = await read_at(source, reader, tmp_path / name)
    assert seen["text"] == "changed"


@pytest.mark.parametrize("name", ["plain", "with space", "hash#x", "ünï"])
async def test_a_plain_directory(source: GitSource, reader: Reader, tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    (place / "flake.nix").write_text(FLAKE)
    (place / "text").write_text(name)
    tree, seen = await read_at(source, reader, place)
    assert seen == {"text": name, "revision": None}
    assert (tree.commit, tree.dirty, tree.checkout) == ("", False, str(place))
    assert tree.tree_hash.startswith("nar:sha256-")


async def test_a_plain_directory_that_changes_during_a_run_is_refused_by_nix(
    source: GitSource, reader: Reader, tmp_path: Path
) -> None:
    place = tmp_path / "plain"
    place.mkdir()
    (place / "flake.nix").write_text(FLAKE)
    (place / "text").write_text("before, not seen by any other test")
    tree = await source.tree(TreeRequest(directory=str(place)))
    (place / "text").write_text("after")
    with pytest.raises(AssertionError, match=r"NAR hash mismatch|mismatch in field 'narHash'"):
        reader.read(tree)


async def test_the_exported_files_are_what_nix_copies(source: GitSource, reader: Reader, tmp_path: Path) -> None:
    """Evaluation of a file and of a flake must see the same tree."""
    project(tmp_path / "project").write(text="changed")
    tree, seen = await read_at(source, reader, tmp_path / "project")
    assert (Path(tree.path) / "text").read_text() == seen["text"]
