"""Derivations and their ATerm form.

`parse_head` reads what a planner needs and stops before the environment: about 4 µs instead of 70 for a derivation of
the usual size. It trusts that a store's own `.drv` files hold well-formed paths; `parse` checks them.
What this file does not know: whether a derivation, or any path it names, exists.
Source: Nix manual, "Derivation"; `src/libstore/derivations.cc` (Nix 2.34). Derivations whose inputs are themselves
outputs of derivations (`DrvWithVersion`) are refused.
"""

import json
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from nixmill.nix.store_path import StorePath

FEATURES_KEY: Final = "requiredSystemFeatures"

_STRING: Final = r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"'
_LOOSE: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PATH: Final = re.compile(r"/[^\"\\]*/[0-9a-df-np-sv-z]{32}-[0-9a-zA-Z+\-._?=]{1,211}\Z")
_PLATFORM: Final = re.compile(rf",{_STRING},{_STRING},", re.DOTALL)
_ARGS: Final = re.compile(rf"\[((?:{_LOOSE}(?:,|(?=\])))*+)\],\[", re.DOTALL)
_ENVIRONMENT: Final = re.compile(rf"(?:\({_LOOSE},{_LOOSE}\)(?:,|(?=\])))*+\]\)\Z", re.DOTALL)
_ARG: Final = re.compile(_STRING, re.DOTALL)
_PAIR: Final = re.compile(rf"\({_STRING},{_STRING}\)", re.DOTALL)
_FEATURES: Final = re.compile(rf'\("{FEATURES_KEY}",{_STRING}\)', re.DOTALL)
_STRUCTURED: Final = re.compile(rf'\("__json",{_STRING}\)', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_UNESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}
_ESCAPED: Final = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_START: Final = "Derive(["


class DerivationError(ValueError):
    """The text is not a derivation; the message says where it stops making sense."""


class DerivationOutput(msgspec.Struct, frozen=True):
    """One output as the derivation declares it; `path` is empty where only a build can tell it."""

    path: str
    hash_algorithm: str = ""
    """`sha256`, `r:sha256`, … for fixed-output and floating content-addressed outputs."""
    hash: str = ""
    """Hexadecimal, for fixed outputs."""


class Derivation(msgspec.Struct, frozen=True):
    """A derivation as its `.drv` file says.

    Where only the head was read, `args` is empty and `environment` holds at most what `required_features` needs.
    """

    outputs: dict[str, DerivationOutput]
    input_drvs: dict[StorePath, tuple[str, ...]]
    """Derivation → names of its outputs that are needed."""
    input_srcs: tuple[StorePath, ...]
    system: str = ""
    builder: str = ""
    args: tuple[str, ...] = ()
    environment: dict[str, str] = {}

    @property
    def fixed_output(self) -> bool:
        """Say whether the hash of the result is known beforehand, as for downloads."""
        return any(output.hash for output in self.outputs.values())

    @property
    def required_features(self) -> frozenset[str]:
        """Return the features a machine must have, such as `kvm`; from structured attributes too."""
        if "__json" in self.environment:
            return _structured_features(self.environment["__json"])
        return frozenset(self.environment.get(FEATURES_KEY, "").split())


def _structured_features(text: str) -> frozenset[str]:
    try:
        found = json.loads(text).get(FEATURES_KEY, [])
    except (ValueError, AttributeError):
        return frozenset()
    return frozenset(str(name) for name in found) if isinstance(found, list) else frozenset()


def parse_head(text: str) -> Derivation:
    """Read everything but arguments and environment; raise `DerivationError` where that much is malformed."""
    head, at = _head(text)
    system, builder, at = _platform(text, at)
    return Derivation(*head, system, builder, (), _scheduling_keys(text, at))


def parse(text: str) -> Derivation:
    """Read a whole derivation; raise `DerivationError` where it is malformed."""
    head, at = _head(text)
    for path in (*head[1], *head[2], *(output.path for output in head[0].values() if output.path)):
        if not _PATH.match(path):
            raise DerivationError(f"No derivation: {path!r} is not a store path.")
    system, builder, at = _platform(text, at)
    args = _ARGS.match(text, at)
    if args is None or not _ENVIRONMENT.match(text, args.end()):
        raise DerivationError(f"No derivation: arguments or environment after character {at} are malformed.")
    return Derivation(
        *head,
        system,
        builder,
        tuple(_unescape(arg) for arg in _ARG.findall(args[1])),
        {_unescape(key): _unescape(value) for key, value in _PAIR.findall(text, args.end())},
    )


