"""The listing (`HASH.ls`) of a store path: names, sizes, and where in its archive each file begins.

Source: Nix manual, "Nix Archive Listing"; `listNar` in `src/libutil/nar-accessor.cc` (Nix 2.8 to 2.34).
"""

import asyncio
import os
from pathlib import Path
from typing import Final

from nixmill.doors import DoorError
from nixmill.edge import tree_reader
from nixmill.nix import nar_listing
from nixmill.nix.nar_listing import DirectoryNode, FileNode, SymlinkNode
from nixmill.nix.nar_tree import Archive, Directory, File, FilePart, Node, Symlink, TreeError, length_of

NODES_MAX: Final = 200_000
"""Files and directories beyond which a path has no listing: about 30 MiB of one."""


async def listing(path: Path) -> bytes | None:
    """Return the listing of what is at `path`; None where there is none, or none that is not too large. `DoorError`."""
    try:
        return await asyncio.to_thread(_listing, os.fsencode(path))
    except FileNotFoundError:
        return None
    except (OSError, TreeError) as error:
        sentence = f"{path} cannot be listed: {error}"
        raise DoorError(sentence, door="store", action="list", subject=str(path), retryable=False) from error


def _listing(path: bytes) -> bytes | None:
    nodes = []
    for node in tree_reader.nodes(path):
        nodes.append(node)
        if len(nodes) > NODES_MAX:
            return None
    return nar_listing.to_json(_tree(nodes, _offsets(Archive(nodes))))


def _offsets(archive: Archive[bytes]) -> dict[bytes, int]:
    """Return where the contents of each file begin; those of empty files are not there."""
    found, at = {}, 0
    for segment in archive.segments:
        if isinstance(segment, FilePart):
            found[segment.source] = at
        at += length_of(segment)
    return found


def _tree(nodes: list[Node[bytes]], offsets: dict[bytes, int]) -> nar_listing.Node:
    top: dict[str, nar_listing.Node] = {}
    open_ = [top]
    for node in nodes:
        if not isinstance(node, Directory | File | Symlink):
            open_.pop()
            continue
        entry = open_[-1][os.fsdecode(node.name)] = _entry(node, offsets)
        if isinstance(entry, DirectoryNode):
            open_.append(entry.entries)
    return top[""]


def _entry(node: Directory | File[bytes] | Symlink, offsets: dict[bytes, int]) -> nar_listing.Node:
    match node:
        case Directory():
            return DirectoryNode({})
        case Symlink(target=target):
            return SymlinkNode(os.fsdecode(target))
        case File(source=source, size=size):
            return FileNode(size=size, offset=offsets.get(source, 0), executable=node.executable)
