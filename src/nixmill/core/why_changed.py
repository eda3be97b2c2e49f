"""Why a derivation changed: the first differing inputs of two derivations, down to the source that changed.

Two derivations are walked side by side. Inputs of the same name are taken for the same thing in two states; where
only inputs differ the walk goes on into them, where something of their own differs that is a root cause.
What it does not know: how derivations are read. `Explainer.explain` yields the paths it needs and is sent what exists,
so the engine does the reading, a level at a time.
"""

import difflib
import json
import re
from collections.abc import Callable, Generator, Iterable, Mapping
from enum import StrEnum
from typing import Final

import msgspec

from nixmill.core.estimate import stem
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.derivation import Derivation
from nixmill.nix.store_path import StorePath, derivation_name, name_part

ROOTS_MAX: Final = 10
"""Root causes kept for an attribute: more do not help a person."""
PAIRS_MAX: Final = 20_000
"""Pairs of derivations compared by one explainer: bounds time and memory on a change of everything."""
TEXT_LINES_MAX: Final = 12
TEXT_WIDTH_MAX: Final = 160

_HASHED: Final = re.compile(r"[0-9a-df-np-sv-z]{32}-[0-9a-zA-Z+\-._?=]+")
_SPACE: Final = re.compile(r"(\s+)")
_OF_OUTPUTS: Final = frozenset({"outputHash", "outputHashAlgo", "outputHashMode", "name"})
"""Variables that only repeat what the outputs and the name of the derivation say."""

Pair = tuple[StorePath, StorePath]


class Kind(StrEnum):
    """What differs."""

    SOURCE = "source"
    ENVIRONMENT = "environment"
    BUILDER = "builder"
    ARGUMENTS = "arguments"
    SYSTEM = "system"
    INPUT_ADDED = "input added"
    INPUT_REMOVED = "input removed"
    INPUT_OUTPUTS = "outputs of an input"
    CONTENT_HASH = "content hash"
    FETCHER = "fetcher"
    NAME = "name"
    UNREADABLE = "unreadable"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Something of a derivation's own that differs: a root cause. Texts in it are hostile data."""

    kind: Kind
    name: str
    """Name of the derivation that has the difference."""
    subject: str
    """The variable, input or source."""
    before: str
    after: str

    @property
    def sentence(self) -> str:
        """The difference in a few words, such as `source of hello changed`."""
        return {
            Kind.SOURCE: f"source {self.subject} of {self.name} changed",
            Kind.ENVIRONMENT: f"{self.subject} of {self.name} changed",
            Kind.BUILDER: f"builder of {self.name} changed",
            Kind.ARGUMENTS: f"arguments of {self.name}'s builder changed",
            Kind.SYSTEM: f"system of {self.name} changed from {self.before} to {self.after}",
            Kind.INPUT_ADDED: f"{self.name} needs {self.subject}, which is new",
            Kind.INPUT_REMOVED: f"{self.name} no longer needs {self.subject}",
            Kind.INPUT_OUTPUTS: f"{self.name} needs other outputs of {self.subject}",
            Kind.CONTENT_HASH: f"content of {self.name} changed",
            Kind.FETCHER: f"{self.name} is fetched in another way, with the same content",
            Kind.NAME: f"{self.before} became {self.after}",
            Kind.UNREADABLE: f"{self.name} changed, but the store no longer has both states of it",
        }[self.kind]

    @property
    def text(self) -> str:
        """A short text diff of before and after."""
        return text_diff(self.before, self.after)


class Root(msgspec.Struct, frozen=True, kw_only=True):
    """A root cause and the way to it."""

    difference: Difference
    way: tuple[str, ...]
    """Names of derivations from the attribute's own down to the one that differs."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why a derivation changed; `roots` in the order in which they are met, nearest first, at most `ROOTS_MAX`."""

    roots: tuple[Root, ...]
    complete: bool
    """False where the walk was cut short because too much differs."""


class _Compared(msgspec.Struct, frozen=True):
    """What a pair has of its own, and the differing inputs."""

    own: tuple[Difference, ...]
    below: tuple[Pair, ...]


Asking = Generator[frozenset[StorePath], Mapping[StorePath, Derivation], Explanation]


