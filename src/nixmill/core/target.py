"""What a person asks to be checked, from words to targets.

Words are as on Nix's own command line: `.#checks`, `./sub#packages.x86_64-linux`, `release.nix` with `-A attr`, or an
expression. `read_words` decides what kind each word is; `locate` ties it to the tree that is tested.
What this file does not know: whether the files exist (the caller tells which of the default names do).
"""

import posixpath
from typing import Final
from urllib.parse import quote

import msgspec

from nixmill.core.errors import InputError
from nixmill.core.evaluation import ExpressionTarget, FileTarget, FlakeTarget, Target
from nixmill.core.source import Tree
from nixmill.nix.attr_path import AttrPath, AttrPathError, parse, show

DEFAULT_FLAKE_OUTPUT: Final = "checks"
OTHER_FLAKE_OUTPUTS: Final = ("hydraJobs", "packages")
"""What is checked of a flake without checks, where nobody says; the first that it has."""
DEFAULT_FILES: Final = ("release.nix", "default.nix")
_REMOTE: Final = ("github:", "gitlab:", "sourcehut:", "git+", "http:", "https:", "tarball:", "hg+", "ssh:")


class FlakeWord(msgspec.Struct, frozen=True, tag="flake"):
    """An output of the flake in `directory` (relative to where the person stands)."""

    directory: str
    attr: AttrPath


class FileWord(msgspec.Struct, frozen=True, tag="file"):
    """An attribute of a Nix file (relative to where the person stands)."""

    file: str
    attr: AttrPath


class ExpressionWord(msgspec.Struct, frozen=True, tag="expression"):
    """An attribute of an expression."""

    text: str
    attr: AttrPath


Word = FlakeWord | FileWord | ExpressionWord


def read_words(
    words: tuple[str, ...], *, file: str | None, expression: str | None, attrs: tuple[str, ...]
) -> tuple[Word, ...]:
    """Return what the command line asks for; empty where it leaves the choice to us."""
    if file is not None and expression is not None:
        raise InputError("--file and --expr exclude each other.", "Name one of them.")
    if file is None and expression is None:
        return tuple(word for text in words for word in _read_word(text, attrs))
    if words:
        raise InputError(
            f"{words[0]!r} cannot stand beside --file or --expr.", "Select attributes with -A, or drop --file/--expr."
        )
    paths = _attrs(attrs)
    if file is not None:
        return tuple(FileWord(file, path) for path in paths)
    return tuple(ExpressionWord(expression or "", path) for path in paths)


def _read_word(text: str, attrs: tuple[str, ...]) -> tuple[Word, ...]:
    if text.startswith(_REMOTE):
        raise InputError(
            f"{text!r} is a remote flake; nixmill run tests a checkout.", "Clone it, and run nixmill in the clone."
        )
    if "#" not in text and (text.endswith(".nix") or attrs):
        return tuple(FileWord(text, path) for path in _attrs(attrs))
    if attrs:
        raise InputError(
            f"-A goes with a file, not with the flake {text!r}.", f"Write {text.split('#', maxsplit=1)[0]}#{attrs[0]}."
        )
    directory, _, fragment = text.partition("#")
    attr = _attr(fragment) if fragment else (DEFAULT_FLAKE_OUTPUT,)
    return (FlakeWord(directory or ".", attr),)


def _attrs(texts: tuple[str, ...]) -> tuple[AttrPath, ...]:
    return tuple(_attr(text) for text in texts) or ((),)


def _attr(text: str) -> AttrPath:
    try:
        return parse(text)
    except AttrPathError as error:
        raise InputError(str(error), 'Quote odd names as Nix does: checks.x86_64-linux."a.b".') from error


def default_words(present: frozenset[str], directory: str = ".") -> tuple[Word, ...]:
    """Choose in `directory`, which has the files `present`: its flake's checks, else release.nix or default.nix."""
    if "flake.nix" in present:
        return (FlakeWord(directory, (DEFAULT_FLAKE_OUTPUT,)),)
    for name in DEFAULT_FILES:
        if name in present:
            return (FileWord(posixpath.normpath(posixpath.join(directory, name)), ()),)
    raise InputError(
        "There is no flake.nix, release.nix or default.nix here, so there is nothing to evaluate.",
        "Go to a project's directory, name a file (nixmill run path/to/file.nix), or start one with: nixmill init",
    )


def other_words(words: tuple[Word, ...]) -> tuple[Word, ...] | None:
    """Return what to try next where the default output of a flake is not there; None where nothing is left."""
    outputs = (DEFAULT_FLAKE_OUTPUT, *OTHER_FLAKE_OUTPUTS)
    match words:
        case (FlakeWord(directory, (output,)),) if output in outputs[:-1]:
            return (FlakeWord(directory, (outputs[outputs.index(output) + 1],)),)
        case _:
            return None


def show_word(word: Word) -> str:
    """Return the word as a person would type it after `nixmill run`."""
    match word:
        case FlakeWord(directory, attr):
            return f"{directory}#{show(attr)}"
        case FileWord(file, attr):
            return f"{file} -A {show(attr)}" if attr else file
        case ExpressionWord(text, attr):
            return f"-E {text!r} -A {show(attr)}" if attr else f"-E {text!r}"


def locate(word: Word, tree: Tree) -> Target:
    """Return the target that `word`, said in the tree's subdirectory, means in this tree."""
    match word:
        case FlakeWord(directory, attr):
            relative = inside(directory, tree)
            reference = tree.flake_reference
            joint = "&" if "?" in reference else "?"
            below = f"{joint}dir={quote(relative)}" if relative else ""  # its `&` would say more than where it is
            return FlakeTarget(reference=f"{reference}{below}", attr=attr)
        case FileWord(file, attr):
            relative = inside(file, tree)
            return FileTarget(file=posixpath.join(tree.path, relative), tree_path=tree.path, attr=attr)
        case ExpressionWord(text, attr):
            return ExpressionTarget(text=text, tree_path=tree.path, attr=attr)


def inside(path: str, tree: Tree) -> str:
    """Return `path` relative to the top of the tree; refuse what lies outside."""
    if posixpath.isabs(path):
        relative = posixpath.relpath(path, tree.checkout)
    else:
        relative = posixpath.normpath(posixpath.join(tree.subdirectory, path))
    if relative == ".." or relative.startswith("../"):
        raise InputError(
            f"{path!r} lies outside the checkout {tree.checkout}.",
            "Name something in it, or go to that directory first.",
        )
    return "" if relative == "." else relative
