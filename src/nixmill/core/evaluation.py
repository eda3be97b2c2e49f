"""An evaluation: what is asked of an evaluator, and the records that come back.

An evaluation yields data and builds nothing (semantics §2). One bad attribute is one `EvalError`;
all other attributes are unaffected. The identity of an attribute is its list of names.
What this file does not know: how evaluation is done (`nixmill.edge.evaluator`).
"""

from enum import StrEnum

import msgspec

from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath


class FlakeTarget(msgspec.Struct, frozen=True, kw_only=True, tag="flake"):
    """An output of a locked flake, such as `checks` of `git+file:///src?rev=…`; evaluated in pure mode."""

    reference: str
    attr: AttrPath


class FileTarget(msgspec.Struct, frozen=True, kw_only=True, tag="file"):
    """A Nix file (absolute path) below `tree_path`, and the attribute in it; evaluated in restricted mode."""

    file: str
    tree_path: str
    attr: AttrPath = ()


class ExpressionTarget(msgspec.Struct, frozen=True, kw_only=True, tag="expression"):
    """A Nix expression given on the command line; may read files below `tree_path`."""

    text: str
    tree_path: str
    attr: AttrPath = ()


Target = FlakeTarget | FileTarget | ExpressionTarget


class Argument(msgspec.Struct, frozen=True, kw_only=True):
    """A `--arg NAME EXPR` or `--argstr NAME VALUE` for functions at the root of a file or expression."""

    name: str
    value: str
    is_string: bool


class EvaluationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What changes the records of an evaluation; part of its identity."""

    systems: tuple[str, ...] = ()
    """Only attributes of these systems; empty means all."""
    arguments: tuple[Argument, ...] = ()
    force_recurse: bool = False
    allow_import_from_derivation: bool = False
    show_trace: bool = False


class EvaluationLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds an evaluation; not part of its identity."""

    workers: int = 2
    memory_bytes: int = 4 * 1024**3
    """Resident memory one worker may reach; above it the attribute at hand is an `OUT_OF_MEMORY` error."""
    time_s: float = 3600.0
    """Wall-clock seconds the whole evaluation may take."""
    attribute_time_s: float = 600.0
    """Wall-clock seconds one attribute may take; above it that attribute is a `TIMEOUT` error."""


class EvaluationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation: some targets under the same settings. `systems` etc. apply to each target."""

    targets: tuple[Target, ...]
    settings: EvaluationSettings = EvaluationSettings()
    limits: EvaluationLimits = EvaluationLimits()


class Attribute(msgspec.Struct, frozen=True, kw_only=True, tag="attribute"):
    """A job: an attribute that is a derivation."""

    path: AttrPath
    """From the root of its target, the target's own attribute first: `checks.x86_64-linux.hello`."""
    name: str
    """The derivation's name, such as `hello-2.12`."""
    system: str
    drv_path: StorePath
    outputs: dict[str, StorePath | None]
    """Output name → path; None where the path is known only after building (content-addressed, impure)."""
    description: str = ""
    maintainers: tuple[str, ...] = ()
    timeout_s: int | None = None
    """`meta.timeout`: seconds the build may take."""
    max_silent_s: int | None = None
    """`meta.maxSilent`: seconds the build may be silent."""
    traces: tuple[str, ...] = ()
    """Warnings and `builtins.trace` texts seen while it was evaluated, ANSI-free."""


class EvalFault(StrEnum):
    """Why an attribute did not evaluate."""

    THROW = "throw"
    ABORT = "abort"
    ASSERTION = "assertion failed"
    INFINITE_RECURSION = "infinite recursion"
    MISSING_FILE = "missing file"
    MISSING_ATTRIBUTE = "missing attribute"
    TYPE_ERROR = "type error"
    STACK_OVERFLOW = "stack overflow"
    OUT_OF_MEMORY = "out of memory"
    TIMEOUT = "timed out"
    KILLED = "evaluator killed"
    IMPORT_FROM_DERIVATION = "import from derivation not allowed"
    OTHER = "evaluation error"


class EvalError(msgspec.Struct, frozen=True, kw_only=True, tag="error"):
    """One attribute that did not evaluate, in Nix's own words."""

    path: AttrPath
    fault: EvalFault
    message: str
    """ANSI-free, without the leading `error:`."""
    position: str = ""
    """`file:line:column` as Nix gave it, relative to the tree where it lies in it; empty where unknown."""
    peak_bytes: int | None = None
    """The worker's peak resident memory, for `OUT_OF_MEMORY` and `KILLED`."""
    traces: tuple[str, ...] = ()


class ImportFromDerivation(msgspec.Struct, frozen=True, kw_only=True, tag="ifd"):
    """A derivation that was built during evaluation because the settings allow it."""

    drv_path: StorePath
    seconds: float
    path: AttrPath | None = None
    """The attribute that needed it, where it can be told."""


class EvaluationTrace(msgspec.Struct, frozen=True, kw_only=True, tag="trace"):
    """A warning or trace that belongs to no single attribute (seen while sets were opened)."""

    text: str


class EvaluationEnded(msgspec.Struct, frozen=True, kw_only=True, tag="ended"):
    """The last record of every evaluation that could be carried through."""

    seconds: float
    first_record_s: float | None
    peak_bytes: int
    """Largest resident memory of any one worker."""
    workers: int
    evaluator: str
    """Name and version, such as `nix repl 2.8.0`."""


EvalRecord = Attribute | EvalError | ImportFromDerivation | EvaluationTrace | EvaluationEnded


class EvaluationFailedError(Exception):
    """The evaluation as a whole failed: the fault cannot be pinned to an attribute.

    The message is a sentence for people; `detail` is Nix's own text.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        """Keep the sentence and Nix's own text apart."""
        super().__init__(message)
        self.detail = detail


class NoSuchTargetError(EvaluationFailedError):
    """A target that is named is not there."""
