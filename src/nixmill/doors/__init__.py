"""Every outside thing as a Protocol of at most six methods.

Unless a docstring says otherwise: methods may be called concurrently; "not there" is an empty answer or None, never an
exception; what goes wrong outside is a `DoorError`; cancelling the task cancels the work. Edges in `nixmill.edge`
implement these, fakes in `tests/fakes` do too, and one suite in `tests/contract` holds both to the same behaviour.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from nixmill.core.evaluation import EvalRecord, EvaluationRequest
from nixmill.core.history import AttemptRow, AttributeRow, EvaluationRow, Keep, PastBuild, Pruned, Row, RunRow
from nixmill.core.source import NoBase, Tree, TreeRequest
from nixmill.nix.build_result import BuildResult
from nixmill.nix.derivation import Derivation
from nixmill.nix.path_info import PathInfo
from nixmill.nix.store_path import StorePath


class DoorError(Exception):
    """Something outside failed.

    `door` and `action` say what was tried, `subject` on what; `retryable` whether the same call may succeed later.
    The message is a sentence: what happened, to what, whose fault, what to do next.
    """

    def __init__(self, message: str, *, door: str, action: str, subject: str = "", retryable: bool) -> None:
        """Keep the parts that decisions need."""
        super().__init__(message)
        self.door = door
        self.action = action
        self.subject = subject
        self.retryable = retryable


class NotAllowedError(DoorError):
    """The user may not do this to that (exit code 4)."""


class Clock(Protocol):
    """Time. The only door that is not asynchronous to read."""

    def now(self) -> float:
        """Return seconds since 1970 in UTC."""

    def monotonic(self) -> float:
        """Return seconds from an unspecified start; never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds."""


class Source(Protocol):
    """Where code comes from: a git checkout, or a plain directory."""

    async def tree(self, request: TreeRequest) -> Tree:
        """Materialise what is to be tested; raise `InputError` where the request makes no sense."""

    async def base(self, tree: Tree, wanted: str | None) -> Tree | NoBase:
        """Return the base tree: that of commit `wanted`, else of the merge base with the default branch."""

    async def read(self, tree: Tree, path: str) -> str | None:
        """Return the text of a file of the tree (`path` relative to its top); None where there is none."""

    async def release(self, tree: Tree) -> None:
        """Say that a tree's files are no longer needed."""


class Evaluator(Protocol):
    """Turns targets into records; builds nothing."""

    async def identity(self) -> str:
        """Return name and version, such as `nix repl 2.8.0`: part of what makes evaluations equal."""

    def evaluate(self, request: EvaluationRequest) -> AsyncGenerator[Sequence[EvalRecord], None]:
        """Yield records as they are made, those that are there at once together; `EvaluationEnded` is the very last.

        Raises `EvaluationFailedError` where the evaluation as a whole fails. The derivations of a group stay alive at
        least until the iterator is asked for the next group: leasing them before going on is safe against a collection.
        Whoever may stop early closes it (`contextlib.aclosing`), which ends its processes.
        """


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """What a store lacks for some derived paths, as its daemon sees it. A hint about caches, never a verdict."""

    build: frozenset[StorePath]
    """Derivations it would build."""
    fetch: frozenset[StorePath]
    """Outputs it would substitute."""
    unknown: frozenset[StorePath]
    download_bytes: int
    nar_bytes: int


