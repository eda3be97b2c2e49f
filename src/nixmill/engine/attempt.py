"""One attempt: an assignment is carried out by its machine, watched, classified, and told once it is durable."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec

from nixmill.core.attempt import Circumstances, Ending, Trouble, classify
from nixmill.core.estimate import stem
from nixmill.core.history import AttemptRow
from nixmill.core.outcome import Outcome
from nixmill.core.realised import Realised
from nixmill.core.run_event import Work, WorkStarted
from nixmill.core.schedule import Assignment
from nixmill.core.trust import Tier
from nixmill.core.upload import Made
from nixmill.doors import Builder, BuildLimits, DoorError
from nixmill.engine.observer import Observer
from nixmill.engine.request import RunDoors, Tell
from nixmill.nix.build_result import BuildResult, BuildStatus
from nixmill.nix.derivation import Derivation
from nixmill.nix.realisation import Realisation
from nixmill.nix.store_path import StorePath


class Attempted(msgspec.Struct, frozen=True, kw_only=True):
    """How one attempt ended, before anybody decides about another."""

    row: AttemptRow
    ending: Ending
    tail: tuple[str, ...]
    kept_directory: str
    lost_inputs: frozenset[StorePath] = frozenset()
    """Inputs that turned out not to be there; they are looked at anew."""
    log_fault: str = ""
    """Why the log is not whole; a build does not fail for its log."""
    built: bool = False
    """Whether its builder ran to a good end; else its outputs were there already, or are not."""
    begun: bool = True
    """False for one that never started, or that this run left to others: then there is nothing to record."""
    limits: BuildLimits | None = None
    """What it was held to: the limits of the run that began it, which are not those of a run that joined it."""
    made: Sequence[Made] = ()
    """Its outputs as builds of the run that began it, whoever joined it: `Attempt.made`."""
    outputs: Mapping[str, StorePath] = {}
    """What a good build said of them, by name."""
    realised: Sequence[Realised] = ()
    """Those whose paths only a build tells, as the run found them that began it: `Attempt.realised`."""


class Attempt:
    """Carries out one assignment."""

    def __init__(
        self, number: int, run: int, what: Assignment, derivation: Derivation | None, doors: RunDoors, tier: Tier
    ) -> None:
        """Prepare attempt `number` of a run of a tier; `derivation` is known where it has to be built."""
        self.tier = tier
        self._what = what
        self._derivation = derivation
        self._doors = doors
        self._lost: frozenset[StorePath] = frozenset()
        self.row = AttemptRow(
            number=number,
            run=run,
            drv_path=what.drv_path,
            name=stem(what.node.name),
            system=what.node.system,
            work=what.work,
            machine=what.machine.address,
            started_at=doors.clock.now(),
        )

    def started(self) -> WorkStarted:
        """Return the event that tells its beginning."""
        node = self._what.node
        return WorkStarted(
            attempt=self.row.number,
            drv_path=node.drv_path,
            name=node.name,
            work=self._what.work,
            machine=self._what.machine.address,
            about_s=node.about_s if self._what.work is Work.BUILD else None,
            for_attributes=node.sample,
        )

    def begins_now(self) -> None:
        """Note the time: until now it may have waited for a place."""
        self.row = msgspec.structs.replace(self.row, started_at=self._doors.clock.now())

    def made(self, outputs: Mapping[str, StorePath] | None = None) -> list[Made]:
        """Return its outputs as builds under the tier of its run: none of a fetch. `outputs` are what a build told.

        Of a fixed-output derivation neither: its name proves what is in it, whoever built it.
        """
        if self._what.work is not Work.BUILD or (self._derivation is not None and self._derivation.fixed_output):
            return []
        row, now, inputs = self.row, self._doors.clock.now(), tuple(self._inputs())
        known = {**(self._what.node.outputs or {}), **(outputs or {})}
        paths = [path for path in known.values() if path is not None]
        return [
            Made(path=path, tier=self.tier, run=row.run, attempt=row.number, at=now, inputs=inputs) for path in paths
        ]

    def begun(self) -> list[Realised]:
        """Return its outputs whose paths nobody knows yet."""
        return [self._realised(name, None, built=False) for name in self._floating()]

    def realised(self, result: BuildResult) -> list[Realised]:
        """Return what those of its outputs came out as whose paths only a build tells."""
        if not result.good or self._what.work is not Work.BUILD:
            return []
        built, told = result.status is BuildStatus.BUILT, result.realisations
        return [self._realised(name, told[name], built=built) for name in self._floating() if name in told]

    def _floating(self) -> list[str]:
        declared = self._derivation.outputs if self._derivation is not None else {}
        return [name for name, output in declared.items() if not output.path and not output.hash]  # nor impure ones

    def _realised(self, name: str, realisation: Realisation | None, *, built: bool) -> Realised:
        return Realised(
            drv_path=self._what.drv_path,
            output=name,
            realisation=realisation,
            built=built,
            tier=self.tier,
            run=self.row.run,
            attempt=self.row.number,
            at=self._doors.clock.now(),
            inputs=tuple(self._inputs()),
            input_drvs=tuple(dependency.drv_path for dependency in self._what.node.inputs or ()),
        )

    def observer(self, tell: Tell) -> Observer:
        """Return who watches it; makes its log."""
        return Observer(self.row.number, self._doors.logs, self._doors.clock, tell)

    def left(self) -> Attempted:
        """Return what it is for a run that no longer wants it, whatever becomes of it."""
        ending = Ending(outcome=Outcome.CANCELLED, message="It was cancelled.")
        return Attempted(row=self.row, ending=ending, tail=(), kept_directory="", begun=False)

    async def carry_out(self, limits: BuildLimits, observer: Observer) -> Attempted:
        """Do it; a failed build is an answer. Cancelling ends its builder, and is an answer too."""
        output_bytes = 0
        cancelled = False
        try:
            result = await self._do(limits, observer)
            output_bytes = await self._size(result)
        except asyncio.CancelledError:
            cancelled, result = True, Trouble(message="It was cancelled.", retryable=False)
        except DoorError as error:
            result = Trouble(message=str(error), retryable=error.retryable)
        seconds = observer.seconds()
        fixed = self._derivation is not None and self._derivation.fixed_output
        ending = classify(result, Circumstances(fixed_output=fixed, cancelled=cancelled))
        log, log_fault = await _closed(observer)
        row = msgspec.structs.replace(
            self.row,
            seconds=seconds,
            outcome=ending.outcome,
            message=ending.message,
            exit_status=ending.exit_status,
            log=log,
            output_bytes=output_bytes,
        )
        tail = () if ending.outcome is Outcome.SUCCEEDED else tuple(observer.tail)
        built = isinstance(result, BuildResult) and result.status is BuildStatus.BUILT
        return Attempted(
            row=row,
            ending=ending,
            tail=tail,
            kept_directory=observer.kept_directory,
            lost_inputs=self._lost,
            built=built,
            log_fault=log_fault,
            limits=limits,
            made=self.made(result.outputs) if built and isinstance(result, BuildResult) else (),
            outputs=result.outputs if isinstance(result, BuildResult) and result.good else {},
            realised=self.realised(result) if isinstance(result, BuildResult) else (),
        )

    async def _do(self, limits: BuildLimits, observer: Observer) -> BuildResult | Trouble:
        builder = self._doors.builders[self._what.machine.address]
        match self._what.work:
            case Work.BUILD:
                return await self._build(builder, limits, observer)
            case Work.FETCH | Work.NONE:
                return _worst(await builder.fetch(self._wanted(), observer))

    async def _build(self, builder: Builder, limits: BuildLimits, observer: Observer) -> BuildResult | Trouble:
        absent = await builder.prepare(self._what.drv_path, self._inputs())
        if absent:
            self._lost = frozenset(absent)
            return Trouble(
                message=f"{len(absent)} inputs are no longer there, among them {min(absent)}.", retryable=True
            )
        result = await builder.build(self._what.drv_path, limits, observer)
        if not (result.good and self._floating()):
            return result
        # Nix builds another derivation, with inputs named by what they came out as, and may answer for that one. What
        # this one came out as it says once it is there.
        again = await builder.build(self._what.drv_path, limits, observer)
        return msgspec.structs.replace(result, realisations=again.realisations if again.good else {})

    def _inputs(self) -> list[StorePath]:
        """Return every path the builder reads: sources, and the outputs it names of its input derivations."""
        derivation, node = self._derivation, self._what.node
        paths = list(derivation.input_srcs) if derivation else []
        for dependency, names in zip(node.inputs or (), node.input_names, strict=True):
            outputs = dependency.outputs or {}
            paths.extend(path for name in names if (path := outputs.get(name)) is not None)
        return paths

    def _wanted(self) -> Sequence[StorePath]:
        node = self._what.node
        outputs = node.outputs or {}
        return [path for name in node.fetching if (path := outputs.get(name)) is not None]

    async def _size(self, result: BuildResult | Trouble) -> int:
        if not isinstance(result, BuildResult) or not result.good:
            return 0
        known = {**(self._what.node.outputs or {}), **result.outputs}
        paths = {path for path in known.values() if path is not None}
        return sum(info.nar_size for info in (await self._doors.store.path_infos(paths)).values())


async def _closed(observer: Observer) -> tuple[str, str]:
    """Close the log; return where it is, and what is wrong with it."""
    try:
        return await observer.close(), ""
    except DoorError as error:
        return "", str(error)


def _worst(results: dict[StorePath, BuildResult]) -> BuildResult:
    """Return a bad result where there is one; a fetch is good when every path is."""
    bad = [result for result in results.values() if not result.good]
    return bad[0] if bad else BuildResult(status=BuildStatus.SUBSTITUTED)
