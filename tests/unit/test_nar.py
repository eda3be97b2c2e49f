import subprocess
from pathlib import Path

import pytest

from nixmill.nix import nar, wire
from nixmill.nix.wire import ProtocolError, Reader, parse


def words(*texts: str) -> bytes:
    return b"".join(map(wire.string, texts))


FILE = words("nix-archive-1", "(", "type", "regular", "contents", "hello", ")")


def copied(data: bytes) -> bytes:
    reader, out = Reader(data), bytearray()
    parse(nar.copy(reader, out.extend), reader)
    return bytes(out)


@pytest.mark.parametrize(
    "data",
    [
        FILE,
        words("nix-archive-1", "(", "type", "regular", ")"),
        words("nix-archive-1", "(", "type", "regular", "executable", "", "contents", "", ")"),
        words("nix-archive-1", "(", "type", "symlink", "target", "../x", ")"),
        words("nix-archive-1", "(", "type", "directory", ")"),
    ],
)
def test_every_kind_of_node_passes_unchanged(data: bytes) -> None:
    assert copied(data) == data


def test_a_real_tree_passes_unchanged(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "a" / "b" / "c").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "a" / "big").write_bytes(bytes(range(256)) * 2000)
    (tree / "a" / "b" / "run").write_text("#!/bin/sh\n")
    (tree / "a" / "b" / "run").chmod(0o755)
    (tree / "link").symlink_to("a/b")
    data = subprocess.run(["nix-store", "--dump", str(tree)], capture_output=True, check=True).stdout

    assert copied(data) == data


def test_reading_stops_where_the_archive_ends() -> None:
    reader, out = Reader(FILE + b"what follows"), bytearray()
    with pytest.raises(StopIteration):
        next(nar.copy(reader, out.extend))

    assert len(reader) == len(b"what follows")


def test_deep_directories_need_no_deep_stack() -> None:
    depth = 20_000
    data = (
        words("nix-archive-1")
        + words("(", "type", "directory", "entry", "(", "name", "d", "node") * depth
        + words("(", "type", "directory", ")")
        + words(")", ")") * depth
    )

    assert copied(data) == data


def test_the_contents_of_a_file_are_taken_out() -> None:
    assert nar.regular_file(FILE) == b"hello"


@pytest.mark.parametrize(
    "data",
    [
        words("nix-archive-2"),
        words("nix-archive-1", "(", "type", "fifo", ")"),
        words("nix-archive-1", "(", "type", "regular", "contents", "x", "("),
        words("nix-archive-1", "(", "type", "directory", "file"),
        words("nix-archive-1", "(", "type") + wire.u64(2**20),
    ],
)
def test_what_is_no_archive_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="No NAR"):
        copied(data)
