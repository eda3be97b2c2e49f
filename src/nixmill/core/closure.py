"""Sizes of closures: what each of several roots needs, what it needs alone, and what it shares with the others.

What it does not know: any other root. What only one of these needs may still be kept by something that is not among
them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath


class ClosureSize(msgspec.Struct, frozen=True, kw_only=True):
    """The closure of one root. Sizes are bytes of unpacked archives (`nar_size`)."""

    paths: int
    closure: int
    shared: int
    """Of paths that other roots need, too."""
    whole: bool = True
    """False: some of the closure is not known, and the sizes are the least that it can be."""

    @property
    def alone(self) -> int:
        """Of paths that none of the other roots needs: at most this is freed when this one goes."""
        return self.closure - self.shared


def closure_sizes(
    roots: Sequence[Iterable[StorePath]], infos: Mapping[StorePath, PathInfo]
) -> list[ClosureSize | None]:
    """Return the size of the closure of each root, which may be several paths; None where nothing is known of it."""
    closures = [closure(root, infos) for root in roots]
    needed_by = Counter(path for found, _ in closures for path in found)
    return [_sized(found, infos, needed_by, whole=whole) if found else None for found, whole in closures]


def closure(paths: Iterable[StorePath], infos: Mapping[StorePath, PathInfo]) -> tuple[set[StorePath], bool]:
    """Return what `paths` need, themselves included, as far as `infos` tell; and whether that is all of it."""
    found: set[StorePath] = set()
    unknown = False
    edge = list(paths)
    while edge:
        path = edge.pop()
        info = infos.get(path)
        if info is None:
            unknown = True
        elif path not in found:
            found.add(path)
            edge.extend(info.references)
    return found, not unknown


def _sized(
    found: set[StorePath], infos: Mapping[StorePath, PathInfo], needed_by: Mapping[StorePath, int], *, whole: bool
) -> ClosureSize:
    sizes = {path: infos[path].nar_size for path in found}
    shared = sum(size for path, size in sizes.items() if needed_by[path] > 1)
    return ClosureSize(paths=len(found), closure=sum(sizes.values()), shared=shared, whole=whole)