class Explainer:
    """Explains many changed attributes of one diff; what they share is read and compared once."""

    def __init__(self) -> None:
        """Begin knowing nothing."""
        self._known: dict[StorePath, Derivation | None] = {}
        self._pairs: dict[Pair, _Compared] = {}

    def explain(self, old: StorePath, new: StorePath) -> Asking:
        """Yield derivation paths to read, be sent those that exist, and return why `old` became `new`."""
        level = [(old, new)] if old != new else []
        seen = set(level)
        while level and len(self._pairs) < PAIRS_MAX:
            yield from self._read(level)
            below: dict[Pair, None] = {}
            for pair in level:
                if pair not in self._pairs:
                    self._pairs[pair] = self._compare(pair)
                below.update(dict.fromkeys(self._pairs[pair].below))
            level = [pair for pair in below if pair not in seen]
            seen.update(level)
        return self._fold((old, new))

    def _read(self, level: list[Pair]) -> Generator[frozenset[StorePath], Mapping[StorePath, Derivation], None]:
        wanted = frozenset(path for pair in level for path in pair if path not in self._known)
        if wanted:
            found = yield wanted
            for path in wanted:
                self._known[path] = found.get(path)

    def _compare(self, pair: Pair) -> _Compared:
        old, new = self._known.get(pair[0]), self._known.get(pair[1])
        name = derivation_name(pair[1])
        if old is None or new is None:
            return _Compared((_difference(Kind.UNREADABLE, name, "", pair[0], pair[1]),), ())
        return compare(derivation_name(pair[0]), old, name, new)

    def _fold(self, top: Pair) -> Explanation:
        """Walk what was compared, nearest first, and collect what is not explained by something further down."""
        came_from: dict[Pair, Pair | None] = {top: None}
        level = [top] if top in self._pairs else []
        roots: dict[Difference, Root] = {}
        complete = bool(level) or top[0] == top[1]
        while level and len(roots) < ROOTS_MAX:
            below: list[Pair] = []
            for pair in level:
                for difference in self._pairs[pair].own:
                    roots.setdefault(difference, Root(difference=difference, way=_way(pair, came_from)))
                for inner in self._pairs[pair].below:
                    complete = complete and inner in self._pairs
                    if inner not in came_from and inner in self._pairs:
                        came_from[inner] = pair
                        below.append(inner)
            level = below
        return Explanation(roots=tuple(roots.values())[:ROOTS_MAX], complete=complete and not level)


def together(explanations: Mapping[AttrPath, Explanation]) -> list[tuple[Difference, tuple[AttrPath, ...]]]:
    """Group attributes by what changed first for them, the cause with the most attributes first."""
    groups: dict[Difference, list[AttrPath]] = {}
    for path, explanation in explanations.items():
        for root in explanation.roots:
            groups.setdefault(root.difference, []).append(path)
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0].sentence))
    return [(difference, tuple(sorted(paths))) for difference, paths in ordered]


def compare(old_name: str, old: Derivation, new_name: str, new: Derivation) -> _Compared:
    """Return what differs between two states of a derivation."""
    if new.fixed_output and old.fixed_output:
        # How a download is made changes its derivation, not what it is; its hash tells all there is to tell.
        before, after = _content(old), _content(new)
        kind = Kind.FETCHER if before == after else Kind.CONTENT_HASH
        return _Compared((_difference(kind, new_name, "", before, after),), ())
    pairs, added, removed, outputs = _inputs(old, new)
    own = [
        *_sources(new_name, old.input_srcs, new.input_srcs),
        *(_difference(Kind.INPUT_REMOVED, new_name, derivation_name(path), path, "") for path in removed),
        *(_difference(Kind.INPUT_ADDED, new_name, derivation_name(path), "", path) for path in added),
        *(_difference(Kind.INPUT_OUTPUTS, new_name, *words) for words in outputs),
        *_itself(new_name, old, new),
    ]
    if old_name != new_name and not own:
        own = [_difference(Kind.NAME, new_name, "", old_name, new_name)]
    elif not own and not pairs:
        own = _itself(new_name, old, new, exact=True)
    return _Compared(tuple(own), tuple(pairs))


