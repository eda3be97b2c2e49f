"""Trees of all kinds: their NAR is that of Nix, and what is noted of it is what it holds."""

# ruff: noqa: PTH101, PTH102, PTH123, PTH211 - names here are bytes, which pathlib does not know

import os
import subprocess
import tempfile
from typing import TypeAlias

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nixmill.edge.binary_cache.dump import Dump
from nixmill.nix import nar_listing
from nixmill.nix.nar_listing import Listener, Node

Tree: TypeAlias = "tuple[bytes, bool] | bytes | dict[bytes, Tree]"

NAMES = st.binary(min_size=1, max_size=9).map(lambda name: name.replace(b"/", b"x").replace(b"\0", b"y"))
GOOD_NAMES = NAMES.filter(lambda name: name not in {b".", b".."})
FILES = st.tuples(st.binary(max_size=40), st.booleans())
LINKS = st.binary(min_size=1, max_size=20).map(lambda target: target.replace(b"\0", b"z"))
TREES: st.SearchStrategy[Tree] = st.recursive(
    FILES | LINKS, lambda inside: st.dictionaries(GOOD_NAMES, inside, max_size=4), max_leaves=12
)


def write(tree: Tree, place: bytes) -> None:
    match tree:
        case dict():
            os.mkdir(place)
            for name, inside in tree.items():
                write(inside, place + b"/" + name)
        case bytes():
            os.symlink(tree, place)
        case (contents, executable):
            with open(place, "wb") as file:
                file.write(contents)
            os.chmod(place, 0o755 if executable else 0o644)


def dumped(place: bytes) -> tuple[bytes, Node]:
    dump = Dump(place)
    nar = b"".join(bytes(piece) for piece in dump.pieces())
    assert dump.root is not None
    return nar, dump.root


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(TREES, st.integers(1, 200))
def test_a_dump_is_that_of_nix_and_its_listing_is_told_by_reading_it(tree: Tree, step: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        place = os.fsencode(directory) + b"/tree"
        write(tree, place)
        nar, root = dumped(place)
        theirs = subprocess.run(["nix-store", "--dump", place], capture_output=True, check=True).stdout
    assert nar == theirs
    listener = Listener()
    for at in range(0, len(nar), step):
        assert listener.root is None
        listener.feed(nar[at : at + step])
    assert listener.root == root
    text = nar_listing.to_json(root)
    assert text is None or nar_listing.same(text, root)


def test_a_tree_deeper_than_the_stack_is_dumped(tmp_path: os.PathLike[str]) -> None:
    place = os.fsencode(tmp_path) + b"/deep"
    for depth in range(1501):
        os.mkdir(place + b"/d" * depth)
    try:
        nar, root = dumped(place)
    finally:
        for depth in reversed(range(1501)):  # what clears temporary directories recurses
            os.rmdir(place + b"/d" * depth)  # noqa: PTH106 - bytes
    assert nar.count(b"directory") == 1501
    listener = Listener()
    listener.feed(nar)
    assert isinstance(root, nar_listing.DirectoryNode)
    assert isinstance(listener.root, nar_listing.DirectoryNode)
