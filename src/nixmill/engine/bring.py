"""Brings the commit that is tested into the mirror: what was pushed, or a head merged into the tip of its base."""

from typing import Final, NamedTuple

from nixmill.core.change import Change, Origin
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
        return await _described(doors, project, change, {"commit": commit})
    commit = await doors.merging.fetch_head(project, await _fetch_ref(doors, change), change.commit)
    if skipped := await _skipped(doors, project, change, commit):
        return Brought({"commit": commit}, skipped)
    merged = await doors.merging.merge(project, commit, change.base_ref, change.base_commit)
    known = {"commit": commit, "tested": merged.commit, "base_commit": merged.base}
    brought = await _described(doors, project, change, known)
    _, subject, author = await doors.remote.tree(project, commit)
    return brought._replace(known=brought.known | {"subject": subject, "author": author})


async def _described(doors: ServerDoors, project: Project, change: Change, known: dict[str, str]) -> Brought:
    tested = known.get("tested", known["commit"])
    tree, subject, author = await doors.remote.tree(project, tested)
    said = known | {"tree_hash": tree.tree_hash, "subject": subject, "author": author}
    return Brought(said, await _skipped(doors, project, change, known["commit"]))


async def _skipped(doors: ServerDoors, project: Project, change: Change, commit: str) -> str:
    if change.origin not in SKIPPABLE:
        return ""
    marker = skips(await doors.merging.message(project, commit))
    return f"Skipped: the commit's message says {marker}." if marker else ""


async def _fetch_ref(doors: ServerDoors, change: Change) -> str:
    """Return where the head is fetched from; one that has moved on is fetched by its id."""
    known = await doors.pulls.pull_request(change.project, change.pull_request or 0)
    return known.pull.fetch_ref if known is not None else change.ref
