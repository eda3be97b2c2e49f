"""What of a cache is deleted: by age, number and size, the newest kept first, and never what anything kept refers to.

What is kept is closed under references: all that is needed (by pins, live runs, waiting uploads) or too young to
judge, then the others, the newest first, each with all it refers to, up to the first that exceeds a limit. That one
and whatever is older go, unless something kept refers to them. Hence larger limits never delete more, and collecting
a second time deletes nothing.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from nixmill.core.roots import RootFacts
from nixmill.nix.store_path import StorePath

DAY_S: Final = 86_400.0
GIB: Final = 1024**3


class Shelved(msgspec.Struct, frozen=True, kw_only=True):
    """A path in a cache, as far as it matters here."""

    path: StorePath
    references: Sequence[StorePath] = ()
    """Itself may be among them, and what the cache does not have."""
    size: int
    """Bytes."""
    published_at: float


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much a cache keeps of what nothing needs; 0: no limit."""

    age_s: float = 0.0
    paths: int = 0
    """All paths are counted, needed ones too."""
    size: int = 0
    """Bytes, likewise."""
    grace_s: float = 0.0
    """What was published less long ago is kept, whatever the limits."""

    def any(self) -> bool:
        """Say whether there is a limit at all."""
        return bool(self.age_s or self.paths or self.size)


class Doomed(msgspec.Struct, frozen=True):
    """A path that is deleted, and why."""

    path: StorePath
    reason: str
    """A sentence."""
    size: int
    """Bytes."""


def needed_in(facts: RootFacts, cache: str, now: float) -> set[StorePath]:
    """Return what a cache keeps whatever its limits: pins, what live runs rely on, what waits to be published.

    Pins of every policy count: a pin is the latest good result, which others fetch from the cache. What waits is
    meant with its closure, which only the store knows.
    """
    kept = {path for pin in facts.pins for path in pin.paths}
    kept.update(path for path, until in facts.hand if until is None or until > now)
    kept.update(path for run in facts.runs if not run.done for path in run.paths)
    kept.update(facts.uploads.get(cache, ()))
    return kept


def doomed(shelf: Sequence[Shelved], needed: Collection[StorePath], limits: Limits, now: float) -> list[Doomed]:
    """Return what is to be deleted, referrers before what they refer to."""
    if not limits.any():
        return []
    kept = _Kept(shelf, limits)
    kept.insist(path for path in needed if path in kept.by_path)
    newest_first = sorted(shelf, key=lambda one: (-one.published_at, one.path))
    kept.insist(one.path for one in newest_first if now - one.published_at < limits.grace_s)
    full = ""
    for one in newest_first:
        full = _too_old(one, limits, now) or kept.offer(one.path)
        if full:
            break
    gone = {one.path: one for one in newest_first if one.path not in kept.paths}
    return [Doomed(path, _reason(gone[path], full, limits, now), gone[path].size) for path in _referrers_first(gone)]


class _Kept:
    """What is kept so far; always closed under references, as far as they are in the cache."""

    def __init__(self, shelf: Sequence[Shelved], limits: Limits) -> None:
        self.by_path = {one.path: one for one in shelf}
        self.paths: set[StorePath] = set()
        self._limits = limits
        self._size = 0

    def insist(self, paths: Iterable[StorePath]) -> None:
        """Keep paths with their closures, whatever the limits."""
        new = self._new(paths)
        self.paths |= new
        self._size += self._sum(new)

    def offer(self, path: StorePath) -> str:
        """Keep a path with its closure if that fits; else return which limit it exceeds."""
        new = self._new([path])
        if not new:
            return ""
        size = self._sum(new)
        if self._limits.paths and len(self.paths) + len(new) > self._limits.paths:
            return f"{self._limits.paths} paths are kept, and it is not among the newest"
        if self._limits.size and self._size + size > self._limits.size:
            return f"{self._limits.size / GIB:.3g} GiB are kept, and it is not among the newest"
        self.paths |= new
        self._size += size
        return ""

    def _new(self, paths: Iterable[StorePath]) -> set[StorePath]:
        """Return the closure of paths less what is kept."""
        new: set[StorePath] = set()
        todo = list(paths)
        while todo:
            path = todo.pop()
            if path in self.paths or path in new or path not in self.by_path:
                continue
            new.add(path)
            todo.extend(self.by_path[path].references)
        return new

    def _sum(self, paths: Iterable[StorePath]) -> int:
        return sum(self.by_path[path].size for path in paths)


def _too_old(one: Shelved, limits: Limits, now: float) -> str:
    if not limits.age_s or now - one.published_at <= limits.age_s:
        return ""
    return f"paths are kept for {limits.age_s / DAY_S:.3g} days"


def _reason(one: Shelved, full: str, limits: Limits, now: float) -> str:
    age = (now - one.published_at) / DAY_S
    why = _too_old(one, limits, now) or full
    return f"It was published {age:.1f} days ago; {why}, and nothing that is kept refers to it."


def _referrers_first(gone: Mapping[StorePath, Shelved]) -> list[StorePath]:
    """Return paths so that each comes before what it refers to; what refers to each other in a circle comes last."""
    referrers = dict.fromkeys(gone, 0)
    for one in gone.values():
        for reference in _others(one):
            if reference in referrers:
                referrers[reference] += 1
    order: list[StorePath] = []
    free = deque(path for path, count in referrers.items() if not count)
    while free:
        path = free.popleft()
        order.append(path)
        for reference in _others(gone[path]):
            if reference in referrers:
                referrers[reference] -= 1
                if not referrers[reference]:
                    free.append(reference)
    done = set(order)
    return [*order, *(path for path in gone if path not in done)]


def _others(one: Shelved) -> set[StorePath]:
    return set(one.references) - {one.path}