class Store(Protocol):
    """Questions to one store. An answer is about this store and no other (semantics §3)."""

    async def valid(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Return those of `paths` that are valid here now; protects nothing."""

    async def hold(self, paths: Collection[StorePath]) -> set[StorePath]:
        """Lease `paths` until this store is closed, then return those that are valid.

        The order makes the answer safe: a path that is reported valid can no longer be collected.
        A path that is not valid stays leased for the moment it appears.
        """

    async def missing(self, outputs_of: Collection[StorePath]) -> Missing:
        """Ask what realising all outputs of these derivations would need."""

    async def derivations(self, drv_paths: Collection[StorePath]) -> dict[StorePath, Derivation]:
        """Read what plans need of derivations: outputs, inputs, system, features; those not there are left out."""

    async def full_derivation(self, drv_path: StorePath) -> Derivation | None:
        """Read one derivation with its arguments and environment; None where it is not there."""

    async def path_infos(self, paths: Collection[StorePath]) -> dict[StorePath, PathInfo]:
        """Return size, references and so on of those that are valid."""


class BuildLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds one attempt; 0 means no limit."""

    timeout_s: int = 0
    silence_s: int = 0
    log_bytes: int = 0
    output_bytes: int = 0
    cores: int = 0
    """`NIX_BUILD_CORES`; 0 means all of the machine."""
    keep_failed: bool = False


class BuildObserver(Protocol):
    """Hears what an attempt does. Called from the reader of the connection: must return at once."""

    def started(self) -> None:
        """Hear that the builder runs (any waiting for locks is over)."""

    def line(self, text: str) -> None:
        """Hear a line of log, raw, without its end."""

    def phase(self, name: str) -> None:
        """Hear that a phase began."""

    def kept(self, directory: str) -> None:
        """Hear that the directory of the failed build was kept here."""


class Builder(Protocol):
    """One machine that realises derivations. Cancelling a call kills its builder within a second."""

    async def prepare(self, drv_path: StorePath, inputs: Collection[StorePath]) -> set[StorePath]:
        """Make inputs present in this builder's store; return those that could not be (semantics §3)."""

    async def build(self, drv_path: StorePath, limits: BuildLimits, observer: BuildObserver) -> BuildResult:
        """Build all outputs of this one derivation, whose inputs are present; outputs end up in the run's store.

        A failed build is a result; `DoorError` is our trouble. The outputs are held before this returns.
        """

    async def fetch(self, paths: Collection[StorePath], observer: BuildObserver) -> dict[StorePath, BuildResult]:
        """Substitute these outputs (with their closures); one result each; held before this returns."""


class LogSink(Protocol):
    """An open log of one attempt."""

    def write(self, line: str) -> None:
        """Append a line; never blocks on the disk.

        Where the disk cannot follow, lines are left out and the log says how many.
        """

    async def close(self) -> None:
        """Return once everything written is in the file; raise `DoorError` where some of it could not be.

        What was closed survives the death of this process, not a power cut: logs are not synced one by one.
        """


class Logs(Protocol):
    """Logs of attempts: written once, never overwritten, readable while they grow."""

    def open(self, attempt: int) -> LogSink:
        """Start the log of an attempt; the file appears with the first line.

        Raises `DoorError` where that attempt has a log already.
        """

    def location(self, attempt: int) -> str:
        """Return the path of the log file, whether or not it exists yet."""

    async def delete(self, attempts: Collection[int]) -> None:
        """Delete the logs of attempts; those that are not there are none."""

    def read(self, attempt: int, offset: int = 0, limit: int | None = None) -> AsyncIterator[bytes]:
        """Yield the text from byte `offset` on, at most `limit` bytes; nothing where there is no log.

        Text as it was written, lines ending in a line feed, in UTF-8. Of a log that is being written
        in this process, all lines written so far; of another's, those that reached its file.
        """


class History(Protocol):
    """What earlier runs did. Writes are durable when the call returns."""

    async def start_run(self, row: RunRow) -> int:
        """Record a run that begins; return its number (1, 2, … on this machine)."""

    async def record(self, rows: Sequence[Row]) -> None:
        """Record rows in one transaction: all of them, or none and a `DoorError`.

        The run they belong to must have been started. An `AttributeRow` may come before its `EvaluationRow`.
        """

    async def past_builds(
        self, drv_paths: Collection[StorePath], names: Collection[str]
    ) -> tuple[Mapping[StorePath, PastBuild], Mapping[str, float]]:
        """Return what is known of these derivations, and the median seconds of recent builds of these names."""

    async def evaluation(self, key: str) -> EvaluationRow | None:
        """Return a complete evaluation recorded under this identity, with its attributes, errors and outcomes."""

    async def next_attempts(self, count: int) -> int:
        """Reserve `count` attempt numbers; return the first. A number is never given twice, pruned or not."""

    async def run(self, number: int | None) -> tuple[RunRow, Sequence[AttemptRow]] | None:
        """Return run `number` (None: the latest) and its attempts."""


class Archive(Protocol):
    """The history as a whole, for those who list it and look after it."""

    async def runs(self, limit: int, before: int | None = None) -> Sequence[RunRow]:
        """Return at most `limit` runs, the newest first; only those with a number below `before`."""

    async def attributes(self, run: int) -> Sequence[AttributeRow]:
        """Return the outcomes that a run recorded, in the order of their paths."""

    async def recent_evaluations(self, checkout: str, limit: int) -> Sequence[EvaluationRow]:
        """Return the newest complete evaluations from a checkout, at most `limit`, the newest first."""

    async def crashed_runs(self) -> Sequence[RunRow]:
        """Return runs that never ended and whose process is gone: they were killed."""

    async def prune(self, keep: Keep, *, dry_run: bool = False) -> Pruned:
        """Forget ended and killed runs that `keep` does not keep, in many short transactions.

        Delete the logs that a dry run names first: a log without its row would stay for ever.
        """

    async def check(self) -> Sequence[str]:
        """Return what is wrong with the database, in sentences; empty where it is sound. Reads all of it."""
