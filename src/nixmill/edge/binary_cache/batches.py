"""Objects that are stored many at a time, in an order that survives a power cut.

A batch is layers: whatever refers to something stands in a later layer. An edge flushes once for all of it, and so
thousands of small objects do not wait for the disk thousands of times.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

from nixmill.doors.cache import Objects
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath

Content: TypeAlias = bytes | Path
Layer: TypeAlias = Sequence[tuple[str, Content]]


class Batches(Objects, Protocol):
    """Objects of a cache, with a way to put many."""

    async def put_all(self, layers: Sequence[Layer]) -> Sequence[Sequence[bool]]:
        """Store objects, all durable on return; say for each whether it is new, as `put` does. None is replaced.

        No object appears before those of the layers in front of its own, and none is durable before them. Broken off,
        some of the first layers' objects stand.
        """


def by_depth(infos: Iterable[PathInfo]) -> list[list[StorePath]]:
    """Group paths, each of which comes after what it refers to, so that none refers to its own group or a later one."""
    depths: dict[StorePath, int] = {}
    groups: list[list[StorePath]] = []
    for info in infos:
        depth = 1 + max((depths.get(path, -1) for path in info.references if path != info.path), default=-1)
        depths[info.path] = depth
        if depth == len(groups):
            groups.append([])
        groups[depth].append(info.path)
    return groups
