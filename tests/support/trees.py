"""Trees for archives: made up, written to a disk, and as the nodes that an archive has of them."""

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import strategies as st

from nixmill.doors import DoorError
from nixmill.edge import tree_reader
from nixmill.nix import nar_nodes
from nixmill.nix.nar_nodes import Found
from nixmill.nix.nar_tree import LEAVE, Archive, Directory, File, Node, Symlink
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath
from nixmill.nix.wire import Reader


@dataclass(frozen=True)
class Plain:
    """A file."""

    data: bytes
    executable: bool = False


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: bytes


Tree = Plain | Link | dict[bytes, "Tree"]

names = st.binary(min_size=1, max_size=12).filter(
    lambda name: name not in {b".", b".."} and not set(b"/\0") & set(name)
)
files = st.builds(Plain, st.binary(max_size=40), st.booleans())
links = st.builds(Link, st.binary(min_size=1, max_size=20).filter(lambda target: b"\0" not in target))
trees: st.SearchStrategy[Tree] = st.recursive(
    files | links, lambda below: st.dictionaries(names, below, max_size=5), max_leaves=20
)


def nodes(tree: Tree, name: bytes = b"") -> Iterator[Node[bytes]]:
    """Yield a tree as an archive has it; the source of a file is its contents."""
    match tree:
        case Plain(data, executable):
            yield File(name, data, len(data), executable)
        case Link(target):
            yield Symlink(name, target)
        case _:
            yield Directory(name)
            for entry in sorted(tree):
                yield from nodes(tree[entry], entry)
            yield LEAVE


def nar(tree: Tree) -> bytes:
    """Return the archive of a tree."""
    return joined(Archive(nodes(tree)))


def joined(archive: Archive[bytes], start: int = 0, length: int | None = None) -> bytes:
    """Return the bytes of an archive whose files are named by their contents."""
    parts = archive.slice(start, length)
    return b"".join(part if isinstance(part, bytes) else part.source[part.start : part.end] for part in parts)


def parsed(data: bytes, step: int) -> list[Found]:
    """Return what an archive holds, fed in steps."""
    found: list[Found] = []
    reader = Reader()
    parser = nar_nodes.read(reader, found.append)
    for at in range(0, len(data), step):
        reader.feed(data[at : at + step])
        try:
            next(parser)
        except StopIteration:
            assert at + step >= len(data)
            assert not len(reader)
            return found
    raise AssertionError("the archive did not end")


def write(tree: Tree, place: Path) -> None:
    """Write a tree to a disk."""
    match tree:
        case Plain(data, executable):
            place.write_bytes(data)
            place.chmod(0o755 if executable else 0o644)
        case Link(target):
            place.symlink_to(target.decode("utf-8", "surrogateescape"))
        case _:
            place.mkdir()
            for name, entry in tree.items():
                write(entry, place / name.decode("utf-8", "surrogateescape"))


def store_path(name: str) -> StorePath:
    """Return a path whose hash part is made of its name."""
    return StorePath(f"/nix/store/{hashlib.md5(name.encode()).hexdigest().replace('e', 'z')}-{name}")  # noqa: S324


def info_of(path: StorePath, archive: bytes, references: Sequence[StorePath] = ()) -> PathInfo:
    """Return what a store knows of a path with this archive."""
    return PathInfo(
        path=path,
        deriver=None,
        nar_hash=f"sha256:{hashlib.sha256(archive).hexdigest()}",
        nar_size=len(archive),
        references=tuple(references),
    )


@dataclass
class FakeContents:
    """Implements `nixmill.doors.cache.Contents` over archives in memory."""

    archives: dict[StorePath, bytes] = field(default_factory=dict)
    piece: int = 100_000

    def add(self, name: str, tree: Tree, references: Sequence[StorePath] = ()) -> PathInfo:
        """Have a path of this name hold a tree."""
        path = store_path(name)
        self.archives[path] = nar(tree)
        return info_of(path, self.archives[path], references)

    async def nar(self, path: StorePath) -> AsyncIterator[bytes]:
        if path not in self.archives:
            raise DoorError(f"{path} is not there.", door="store", action="read", subject=path, retryable=False)
        archive = self.archives[path]
        for at in range(0, len(archive), self.piece):
            yield archive[at : at + self.piece]


def disk_contents(places: Mapping[StorePath, Path]) -> tree_reader.DiskContents:
    """Return contents that are read from these places."""
    return tree_reader.DiskContents(places.__getitem__)