def text_diff(before: str, after: str) -> str:
    """Return a short diff of two texts, lines starting with `-` and `+`; long ones are cut where they say so."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    body = [line for line in lines if not line.startswith(("---", "+++", "@@"))]
    shown = [_cut(line) for line in body[:TEXT_LINES_MAX]]
    if len(body) > TEXT_LINES_MAX:
        shown.append(f"… {len(body) - TEXT_LINES_MAX} more lines")
    return "\n".join(shown)


def _cut(line: str) -> str:
    return line if len(line) <= TEXT_WIDTH_MAX else f"{line[: TEXT_WIDTH_MAX - 1]}…"


def _difference(kind: Kind, name: str, subject: str, before: str, after: str) -> Difference:
    return Difference(kind=kind, name=name, subject=subject, before=before, after=after)


def _content(derivation: Derivation) -> str:
    return " ".join(f"{name} {out.hash_algorithm}:{out.hash}" for name, out in sorted(derivation.outputs.items()))


def _way(pair: Pair, came_from: Mapping[Pair, Pair | None]) -> tuple[str, ...]:
    names: list[str] = []
    at: Pair | None = pair
    while at is not None:
        names.append(derivation_name(at[1]))
        at = came_from[at]
    return tuple(reversed(names))


def _inputs(
    old: Derivation, new: Derivation
) -> tuple[list[Pair], list[StorePath], list[StorePath], list[tuple[str, str, str]]]:
    """Match inputs: differing pairs, added, removed, and (name, before, after) where only the needed outputs differ."""
    shared = old.input_drvs.keys() & new.input_drvs.keys()
    outputs = [
        (derivation_name(path), " ".join(sorted(old.input_drvs[path])), " ".join(sorted(new.input_drvs[path])))
        for path in sorted(shared)
        if set(old.input_drvs[path]) != set(new.input_drvs[path])
    ]
    before = sorted(old.input_drvs.keys() - shared, key=derivation_name)
    after = sorted(new.input_drvs.keys() - shared, key=derivation_name)
    pairs: list[Pair] = []
    for name_of in (derivation_name, _stem):
        more, before, after = _match(before, after, name_of)
        pairs += more
    return pairs, after, before, outputs


def _stem(path: StorePath) -> str:
    return stem(derivation_name(path))


def _match(
    before: Iterable[StorePath], after: Iterable[StorePath], name_of: Callable[[StorePath], str]
) -> tuple[list[Pair], list[StorePath], list[StorePath]]:
    """Pair paths of the same name in order; return the pairs and what is left on either side."""
    waiting: dict[str, list[StorePath]] = {}
    for path in before:
        waiting.setdefault(name_of(path), []).append(path)
    pairs: list[Pair] = []
    left: list[StorePath] = []
    for path in after:
        same = waiting.get(name_of(path))
        if same:
            pairs.append((same.pop(0), path))
        else:
            left.append(path)
    return pairs, [path for paths in waiting.values() for path in paths], left


def _sources(name: str, old: Iterable[StorePath], new: Iterable[StorePath]) -> list[Difference]:
    before, after = set(old), set(new)
    pairs, gone, come = _match(sorted(before - after, key=name_part), sorted(after - before, key=name_part), name_part)
    return [
        *(_difference(Kind.SOURCE, name, name_part(one), one, other) for one, other in pairs),
        *(_difference(Kind.SOURCE, name, name_part(path), path, "") for path in gone),
        *(_difference(Kind.SOURCE, name, name_part(path), "", path) for path in come),
    ]


def _itself(name: str, old: Derivation, new: Derivation, *, exact: bool = False) -> list[Difference]:
    """Return differences that no input explains: unless `exact` store paths do not count, inputs stand for them."""
    normal = str if exact else _masked
    kinds = (
        (Kind.SYSTEM, old.system, new.system),
        (Kind.BUILDER, old.builder, new.builder),
        (Kind.ARGUMENTS, "\n".join(old.args), "\n".join(new.args)),
    )
    found = [_difference(kind, name, "", one, other) for kind, one, other in kinds if normal(one) != normal(other)]
    before, after = _variables(old), _variables(new)
    ignored = (
        _OF_OUTPUTS | old.outputs.keys() | new.outputs.keys() | ({"system"} if old.system != new.system else set())
    )
    for key in sorted((before.keys() | after.keys()) - ignored):
        one, other = before.get(key, ""), after.get(key, "")
        if one != other and normal(one) != normal(other):
            found.append(_difference(Kind.ENVIRONMENT, name, key, one, other))
    return found


def _variables(derivation: Derivation) -> dict[str, str]:
    """Return the environment; structured attributes as variables of their own."""
    plain = dict(derivation.environment)
    try:
        structured = json.loads(plain.get("__json", "{}"))
    except ValueError:
        return plain
    if not isinstance(structured, dict):
        return plain
    plain.pop("__json", None)
    return plain | {key: value if isinstance(value, str) else json.dumps(value) for key, value in structured.items()}


def _masked(text: str) -> str:
    """Return the text without words that are store paths, and with a mark for the store paths in other words."""
    parts = _SPACE.split(_HASHED.sub("\0", text))
    spaced = zip(["", *parts[1::2]], parts[::2], strict=True)
    return "".join(space + word for space, word in spaced if not word.endswith("\0"))
