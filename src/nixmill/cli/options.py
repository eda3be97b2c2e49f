"""Options that several commands share, and how they become a request."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from cyclopts import Group, Parameter

from nixmill.config import ProjectConfig
from nixmill.core.errors import InputError
from nixmill.core.evaluation import Argument, EvaluationLimits, EvaluationSettings
from nixmill.core.target import Word, read_words
from nixmill.doors import BuildLimits

MIB: Final = 1024 * 1024
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\Z", re.IGNORECASE)
_UNITS: Final = {"": 1, "K": 1024, "M": MIB, "G": 1024 * MIB, "T": 1024 * 1024 * MIB}

_what = Group("What is checked", sort_key=1)
_compare = Group("Against what", sort_key=2)
_build = Group("How it is built", sort_key=3)
_eval = Group("How it is evaluated", sort_key=4)
_show = Group("What is shown", sort_key=5)
_remote = Group("Which server", sort_key=6)


def read_size(text: str) -> int:
    """Return bytes for `512M`, `4G`, `1.5GiB` or a plain number."""
    found = _SIZE.match(text.strip())
    if not found:
        raise InputError(f"{text!r} is no size.", "Write a number with K, M or G, such as 4G.")
    return int(float(found[1]) * _UNITS[found[2].upper()])


@Parameter(name="*", group=_what)
@dataclass(frozen=True, kw_only=True)
class What:
    """What is evaluated."""

    file: Annotated[str | None, Parameter(name=["--file", "-f"])] = None
    "Evaluate this Nix file."
    expr: Annotated[str | None, Parameter(name=["--expr", "-E"])] = None
    "Evaluate this expression."
    attr: Annotated[tuple[str, ...], Parameter(name=["--attr", "-A"])] = ()
    "An attribute of it; may be repeated."
    arg: Annotated[tuple[tuple[str, str], ...], Parameter(name="--arg")] = ()
    "NAME EXPR: an argument of its function."
    argstr: Annotated[tuple[tuple[str, str], ...], Parameter(name="--argstr")] = ()
    "NAME TEXT: likewise, a string."
    system: Annotated[tuple[str, ...], Parameter(name="--system")] = ()
    "Only this system; may be repeated. Default: what can be built."
    force_recurse: bool = False
    "Look into every attribute set."
    revision: Annotated[str | None, Parameter(name=["--revision", "-r"])] = None
    "Test this commit, not the checkout as it stands."

    def words(self, targets: tuple[str, ...], config: ProjectConfig) -> tuple[Word, ...]:
        """Return what the command line asks for, else what nixmill.toml asks for, else nothing."""
        said = read_words(targets, file=self.file, expression=self.expr, attrs=self.attr)
        if said or self.attr:
            return said
        return read_words(config.evaluate.targets, file=None, expression=None, attrs=config.evaluate.attributes)


@Parameter(name="*", group=_compare)
@dataclass(frozen=True, kw_only=True)
class Compare:
    """What the tree is compared with."""

    base: str | None = None
    "Compare with this commit. Default: the merge base."
    no_base: bool = False
    "Compare with nothing."


@Parameter(name="*", group=_build)
@dataclass(frozen=True, kw_only=True)
class Build:
    """How builds are done."""

    dry_run: Annotated[bool, Parameter(name=["--dry-run", "-n"])] = False
    "Print the plan, and do nothing."
    rebuild: Annotated[bool, Parameter(name=["--all", "--run-anyway"])] = False
    "Build also what equals the base."
    fail_fast: bool = False
    "Stop at the first failure."
    max_jobs: Annotated[int | None, Parameter(name=["--max-jobs", "-j"])] = None
    "Builds at once here. Default: Nix's max-jobs, else cores."
    builders: str | None = None
    "Other machines, as in Nix's setting; or @FILE."
    store: str = "auto"
    "auto, daemon, stdio, unix:///PATH or ssh-ng://HOST."
    timeout: int | None = None
    "Seconds one build may take."
    max_silent_time: int | None = None
    "Seconds one build may be silent."
    max_log_size: str | None = None
    "Size of one build's log, such as 64M."
    max_output_size: str | None = None
    "Size of one build's outputs, such as 2G."
    retries: int | None = None
    "Further tries after our own trouble (never of builds)."
    keep_failed: bool = False
    "Keep the directories of failed builds."

    def tries_again(self, config: ProjectConfig) -> int:
        """Return how many further attempts our own trouble gets."""
        return _first(self.retries, config.build.retries)

    def limits(self, config: ProjectConfig) -> BuildLimits:
        """Return the limits of one attempt; the command line wins over nixmill.toml."""
        build = config.build
        return BuildLimits(
            timeout_s=_first(self.timeout, build.timeout_s),
            silence_s=_first(self.max_silent_time, build.max_silent_s),
            log_bytes=read_size(self.max_log_size) if self.max_log_size else build.max_log_mib * MIB,
            output_bytes=read_size(self.max_output_size) if self.max_output_size else build.max_output_mib * MIB,
            keep_failed=self.keep_failed,
        )


@Parameter(name="*", group=_eval)
@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How evaluation is done."""

    eval_workers: int | None = None
    "Evaluators at once. Default: one per core."
    eval_memory: str | None = None
    "Memory of one evaluator, such as 4G."
    eval_timeout: int | None = None
    "Seconds the whole evaluation may take."
    allow_import_from_derivation: Annotated[bool, Parameter(name=["--allow-ifd"])] = False
    "Let evaluation build what it imports; shown and timed."
    evaluate_again: bool = False
    "Evaluate even what was evaluated before."
    evaluator: Literal["auto", "own", "nix-eval-jobs"] = "auto"
    "auto, own or nix-eval-jobs."
    show_trace: bool = False
    "Nix's evaluation traces in full."

    def limits(self, config: ProjectConfig, cores: int) -> EvaluationLimits:
        """Return what bounds the evaluation."""
        said = config.evaluate
        return EvaluationLimits(
            workers=self.eval_workers or said.workers or max(1, cores),
            memory_bytes=read_size(self.eval_memory) if self.eval_memory else said.memory_mib * MIB,
            time_s=_first(self.eval_timeout, said.time_s),
            attribute_time_s=said.attribute_time_s,
        )

    def settings(self, what: What, config: ProjectConfig) -> EvaluationSettings:
        """Return what changes the records; systems stay empty where nobody chose any."""
        arguments = [Argument(name=n, value=v, is_string=False) for n, v in what.arg]
        arguments += [Argument(name=n, value=v, is_string=True) for n, v in what.argstr]
        said = config.evaluate
        return EvaluationSettings(
            systems=what.system or said.systems,
            arguments=tuple(arguments),
            force_recurse=what.force_recurse or said.force_recurse,
            allow_import_from_derivation=self.allow_import_from_derivation or said.allow_import_from_derivation,
            show_trace=self.show_trace,
        )


