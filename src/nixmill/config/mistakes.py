"""Mistakes in a settings file: each with its place and its remedy, all told at once.

Turns a TOML table into a struct of the program. Keys are the struct's field names with `-` for `_`. pydantic looks at
the whole table and finds every mistake; a struct is made only where there is none.
"""

import difflib
import re
import tomllib
import types
from collections.abc import Mapping, Sequence
from functools import cache, reduce
from operator import or_
from typing import Any, Final, NamedTuple, TypeVar, Union, cast, get_args, get_origin

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from nixmill.core.errors import InputError

S = TypeVar("S", bound=msgspec.Struct)
Table = dict[str, Any]
Narrower = Mapping[tuple[type, str], Any]
"""What pydantic is told instead of a field's own annotation: ranges and choices. Must be the same object each time."""
SECRETIVE: Final = ("database", "password", "secret", "token")
"""Places whose values are never repeated: somebody may have written a secret there."""
OTHER_NAMES: Final = {"forgejo": "gitea"}
"""What people call a value that is called otherwise here."""
_SHOWN: Final = 60


class Mistake(NamedTuple):
    """One thing that is wrong."""

    place: str
    """A key as people write it, such as `[smtp] port`; empty for the file as a whole."""
    sentence: str
    remedy: str = ""

    def __str__(self) -> str:
        """Return it as one line."""
        place = f"{self.place}: " if self.place else ""
        return f"{place}{self.sentence}{' ' + self.remedy if self.remedy else ''}"


def refuse(where: str, mistakes: Sequence[Mistake], documentation: str) -> None:
    """Raise `InputError` that tells all mistakes, where there are any."""
    if not mistakes:
        return
    if len(mistakes) == 1:
        raise InputError(f"{where}: {mistakes[0]}", documentation)
    lines = "\n".join(f"  {mistake}" for mistake in mistakes)
    raise InputError(f"{where} has {len(mistakes)} mistakes:\n{lines}", documentation)


def read_toml(text: str, where: str) -> Table:
    """Return the table that a TOML file holds; raise `InputError` where it is none."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where} is no valid TOML: {error}.", "Mend the line it names.") from error


def key(field: str) -> str:
    """Return how a field is written in a file."""
    return field.replace("_", "-")


def read_struct(
    table: Mapping[str, Any], kind: type[S], narrower: Narrower, at: str = "", *, spared: frozenset[str] = frozenset()
) -> tuple[S | None, list[Mistake]]:
    """Return the struct that a table means and no mistakes, or None and all mistakes.

    `at` stands in front of each place; fields that are `spared` may not be in the file.
    """
    model = _model(kind, _Frozen(narrower), spared)
    try:
        read = model.model_validate(dict(table))
    except ValidationError as error:
        return None, [_mistake(details, kind, at, spared) for details in error.errors(include_url=False)]
    return cast("S", _struct(read, kind)), []


class _Frozen(dict[tuple[type, str], Any]):
    """A narrower that can be part of a cache's key: there are a few of them, made at import."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))


@cache
def _model(kind: type[msgspec.Struct], narrower: _Frozen, spared: frozenset[str]) -> type[BaseModel]:
    """Return a pydantic model with the fields of a struct."""
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(kind):
        if field.name in spared:
            continue
        annotation = narrower.get((kind, field.name)) or _annotation(field.type, narrower, spared)
        default = ... if field.default is msgspec.NODEFAULT and field.default_factory is msgspec.NODEFAULT else None
        fields[field.name] = (annotation, default)
    config = ConfigDict(extra="forbid", alias_generator=key, arbitrary_types_allowed=True)
    return cast("type[BaseModel]", create_model(kind.__name__, __config__=config, **fields))


def _annotation(kind: Any, narrower: _Frozen, spared: frozenset[str]) -> Any:  # noqa: ANN401 - any annotation
    """Return an annotation with every struct in it replaced by its model."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _model(kind, narrower, spared)
    origin, args = get_origin(kind), get_args(kind)
    if not args:
        return kind
    inner = [arg if arg is ... else _annotation(arg, narrower, spared) for arg in args]
    if origin in {types.UnionType, Union}:
        return reduce(or_, inner)
    return cast("Any", origin)[tuple(inner)]


def _struct(read: BaseModel, kind: type[msgspec.Struct]) -> msgspec.Struct:
    """Return the struct of what was read; what was not said keeps the struct's own default."""
    types_of = {field.name: field.type for field in msgspec.structs.fields(kind)}
    said = {name: _value(getattr(read, name), types_of[name]) for name in read.model_fields_set}
    return kind(**said)


