"""What a person means by a word such as `812`, `hello`, `checks.x86_64-linux.hello` or a derivation's path.

Decides which attempt of a run is meant. Does not know where runs are kept; the caller goes from run to run.
"""

import msgspec

from nixmill.core.history import AttemptRow, AttributeRow, RunRow
from nixmill.core.outcome import Outcome
from nixmill.nix.attr_path import show
from nixmill.nix.store_path import StorePath, derivation_name


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """All that is remembered of one run."""

    row: RunRow
    attempts: tuple[AttemptRow, ...]
    attributes: tuple[AttributeRow, ...]


class Ambiguous(msgspec.Struct, frozen=True, kw_only=True):
    """The word means several things; `names` are what would be exact."""

    names: tuple[str, ...]


def find_attempt(word: str | None, run: RunRecord) -> AttemptRow | Ambiguous | None:
    """Return the attempt of this run that `word` means; without a word, the last one that failed, else the last.

    Exact names win over parts of names. Of several attempts at a derivation the last one is meant.
    """
    if word is None:
        failed = [attempt for attempt in run.attempts if attempt.outcome is not Outcome.SUCCEEDED]
        return max(failed or run.attempts, key=lambda attempt: attempt.number, default=None)
    if word.isdecimal():
        return next((attempt for attempt in run.attempts if attempt.number == int(word)), None)
    drvs = _derivations(word, run)
    attempts = {attempt.drv_path: attempt for attempt in sorted(run.attempts, key=lambda a: a.number)}
    found = {drv: attempts[drv] for drv in drvs if drv in attempts}
    if len(found) > 1:
        return Ambiguous(names=tuple(sorted(found)))
    return next(iter(found.values()), None)


def find_attribute(word: str, run: RunRecord) -> AttributeRow | Ambiguous | None:
    """Return the attribute of this run that `word` means; a unique part of its name is enough."""
    exact = [row for row in run.attributes if word in {show(row.path), row.path[-1] if row.path else ""}]
    found = exact or [row for row in run.attributes if word in show(row.path)]
    if len(found) > 1:
        return Ambiguous(names=tuple(show(row.path) for row in found))
    return found[0] if found else None


def _derivations(word: str, run: RunRecord) -> list[StorePath]:
    """Return the derivations that a word means: those at fault, where an attribute failed because of another one."""
    by_path = [attempt.drv_path for attempt in run.attempts if word in {attempt.drv_path, attempt.drv_path[:-4]}]
    if by_path:
        return by_path
    match find_attribute(word, run):
        case AttributeRow() as row:
            return [row.culprit or row.drv_path]
        case _:
            pass
    named = {attempt.drv_path for attempt in run.attempts if derivation_name(attempt.drv_path) == word}
    return sorted(named or {attempt.drv_path for attempt in run.attempts if word in derivation_name(attempt.drv_path)})
