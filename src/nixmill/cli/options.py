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
    attr: Annotated[tuple[str, ...], Parameter(name=["--attr", "-A"], negative="")] = ()
    "An attribute of the file or expression; may be repeated."
    arg: Annotated[tuple[tuple[str, str], ...], Parameter(name="--arg", negative="")] = ()
    "NAME EXPR: an argument for the file's function."
    argstr: Annotated[tuple[tuple[str, str], ...], Parameter(name="--argstr", negative="")] = ()
    "NAME TEXT: likewise, a string."
    system: Annotated[tuple[str, ...], Parameter(name="--system", negative="")] = ()
    "Only this system; may be repeated. Default: what this machine and its builders can build."
    force_recurse: Annotated[bool, Parameter(negative="")] = False
    "Look into every attribute set, not only those marked recurseForDerivations."
    revision: Annotated[str | None, Parameter(name=["--revision", "-r"])] = None
    "Test this commit, tag or branch instead of the checkout as it stands."

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
    "Compare with this commit. Default: the merge base with the default branch."
    dry_run: Annotated[bool, Parameter(name=["--dry-run", "-n"], negative="")] = False
    "Print the plan: what changed, what would be built and fetched; do nothing."
    no_base: Annotated[bool, Parameter(negative="")] = False
    "Compare with nothing."


@Parameter(name="*", group=_build)
@dataclass(frozen=True, kw_only=True)
class Build:
    """How builds are done."""

    rebuild: Annotated[bool, Parameter(name=["--all", "--run-anyway"], negative="")] = False
    "Build also what equals the base, whatever is known of it there."
    fail_fast: Annotated[bool, Parameter(negative="")] = False
    "Stop at the first failure. Default: keep going."
    max_jobs: Annotated[int | None, Parameter(name=["--max-jobs", "-j"])] = None
    "Builds at once on this machine. Default: Nix's max-jobs, else one per core."
    builders: str | None = None
    "Other machines: a machines file's text, or @FILE. Default: Nix's own setting."
    store: str = "auto"
    "The store that results end up in: auto, daemon, stdio, unix:///PATH, ssh-ng://HOST."
    timeout: int | None = None
    "Seconds one build may take."
    max_silent_time: int | None = None
    "Seconds one build may be silent."
    max_log_size: str | None = None
    "Size one build's log may reach, such as 64M."
    max_output_size: str | None = None
    "Size one build's outputs may reach, such as 2G."
    retries: int | None = None
    "Further tries after failures of machines and transport (never of builds)."
    keep_failed: Annotated[bool, Parameter(negative="")] = False
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
    "Evaluators at once. Default: one per core, bounded by memory."
    eval_memory: str | None = None
    "Memory one evaluator may use, such as 4G."
    eval_timeout: int | None = None
    "Seconds the whole evaluation may take."
    allow_import_from_derivation: Annotated[bool, Parameter(name=["--allow-ifd"], negative="")] = False
    "Let evaluation build what it imports; each such build is shown and timed."
    evaluator: Literal["auto", "own", "nix-eval-jobs"] = "auto"
    "Which evaluator; auto takes the one measured to be faster."
    show_trace: Annotated[bool, Parameter(negative="")] = False
    "Show Nix's evaluation traces in full."

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

    json: Annotated[bool, Parameter(negative="")] = False
    "Print the report as one JSON object on standard output."
    jsonl: Annotated[bool, Parameter(negative="")] = False
    "Print every event as a line of JSON on standard output."
    junit: str | None = None
    "Write a JUnit report to this file."
    print_out_paths: Annotated[bool, Parameter(negative="")] = False
    "Print the good outputs' store paths on standard output."
    color: Literal["auto", "always", "never"] = "auto"
    "Colours; NO_COLOR is respected."
    plain: Annotated[bool, Parameter(negative="")] = False
    "No live region, even on a terminal."


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
