"""Archives of real files, held against those that Nix makes."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from nixmill.doors import DoorError
from nixmill.edge import tree_reader
from nixmill.edge.tree_reader import PIECE_BYTES
from nixmill.nix.nar_tree import TreeError
from nixmill.nix.store_path import StorePath
from tests.support import trees
from tests.support.trees import Link, Plain, Tree

ODD: Tree = {
    b"a": Plain(b"1"),
    b"a.b": Plain(b"2", executable=True),
    b"a-b": {b"empty": {}, b"z": Link(b"../nowhere")},
    b"A": Plain(b""),
    b"\xff\xfe": Plain(b"not UTF-8"),
    "ä".encode(): Link(b"\xff"),
    b"large": Plain(b"0123456789abcdef" * 150_000),
    b" \n": {b"'\"": Plain(b"x" * 7)},
}


def dumped(place: Path) -> bytes:
    return subprocess.run(["nix-store", "--dump", str(place)], check=True, capture_output=True, timeout=60).stdout


def restore(archive: bytes, place: Path) -> None:
    subprocess.run(["nix-store", "--restore", str(place)], input=archive, check=True, timeout=60)


async def read(place: Path, start: int = 0, length: int | None = None) -> list[bytes]:
    return [piece async for piece in tree_reader.nar(place, start, length)]


@pytest.mark.parametrize(
    "tree", [ODD, {}, Plain(b"x"), Plain(b"", executable=True), Plain(b"y" * 3_000_000), Link(b"../some/where")]
)
async def test_it_is_the_archive_that_nix_makes(tmp_path: Path, tree: Tree) -> None:
    trees.write(tree, tmp_path / "it")
    expected = dumped(tmp_path / "it")

    pieces = await read(tmp_path / "it")

    assert b"".join(pieces) == expected == trees.nar(tree)
    assert all(len(piece) == PIECE_BYTES for piece in pieces[:-1])
    for start, length in ((0, 0), (7, 9), (PIECE_BYTES - 1, 2), (1000, PIECE_BYTES), (len(expected) - 3, 99)):
        assert b"".join(await read(tmp_path / "it", start, length)) == expected[start:][:length]


async def test_nix_restores_it(tmp_path: Path) -> None:
    trees.write(ODD, tmp_path / "it")

    archive = b"".join(await read(tmp_path / "it"))
    restore(archive, tmp_path / "back")

    assert dumped(tmp_path / "back") == archive


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees.trees)
def test_random_trees(tmp_path: Path, tree: Tree) -> None:
    place = tmp_path / str(sum(1 for _ in tmp_path.iterdir()))
    trees.write(tree, place)

    assert b"".join(tree_reader.chunks(tree_reader.archive(os.fsencode(place)).slice())) == dumped(place)


def test_very_many_links_make_no_large_piece(tmp_path: Path) -> None:
    for number in range(2500):
        (tmp_path / f"{number:05d}").symlink_to("somewhere/else" * 30)

    pieces = list(tree_reader.chunks(tree_reader.archive(os.fsencode(tmp_path)).slice()))

    assert [len(piece) == PIECE_BYTES for piece in pieces] == [True] * (len(pieces) - 1) + [False]


async def test_what_no_archive_can_hold_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(DoorError, match="neither a file"):
        await read(tmp_path)
    with pytest.raises(DoorError, match="could not be read"):
        await read(tmp_path / "missing")


async def test_a_file_that_becomes_shorter_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5_000_000)
    reading = tree_reader.nar(tmp_path)
    await anext(reading)
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(DoorError, match="became shorter"):
        await anext(reading)


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"secret")
    (tmp_path / "link").symlink_to("file")

    with pytest.raises(OSError, match="symbolic links"):
        tree_reader.read_at(os.fsencode(tmp_path / "link"), 0, 6)
    with pytest.raises(TreeError, match="shorter"):
        tree_reader.read_at(os.fsencode(tmp_path / "file"), 0, 7)


async def test_contents_are_found_where_they_are_said_to_be(tmp_path: Path) -> None:
    trees.write(ODD, tmp_path / "it")
    path = StorePath("/nix/store/00000000000000000000000000000000-x")

    contents = trees.disk_contents({path: tmp_path / "it"})

    assert b"".join([piece async for piece in contents.nar(path)]) == trees.nar(ODD)
