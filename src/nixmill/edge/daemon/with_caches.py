"""The doors Store and Builder with caches of ours behind them, of which the daemon need not know.

A path that only such a cache holds counts as fetchable, and is put into the store before what needs it is built
(semantics §3). The daemon is asked first: what it can substitute, it does.
"""

from collections.abc import Callable, Collection, Mapping

import msgspec

from nixmill.doors import Builder, BuildLimits, BuildObserver, DoorError, Missing
from nixmill.doors.cache import Holdings
from nixmill.edge.daemon.errors import DaemonError
from nixmill.edge.daemon.store import DaemonStore
from nixmill.edge.daemon.with_caches_restore import Restorer
from nixmill.edge.daemon.with_caches_search import Search
from nixmill.nix.build_result import BuildResult, BuildStatus
from nixmill.nix.derivation import Derivation
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath


class StoreWithCaches:
    """A `Store` that also announces what our caches hold."""

    def __init__(
        self,
        store: DaemonStore,
        holdings: Holdings,
        notice: Callable[[str], None],
        public_keys: Mapping[str, str] | None = None,
    ) -> None:
        """Ask `store` first, then `holdings`. `public_keys`, by name, are for sentences that say what to trust."""
        self._store = store
        self._holdings = holdings
        self.notice = notice
        self.restorer = Restorer(store, holdings, public_keys or {})

    async def valid(self, paths: Collection[StorePath]) -> set[StorePath]:
        """See `Store`: what is valid in the store itself."""
        return await self._store.valid(paths)

    async def hold(self, paths: Collection[StorePath]) -> set[StorePath]:
        """See `Store`: what is valid in the store itself."""
        return await self._store.hold(paths)

    async def missing(self, outputs_of: Collection[StorePath]) -> Missing:
        """Ask what realising all outputs of these derivations would need; what caches of ours hold is fetched."""
        answer = await self._store.missing(outputs_of)
        if not answer.build or self.restorer.refused:
            return answer
        return await Search(self._store, self._holdings, answer.fetch).improve(answer, outputs_of)

    async def derivations(self, drv_paths: Collection[StorePath]) -> dict[StorePath, Derivation]:
        """See `Store`."""
        return await self._store.derivations(drv_paths)

    async def full_derivation(self, drv_path: StorePath) -> Derivation | None:
        """See `Store`."""
        return await self._store.full_derivation(drv_path)

    async def path_infos(self, paths: Collection[StorePath]) -> dict[StorePath, PathInfo]:
        """See `Store`: of what is valid in the store itself."""
        return await self._store.path_infos(paths)


class BuilderWithCaches:
    """A `Builder` whose inputs and results may also come from our caches."""

    def __init__(self, builder: Builder, store: StoreWithCaches) -> None:
        """Build with `builder`, whose run's store is `store`."""
        self._builder = builder
        self._restorer = store.restorer
        self._notice = store.notice

    async def prepare(self, drv_path: StorePath, inputs: Collection[StorePath]) -> set[StorePath]:
        """Make inputs present: as `builder` does it, else from our caches by way of the run's store.

        What cannot be had is returned, not raised: whoever asked has it built again.
        """
        lacking = await self._builder.prepare(drv_path, inputs)
        if not lacking or self._restorer.refused:
            return lacking
        try:
            faults = await self._restorer.restore(lacking)
        except DoorError as error:
            self._notice(f"Inputs of {drv_path} could not be taken from a cache: {error}")
            return lacking
        restored = lacking - faults.keys()
        if restored:
            lacking = (lacking - restored) | await self._builder.prepare(drv_path, restored)
        return lacking

    async def build(self, drv_path: StorePath, limits: BuildLimits, observer: BuildObserver) -> BuildResult:
        """See `Builder`."""
        return await self._builder.build(drv_path, limits, observer)

    async def fetch(self, paths: Collection[StorePath], observer: BuildObserver) -> dict[StorePath, BuildResult]:
        """Substitute outputs, and take from our caches what the daemon cannot."""
        try:
            results = await self._builder.fetch(paths, observer)
        except DaemonError as error:
            results = {path: BuildResult(status=BuildStatus.MISC_FAILURE, message=str(error)) for path in paths}
        lacking = [path for path, result in results.items() if not result.good]
        if lacking:
            observer.started()
            faults = await self._restorer.restore(lacking, observer.line)
            results |= {path: _result(results[path], faults.get(path)) for path in lacking}
        return results


def _result(before: BuildResult, fault: str | None) -> BuildResult:
    if fault is None:
        return BuildResult(status=BuildStatus.SUBSTITUTED)
    return msgspec.structs.replace(before, message=f"{before.message} {fault}".strip())
