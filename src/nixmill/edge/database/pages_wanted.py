"""What is asked for in one question: any number of keys as one parameter; and text as a pattern."""

import json
from collections.abc import Collection
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    ColumnElement,
    Connection,
    Subquery,
    Table,
    Text,
    cast,
    column,
    func,
    literal,
    or_,
    select,
)

_ESCAPE: Final = "!"

Key = tuple[int, int, str]
"""(run, id of its evaluation or 0, stored path or derivation)."""


def wanted(connection: Connection, keys: Collection[Key]) -> Subquery:
    """Return a table of the columns `run`, `evaluation` and `text`."""
    if connection.dialect.name == "postgresql":
        each = func.json_array_elements(cast(list(keys), JSON)).table_valued(column("value", JSON))
        parts = [each.c.value[at].as_string() for at in range(3)]
    else:
        rows = func.json_each(json.dumps(list(keys))).table_valued("value")
        parts = [func.json_extract(rows.c.value, f"$[{at}]") for at in range(3)]
    return select(
        cast(parts[0], BigInteger).label("run"),
        cast(parts[1], BigInteger).label("evaluation"),
        cast(parts[2], Text).label("text"),
    ).subquery("wanted")


def like(text: str) -> str:
    """Return text as it stands in a pattern of LIKE whose escape is `!`."""
    return "".join(_ESCAPE + c if c in "%_!" else c for c in text)


def contains(connection: Connection, column_: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Say that a column has a text in it, whatever the case of ASCII letters."""
    pattern = f"%{like(text)}%"
    if connection.dialect.name == "postgresql":
        return column_.ilike(pattern, escape=_ESCAPE)
    return column_.like(pattern, escape=_ESCAPE)


def begins(connection: Connection, column_: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Say that a column begins with a text of ASCII, in a way that an index answers.

    On PostgreSQL the index must be of `text_pattern_ops`: other collations do not compare letter by letter.
    """
    low, high = literal(text), literal(text + "\x7f")
    if connection.dialect.name != "postgresql":
        return (column_ >= low) & (column_ < high)
    return column_.op("~>=~", is_comparison=True)(low) & column_.op("~<~", is_comparison=True)(high)


def named(connection: Connection, path: ColumnElement[str], text: str) -> ColumnElement[bool]:
    """Say that the name of an attribute has a text in it; quotes in either do not count.

    A path is stored as JSON: `["a","b.c"]` is compared as `["a.b.c"]`, so that no row has to be taken apart.
    """
    dotted = func.replace(path, '","', ".")
    plain = json.dumps(text.replace('"', ""))[1:-1]
    exact = json.dumps(text)[1:-1]
    return or_(*(contains(connection, dotted, each) for each in dict.fromkeys((plain, exact))))


def first_at(table: Table, number: ColumnElement[int], path: ColumnElement[str]) -> ColumnElement[bool]:
    """Say that a row of attributes or errors is the first with a path in an evaluation.

    The position is asked of the index first: without statistics SQLite would read the whole evaluation instead.
    """
    of = table.c
    other = table.alias().c
    at = select(func.min(other.position)).where(other.evaluation == number, other.path == path).scalar_subquery()
    return (of.evaluation == number) & (of.position == at)
