"""Directories by content. The vectors were computed with the protobuf library's deterministic output."""

from collections.abc import Callable

import pytest
from blake3 import blake3

from nixmill.nix import castore, castore_chunks, castore_tree
from nixmill.nix.castore import CastoreError, Directory, DirectoryNode, FileNode, SymlinkNode
from nixmill.nix.castore_chunks import CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, Chunk, Cutter
from nixmill.nix.castore_tree import DirectoryUpload
from nixmill.nix.nar_tree import Archive

EMPTY = castore.digest(b"")
KEEP = FileNode(b".keep", EMPTY, 0)
INNER = Directory((), (KEEP,))
INNER_NODE = DirectoryNode(b"keep", castore.digest(castore.encode(INNER)), 1)
OUTER = Directory((INNER_NODE,), (KEEP,), (SymlinkNode(b"aa", b"/nix/store/somewhereelse"),))


def name_of(directory: Directory) -> str:
    return castore.digest(castore.encode(directory)).hex()


@pytest.mark.parametrize(
    ("directory", "name", "size"),
    [
        (Directory(), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", 0),
        (INNER, "8b5b5d642b646bb8ed504b0862c39413e87e57491497de7bd075953f7b83810e", 1),
        (OUTER, "3f951a15afd586fb3121ef4d13d582e811ce0e5a7f21c0497fd87490e9e2355a", 4),
    ],
)
def test_directories_have_the_names_that_others_give_them(directory: Directory, name: str, size: int) -> None:
    assert name_of(directory) == name
    assert directory.size() == size
    assert castore.decode(castore.encode(directory)) == directory


def test_a_blob_is_named_by_the_hash_of_its_bytes() -> None:
    assert castore.digest(b"Hello World") == blake3(b"Hello World").digest()
    assert castore.digest(b"Hello World").hex() == "41f8394111eb713a22165c46c90ab8f0fd9399c92028fd6d288944b23ff5bf76"


def directory_of(name: bytes, digest: bytes = EMPTY, size: int = 0) -> Directory:
    return Directory((DirectoryNode(name, digest, size),))


LARGEST = DirectoryNode(b"a", EMPTY, castore.SIZE_MAX)


@pytest.mark.parametrize(
    ("directory", "why"),
    [
        (directory_of(b""), "no name"),
        (directory_of(b"."), "no name"),
        (directory_of(b".."), "no name"),
        (directory_of(b"a/b"), "no name"),
        (directory_of(b"a\0"), "no name"),
        (directory_of(b"a", EMPTY[:31]), "32 bytes"),
        (directory_of(b"a", EMPTY + b"x"), "32 bytes"),
        (directory_of(b"a", size=2**64), "no size"),
        (Directory((), (FileNode(b"a", b"", 0),)), "32 bytes"),
        (Directory((), (), (SymlinkNode(b"a", b""),)), "no target"),
        (Directory((), (), (SymlinkNode(b"a", b"x\0"),)), "no target"),
        (Directory((), (FileNode(b"b", EMPTY, 0), FileNode(b"a", EMPTY, 0))), "out of order"),
        (Directory((), (KEEP, KEEP)), "there twice"),
        (Directory((), (KEEP,), (SymlinkNode(b".keep", b"x"),)), "there twice"),
        (Directory((DirectoryNode(b".keep", EMPTY, 0),), (KEEP,)), "there twice"),
        (Directory((LARGEST,)), "64 bits"),
    ],
)
def test_what_breaks_a_rule_is_neither_written_nor_read(directory: Directory, why: str) -> None:
    with pytest.raises(CastoreError, match=why):
        castore.encode(directory)
    raw = b"".join(castore._tagged(number, data) for number, data in castore._encoded(directory))  # as a stranger would
    with pytest.raises(CastoreError):
        castore.decode(raw)


def test_each_of_the_three_lists_has_an_order_of_its_own() -> None:
    directory = Directory((DirectoryNode(b"c", EMPTY, 0),), (FileNode(b"b", EMPTY, 0),), (SymlinkNode(b"a", b"x"),))

    assert castore.decode(castore.encode(directory)) == directory
    assert [node.name for node in directory.entries()] == [b"a", b"b", b"c"]


FILE = castore.encode(INNER)


@pytest.mark.parametrize(
    "data",
    [
        FILE[:-1],
        FILE + b"\x00",
        FILE + b"\x22\x00",  # an unknown field
        FILE + b"\x08\x01",  # a number where a node belongs
        FILE + b"\x0d\x00\x00\x00\x00",  # a wire type that castore has no use for
        FILE[:1] + bytes((FILE[1] + 2,)) + FILE[2:] + b"\x18\x00",  # a default, written out
        FILE[:1] + bytes((FILE[1] + 2,)) + FILE[2:] + b"\x28\x01",  # an unknown field within a node
        FILE[:1] + bytes((FILE[1] | 0x80, 0)) + FILE[2:],  # a number longer than it need be
        FILE[:1] + b"\xff" * 11,
        castore.encode(directory_of(b"a"))[2:],
        b"\x12\x02\x0a\x00",
        b"\x1a\x06\x0a\x01a\x12\x01x" + FILE,  # lists in another order
    ],
    ids=range(12),
)
def test_what_is_not_the_one_encoding_is_refused(data: bytes) -> None:
    with pytest.raises(CastoreError):
        castore.decode(data)


@pytest.mark.parametrize(
    "node", [DirectoryNode(b"", EMPTY, 0), FileNode(b"", EMPTY, 7, executable=True), SymlinkNode(b"", b"x")]
)
def test_a_root_is_any_node_without_a_name(node: castore.Node) -> None:
    assert castore.decode_root(castore.encode_root(node)) == node
    with pytest.raises(CastoreError, match="one node"):
        castore.decode_root(castore.encode_root(node) * 2)


@pytest.mark.parametrize("data", [b"", b"\x22\x00", b"\x08\x01", castore.encode(OUTER)[:60], castore.encode(INNER)])
def test_what_is_no_root_is_refused(data: bytes) -> None:
    with pytest.raises(CastoreError):
        castore.decode_root(data)


def root_of(directory: Directory, size: int | None = None) -> DirectoryNode:
    wanted = directory.size() if size is None else size
    return DirectoryNode(b"", castore.digest(castore.encode(directory)), wanted)


def uploading(*directories: Directory) -> DirectoryUpload:
    upload = DirectoryUpload()
    for directory in directories:
        upload.add(castore.encode(directory))
    return upload


def test_a_tree_is_uploaded_leaves_first_and_what_came_may_come_again() -> None:
    uploading(INNER, OUTER).root(root_of(OUTER))
    uploading(INNER, INNER, OUTER, OUTER).root(root_of(OUTER))
    uploading().root(FileNode(b"", EMPTY, 0))


@pytest.mark.parametrize(
    "upload",
    [
        lambda: uploading(OUTER, INNER),
        lambda: uploading(OUTER),
        lambda: uploading(INNER, Directory((DirectoryNode(b"keep", INNER_NODE.digest, 2),))),
        lambda: uploading(INNER, OUTER).root(root_of(INNER)),
        lambda: uploading(INNER, OUTER, Directory()).root(root_of(OUTER)),
        lambda: uploading(INNER, OUTER).root(root_of(OUTER, 5)),
        lambda: uploading(INNER).root(FileNode(b"", EMPTY, 0)),
        lambda: uploading().root(root_of(INNER)),
        lambda: uploading(INNER, OUTER).root(INNER_NODE),
    ],
    ids=["out-of-order", "dangling", "wrong-size", "other-root", "unconnected", "root-size", "unused", "none", "named"],
)
def test_what_is_no_whole_tree_is_rejected(upload: Callable[[], object]) -> None:
    with pytest.raises(CastoreError):
        upload()


def test_a_tree_whose_directory_is_missing_or_lies_is_not_rendered() -> None:
    with pytest.raises(CastoreError, match="missing"):
        Archive(castore_tree.nodes(root_of(OUTER), {root_of(OUTER).digest: OUTER}))
    with pytest.raises(CastoreError, match="were said"):
        Archive(castore_tree.nodes(root_of(INNER, 3), {root_of(INNER).digest: INNER}))


def cut(data: bytes, step: int = 1 << 20) -> list[bytes]:
    cutter = Cutter()
    found = [chunk for at in range(0, len(data), step) for chunk in cutter.add(data[at : at + step])]
    return [*found, *cutter.rest()]


NOISE = blake3(b"noise").digest(3_000_000)


def test_a_blob_is_cut_the_same_way_however_it_arrives() -> None:
    chunks = cut(NOISE)

    assert b"".join(chunks) == NOISE
    assert cut(NOISE, 1000) == chunks
    assert all(CHUNK_BYTES_MIN < len(chunk) <= CHUNK_BYTES_MAX for chunk in chunks[:-1])
    assert cut(b"") == []
    assert cut(b"x" * CHUNK_BYTES_MAX) == [b"x" * CHUNK_BYTES_MAX]


def test_what_is_put_into_a_blob_changes_the_chunks_around_it_only() -> None:
    text = b"".join(b"and line %d of a text\n" % number for number in range(150_000))
    changed = text[:100_000] + b"something" + text[100_000:]

    assert len(set(cut(changed)) - set(cut(text))) <= 2


def test_a_list_of_chunks_is_believed_only_whole() -> None:
    chunks = [Chunk(castore.digest(b"a"), 5), Chunk(castore.digest(b"b"), 7)]
    data = castore_chunks.encode(chunks)

    assert castore_chunks.decode(data, 12) == chunks
    with pytest.raises(CastoreError, match="make up"):
        castore_chunks.decode(data, 11)
    for damaged in (b"", data[:-1], data[:40] + b"\xff" + data[41:], data + data[32:]):
        with pytest.raises(CastoreError, match=r"damaged|make up"):
            castore_chunks.decode(damaged, 12)
