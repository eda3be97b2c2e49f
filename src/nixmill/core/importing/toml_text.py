"""Tables → the text of a TOML file. Only what settings need: texts, numbers, truth values, lists, tables."""

import json
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum

Table = Mapping[str, object]


def written(top: Table, tables: Sequence[tuple[str, Table]]) -> str:
    """Return a file: keys without a table first, then each table under its header, such as `[limits]`, `[[forge]]`.

    Tables without keys are left out. Empty where nothing is left.
    """
    parts = ["\n".join(_lines(top))] if top else []
    parts += ["\n".join((header, *_lines(table))) for header, table in tables if table]
    return "\n\n".join(parts) + "\n" if parts else ""


def _lines(table: Table) -> Iterator[str]:
    for name, value in table.items():
        yield f"{key(name)} = {literal(value)}"


def key(name: str) -> str:
    """Return a key: bare where TOML allows it."""
    bare = name.isascii() and name and all(c.isalnum() or c in "-_" for c in name)
    return name if bare else text(name)


def literal(value: object) -> str:
    """Return a value as TOML writes it; what is none of TOML's is written as its text."""
    match value:
        case bool():
            return "true" if value else "false"
        case Enum():
            return text(str(value.value))
        case int() | float():
            return repr(value)
        case list() | tuple():
            return f"[{', '.join(map(literal, value))}]"
        case _:
            return text(str(value))


def text(value: str) -> str:
    """Return a TOML basic string. JSON writes the same, but for the one control character above the letters."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