def decode(data: bytes) -> str:
    """Return the text of a `.drv` file; bytes that are not UTF-8 survive a round trip."""
    return data.decode("utf-8", "surrogateescape")


def unparse(derivation: Derivation) -> str:
    """Return the ATerm as Nix writes it: sets and maps in order of bytes."""
    outputs = _in_order(
        (name, _tuple((name, output.path, output.hash_algorithm, output.hash)))
        for name, output in derivation.outputs.items()
    )
    inputs = _in_order(
        (path, f"({_quote(path)},{_list(sorted(names))})") for path, names in derivation.input_drvs.items()
    )
    environment = _in_order((key, _tuple((key, value))) for key, value in derivation.environment.items())
    sources = _list(sorted(derivation.input_srcs))
    platform = f"{_quote(derivation.system)},{_quote(derivation.builder)},{_list(derivation.args)}"
    return f"Derive([{outputs}],[{inputs}],{sources},{platform},[{environment}])"


_Head = tuple[dict[str, DerivationOutput], dict[StorePath, tuple[str, ...]], tuple[StorePath, ...]]


def _head(text: str) -> tuple[_Head, int]:
    """Cut the three leading lists at their separators; no string in them can hold a quote, escape or bracket."""
    if not text.startswith(_START):
        raise DerivationError("No derivation: it does not start with `Derive([`.")
    outputs, at = _section(text, len(_START), ")],[")
    inputs, at = _section(text, at, ")],[")
    sources, at = _section(text, at, '"],', opens='"')
    parsed = (_outputs(outputs), _inputs(inputs), tuple(map(StorePath, sources[1:-1].split('","') if sources else ())))
    strings = 4 * len(parsed[0]) + sum(1 + len(names) for names in parsed[1].values()) + len(parsed[2])
    if text.count('"', 0, at) != 2 * strings or text.find("\\", 0, at) >= 0:
        raise DerivationError("No derivation: its lists of outputs and inputs are malformed.")
    return parsed, at - 1


def _section(text: str, start: int, end: str, opens: str = "(") -> tuple[str, int]:
    """Return the inside of a list, and where the next thing starts (after `],` and any `[`)."""
    tail = end[1:]
    if text.startswith(tail, start):
        return "", start + len(tail)
    stop = text.find(end, start)
    if stop < 0 or not text.startswith(opens, start):
        raise DerivationError(f"No derivation: a list that starts at character {start} is malformed.")
    return text[start : stop + 1], stop + len(end)


def _outputs(section: str) -> dict[str, DerivationOutput]:
    found: dict[str, DerivationOutput] = {}
    for item in section[2:-2].split('"),("') if section else ():
        parts = item.split('","')
        if len(parts) != 4:
            raise DerivationError(f"No derivation: {item!r} is not an output.")
        found[parts[0]] = DerivationOutput(parts[1], parts[2], parts[3])
    return found


def _inputs(section: str) -> dict[StorePath, tuple[str, ...]]:
    found: dict[StorePath, tuple[str, ...]] = {}
    for item in section[2:-3].split('"]),("') if section else ():
        path, mark, names = item.partition('",["')
        if not mark:
            raise DerivationError(f"No derivation: {item!r} is not an input.")
        found[StorePath(path)] = tuple(names.split('","'))
    return found


def _platform(text: str, at: int) -> tuple[str, str, int]:
    found = _PLATFORM.match(text, at)
    if found is None:
        raise DerivationError(f"No derivation: system and builder were expected at character {at}.")
    return _unescape(found[1]), _unescape(found[2]), found.end()


def _scheduling_keys(text: str, at: int) -> dict[str, str]:
    """Find required features without reading the environment; nearly all derivations have none."""
    if text.find(FEATURES_KEY, at) < 0:
        return {}
    if structured := _STRUCTURED.search(text, at):
        return {"__json": _unescape(structured[1])}
    found = _FEATURES.search(text, at)
    return {FEATURES_KEY: _unescape(found[1])} if found else {}


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda m: _UNESCAPED.get(m[1], m[1]), text) if "\\" in text else text


def _quote(text: str) -> str:
    return f'"{text.translate(_ESCAPED)}"'


def _list(texts: Iterable[str]) -> str:
    return f"[{','.join(map(_quote, texts))}]"


def _tuple(texts: Iterable[str]) -> str:
    return f"({','.join(map(_quote, texts))})"


def _in_order(items: Iterable[tuple[str, str]]) -> str:
    return ",".join(text for _, text in sorted(items, key=lambda i: i[0].encode("utf-8", "surrogateescape")))