@Parameter(name="*", group=_show)
@dataclass(frozen=True, kw_only=True)
class Show:
    """What is shown, and how."""

    json: bool = False
    "The report as one JSON object on stdout."
    jsonl: bool = False
    "Every event as a line of JSON on stdout."
    junit: str | None = None
    "A JUnit report into this file."
    print_out_paths: bool = False
    "The good outputs' paths on stdout."
    color: Literal["auto", "always", "never"] = "auto"
    "auto, always or never; NO_COLOR wins."
    plain: bool = False
    "No live region, even on a terminal."


@Parameter(name="*", group=_remote)
@dataclass(frozen=True, kw_only=True)
class Remote:
    """A server that is asked."""

    server: str | None = None
    "Its address. Default: NIXMILL_SERVER, or sign-in's."
    token_file: str | None = None
    "Default: NIXMILL_TOKEN, or what sign-in kept."


@Parameter(name="*", group=_remote)
@dataclass(frozen=True, kw_only=True)
class OnServer(Remote):
    """Whether a server is asked, and which."""

    remote: bool = False
    "On the server, not here."

    @property
    def wanted(self) -> bool:
        """Whether a server is asked at all."""
        return self.remote or self.server is not None


@Parameter(name="*", group=_what)
@dataclass(frozen=True, kw_only=True)
class RunOnServer:
    """Whether a server checks the commit. One line of help stands for all four: `run` has many options already."""

    remote: bool = False
    "By a server: [--server URL] [--project NAME]"
    server: Annotated[str | None, Parameter(show=False)] = None
    token_file: Annotated[str | None, Parameter(show=False)] = None
    project: Annotated[str | None, Parameter(show=False)] = None

    @property
    def wanted(self) -> bool:
        """Whether a server is asked at all."""
        return self.remote or self.server is not None or self.project is not None

    @property
    def which(self) -> Remote:
        """The server that is asked."""
        return Remote(server=self.server, token_file=self.token_file)


@dataclass(frozen=True, kw_only=True)
class Everything:
    """All options of `run`."""

    what: What = field(default_factory=What)
    compare: Compare = field(default_factory=Compare)
    build: Build = field(default_factory=Build)
    evaluate: Evaluate = field(default_factory=Evaluate)
    show: Show = field(default_factory=Show)


def _first(said: int | None, otherwise: int) -> int:
    return otherwise if said is None else said
