"""Brings the commit that is tested into the mirror: what was pushed, or a head merged into the tip of its base."""

from typing import Final, NamedTuple

from nixmill.core.change import Change, Origin
from nixmill.core.commit_text import first_line
from nixmill.core.project import Project
from nixmill.core.skip_marker import skips
from nixmill.engine.server_doors import ServerDoors

SKIPPABLE: Final = frozenset({Origin.PUSH, Origin.TAG, Origin.PULL_REQUEST})
"""Where a commit's message may ask that nothing be run. Not for what a person, a timer or a merge queue asks."""


class Brought(NamedTuple):
    """What became known of a change's commit."""

    known: dict[str, str]
    """Fields of `nixmill.core.change.Progress`."""
    skipped: str
    """Why nothing is run, in a sentence; empty where it is."""


async def bring(doors: ServerDoors, project: Project, change: Change) -> Brought:
    """Fetch and, for a pull request, merge. Raises `MergeConflictError`, `InputError`, `DoorError`."""
    if change.pull_request is None:
        commit = await doors.remote.fetch(project, change.ref, change.commit)
    else:
        commit = await doors.merging.fetch_head(project, await _fetch_ref(doors, change), change.commit)
    message, author = await doors.merging.said(project, commit)
    known = {"commit": commit, "subject": first_line(message), "author": first_line(author)}
    marker = skips(message) if change.origin in SKIPPABLE else None
    if marker:
        return Brought(known, f"Skipped: the commit's message says {marker}.")
    if change.pull_request is not None:
        merged = await doors.merging.merge(project, commit, change.base_ref, change.base_commit)
        known |= {"tested": merged.commit, "base_commit": merged.base}
    tree, _, _ = await doors.remote.tree(project, known.get("tested", commit))
    return Brought(known | {"tree_hash": tree.tree_hash}, "")


async def _fetch_ref(doors: ServerDoors, change: Change) -> str:
    """Return where the head is fetched from; one that has moved on is fetched by its id."""
    known = await doors.pulls.pull_request(change.project, change.pull_request or 0)
    return known.pull.fetch_ref if known is not None else change.ref
