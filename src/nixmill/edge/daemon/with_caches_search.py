"""What caches that the daemon knows nothing of could deliver: one look, which remembers nothing afterwards.

A path can be had from them when its whole closure can: each path of it is in a cache of ours, valid in the store, or
substitutable by the daemon. All of it is a hint; whether a cache keeps its word only fetching tells.
"""

from collections.abc import Collection, Iterable, Mapping
from itertools import chain

import msgspec

from nixmill.doors import Missing
from nixmill.doors.cache import Holdings
from nixmill.edge.daemon import errors
from nixmill.edge.daemon.store import DaemonStore
from nixmill.nix import operations
from nixmill.nix.derivation import Derivation
from nixmill.nix.derived_path import DerivedPath
from nixmill.nix.narinfo import NarInfo
from nixmill.nix.store_path import StorePath


class Search:
    """One look, for one question."""

    def __init__(self, store: DaemonStore, holdings: Holdings, announced: Collection[StorePath]) -> None:
        """Look in `holdings`; `announced` is what the daemon can substitute."""
        self._store = store
        self._holdings = holdings
        self._infos: dict[StorePath, NarInfo] = {}
        self._good = set(announced)
        """Valid, or substitutable."""
        self._bad: set[StorePath] = set()
        """Nowhere, or not without something that is nowhere."""

    async def improve(self, answer: Missing, outputs_of: Collection[StorePath]) -> Missing:
        """Return a daemon's answer without the derivations whose outputs can be had from our caches.

        Below these nothing is looked at, and nothing is said to be built.
        """
        build: set[StorePath] = set()
        fetch: set[StorePath] = set()
        seen: set[StorePath] = set()
        level = answer.build.intersection(outputs_of)
        while level:
            seen |= level
            derivations = await self._store.derivations(level)
            outputs = {drv_path: _outputs(derivations.get(drv_path)) for drv_path in level}
            obtainable = await self._obtainable({path for paths in outputs.values() for path in paths})
            held = {drv_path for drv_path, paths in outputs.items() if paths and obtainable.issuperset(paths)}
            fetch.update(path for drv_path in held for path in outputs[drv_path])
            build |= level - held
            below = (derivations[drv_path].input_drvs for drv_path in level - held if drv_path in derivations)
            level = answer.build.intersection(chain.from_iterable(below)) - seen
        return self._with(answer, build, self._closure(fetch))

    async def _obtainable(self, paths: set[StorePath]) -> set[StorePath]:
        """Return those of `paths` that can be had with all they refer to."""
        level = paths - self._infos.keys() - self._good - self._bad
        roots, absent = level, set[StorePath]()
        while level:
            valid = await self._store.valid(level)
            infos = await self._holdings.narinfos(level - valid)
            self._good |= valid
            self._infos |= infos
            absent |= level - valid - infos.keys()
            level = _references(infos.values()) - self._infos.keys() - self._good - self._bad - absent
        # What the daemon would build it cannot substitute; of the rest it was not asked.
        substitutable = await self._substitutable(absent - roots)
        self._good |= substitutable
        self._bad |= self._referrers(absent - substitutable)
        return paths - self._bad

    async def _substitutable(self, paths: Collection[StorePath]) -> set[StorePath]:
        if not paths:
            return set()
        with errors.explained("plan with", self._store.name):
            async with self._store.fresh(self._store.query_options) as connection:
                answer = await connection.perform(operations.query_missing(map(DerivedPath, paths)))
        return set(answer.fetch.intersection(paths))

    def _referrers(self, paths: Iterable[StorePath]) -> set[StorePath]:
        """Return `paths` and all that refer to them, however indirectly."""
        referrers: dict[StorePath, list[StorePath]] = {}
        for path, info in self._infos.items():
            for reference in info.info.references:
                referrers.setdefault(reference, []).append(path)
        return _reach(paths, referrers)

    def _closure(self, paths: Iterable[StorePath]) -> set[StorePath]:
        return _reach(paths, {path: info.info.references for path, info in self._infos.items()})

    def _with(self, answer: Missing, build: set[StorePath], fetch: set[StorePath]) -> Missing:
        ours = [self._infos[path] for path in fetch if path in self._infos]
        return msgspec.structs.replace(
            answer,
            build=frozenset(build),
            fetch=answer.fetch.union(info.info.path for info in ours),
            download_bytes=answer.download_bytes + sum(info.file_size or info.info.nar_size for info in ours),
            nar_bytes=answer.nar_bytes + sum(info.info.nar_size for info in ours),
        )


def _outputs(derivation: Derivation | None) -> list[StorePath]:
    """Return all outputs; nothing where only a build can tell one of their paths."""
    outputs = list(derivation.outputs.values()) if derivation else []
    return [StorePath(out.path) for out in outputs] if all(out.path for out in outputs) else []


def _references(infos: Iterable[NarInfo]) -> set[StorePath]:
    return {reference for info in infos for reference in info.info.references}


def _reach(paths: Iterable[StorePath], onward: Mapping[StorePath, Collection[StorePath]]) -> set[StorePath]:
    reached = set(paths)
    waiting = list(reached)
    while waiting:
        further = set(onward.get(waiting.pop(), ())) - reached
        reached |= further
        waiting += further
    return reached
