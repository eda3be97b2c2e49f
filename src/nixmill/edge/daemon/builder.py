"""The door Builder over the worker protocol: the run's own store, or another machine's.

On the own store a derivation is built by BuildPathsWithResults, one per operation. On another machine the inputs are
copied there, BuildDerivation runs, and the outputs are copied back; an answer about one store is never used for the
other. Outputs are held by the run's store before the building connection may be used again.
What this file does not know: order, retries, what a failure means.
"""

from collections.abc import Collection, Mapping

import msgspec

from nixmill.doors import BuildLimits, BuildObserver
from nixmill.edge.daemon import copying, errors, settings
from nixmill.edge.daemon.connection import Connection
from nixmill.edge.daemon.store import DaemonStore
from nixmill.edge.daemon.watch import Watch
from nixmill.nix import build_result, operations
from nixmill.nix.build_result import BuildResult, BuildStatus, Detail
from nixmill.nix.derivation import Derivation
from nixmill.nix.derived_path import DerivedPath, all_outputs
from nixmill.nix.operations import Options
from nixmill.nix.store_path import StorePath
from nixmill.nix.worker_protocol import DaemonFacts, RemoteError


class DaemonBuilder:
    """Builds on `machine` for `home`, the run's store; they are the same unless a machine is named."""

    def __init__(self, home: DaemonStore, machine: DaemonStore | None = None) -> None:
        """Use two open stores."""
        self._home = home
        self._machine = machine or home

    @property
    def _remote(self) -> bool:
        return self._machine is not self._home

    async def prepare(self, drv_path: StorePath, inputs: Collection[StorePath]) -> set[StorePath]:
        """Make inputs present in this builder's store; return those that could not be.

        Copied from the run's store where they are valid there, else substituted by the machine itself.
        """
        del drv_path  # what is asked for does not depend on whose inputs they are
        lacking = set(inputs) - await self._machine.hold(inputs)
        if self._remote and lacking:
            at_home = await self._home.hold(lacking)
            await copying.copy_closure(self._home, self._machine, at_home)
            lacking -= await self._machine.hold(at_home)
        if lacking:
            results = await self._fetch(self._machine, lacking, _Deaf())
            lacking -= await self._machine.hold([path for path, result in results.items() if result.good])
        return lacking

    async def build(self, drv_path: StorePath, limits: BuildLimits, observer: BuildObserver) -> BuildResult:
        """Build all outputs of this one derivation, whose inputs are present; outputs end up in the run's store."""
        watch = Watch(observer, limits)
        with errors.explained("build", drv_path):
            async with self._machine.builds.use(lambda facts: self._options(facts, limits)) as connection:
                result = watch.judge(await self._attempt(connection, drv_path, watch))
                if result.good:
                    result = await self._secure(result)
        return await self._within_size(result, limits.output_bytes)

    async def check(self, drv_path: StorePath, limits: BuildLimits, observer: BuildObserver) -> BuildResult:
        """See `Rebuilder`. Of the inputs, which are made present first, the daemon itself builds what is nowhere."""
        watch = Watch(observer, limits)
        with errors.explained("build again", drv_path):
            derivation = await self._home.full_derivation(drv_path)
            if derivation is None:
                raise RemoteError(f"{drv_path} is not in the store any more")
            await self.prepare(drv_path, [path for path in await self._input_paths(derivation) if path])
            async with self._machine.builds.use(lambda facts: self._options(facts, limits)) as connection:
                return watch.judge(await self._checked(connection, drv_path, watch))

    async def _checked(self, connection: Connection, drv_path: StorePath, watch: Watch) -> BuildResult:
        if connection.facts.minor >= operations.BUILD_PATHS_WITH_RESULTS_SINCE:
            return await self._build_path(connection, drv_path, watch, check=True)
        try:
            await connection.perform(operations.check_paths([all_outputs(drv_path)]), watch)
        except RemoteError as error:
            told = build_result.of_error(str(error))
            if told is None:
                raise
            return told
        return BuildResult(status=BuildStatus.BUILT)

    async def fetch(self, paths: Collection[StorePath], observer: BuildObserver) -> dict[StorePath, BuildResult]:
        """Substitute these outputs (with their closures) into the run's store; one result each."""
        return await self._fetch(self._home, paths, observer)

    async def _fetch(
        self, store: DaemonStore, paths: Collection[StorePath], observer: BuildObserver
    ) -> dict[StorePath, BuildResult]:
        watch = Watch(observer, BuildLimits())
        targets = [DerivedPath(path) for path in paths]
        with errors.explained("fetch", _some(paths)):
            async with store.fresh(store.query_options) as connection:
                operation = operations.build_paths_with_results(targets, connection.facts, store.settings.store_dir)
                results = await connection.perform(operation, watch)
                held = await store.hold(paths)
        return {path: _fetched(results.get(path), valid=path in held) for path in paths}

    def _options(self, facts: DaemonFacts, limits: BuildLimits) -> Options:
        return settings.build_options(
            self._machine.settings,
            facts,
            local=self._machine.local,
            timeout_s=limits.timeout_s,
            silence_s=limits.silence_s,
            log_bytes=limits.log_bytes,
            cores=limits.cores,
            keep_failed=limits.keep_failed,
        )

    async def _attempt(self, connection: Connection, drv_path: StorePath, watch: Watch) -> BuildResult:
        try:
            if self._remote or connection.facts.minor < operations.BUILD_PATHS_WITH_RESULTS_SINCE:
                return await self._build_derivation(connection, drv_path, watch)
            return await self._build_path(connection, drv_path, watch)
        except RemoteError as error:
            if not build_result.is_wrong_machine(str(error)):
                raise
            return BuildResult(status=BuildStatus.INPUT_REJECTED, message=str(error), detail=Detail.WRONG_MACHINE)

    async def _build_path(
        self, connection: Connection, drv_path: StorePath, watch: Watch, *, check: bool = False
    ) -> BuildResult:
        target, store_dir = all_outputs(drv_path), self._machine.settings.store_dir
        operation = operations.build_paths_with_results([target], connection.facts, store_dir, check=check)
        results = await connection.perform(operation, watch)
        if target.to_wire() not in results:
            raise RemoteError(f"it gave no result for {drv_path}")
        return results[target.to_wire()]

    async def _build_derivation(self, connection: Connection, drv_path: StorePath, watch: Watch) -> BuildResult:
        derivation = await self._home.full_derivation(drv_path)
        if derivation is None:
            raise RemoteError(f"{drv_path} is not in the run's store")
        inputs = await self._input_paths(derivation)
        if "" in inputs:
            raise RemoteError(f"{drv_path} reads what only a build gives a path; that is built on the run's own store")
        lacking = await self.prepare(drv_path, inputs) if self._remote else set()
        if lacking:
            raise RemoteError(f"its inputs {_some(lacking)} could not be copied to {self._machine.name}")
        store_dir = self._machine.settings.store_dir
        operation = operations.build_derivation(drv_path, derivation, inputs, connection.facts, store_dir)
        result = await connection.perform(operation, watch)
        return _with_outputs(result, derivation)

    async def _input_paths(self, derivation: Derivation) -> set[StorePath]:
        """Return every path the builder reads: sources, and outputs of inputs; `""` for what only a build tells."""
        inputs = await self._home.derivations(list(derivation.input_drvs))
        outputs = {
            StorePath(inputs[drv_path].outputs[name].path)
            for drv_path, names in derivation.input_drvs.items()
            if drv_path in inputs
            for name in names
        }
        return outputs.union(derivation.input_srcs)

    async def _secure(self, result: BuildResult) -> BuildResult:
        """Bring outputs home and hold them while the building connection still protects them."""
        outputs = set(result.outputs.values())
        if self._remote:
            await copying.copy_closure(self._machine, self._home, outputs)
        gone = outputs - await self._home.hold(outputs)
        if gone or not outputs:
            raise RemoteError(f"it reported success, yet {_some(gone) or 'no output'} is in the store")
        # Another machine names derivations otherwise than the run's store, as it knows them without their inputs.
        return msgspec.structs.replace(result, realisations={}) if self._remote else result

    async def _within_size(self, result: BuildResult, limit: int) -> BuildResult:
        if not (result.good and limit):
            return result
        infos = await self._home.path_infos(result.outputs.values())
        size = sum(info.nar_size for info in infos.values())
        if size <= limit:
            return result
        return BuildResult(
            status=BuildStatus.OUTPUT_REJECTED,
            message=f"The outputs hold {size} bytes; the limit is {limit}.",
            outputs=result.outputs,
            detail=Detail.OUTPUT_SIZE,
        )


class _Deaf:
    """Hears nothing."""

    def started(self) -> None:
        """Ignore it."""

    def line(self, text: str) -> None:
        """Ignore it."""

    def phase(self, name: str) -> None:
        """Ignore it."""

    def kept(self, directory: str) -> None:
        """Ignore it."""


def _with_outputs(result: BuildResult, derivation: Derivation) -> BuildResult:
    """Add the outputs the derivation declares, where the daemon did not name them."""
    if not result.good or result.outputs:
        return result
    outputs: Mapping[str, StorePath] = {n: StorePath(o.path) for n, o in derivation.outputs.items() if o.path}
    return msgspec.structs.replace(result, outputs=dict(outputs))


def _fetched(result: BuildResult | None, *, valid: bool) -> BuildResult:
    if valid and (result is None or not result.good):
        return BuildResult(status=BuildStatus.ALREADY_VALID)
    if result is None or (result.good and not valid):
        return BuildResult(status=BuildStatus.MISC_FAILURE, message="The daemon gave no result for this path.")
    return result


def _some(paths: Collection[StorePath]) -> str:
    """Name up to three paths."""
    names = sorted(paths)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
