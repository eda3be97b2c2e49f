"""What our store can do for a cache of ours: make a path valid again, know closures and what is signed elsewhere.

A path is made valid in one of three ways: it is there, a substituter has it, or its derivation is built once more.
"""

from collections.abc import Collection, Mapping

from nixmill.core.publish import CacheRule, signed_upstream
from nixmill.doors import Builder, BuildLimits, Store
from nixmill.engine.fail_again import inputs_of
from nixmill.engine.planner import outputs_of
from nixmill.nix.derivation import Derivation
from nixmill.nix.store_path import StorePath


class Restorer:
    """Over one store and one machine that builds for it. Implements `nixmill.engine.cache_verifier.Restore`."""

    def __init__(self, store: Store, builder: Builder, limits: BuildLimits | None = None) -> None:
        """Build within these limits; what is restored is leased until the store is closed."""
        self._store = store
        self._builder = builder
        self._limits = limits or BuildLimits()

    async def __call__(self, path: StorePath, deriver: StorePath | None) -> str:
        """Make a path valid; return how, as the end of a sentence, or nothing where it cannot be."""
        if await self._store.hold([path]):
            return "is in the store"
        fetched = await self._builder.fetch([path], _Unheard())
        if fetched[path].good:
            return "was fetched from a substituter"
        if deriver is not None and await self._built(path, deriver):
            return "was built again"
        return ""

    async def _built(self, path: StorePath, deriver: StorePath) -> bool:
        """Build a derivation, and before it what it needs and nobody has; a deriver that makes something else is none.

        What a damaged narinfo calls its deriver may be anything.
        """
        wanted = await self._derivation(deriver)
        if wanted is None or path not in outputs_of(wanted).values():
            return False
        todo, tried = [deriver], set[StorePath]()
        while todo:
            derivation = await self._derivation(todo[-1])
            inputs = {} if derivation is None else await self._store.derivations(list(derivation.input_drvs))
            if derivation is None or inputs.keys() != derivation.input_drvs.keys():
                return False
            absent = await self._builder.prepare(todo[-1], await inputs_of(self._store, derivation))
            if absent:
                makers = [drv for drv, known in inputs.items() if absent & set(outputs_of(known).values())]
                if todo[-1] in tried or not makers:
                    return False
                tried.add(todo[-1])
                todo += makers
            elif not (await self._builder.build(todo.pop(), self._limits, _Unheard())).good:
                return False
        return bool(await self._store.hold([path]))

    async def _derivation(self, drv_path: StorePath) -> Derivation | None:
        await self._store.hold([drv_path])
        return await self._store.full_derivation(drv_path)


class _Unheard:
    """Implements `BuildObserver`: nobody reads the log of a repair."""

    def started(self) -> None:
        """See `BuildObserver`."""

    def line(self, text: str) -> None:
        """See `BuildObserver`."""

    def phase(self, name: str) -> None:
        """See `BuildObserver`."""

    def kept(self, directory: str) -> None:
        """See `BuildObserver`."""


async def closure(store: Store, paths: Collection[StorePath]) -> set[StorePath]:
    """Return paths and all they refer to, as far as they are valid in a store."""
    seen, level = set(paths), set(paths)
    while level:
        infos = await store.path_infos(level)
        level = {reference for info in infos.values() for reference in info.references} - seen
        seen |= level
    return seen


class Upstream:
    """Knows what clients get from elsewhere. Implements `nixmill.engine.cache_verifier.Elsewhere`."""

    def __init__(self, store: Store, rules: Mapping[str, CacheRule]) -> None:
        """Go by the signatures that paths have in a store, and the rules of the caches by name."""
        self._store = store
        self._rules = rules

    async def __call__(self, cache: str, paths: Collection[StorePath]) -> set[StorePath]:
        """Return which of these paths a cache need not hold."""
        infos = await self._store.path_infos(paths)
        return {path for path, info in infos.items() if signed_upstream(info, self._rules[cache])}
