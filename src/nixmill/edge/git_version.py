"""Which git this machine has: merging needs a newer one than everything else does.

Source: release notes of git 2.38 (`merge-tree --write-tree`) and 2.36 (`ls-tree --format`).
"""

import re
from typing import Final

from nixmill.core.errors import InputError
from nixmill.edge.git_command import Git

MERGING: Final = (2, 38)
_VERSION: Final = re.compile(r"git version (\d+)\.(\d+)")


async def check_version(directory: str, needed: tuple[int, int] = MERGING) -> None:
    """Raise `InputError` where git is older; one that does not say its version is taken for new enough."""
    said = await Git(directory).run("version")
    found = _VERSION.match(said)
    if found and (int(found[1]), int(found[2])) < needed:
        raise InputError(
            f"Pull requests cannot be merged with {said}.",
            f"Install git {needed[0]}.{needed[1]} or newer on the server.",
        )
