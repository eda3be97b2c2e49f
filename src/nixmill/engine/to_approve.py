"""What an approver is shown: what a commit changes since the last approved one, or against its base.

Nothing of it is evaluated for that: files are compared as texts. The files that decide what is fetched and what runs
(flake.nix, lock files, CI configuration) are shown whole, lines with hashes of fixed outputs are picked out of all Nix
files: a build with such a hash has the network.
"""

from typing import Final

from nixmill.core.errors import InputError
from nixmill.core.fixed_outputs import changed_hashes
from nixmill.core.project import Project, matches
from nixmill.core.pull_request import Known
from nixmill.core.view.pulls import ToApprove
from nixmill.doors import DoorError
from nixmill.engine.server_doors import ServerDoors

SENSITIVE: Final = (
    "flake.nix",
    "flake.lock",
    "nixmill.toml",
    "release.nix",
    "default.nix",
    ".gitmodules",
    ".github/*",
    ".gitea/*",
    ".forgejo/*",
    ".gitlab-ci.yml",
    "*/flake.nix",
    "*/flake.lock",
)
"""Shown whole, these before all others."""
NIX: Final = ("*.nix", "*.lock", "*.json", "*.toml")
"""Looked through for hashes."""


async def to_approve(doors: ServerDoors, project: Project, known: Known) -> ToApprove:
    """Return what is to be looked at before the head of a pull request is approved."""
    commit = known.pull.head_commit
    try:
        return await _compared(doors, project, known)
    except (DoorError, InputError) as error:
        return ToApprove.unseen(commit, str(error))


async def _compared(doors: ServerDoors, project: Project, known: Known) -> ToApprove:
    """Fetch the head and compare it. The newest approved commit counts only where it is still part of the history."""
    pull, merging = known.pull, doors.merging
    commit = await merging.fetch_head(project, pull.fetch_ref, pull.head_commit)
    approvals = await doors.pulls.approvals(project.id, pull.number)
    since, approved = "", False
    for approval in approvals:
        if approval.commit != commit and await merging.contains(project, approval.commit, commit):
            since, approved = approval.commit, True
            break
    since = since or await doors.remote.fetch(project, pull.base_ref, "")
    compared = await merging.compare(project, since, commit, (*SENSITIVE, *NIX))
    sensitive = tuple(patch for patch in compared.patches if is_sensitive(patch.path))
    return ToApprove(
        commit=commit,
        since=since,
        since_approval=approved,
        commits=compared.commits,
        files=compared.files,
        files_more=compared.more,
        sensitive=sensitive,
        fixed_outputs=changed_hashes(compared.patches),
        left_out=compared.more_patches,
        endless=compared.endless,
    )


def is_sensitive(path: str) -> bool:
    """Say whether a file decides what is fetched or run."""
    return matches(SENSITIVE, path)