def _value(value: Any, kind: Any) -> Any:  # noqa: ANN401 - any value
    inner = [arg for arg in (kind, *get_args(kind)) if isinstance(arg, type) and issubclass(arg, msgspec.Struct)]
    match value:
        case BaseModel():
            return _struct(value, inner[0])
        case tuple():
            return tuple(_value(item, inner[0] if inner else object) for item in value)
        case _:
            return value


def _mistake(details: Any, kind: type[msgspec.Struct], at: str, spared: frozenset[str]) -> Mistake:  # noqa: ANN401 - pydantic's own dictionary
    path = tuple(details["loc"])
    place = _place(path, at)
    match details["type"]:
        case "extra_forbidden":
            return Mistake(place, "is no setting.", _meant(path, kind, spared))
        case "missing":
            return Mistake(place, "is missing.")
        case "enum" | "literal_error":
            return Mistake(place, _wrong(details, path), _meant_value(details))
        case _:
            return Mistake(place, _wrong(details, path))


def _meant_value(details: Any) -> str:  # noqa: ANN401 - likewise
    """Return which of a few values somebody may have meant; empty where none is like it."""
    said = str(details.get("input")).lower()
    known = re.findall(r"'([^']+)'", str(details.get("ctx", {}).get("expected", "")))
    close = [OTHER_NAMES[said]] if OTHER_NAMES.get(said) in known else difflib.get_close_matches(said, known, n=1)
    return f"Did you mean `{close[0]}`?" if close else ""


def _wrong(details: Any, path: tuple[Any, ...]) -> str:  # noqa: ANN401 - likewise
    text = str(details["msg"]).partition(", unable")[0].removeprefix("Input ").rstrip(".")
    text = (
        text.replace("a valid integer", "an integer")
        .replace("a valid tuple", "a list")
        .replace("a valid dictionary", "a table")
        .replace(" valid", "")
    )
    text = text.replace("an instance of Mapping", "a table").replace(
        "is not a path for <class 'pathlib.Path'>", "should be a path"
    )
    value = details.get("input")
    hidden = any(word in str(part) for part in path for word in SECRETIVE) or isinstance(value, (dict, list))
    shown = "it" if hidden else f"{value!r}"[:_SHOWN]
    return f"{shown} {text}."


def _place(path: Sequence[str | int], at: str = "") -> str:
    """Return a place as people find it in a file: `[smtp] port`, `[[hook]] 2 command`."""
    tables: list[str] = []
    for part in path[:-1]:
        if isinstance(part, int):
            tables[-1] = f"[{tables[-1]}] {part + 1}"
        else:
            tables.append(f"[{part}]")
    last = path[-1]
    if isinstance(last, int) and not tables:
        return f"{at} {last + 1}".strip()
    words = [*tables, f"item {last + 1}" if isinstance(last, int) else str(last)]
    return " ".join(filter(None, [at, *words]))


def _meant(path: Sequence[str | int], kind: type[msgspec.Struct], spared: frozenset[str]) -> str:
    """Return which key somebody may have meant."""
    for part in path[:-1]:
        if isinstance(part, str):
            kind = _inner(kind, part)
    known = sorted(key(field.name) for field in msgspec.structs.fields(kind) if field.name not in spared)
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    return f"Did you mean `{close[0]}`?" if close else f"Known here: {', '.join(known)}."


def _inner(kind: type[msgspec.Struct], part: str) -> type[msgspec.Struct]:
    """Return the struct that stands under a key of another."""
    annotation: Any = next(field.type for field in msgspec.structs.fields(kind) if key(field.name) == part)
    found = [arg for arg in (annotation, *get_args(annotation)) if isinstance(arg, type)]
    return next(arg for arg in found if issubclass(arg, msgspec.Struct))
