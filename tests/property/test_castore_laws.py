"""Any tree goes into directories by content and comes out as the same archive."""

from hypothesis import given
from hypothesis import strategies as st

from nixmill.nix import castore, castore_tree
from nixmill.nix.castore import CastoreError, Directory, DirectoryNode, FileNode, SymlinkNode
from nixmill.nix.castore_tree import DirectoryUpload, TreeBuilder
from nixmill.nix.nar_tree import Archive, File
from tests.support import trees
from tests.support.trees import Tree

digests = st.binary(min_size=32, max_size=32)
sizes = st.integers(0, 2**40)
directories = st.builds(
    lambda names, kinds: Directory(
        tuple(DirectoryNode(n, d, s) for n, (k, d, s) in sorted(zip(names, kinds, strict=False)) if k == 0),
        tuple(FileNode(n, d, s, bool(s % 2)) for n, (k, d, s) in sorted(zip(names, kinds, strict=False)) if k == 1),
        tuple(
            SymlinkNode(n, d.replace(b"\0", b"x")) for n, (k, d, s) in sorted(zip(names, kinds, strict=False)) if k == 2
        ),
    ),
    st.lists(trees.names, max_size=8, unique=True),
    st.lists(st.tuples(st.integers(0, 2), digests, sizes), min_size=8, max_size=8),
)


@given(directories)
def test_a_directory_is_read_back(directory: Directory) -> None:
    assert castore.decode(castore.encode(directory)) == directory


@given(
    st.binary(max_size=200)
    | st.builds(lambda d, at, byte: _changed(castore.encode(d), at, byte), directories, sizes, st.integers(0, 255))
)
def test_what_is_read_is_written_the_same(data: bytes) -> None:
    try:
        directory = castore.decode(data)
    except CastoreError:
        return
    assert castore.encode(directory) == data


def _changed(data: bytes, at: int, byte: int) -> bytes:
    if not data:
        return bytes((byte,))
    place = at % len(data)
    return data[:place] + bytes((byte,)) + data[place + 1 :]


@given(trees.trees)
def test_a_tree_comes_out_as_it_went_in(tree: Tree) -> None:
    blobs: dict[bytes, bytes] = {}
    builder = TreeBuilder()
    for node in trees.nodes(tree):
        if isinstance(node, File):
            digest = castore.digest(node.source)
            blobs[digest] = node.source
            builder.add(File(node.name, digest, node.size, node.executable))
        else:
            builder.add(node)

    upload = DirectoryUpload()
    for data in builder.directories.values():
        upload.add(data)
    upload.root(builder.root())
    decoded = {digest: castore.decode(data) for digest, data in builder.directories.items()}
    segments = Archive(castore_tree.nodes(builder.root(), decoded)).segments

    assert b"".join(s if isinstance(s, bytes) else blobs[s.source.digest] for s in segments) == trees.nar(tree)
