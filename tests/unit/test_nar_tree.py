"""Archives laid out in segments: the bytes themselves are held against Nix in `tests/nix/test_tree_reader.py`."""

import pytest

from nixmill.nix.nar_tree import LEAVE, Archive, Directory, File, FilePart, Node, Symlink, TreeError
from nixmill.nix.wire import ProtocolError
from tests.support import trees
from tests.support.trees import Link, Plain, Tree, joined, parsed

TREE: Tree = {b"a": Plain(b"abc", executable=True), b"d": {}, b"l": Link(b"a"), b"\xff": Plain(b"")}


def test_literal_bytes_are_kept_together() -> None:
    segments = Archive(trees.nodes(TREE)).segments

    assert [type(segment) for segment in segments] == [bytes, FilePart, bytes]
    assert segments[1] == FilePart(b"abc", 0, 3)


def test_every_slice_is_that_of_the_whole() -> None:
    archive = Archive(trees.nodes(TREE))
    whole = joined(archive)

    assert len(whole) == archive.size
    for start in range(archive.size + 2):
        for length in (0, 1, 9, 200, None):
            assert joined(archive, start, length) == whole[start:][:length]


def test_a_slice_of_a_large_tree_looks_at_little_of_it() -> None:
    count = 20_000
    files = (File(b"%08d" % number, b"x", 1) for number in range(count))
    archive: Archive[bytes] = Archive([Directory(), *files, LEAVE])

    assert len(list(archive.slice(archive.size // 2, 100))) <= 3
    assert len(archive.segments) == 2 * count + 1


def test_a_tree_deeper_than_the_stack() -> None:
    nodes: list[Node[bytes]] = [Directory(), *[Directory(b"d")] * 5000, *[LEAVE] * 5001]

    archive = Archive(nodes)

    assert parsed(joined(archive), 4096) == nodes


FILE = File(b"a", b"", 0)


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([], "breaks off"),
        ([Directory()], "breaks off"),
        ([LEAVE], "none is open"),
        ([FILE, FILE], "after the end"),
        ([Directory(), LEAVE, LEAVE], "after the end"),
        ([Directory(), FILE, FILE, LEAVE], "byte order"),
        ([Directory(), File(b"b", b"", 0), FILE, LEAVE], "byte order"),
        ([Directory(), File(b"..", b"", 0), LEAVE], "no name"),
        ([Directory(), Symlink(b"a/b", b"x"), LEAVE], "no name"),
        ([Directory(), Directory(b""), LEAVE, LEAVE], "no name"),
    ],
)
def test_what_is_no_tree_is_refused(nodes: list[Node[bytes]], why: str) -> None:
    with pytest.raises(TreeError, match=why):
        Archive(nodes)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"nix-archive-1", b"nix-archive-2"),
        (b"symlink", b"symlonk"),
        (b"entry", b"antry"),
        (b"contents", b"contants"),
        (b"abc\0\0\0\0\0", b"abc\0\0\0\0x"),
        (b"\x01\0\0\0\0\0\0\0d", b"\x01\0\0\0\0\0\0\0a"),
        (b"\x01\0\0\0\0\0\0\0d", b"\x01\0\0\0\0\0\0\0/"),
    ],
)
def test_what_is_no_archive_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(ProtocolError, match="No NAR"):
        parsed(trees.nar(TREE).replace(old, new), 4096)
