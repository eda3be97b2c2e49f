"""From what a person asks and the tree that is tested to one evaluation request."""

import posixpath
from collections.abc import Iterable, Iterator

import msgspec

from nixmill.core.errors import InputError
from nixmill.core.evaluation import EvaluationRequest
from nixmill.core.machine import Machine
from nixmill.core.source import Tree
from nixmill.core.target import DEFAULT_FILES, FileWord, FlakeWord, Word, default_words, inside, locate
from nixmill.doors import Source
from nixmill.engine.request import RunRequest


async def words_for(request: RunRequest, tree: Tree, source: Source) -> tuple[Word, ...]:
    """Return what is asked for, or what the tree suggests; raise `InputError` where a named file is not there."""
    for word in request.words:
        await _check_exists(word, tree, source)
    if request.words:
        return request.words
    for directory in _upwards(tree.subdirectory):
        names = [posixpath.join(directory, name) for name in ("flake.nix", *DEFAULT_FILES)]
        present = [posixpath.basename(name) for name in names if await _exists(tree, source, name)]
        if present:
            return default_words(frozenset(present), directory)
    return default_words(frozenset())


def question(request: RunRequest, words: Iterable[Word], tree: Tree, machines: Iterable[Machine]) -> EvaluationRequest:
    """Return the evaluation of `words` in `tree`; without chosen systems, those that some machine can build."""
    settings = request.settings
    if not settings.systems:
        known = dict.fromkeys(system for machine in machines for system in machine.systems)
        settings = msgspec.structs.replace(settings, systems=tuple(known))
    return EvaluationRequest(
        targets=tuple(locate(word, tree) for word in words), settings=settings, limits=request.evaluation_limits
    )


def place(request: RunRequest, tree: Tree) -> str:
    """Return what besides tree, targets and settings decides the records of an evaluation."""
    return f"{request.place} {tree.project} {tree.subdirectory}"


def _upwards(subdirectory: str) -> Iterator[str]:
    """Yield `.`, `..`, … from where the person stands to the top of the tree, as Nix looks for a flake."""
    depth = len(subdirectory.split("/")) if subdirectory else 0
    yield from ("/".join([".."] * up) or "." for up in range(depth + 1))


async def _check_exists(word: Word, tree: Tree, source: Source) -> None:
    match word:
        case FileWord(file=file) if not await _exists(tree, source, file):
            raise InputError(
                f"There is no file {file!r} in the tree that is tested.",
                f"Is it added to git? Try: git add --intent-to-add {file}",
            )
        case FlakeWord(directory=directory) if not await _exists(tree, source, posixpath.join(directory, "flake.nix")):
            raise InputError(f"There is no flake.nix in {directory!r}.", _remedy(directory))
        case _:
            return


async def _exists(tree: Tree, source: Source, path: str) -> bool:
    return await source.read(tree, inside(path, tree)) is not None


def _remedy(directory: str) -> str:
    if "." in directory.strip("./"):
        return f"To check one attribute, name its flake too: nixmill run .#{directory}"
    return "Name a directory with a flake.nix that is added to git, or a file: nixmill run release.nix"
