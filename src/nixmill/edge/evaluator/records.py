"""What a worker says, folded into records: which item is at hand, what became of it, which sets it opened.

Decides to which attribute an error, a trace or a build belongs. Pure but for the queue it feeds (`segments.py`).
What this file does not know: processes and time (durations are handed in).
"""

from collections import deque
from collections.abc import Callable
from typing import Final, assert_never

import msgspec

from nixmill.core.evaluation import (
    Attribute,
    EvalError,
    EvalFault,
    EvalRecord,
    EvaluationFailedError,
    EvaluationTrace,
    ImportFromDerivation,
)
from nixmill.edge.evaluator import faults
from nixmill.edge.evaluator.log_lines import BuildStarted, BuildStopped, Failed, LogEvent, Noted, Said, Stray
from nixmill.edge.evaluator.segments import Batch, Frontier, Node
from nixmill.nix import eval_message, store_path
from nixmill.nix.attr_path import AttrPath, show
from nixmill.nix.store_path import StorePath

TRACES_MAX: Final = 100
TRACE_LENGTH_MAX: Final = 8192
SMALL_MAX: Final = 8
"""As `smallMax` of the walker: it goes through such a set at once."""


class _Job(msgspec.Struct):
    n: str | None
    s: str | None
    d: str | None
    o: list[tuple[str, str | None]]


class _Meta(msgspec.Struct):
    d: str | None
    p: list[str | None]
    t: int | None
    s: int | None


class UnknownAttribute(msgspec.Struct, frozen=True):
    """A target's attribute that does not exist: where it went wrong and what there is."""

    target: int = msgspec.field(name="t")
    index: int = msgspec.field(name="i")
    names: list[str] = msgspec.field(name="n")


_jobs: Final = msgspec.json.Decoder(_Job)
_metas: Final = msgspec.json.Decoder(_Meta)
_names: Final = msgspec.json.Decoder(list[str])
_unknowns: Final = msgspec.json.Decoder(UnknownAttribute)


class Item(msgspec.Struct, eq=False):
    """The attribute a worker is at."""

    node: Node
    index: int
    job: Attribute | None = None
    error: EvalError | None = None
    opened: bool = False
    loaded: bool = False
    """It is a target, and its file or flake could be loaded."""
    failure: str | None = None
    defined_at: str = ""
    """`file:line:column`, said of an item that throws."""
    traces: list[str] = []
    earlier_traces: list[str] = []

    def begin_again(self, defined_at: str) -> None:
        """Hear that it throws and is evaluated once more: most Nix versions then repeat its traces."""
        self.defined_at = defined_at
        self.earlier_traces, self.traces = self.traces, []

    @property
    def all_traces(self) -> tuple[str, ...]:
        """What was traced while it was evaluated, once."""
        return tuple(self.traces or self.earlier_traces)

    @property
    def path(self) -> AttrPath:
        """Its attribute path."""
        return self.node.item_path(self.index)


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What all workers of a group share for reading."""

    tree_path: str
    show_trace: bool


class UnknownAttributeError(Exception):
    """A target's attribute does not exist."""

    def __init__(self, text: str) -> None:
        """Read what the walker said of it."""
        self.found = _unknowns.decode(text)
        super().__init__(f"Target {self.found.target} does not exist.")


class Builds:
    """Times the builds of one process."""

    def __init__(self) -> None:
        """Begin with none under way."""
        self._under_way: dict[int, tuple[str, AttrPath | None, float]] = {}

    def hear(self, event: LogEvent | None, path: AttrPath | None, now: float) -> ImportFromDerivation | None:
        """Take in an event that arrived at `now` while `path` was evaluated; return a build that it ends."""
        if isinstance(event, BuildStarted):
            self._under_way[event.activity] = (event.drv_path, path, now)
        if not isinstance(event, BuildStopped) or event.activity not in self._under_way:
            return None
        drv_path, wanted_by, started = self._under_way.pop(event.activity)
        try:
            drv = store_path.parse(drv_path, drv_path.rsplit("/", 1)[0])
        except store_path.StorePathError:
            return None
        return ImportFromDerivation(drv_path=drv, seconds=now - started, path=wanted_by)


