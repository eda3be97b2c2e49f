"""Pieces of forms: texts to values and back, rows of tables, and mistakes told at their fields.

A row of a table is a column of fields: each is sent once a row, so that a form needs no script.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, TypeVar

import msgspec

from nixmill.core.errors import InputError

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)
Row = TypeVar("Row", bound=msgspec.Struct)
YES: Final = "true"
REMOVE: Final = "remove"
"""State of a row that is to go."""
LINE_MAX: Final = 250
TARGET_MAX: Final = 1000
WORDS_MAX: Final = 100


class Mistakes(dict[str, str]):
    """Sentences by field; `""` for what belongs to none."""

    def take(self, name: str, read: Callable[[], T], otherwise: T) -> T:
        """Return what a field says, or `otherwise` and note why not."""
        try:
            return read()
        except InputError as error:
            self.note(name, error)
            return otherwise

    def note(self, name: str, error: InputError) -> None:
        """Note what is wrong."""
        self[name] = f"{error} {error.remedy}".strip()

    def refuse(self) -> None:
        """Raise them as one `InputError`: for programs, which have no fields to show them at."""
        if self:
            raise InputError(" ".join(self.values()), "Correct it and send it again.")


def rows_of(form: msgspec.Struct, prefix: str, kind: type[Row]) -> list[Row]:
    """Return the rows of a table; raise `InputError` where a column is shorter than another."""
    names = kind.__struct_fields__
    columns = [getattr(form, f"{prefix}_{name}") for name in names]
    if len({len(column) for column in columns}) > 1:
        raise InputError("The table is not whole.", "Load the page again and send all of its fields.")
    return [kind(**dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]


def written(row: msgspec.Struct, *names: str) -> bool:
    """Say whether anybody wrote anything into some fields of a row."""
    return any(getattr(row, name).strip() for name in names)


def line(text: str, limit: int = LINE_MAX) -> str:
    """Return one line of text; raise `InputError` where it is too long or has control characters."""
    text = text.strip()
    if len(text) > limit:
        raise InputError(f"This is {len(text):,} characters long.", f"At most {limit:,} are taken.")
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in text):
        raise InputError("This has characters that cannot be shown.", "Write it in one line.")
    return text


def words(text: str) -> tuple[str, ...]:
    """Return words that stand between blanks."""
    return _few(tuple(line(word) for word in text.split()))


def lines(text: str) -> tuple[str, ...]:
    """Return the lines that are not empty: an attribute may have blanks in its name."""
    return _few(tuple(line(one, TARGET_MAX) for one in text.splitlines() if one.strip()))


def _few(found: tuple[str, ...]) -> tuple[str, ...]:
    if len(found) > WORDS_MAX:
        raise InputError(f"These are {len(found)}.", f"At most {WORDS_MAX} are taken.")
    return found


def number(text: str) -> int:
    """Return a whole number; raise `InputError` where it is none."""
    if not (text.strip().isascii() and text.strip().isdecimal() and len(text) <= 15):
        raise InputError(f"{text[:20]!r} is no whole number.")
    return int(text)


def one_of(kind: type[E], text: str) -> E:
    """Return a word of a list; raise `InputError` where it is not among them."""
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(f"{text[:40]!r} is not known.", f"Choose one of: {', '.join(kind)}.") from error


def text(value: Any) -> str:  # noqa: ANN401 - any field
    """Return what stands in a field of a form for a value."""
    match value:
        case bool():
            return YES if value else ""
        case tuple():
            return " ".join(value)
        case _:
            return str(value)
