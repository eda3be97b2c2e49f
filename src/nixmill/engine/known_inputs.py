"""Inputs of a flake that an evaluation in the sandbox may find in the store, so that it need not fetch them again.

They are those that the base locks: what the repository itself uses already. A stranger's commit finds only those that
anybody can fetch, and only where everybody may see the project.
"""

from typing import Final

from nixmill.core.access import Visibility
from nixmill.core.change import Change
from nixmill.core.errors import InputError
from nixmill.core.flake_lock import locked_inputs
from nixmill.core.project import Project
from nixmill.core.source import TreeRequest
from nixmill.core.trust import Tier
from nixmill.engine.server_doors import ServerDoors
from nixmill.nix.store_path import StorePath

LOCK: Final = "flake.lock"


async def known_inputs(doors: ServerDoors, project: Project, change: Change) -> tuple[StorePath, ...]:
    """Return store paths that the base of a pull request locks, valid or not."""
    if not change.base_commit or (change.tier is Tier.FORK and project.visibility is not Visibility.PUBLIC):
        return ()
    try:
        request = TreeRequest(directory=doors.remote.mirror(project.id), revision=change.base_commit)
        text = await doors.source.read(await doors.source.tree(request), LOCK)
    except InputError:
        return ()  # then they are fetched
    found = locked_inputs(text or "", str(doors.store_dir))
    return tuple(one.path for one in found if one.over_the_web or change.tier is not Tier.FORK)
