"""Nix text for a worker: the walker, its targets and arguments, as a repl line or as a wrapping flake.

Decides how targets are loaded and how names become source text (by quoting, once, here). Pure.
What this file does not know: options and processes (`launch.py`), or what the walker says (`records.py`).
"""

import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Final, assert_never

import msgspec

from nixmill.core.evaluation import (
    Argument,
    EvaluationSettings,
    ExpressionTarget,
    FileTarget,
    FlakeTarget,
    Target,
)
from nixmill.nix.attr_path import AttrPath, quote

_COMMENT: Final = re.compile(r"(^|\s)#.*$", re.MULTILINE)
_LINE_LENGTH: Final = 600
PER_SYSTEM: Final = frozenset(
    {"checks", "packages", "devShells", "legacyPackages", "formatter", "defaultPackage", "devShell"}
)
"""Outputs of a flake that hold one entry per system."""


def walker_text() -> str:
    """Return the walker in a few lines without comments.

    A repl tries to parse after every line, and an error's trace quotes three lines for each of its frames.
    """
    lines: list[str] = [""]
    for line in _COMMENT.sub("", _packaged("walker.nix")).split("\n"):
        if len(lines[-1]) > _LINE_LENGTH:
            lines.append("")
        lines[-1] += " " + line.strip()
    return "\n".join(lines)


def repl_lines(token: str, targets: Sequence[Target], settings: EvaluationSettings) -> str:
    """Return the input that makes a repl ready for `run_line`."""
    # Newer repls take several lines for an expression, but not for a binding.
    return f":a {{ nixmill-worker = {_apply(f'({walker_text()})', token, targets, settings)}; }}\n{end_line(token)}"


def run_line(command: object) -> str:
    """Return the input that makes a ready repl walk a batch."""
    segments = " ".join(f"[ [ {' '.join(map(str, at))} ] {start} {stop} ]" for at, start, stop in command)  # type: ignore[attr-defined]
    return f"nixmill-worker.run [ {segments} ]\n"


def end_line(token: str) -> str:
    """Return the input that makes a repl say that everything before it is done."""
    return f"builtins.trace {quote(token + '.')} null\n"


def tree_expression(token: str, targets: Sequence[Target], settings: EvaluationSettings) -> str:
    """Return an expression for what the walker would walk; the targets are called t0, t1 and so on."""
    return f"({_apply(f'({walker_text()})', token, targets, settings)}).tree"


def wrapping_flake(token: str, targets: Sequence[Target], settings: EvaluationSettings) -> dict[str, str]:
    """Return the files of a flake whose check walks (see `pure.nix`)."""
    flake = (
        "{\n  outputs = { self }: {\n"
        f"    hydraJobs = import ./nixmill-pure.nix {{\n      token = {quote(token)};\n"
        "      home = builtins.unsafeDiscardStringContext self.outPath;\n"
        "      walker = import ./nixmill-worker.nix;\n    };\n  };\n}\n"
    )
    return {
        "flake.nix": flake,
        "nixmill-walker.nix": _packaged("walker.nix"),
        "nixmill-pure.nix": _packaged("pure.nix"),
        "nixmill-worker.nix": _apply("import ./nixmill-walker.nix", token, targets, settings),
    }


def _packaged(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _apply(function: str, token: str, targets: Sequence[Target], settings: EvaluationSettings) -> str:
    systems = " ".join(quote(s) for s in settings.systems)
    force = "true" if settings.force_recurse else "false"
    return (
        f"{function} {{ token = {quote(token)}; targets = [ {' '.join(map(_target, targets))} ];"
        f" arguments = {{ {' '.join(map(_argument, settings.arguments))} }};"
        f" systems = [ {systems} ]; force = {force}; }}"
    )


def _argument(argument: Argument) -> str:
    # The newline ends a comment at the end of the expression.
    value = quote(argument.value) if argument.is_string else f"({argument.value}\n)"
    return f"{quote(argument.name)} = {value};"


def _target(target: Target) -> str:
    attr = " ".join(quote(name) for name in target.attr)
    return f"{{ root = {_root(target)}; attr = [ {attr} ]; kind = {quote(kind(target))}; }}"


def _root(target: Target) -> str:
    match target:
        case FlakeTarget(reference=reference):
            return f"(builtins.getFlake {quote(reference)}).outputs"
        case FileTarget(file=file):
            return f"(import {quote(file)})"
        case ExpressionTarget(text=text):
            return f"({text}\n)"
        case _:
            assert_never(target)


def kind(target: Target) -> str:
    """Return what kind of set a target is, in the words of `walker.nix`."""
    match target:
        case FlakeTarget(attr=attr):
            return _flake_kind(attr)
        case FileTarget() | ExpressionTarget():
            return "open"
        case _:
            assert_never(target)


def _flake_kind(attr: AttrPath) -> str:
    match attr:
        case ():
            return "outputs"
        case ("hydraJobs", *_):
            return "jobs"
        case (output,) if output in PER_SYSTEM:
            return "systems"
        case _:
            return "open"


class Group(msgspec.Struct, frozen=True):
    """Targets that one process can evaluate: flakes purely, the rest restricted to one tree."""

    targets: tuple[Target, ...]
    tree_path: str = ""
    """Empty for flakes."""


def groups(targets: Sequence[Target]) -> list[Group]:
    """Sort targets by what a process may read, in order of first appearance."""
    found: dict[str, list[Target]] = {}
    for target in targets:
        key = "" if isinstance(target, FlakeTarget) else target.tree_path
        found.setdefault(key, []).append(target)
    return [Group(tuple(members), key) for key, members in found.items()]
