"""Finds in the history what a word means; says what would be exact where it means several things."""

from collections.abc import AsyncIterator

from nixmill.cli.wiring import LocalHistory
from nixmill.core.errors import InputError
from nixmill.core.history import AttemptRow, AttributeRow
from nixmill.core.lookup import Ambiguous, RunRecord, find_attempt, find_attribute

RUNS_SEARCHED = 100


async def runs_newest_first(history: LocalHistory, limit: int = RUNS_SEARCHED) -> AsyncIterator[RunRecord]:
    """Yield what is remembered of the newest runs."""
    for row in await history.runs(limit):
        found = await history.run(row.number)
        attempts = tuple(found[1]) if found else ()
        yield RunRecord(row=row, attempts=attempts, attributes=tuple(await history.attributes(row.number)))


async def attempt(history: LocalHistory, word: str | None) -> tuple[RunRecord, AttemptRow]:
    """Return the attempt that `word` means, in the newest run that has one."""
    async for run in runs_newest_first(history):
        match find_attempt(word, run):
            case AttemptRow() as row:
                return run, row
            case Ambiguous(names=names):
                raise _several(word or "", names)
            case None:
                continue
    raise _nothing(word)


async def attribute(history: LocalHistory, word: str) -> tuple[RunRecord, AttributeRow]:
    """Return the attribute that `word` means, in the newest run that has it."""
    async for run in runs_newest_first(history):
        match find_attribute(word, run):
            case AttributeRow() as row:
                return run, row
            case Ambiguous(names=names):
                raise _several(word, names)
            case None:
                continue
    raise _nothing(word)


def _several(word: str, names: tuple[str, ...]) -> InputError:
    return InputError(f"{word!r} means {len(names)} things.", "Name one of them:\n  " + "\n  ".join(names[:20]))


def _nothing(word: str | None) -> InputError:
    if word is None:
        return InputError("Nothing was built here yet.", "Check the project first: nixmill run")
    return InputError(
        f"No run of this machine built anything that {word!r} could mean.",
        "Name an attempt's number, an attribute, a derivation, or a part of its name; nixmill runs lists the runs.",
    )
