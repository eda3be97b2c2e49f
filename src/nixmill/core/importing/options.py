"""Reading a file by a table of options: every value with its type checked, every unknown key told."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

import msgspec

from nixmill.core.importing.findings import Document, Findings, Path, shown, shown_path

ANY_NAME = "*"


class Kind(StrEnum):
    """What a value has to be."""

    TEXT = "a text"
    NUMBER = "a whole number"
    FLAG = "true or false"
    TEXTS = "a list of texts"
    TABLES = "a list of tables"
    ANYTHING = "anything"


class Option(msgspec.Struct, frozen=True):
    """One option of another system. Absent and null are the same as its default."""

    name: str
    """Path with dots; `*` stands for any name."""
    kind: Kind
    default: object = None
    lost: str = ""
    """A sentence where it is not carried over: said when it is not at its default. Empty: code carries it over."""
    instead: str = ""
    generated: str = ""
    """What it is called in the JSON that the system's NixOS module makes; empty: it is not there."""


class Values(msgspec.Struct, frozen=True):
    """What a file says, by the names of the options."""

    document: Document
    found: Mapping[Path, object]

    def text(self, name: str) -> str:
        """Return a text; empty where nothing is said."""
        value = self.get(name)
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        value = self.get(name)
        return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()

    def number(self, name: str) -> int | None:
        """Return a number; None where nothing is said."""
        value = self.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def flag(self, name: str) -> bool:
        """Say whether something is switched on."""
        return self.get(name) is True

    def tables(self, name: str) -> tuple[dict[str, object], ...]:
        """Return a list of tables."""
        value = self.get(name)
        return tuple(item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()

    def get(self, name: str) -> object:
        """Return a value; None where nothing is said."""
        return self.found.get(tuple(name.split(".")))

    def below(self, name: str) -> dict[str, "Values"]:
        """Return the tables below a name, by their own names: each repository of `pullBased.repositories`."""
        start = tuple(name.split("."))
        tables: dict[str, dict[Path, object]] = {}
        for path, value in self.found.items():
            if path[: len(start)] == start and len(path) > len(start):
                tables.setdefault(path[len(start)], {})[path[len(start) + 1 :]] = value
        return {one: Values(self.document, found) for one, found in tables.items()}


def read(document: Document, options: Sequence[Option], findings: Findings, *, generated: bool = False) -> Values:
    """Return what a file says. Wrong types are mistakes; keys that are no option of the table are passed to nobody.

    `generated`: the keys are those of the JSON that a module makes. See `unknown` for keys nobody knows.
    """
    patterns = {_pattern(option, generated=generated): option for option in options}
    patterns.pop((), None)
    found: dict[Path, object] = {}
    for path, value in _leaves(document.table, patterns):
        pattern = _matching(path, patterns)
        if pattern is None or value is None:
            continue
        option = patterns[pattern]
        if _fits(value, option.kind):
            found[_named(option, path, pattern)] = value
        else:
            findings.mistake(document, path, f"should be {option.kind}, not {_said(value)}.")
    return Values(document, found)


def unknown(document: Document, options: Sequence[Option], *, generated: bool = False) -> list[tuple[Path, str]]:
    """Return the keys of a file that are no option, each with what was probably meant."""
    patterns = {_pattern(option, generated=generated): option for option in options}
    known = sorted(shown_path(pattern) for pattern in patterns)
    missed = [path for path, value in _leaves(document.table, patterns) if _matching(path, patterns) is None]
    return [(path, _meant(shown_path(path), known)) for path in missed]


def tell_lost(values: Values, options: Sequence[Option], findings: Findings) -> None:
    """Tell which options that are set to something of their own are not carried over."""
    for option in options:
        if not option.lost:
            continue
        pattern = tuple(option.name.split("."))
        for path, value in values.found.items():
            if _is_like(path, pattern) and not _is_default(value, option.default):
                findings.lost(f"{shown_path(path)} = {_said(value)}", option.lost, option.instead)


def _is_default(value: object, default: object) -> bool:
    return value == default or (default is None and value in (False, [], {}))


def _pattern(option: Option, *, generated: bool) -> Path:
    name = option.generated if generated else option.name
    return tuple(name.split(".")) if name else ()


def _leaves(table: Mapping[str, object], patterns: Mapping[Path, Option]) -> Iterator[tuple[Path, object]]:
    """Yield what stands at options, and what stands where no option is or can be."""
    todo: list[tuple[Path, object]] = [((name,), value) for name, value in reversed(list(table.items()))]
    while todo:
        path, value = todo.pop()
        if isinstance(value, dict) and _matching(path, patterns) is None and _leads_on(path, patterns):
            todo += [((*path, name), inner) for name, inner in reversed(list(value.items()))]
        elif value is not None or not _leads_on(path, patterns):
            yield path, value


def _matching(path: Path, patterns: Mapping[Path, Option]) -> Path | None:
    if path in patterns:
        return path
    return next((pattern for pattern in patterns if _is_like(path, pattern)), None)


def _leads_on(path: Path, patterns: Mapping[Path, Option]) -> bool:
    """Say whether options stand below a path."""
    return any(len(pattern) > len(path) and _is_like(path, pattern[: len(path)]) for pattern in patterns)


def _is_like(path: Path, pattern: Path) -> bool:
    return len(path) == len(pattern) and all(part in {ANY_NAME, name} for name, part in zip(path, pattern, strict=True))


def _named(option: Option, path: Path, pattern: Path) -> Path:
    """Return a path under the option's own name: any names in it stay what they are."""
    names = iter([name for name, part in zip(path, pattern, strict=True) if part == ANY_NAME])
    return tuple(next(names) if part == ANY_NAME else part for part in option.name.split("."))


def _fits(value: object, kind: Kind) -> bool:
    match kind:
        case Kind.TEXT:
            return isinstance(value, str)
        case Kind.NUMBER:
            return isinstance(value, int) and not isinstance(value, bool)
        case Kind.FLAG:
            return isinstance(value, bool)
        case Kind.TEXTS:
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case Kind.TABLES:
            return isinstance(value, list) and all(isinstance(item, dict) for item in value)
        case Kind.ANYTHING:
            return True


def _said(value: object) -> str:
    match value:
        case dict():
            return "a table" if not value else f"a table of {len(value)}"
        case list() if all(isinstance(item, str) for item in value):
            return shown(", ".join(str(item) for item in value))
        case list():
            return f"a list of {len(value)}"
        case bool():
            return "true" if value else "false"
        case _:
            return shown(value)


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean `{close[0]}`?" if close else f"Known: {', '.join(known)}." if len(known) <= 12 else ""
