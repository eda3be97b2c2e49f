"""What every `Source` promises: the fake in memory and real git are held to the same behaviour."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from nixmill.core.errors import InputError
from nixmill.core.source import NoBase, Tree, TreeRequest
from nixmill.doors import Source
from nixmill.edge.git import GitSource
from tests.fakes.source import FakeSource
from tests.support.git_repository import Repository

ONE = {"flake.nix": "{ }", "lib/a.nix": "1"}
TWO = {"flake.nix": "{ }", "lib/a.nix": "2"}


class World(Protocol):
    """A project with a history that a test writes."""

    directory: str

    @property
    def source(self) -> Source: ...

    def commit(self, files: Mapping[str, str]) -> str: ...

    def change(self, files: Mapping[str, str]) -> None: ...


class FakeWorld(FakeSource):
    @property
    def source(self) -> Source:
        return self


class RealWorld:
    def __init__(self, place: Path) -> None:
        self._repository = Repository(place / "project")
        self.directory = str(self._repository.top)
        self.source: Source = GitSource(place / "cache")

    def commit(self, files: Mapping[str, str]) -> str:
        self.change(files)
        return self._repository.commit()

    def change(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            (self._repository.top / name).parent.mkdir(exist_ok=True)
            (self._repository.top / name).write_text(text)


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return FakeWorld() if request.param == "fake" else RealWorld(tmp_path)


async def standing(world: World) -> Tree:
    return await world.source.tree(TreeRequest(directory=world.directory))


async def test_a_clean_checkout_is_its_last_commit(world: World) -> None:
    world.commit(ONE)
    last = world.commit(TWO)
    tree = await standing(world)
    assert (tree.commit, tree.dirty, tree.project) == (last, False, "project")
    assert Path(tree.path).name == tree.project
    assert last in tree.flake_reference


async def test_uncommitted_changes_make_another_tree_on_the_same_commit(world: World) -> None:
    last = world.commit(ONE)
    clean = await standing(world)
    world.change(TWO)
    dirty = await standing(world)
    assert (dirty.commit, dirty.dirty) == (last, True)
    assert dirty.tree_hash != clean.tree_hash
    assert dirty.flake_reference != clean.flake_reference


async def test_the_same_content_has_the_same_hash_whether_committed_or_not(world: World) -> None:
    world.commit(ONE)
    world.change(TWO)
    before = await standing(world)
    world.commit(TWO)
    assert (await standing(world)).tree_hash == before.tree_hash


async def test_a_revision_is_that_commit_whatever_is_changed(world: World) -> None:
    first = world.commit(ONE)
    world.commit(TWO)
    world.change(ONE | {"new": ""})
    tree = await world.source.tree(TreeRequest(directory=world.directory, revision=first))
    assert (tree.commit, tree.dirty) == (first, False)


async def test_an_unknown_revision_is_an_input_error_with_a_remedy(world: World) -> None:
    world.commit(ONE)
    with pytest.raises(InputError) as caught:
        await world.source.tree(TreeRequest(directory=world.directory, revision="nothing-like-it"))
    assert "nothing-like-it" in str(caught.value)
    assert caught.value.remedy


async def test_a_missing_directory_is_an_input_error(world: World) -> None:
    with pytest.raises(InputError):
        await world.source.tree(TreeRequest(directory="/does/not/exist"))


async def test_nothing_committed_is_an_input_error(world: World) -> None:
    with pytest.raises(InputError):
        await standing(world)


async def test_the_base_of_a_commit_on_the_default_branch_is_the_one_before(world: World) -> None:
    first = world.commit(ONE)
    world.commit(TWO)
    base = await world.source.base(await standing(world), None)
    assert isinstance(base, Tree)
    assert base.commit == first
    assert base.reason


async def test_the_base_of_uncommitted_changes_is_the_last_commit(world: World) -> None:
    last = world.commit(ONE)
    world.change(TWO)
    base = await world.source.base(await standing(world), None)
    assert isinstance(base, Tree)
    assert (base.commit, base.dirty) == (last, False)


async def test_the_first_commit_has_no_base(world: World) -> None:
    world.commit(ONE)
    assert isinstance(await world.source.base(await standing(world), None), NoBase)


async def test_a_wanted_base_is_that_commit(world: World) -> None:
    first = world.commit(ONE)
    world.commit(TWO)
    world.commit(ONE)
    base = await world.source.base(await standing(world), first)
    assert isinstance(base, Tree)
    assert base.commit == first
    assert first in base.reason


async def test_an_unknown_wanted_base_is_an_input_error(world: World) -> None:
    world.commit(ONE)
    with pytest.raises(InputError):
        await world.source.base(await standing(world), "nothing-like-it")


async def test_files_are_read_from_the_tree_not_from_the_checkout(world: World) -> None:
    world.commit(ONE)
    tree = await standing(world)
    world.change(TWO)
    assert await world.source.read(tree, "lib/a.nix") == "1"


@pytest.mark.parametrize("path", ["absent", "lib", "../project/flake.nix/..", "/etc/passwd", "lib/../../../x"])
async def test_what_is_no_file_of_the_tree_reads_as_none(world: World, path: str) -> None:
    world.commit(ONE)
    assert await world.source.read(await standing(world), path) is None


async def test_a_released_tree_can_be_had_again(world: World) -> None:
    world.commit(ONE)
    tree = await standing(world)
    await world.source.release(tree)
    assert await standing(world) == tree
