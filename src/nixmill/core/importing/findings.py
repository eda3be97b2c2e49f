"""What an import finds: mistakes in what was read, and everything that is not as it was. And its result."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

import msgspec

from nixmill.core.errors import InputError
from nixmill.core.project import Jobset, Project

DOCUMENTATION: Final = "How to move, system by system: docs/moving.md of nixmill."
_SHOWN: Final = 60
_MISTAKES_MAX: Final = 50
"""More would hide the first ones."""

T = TypeVar("T")
Path = tuple[str, ...]
"""Names of tables and of a key in them, from the top of a file."""


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it was."""

    what: str
    """The setting or thing as its own system calls it, and what it was."""
    why: str
    """A sentence: why it is not carried over, or what is different."""
    instead: str = ""
    """A sentence: what to do."""

    def __str__(self) -> str:
        """Return it as one paragraph."""
        return f"{self.what}: {self.why}{' ' + self.instead if self.instead else ''}"


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was read."""

    where: str
    """Its name, as people typed it."""
    table: dict[str, object]
    lines: dict[Path, int] = {}
    """Line of each key, from 1, as far as it is known."""

    def place(self, path: Path) -> str:
        """Return where a key stands: `garnix.yaml:7: builds.include`; the nearest known line counts."""
        known = (self.lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in self.lines)
        line = next(known, None)
        return ": ".join(filter(None, [f"{self.where}:{line}" if line else self.where, shown_path(path)]))


class RepositoryFile(msgspec.Struct, frozen=True, kw_only=True):
    """What to put into one repository."""

    source: str
    """The file or directory it was made of."""
    text: str
    """Of `nixmill.toml`; empty where none is written."""
    without: str = ""
    """Sentence: why none is written although the defaults do something else; empty where they do the same."""


class PolledProject(msgspec.Struct, frozen=True, kw_only=True):
    """A repository that was polled, as a project for the projects file."""

    project: Project
    jobsets: tuple[Jobset, ...]


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an import."""

    system: str
    repositories: tuple[RepositoryFile, ...] = ()
    server: str = ""
    """Text of the server's settings; empty where none were read."""
    projects: tuple[PolledProject, ...] = ()
    status_name: str
    """What the required check was called; kept, branch protection goes on working."""
    differently: tuple[Note, ...] = ()
    lost: tuple[Note, ...] = ()
    to_do: tuple[str, ...] = ()
    """Sentences: what remains for people, in order."""


class Findings:
    """Collects while files are gone through. Each fact is kept once."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.mistakes: list[str] = []
        self.lost_notes: list[Note] = []
        self.different_notes: list[Note] = []
        self.to_dos: list[str] = []

    def mistake(self, document: Document, path: Path, sentence: str, remedy: str = "") -> None:
        """Keep that something in a file is wrong."""
        self.mistakes.append(_printable(f"{document.place(path)}: {sentence}{' ' + remedy if remedy else ''}"))

    def unreadable(self, text: str) -> None:
        """Keep that a file could not be read: a sentence a line."""
        self.mistakes += [_printable(line) for line in text.splitlines()]

    def lost(self, what: str, why: str, instead: str = "") -> None:
        """Keep that something is not carried over."""
        _add(self.lost_notes, _note(what, why, instead))

    def differently(self, what: str, why: str, instead: str = "") -> None:
        """Keep that something is carried over, but is not quite what it was."""
        _add(self.different_notes, _note(what, why, instead))

    def to_do(self, sentence: str) -> None:
        """Keep what people have to do."""
        _add(self.to_dos, _printable(sentence))

    def refuse(self) -> None:
        """Raise `InputError` that tells all mistakes, where there are any."""
        if not self.mistakes:
            return
        if len(self.mistakes) == 1:
            raise InputError(self.mistakes[0], DOCUMENTATION)
        shown_ones = [f"  {mistake}" for mistake in self.mistakes[:_MISTAKES_MAX]]
        if len(self.mistakes) > _MISTAKES_MAX:
            shown_ones.append(f"  and {len(self.mistakes) - _MISTAKES_MAX} more")
        raise InputError(f"There are {len(self.mistakes)} mistakes:\n" + "\n".join(shown_ones), DOCUMENTATION)


def _note(what: str, why: str, instead: str) -> Note:
    return Note(what=_printable(what), why=_printable(why), instead=_printable(instead))


def _printable(text: str) -> str:
    """Return a text as a terminal may get it: what it quotes was written by others."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _add(found: list[T], one: T) -> None:
    if one not in found:
        found.append(one)


def shown_path(path: Sequence[str]) -> str:
    """Return a path as people write it; odd names in quotes."""
    return ".".join(_shown_name(name) for name in path)


def shown(value: object) -> str:
    """Return a value as it is quoted in a sentence: short, on one line, without control characters."""
    text = f"`{value}`" if isinstance(value, str) else repr(value)
    text = _printable(text)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them; many are cut."""
    most = 8
    more = [f"{len(names) - most} more"] if len(names) > most else []
    parts = [*(shown(name) for name in names[:most]), *more]
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]])) if parts else ""


def _shown_name(name: str) -> str:
    return name if name and all(c.isalnum() or c in "-_[]" for c in name) else shown(name).replace("`", '"')


def paragraphs(notes: Sequence[Note]) -> Iterator[str]:
    """Yield notes as lines of a list."""
    for note in notes:
        yield f"- {note}"
