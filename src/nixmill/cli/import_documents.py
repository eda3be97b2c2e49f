"""Files of other systems → `Document`: TOML, YAML and JSON, with the lines of their keys.

They come from strangers: sizes are capped, and what YAML repeats by aliases counts as often as it is repeated.
"""

import json
import re
import tomllib
from pathlib import Path as FilePath
from typing import Final

import yaml

from nixmill.core.errors import InputError
from nixmill.core.importing.findings import Document, Path

SIZE_MAX: Final = 1024 * 1024
"""Bytes; the settings of a large server are some tens of KiB."""
NODES_MAX: Final = 100_000
"""Values of one YAML file."""
_TABLE: Final = re.compile(r"\s*\[{1,2}\s*([^\[\]]+?)\s*\]{1,2}")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")
_STAR: Final = re.compile(r"(^|[\s\[,])\*[^\s]*\.", re.MULTILINE)


def read_document(file: FilePath) -> Document:
    """Return what a file says, by the ending of its name. Raises `InputError` where it cannot be read."""
    where, text = str(file), _text(file)
    match file.suffix:
        case ".toml":
            return _toml(where, text)
        case ".yaml" | ".yml":
            return _yaml(where, text)
        case _:
            return _json(where, text)


def _text(file: FilePath) -> str:
    try:
        with file.open("rb") as opened:
            found = opened.read(SIZE_MAX + 1)
        if len(found) > SIZE_MAX:
            raise InputError(f"{file}: is larger than {SIZE_MAX // 1024**2} MiB.", "Is it the right file?")
        return found.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {_reason(error)}.") from error


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else f"it is no text in UTF-8 ({error.reason})"


def _toml(where: str, text: str) -> Document:
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is no valid TOML: {error}.") from error
    lines: dict[Path, int] = {}
    at: Path = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _TABLE.match(line):
            at = tuple(part.strip(" \"'") for part in header[1].split("."))
            lines.setdefault(at, number)
        elif found := _KEY.match(line):
            lines.setdefault((*at, found[1]), number)
    return Document(where=where, table=table, lines=lines)


def _json(where: str, text: str) -> Document:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is no valid JSON: {error}.") from error
    if not isinstance(table, dict):
        raise InputError(f"{where}: holds no settings: it is no JSON object.")
    return Document(where=where, table=table)


def _yaml(where: str, text: str) -> Document:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return _Yaml(where).document(node)
    except yaml.YAMLError as error:
        star = " A text that begins with * stands in quotes." if _STAR.search(text) else ""
        mark = getattr(error, "problem_mark", None)
        at = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InputError(f"{where}{at}: is no valid YAML: {problem}.{star}") from error
    except ValueError as error:
        raise InputError(f"{where}: a value in it is none that YAML knows: {error}.") from error
    except RecursionError as error:
        raise InputError(f"{where}: is nested too deeply.", "Is it the right file?") from error


class _Yaml:
    """Makes plain values of YAML's nodes, and notes the lines of keys and of tables in lists."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._lines: dict[Path, int] = {}
        self._twice: list[str] = []
        self._loader = yaml.SafeLoader("")
        self._left = NODES_MAX

    def document(self, node: yaml.Node | None) -> Document:
        table = self._value(node, ()) if node is not None else {}
        if self._twice:
            raise InputError("\n".join(self._twice), "Keep one of each.")
        if table is not None and not isinstance(table, dict):
            raise InputError(f"{self._where}: is no table of keys.")
        return Document(where=self._where, table=table or {}, lines=self._lines)

    def _value(self, node: yaml.Node, at: Path) -> object:
        self._left -= 1
        if self._left < 0:
            raise InputError(f"{self._where}: has more than {NODES_MAX} values.", "Is it the right file?")
        self._lines.setdefault(at, node.start_mark.line + 1)
        match node:
            case yaml.MappingNode():
                return self._table(node, at)
            case yaml.SequenceNode():
                return [self._value(item, (*at, f"[{number}]")) for number, item in enumerate(node.value, 1)]
            case _:
                return self._loader.construct_object(node)

    def _table(self, node: yaml.MappingNode, at: Path) -> dict[str, object]:
        table: dict[str, object] = {}
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            name = str(name_node.value) if isinstance(name_node, yaml.ScalarNode) else "(a table or list as key)"
            if name in table:
                self._twice.append(f"{self._where}:{line}: {name!r} is there twice.")
            self._lines.setdefault((*at, name), line)
            table[name] = self._value(value_node, (*at, name))
        return table