class TargetFailedError(Exception):
    """A target could not be loaded, or is no set and has no name to pin the error to."""

    def __init__(self, target: int, text: str) -> None:
        """Keep which target it was and what Nix printed."""
        super().__init__(text)
        self.target = target
        self.text = text


class Reader:
    """Folds the events of one worker. One per process; told of each batch before it is sent."""

    def __init__(self, frontier: Frontier, context: Context, emit: Callable[[EvalRecord], None]) -> None:
        """Queue opened sets in `frontier`, hand finished records to `emit`."""
        self._frontier = frontier
        self._context = context
        self._emit = emit
        self._batch = Batch(left=deque())
        self._builds = Builds()
        self.item: Item | None = None
        self.unpinned: str | None = None
        """An error that belongs to no item."""
        self.items = 0
        """How many items this process began."""

    def expect(self, batch: Batch) -> None:
        """Hear what the worker is asked for next."""
        self._batch = batch
        self.unpinned = None

    def hear(self, event: LogEvent, now: float) -> None:
        """Take in an event that arrived at `now` (monotonic seconds)."""
        match event:
            case Said():
                self._said(event)
            case Failed(text=text):
                self._failed(text)
            case Noted(text=text):
                self._noted(text)
            case BuildStarted() | BuildStopped():
                built = self._builds.hear(event, self.item.path if self.item else None, now)
                if built is not None:
                    self._emit(built)
            case Stray():
                pass
            case _:
                assert_never(event)

    def _said(self, said: Said) -> None:
        match said.letter:
            case "b":
                self.finish()
                self._begin(said.rest)
            case "." | "e":
                self.finish()
            case "r":
                self._loaded()
            case "u":
                raise UnknownAttributeError(said.rest)
            case "s":
                self._opened(_names.decode(said.rest))
            case "d":
                self._at_hand().error = too_deep(self._at_hand().path)
            case "j":
                self._job(_jobs.decode(said.rest))
            case "m":
                self._meta(_metas.decode(said.rest))
            case "p":
                self._at_hand().begin_again(said.rest)
            case "x":
                self._emit(EvaluationTrace(text=left_out(said.rest)))
            case _:
                raise EvaluationFailedError("The evaluation process said something that is not known.", said.letter)

    def _at_hand(self) -> Item:
        if self.item is None:
            raise EvaluationFailedError("The evaluation process answered about no attribute. Please report this.")
        return self.item

    def _loaded(self) -> None:
        # A worker that is sent to a set loads the target too, before it begins any item.
        if self.item is not None:
            self.item.loaded = True

    def _begin(self, at: str) -> None:
        node, index = self._batch.begin(at)
        self.item = Item(node, index)
        self.items += 1

    def _opened(self, names: list[str]) -> None:
        item = self._at_hand()
        item.opened = True
        node = Node(at=item.node.item_at(item.index), paths=None, path=item.path, names=names)
        if len(names) > SMALL_MAX:
            self._frontier.add(node)
        else:
            self._batch.descend(node)

    def _job(self, job: _Job) -> None:
        item = self._at_hand()
        made = attribute(item.path, job)
        if isinstance(made, Attribute):
            item.job = made
        else:
            item.error = made

    def _meta(self, meta: _Meta) -> None:
        item = self._at_hand()
        if item.job is not None:
            item.job = msgspec.structs.replace(
                item.job,
                description=meta.d or "",
                maintainers=tuple(p for p in meta.p if p),
                timeout_s=meta.t,
                max_silent_s=meta.s,
            )

    def _failed(self, text: str) -> None:
        if self.item is None:
            self.unpinned = text
        else:
            self._demote()
            self.item.failure = text

    def _demote(self) -> None:
        """Take an earlier error, which did not end the item, for a mere message."""
        if self.item is not None and self.item.failure is not None:
            failure, self.item.failure = self.item.failure, None
            self._noted(eval_message.parse(failure).message)

    def _noted(self, text: str) -> None:
        text = text if len(text) <= TRACE_LENGTH_MAX else f"{text[:TRACE_LENGTH_MAX]} [… {len(text)} characters]"
        if self.item is None or self.item.opened:
            self._emit(EvaluationTrace(text=text))
        elif len(self.item.traces) < TRACES_MAX:
            self.item.traces.append(text)
        elif len(self.item.traces) == TRACES_MAX:
            self.item.traces.append(f"[… more than {TRACES_MAX} traces]")

    def finish(self) -> None:
        """Hear that nothing more will be said of the item at hand: hand on what it is."""
        item, self.item = self.item, None
        if item is None:
            return
        record = self._conclude(item)
        if record is not None:
            self._emit(record)
        else:
            for text in item.all_traces:
                self._emit(EvaluationTrace(text=text))

    def _conclude(self, item: Item) -> EvalRecord | None:
        traces = item.all_traces
        if item.job is not None:
            return self._good(item.job, item.failure, traces)
        if item.failure is not None:
            if item.node.paths is not None and not (item.loaded and item.path):
                raise TargetFailedError(item.index, item.failure)
            return self.error(item, item.failure)
        return msgspec.structs.replace(item.error, traces=traces) if item.error is not None else None

    def _good(self, job: Attribute, failure: str | None, traces: tuple[str, ...]) -> Attribute:
        if failure is not None:
            traces = (*traces, f"meta could not be read: {eval_message.parse(failure).message}")
        return msgspec.structs.replace(job, traces=traces) if traces else job

    def error(self, item: Item, text: str) -> EvalError:
        """Return the record for an error: Nix's words, and the place of the definition where Nix has none."""
        tree_path = self._context.tree_path
        error = faults.error(
            text, item.path, tree_path=tree_path, show_trace=self._context.show_trace, traces=item.all_traces
        )
        if error.position or not item.defined_at:
            return error
        return msgspec.structs.replace(error, position=faults.relative(item.defined_at, tree_path))


