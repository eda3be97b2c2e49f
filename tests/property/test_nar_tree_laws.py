"""Archives of any tree: cut anywhere, and read back."""

from hypothesis import given
from hypothesis import strategies as st

from nixmill.nix.nar_tree import Archive, File
from tests.support import trees
from tests.support.trees import Tree, joined, parsed


@given(trees.trees, st.integers(0, 2000), st.integers(0, 300))
def test_slices_of_any_tree(tree: Tree, start: int, length: int) -> None:
    archive = Archive(trees.nodes(tree))

    assert joined(archive, start, length) == joined(archive)[start : start + length]


@given(trees.trees, st.integers(1, 50))
def test_what_an_archive_holds_is_read_back(tree: Tree, step: int) -> None:
    expected = [
        File(node.name, None, node.size, node.executable) if isinstance(node, File) else node
        for node in trees.nodes(tree)
    ]

    found = parsed(trees.nar(tree), step)

    assert [each for each in found if not isinstance(each, bytes)] == expected
