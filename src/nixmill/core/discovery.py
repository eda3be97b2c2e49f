"""Which repositories of a forge become projects by themselves, and what those are called."""

import re
from collections.abc import Collection
from typing import Final

from nixmill.core.forge import Repository
from nixmill.core.project import NAME, RESERVED, matches

_ODD: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_NAME_MAX: Final = 60
"""Characters, so that a number still fits behind it."""


def is_chosen(topic: str, owners: tuple[str, ...], repositories: tuple[str, ...], repository: Repository) -> bool:
    """Say whether a repository becomes a project: it is on a list, and has the topic where one is asked for.

    Without lists none is. Letters' case does not matter, as on the forges.
    """
    if repository.archived or (topic and topic.lower() not in {one.lower() for one in repository.topics}):
        return False
    by_owner = matches([one.lower() for one in owners], repository.owner.lower())
    return by_owner or matches([one.lower() for one in repositories], repository.path.lower())


def free_name(path: str, taken: Collection[str]) -> str:
    """Return a name for the project of a repository: its own, else with its owner, else with a number."""
    used = {name.lower() for name in taken}
    owner, _, name = path.rpartition("/")
    words = [_cleaned(name), _cleaned(f"{owner}-{name}")]
    numbered = (f"{words[1]}-{number}" for number in range(2, len(used) + 3))
    return next(word for word in (*words, *numbered) if word.lower() not in used | RESERVED)


def _cleaned(text: str) -> str:
    word = _ODD.sub("-", text).strip("-.")[:_NAME_MAX] or "project"
    return word if NAME.fullmatch(word) else f"p-{word}"[:_NAME_MAX]
