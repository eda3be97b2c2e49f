"""Sentences for evaluations that fail as a whole: what is wrong, with what, and what to do next. Pure.

Source of the patterns: `src/libflake/`, `src/libexpr/flake/` and `src/libfetchers/` of Nix 2.8.0 and 2.34.
"""

import difflib
import re
from typing import Final, assert_never

from nixmill.core.evaluation import (
    EvalError,
    EvaluationFailedError,
    ExpressionTarget,
    FileTarget,
    FlakeTarget,
    NoSuchTargetError,
    Target,
)
from nixmill.edge.evaluator import faults
from nixmill.nix import eval_message
from nixmill.nix.attr_path import show, show_name

_NO_FLAKE: Final = re.compile(r"does not contain a '?/?(\S*/)?flake\.nix|flake\.nix' does not exist|is not a flake")
_LOCK: Final = re.compile(
    r".*(requires lock file changes|cannot write (modified )?lock file|lock file .* (out of date|contains)"
    r"|cannot update (flake )?(unlocked )?(flake )?input|is not allowed to be mutable"
    r"|unlocked.* flake reference|cannot fetch input)",
    re.DOTALL,
)
_LOCKED_REFERENCE: Final = re.compile(r".*cannot call 'getFlake' on unlocked flake reference", re.DOTALL)
_SUGGESTIONS: Final = 3
_SHOWN: Final = 12


def name_of(target: Target) -> str:
    """Return how people call a target's root."""
    match target:
        case FlakeTarget(reference=reference):
            # A checkout's address tells nothing that is not known, and on a server it is that of a cache.
            return "the flake" if reference.startswith("git+file:") else f"the flake {reference}"
        case FileTarget(file=file):
            return file
        case ExpressionTarget():
            return "the expression"
        case _:
            assert_never(target)


def failed(target: Target, text: str) -> EvaluationFailedError:
    """Return the failure of a target that could not be loaded."""
    parsed = eval_message.parse(text)
    first = parsed.message.split("\n", 1)[0]
    name = name_of(target)
    if isinstance(target, FlakeTarget):
        if _NO_FLAKE.search(parsed.message) or ("flake.nix" in first and "No such file" in first):
            return EvaluationFailedError(
                f"There is no flake.nix in {target.reference}. Add one (and `git add` it), or name a file instead.",
                text,
            )
        if _LOCK.match(parsed.message) and not _LOCKED_REFERENCE.match(parsed.message):
            return EvaluationFailedError(
                f"The lock file of {name} is missing or out of date. Run `nix flake lock` and commit flake.lock. "
                f"Nix says: {first}",
                text,
            )
    tree_path = "" if isinstance(target, FlakeTarget) else target.tree_path
    position = faults.position(parsed, tree_path)
    at = f" (at {position})" if position else ""
    return EvaluationFailedError(f"{_capital(name)} cannot be evaluated: {first}{at}", text)


def missing_file(target: FileTarget) -> EvaluationFailedError:
    """Return the failure of a target whose file does not exist."""
    return EvaluationFailedError(f"There is no file {target.file}. Name a Nix file that exists in the project.")


def unknown(target: Target, index: int, names: list[str]) -> EvaluationFailedError:
    """Return the failure of a target whose attribute does not exist: `names` are those that do."""
    wanted = show(target.attr[: index + 1])
    where = f"{show(target.attr[:index])} of {name_of(target)}" if index else name_of(target)
    close = difflib.get_close_matches(target.attr[index], names, n=_SUGGESTIONS, cutoff=0.5)
    if close:
        hint = "Did you mean " + " or ".join(show((*target.attr[:index], name)) for name in close) + "?"
    elif names:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        hint = "There are: " + ", ".join(show_name(n) for n in names[:_SHOWN]) + more + "."
    else:
        hint = "There is nothing in it."
    return NoSuchTargetError(f"There is no attribute {wanted} in {where}. {hint}")


def not_started(text: str, status: int) -> EvaluationFailedError:
    """Return the failure of an evaluation whose process ended before it could evaluate anything."""
    first = eval_message.parse(text).message.split("\n", 1)[0] or "it said nothing"
    return EvaluationFailedError(f"The evaluation process ended at once with status {status}: {first}", text)


def store_trouble(error: EvalError) -> EvaluationFailedError:
    """Return the failure of an evaluation in which attribute after attribute fails for want of a store."""
    first = error.message.split("\n", 1)[0]
    return EvaluationFailedError(
        f"The store or this machine is in trouble, so nothing more is evaluated: {first}."
        " `nixmill doctor` may say more.",
        error.message,
    )


def too_long(seconds: float, at: list[str]) -> EvaluationFailedError:
    """Return the failure of an evaluation that took longer than it may; `at` are attributes being evaluated."""
    busy = f" It was evaluating {' and '.join(at)}." if at else ""
    return EvaluationFailedError(
        f"The evaluation took longer than {seconds:g} seconds and was stopped.{busy}"
        " Raise the time limit or evaluate less."
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
