"""What a run is about: the tree that is tested, what it is compared with, and which targets that means."""

from typing import NamedTuple

import msgspec

from nixmill.core.source import NoBase, Tree, TreeRequest
from nixmill.core.target import Word
from nixmill.doors import Source
from nixmill.engine.question import words_for
from nixmill.engine.request import RunRequest


class Subject(NamedTuple):
    """What a run is about."""

    tree: Tree
    base: Tree | NoBase
    words: tuple[Word, ...]


async def find_subject(source: Source, request: RunRequest) -> Subject:
    """Find it; raise `InputError` where the request makes no sense."""
    tree = await source.tree(TreeRequest(directory=request.directory, revision=request.revision))
    words = await words_for(request, tree, source)
    if not request.compare:
        return Subject(tree, NoBase(reason="comparing was switched off"), words)
    base = await source.base(tree, request.base)
    if request.base_reason and isinstance(base, Tree):
        base = msgspec.structs.replace(base, reason=request.base_reason)
    return Subject(tree, base, words)
