"""Between trees in the order of an archive and castore's directories, both ways, and the upload of directories.

Nothing recurses: a tree may be deeper than Python's stack.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from nixmill.nix import castore, nar_tree
from nixmill.nix.castore import CastoreError, DirectoryNode, FileNode, SymlinkNode
from nixmill.nix.nar_tree import LEAVE, File, Leave, Symlink

_EMPTY: Final = castore.Directory()


class TreeBuilder:
    """Makes directories of a tree's nodes as they come by, each directory after those within it."""

    def __init__(self) -> None:
        """Start with nothing."""
        self.directories: dict[bytes, bytes] = {}
        """Encoded directories by digest; equal ones once. Leaves come before what refers to them."""
        self._root: castore.Node | None = None
        self._names: list[bytes] = []
        self._open: list[tuple[list[DirectoryNode], list[FileNode], list[SymlinkNode]]] = []

    def add(self, node: nar_tree.Node[bytes]) -> None:
        """Take the next node in the order of an archive; files are named by their digests."""
        match node:
            case nar_tree.Directory(name=name):
                self._names.append(name)
                self._open.append(([], [], []))
            case File():
                self._place(FileNode(node.name, node.source, node.size, node.executable))
            case Symlink(name=name, target=target):
                self._place(SymlinkNode(name, target))
            case Leave.LEAVE:
                directories, files, symlinks = self._open.pop()
                directory = castore.Directory(tuple(directories), tuple(files), tuple(symlinks))
                data = castore.encode(directory)
                digest = castore.digest(data)
                self.directories.setdefault(digest, data)
                self._place(DirectoryNode(self._names.pop(), digest, directory.size()))

    def root(self) -> castore.Node:
        """Return the root once everything was added."""
        if self._root is None:
            raise CastoreError("The tree breaks off.")
        return self._root

    def _place(self, node: castore.Node) -> None:
        if not self._open:
            castore.check_root(node)
            self._root = node
            return
        match node:
            case DirectoryNode():
                self._open[-1][0].append(node)
            case FileNode():
                self._open[-1][1].append(node)
            case SymlinkNode():
                self._open[-1][2].append(node)


def nodes(root: castore.Node, directories: Mapping[bytes, castore.Directory]) -> Iterator[nar_tree.Node[FileNode]]:
    """Yield a tree in the order of an archive; the source of a file is its node.

    Raises `CastoreError` where a directory is missing or not as large as what refers to it says.
    """
    todo: list[Iterator[castore.Node]] = [iter([root])]
    while todo:
        node = next(todo[-1], None)
        match node:
            case None:
                todo.pop()
                if todo:
                    yield LEAVE
            case DirectoryNode():
                yield nar_tree.Directory(node.name)
                todo.append(iter(_child(node, directories).entries()))
            case FileNode():
                yield File(node.name, node, node.size, node.executable)
            case SymlinkNode():
                yield Symlink(node.name, node.target)


def _child(node: DirectoryNode, directories: Mapping[bytes, castore.Directory]) -> castore.Directory:
    directory = directories.get(node.digest)
    if directory is None:
        raise CastoreError(f"The directory {node.digest.hex()} is missing.")
    if directory.size() != node.size:
        raise CastoreError(
            f"The directory {node.digest.hex()} has {directory.size()} entries in it and below; {node.size} were said."
        )
    return directory


class DirectoryUpload:
    """Judges directories that arrive leaves first, as one tree; a directory may come again, or be left out then."""

    def __init__(self) -> None:
        """Expect the first."""
        self._sizes: dict[bytes, int] = {}
        self._unreferenced: set[bytes] = set()
        self._newest = b""

    def add(self, data: bytes) -> bytes:
        """Take an encoded directory; return its digest.

        Raises `CastoreError` where it is no directory, refers to one that did not come before, or says its size wrong.
        """
        directory = castore.decode(data)
        for node in directory.directories:
            size = self._sizes.get(node.digest)
            if size is None:
                raise CastoreError(f"It refers to the directory {node.digest.hex()}, which did not come before it.")
            if size != node.size:
                raise CastoreError(f"{node.digest.hex()} has {size} entries in it and below; {node.size} were said.")
            self._unreferenced.discard(node.digest)
        self._newest = castore.digest(data)
        if self._newest not in self._sizes:
            self._sizes[self._newest] = directory.size()
            self._unreferenced.add(self._newest)
        return self._newest

    def root(self, node: castore.Node) -> None:
        """Judge the root of what was uploaded; raise `CastoreError` where it is not all of it, and only that."""
        castore.check_root(node)
        wanted = {node.digest} if isinstance(node, DirectoryNode) else set[bytes]()
        if wanted != self._unreferenced:
            raise CastoreError("The directories that were sent are not one tree below the root.")
        if isinstance(node, DirectoryNode) and self._sizes[node.digest] != node.size:
            raise CastoreError(
                f"The root has {self._sizes[node.digest]} entries in it and below; {node.size} were said."
            )