def left_out(system: str) -> str:
    """Return what is said of jobs for a system that is not wanted."""
    return f"Jobs for {system} are left out: no machine here builds them, or only other systems are asked for."


def too_deep(path: AttrPath) -> EvalError:
    """Return the error of a set that lies too deep to be opened."""
    message = (
        f"The set {show(path)} lies too deep: sets are opened down to 20 levels below a target. "
        "If it contains itself, remove its recurseForDerivations or evaluate without force_recurse."
    )
    return EvalError(path=path, fault=EvalFault.OTHER, message=message)


def attribute(path: AttrPath, job: _Job) -> Attribute | EvalError:
    """Return the record of a job, or of what is wrong with it: its names may be anything a project makes up."""
    if not isinstance(job.d, str) or not isinstance(job.n, str):
        return _no_derivation(path, "its drvPath or name is not a string")
    try:
        store_dir = job.d.rsplit("/", 1)[0]
        drv_path = store_path.parse(job.d, store_dir)
        outputs = {name: _output(text, store_dir) for name, text in job.o}
    except store_path.StorePathError as error:
        return _no_derivation(path, str(error))
    if not store_path.is_derivation(drv_path):
        return _no_derivation(path, f"{drv_path} does not end in .drv")
    return Attribute(path=path, name=job.n, system=job.s or "unknown", drv_path=drv_path, outputs=outputs)


def _output(text: str | None, store_dir: str) -> StorePath | None:
    # A content-addressed output has a placeholder for a path: a hash at the root directory.
    if text is None or not text.startswith(store_dir + "/"):
        return None
    return store_path.parse(text, store_dir)


def _no_derivation(path: AttrPath, why: str) -> EvalError:
    message = f"The attribute says that it is a derivation but is none: {why}."
    return EvalError(path=path, fault=EvalFault.TYPE_ERROR, message=message)
