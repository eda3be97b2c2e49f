"""What a merge comes to: the commit that is tested, or the files in its way; and what differs between two commits.

Paths are a stranger's: bytes that are no UTF-8 were replaced, everything else is as it came. Who shows them escapes
them. Does not know git (`nixmill.edge.git_merge`, `nixmill.edge.git_compare`).
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from nixmill.core.errors import InputError

FILES_KEPT: Final = 100
"""Files with conflicts that an error carries."""
FILES_MAX: Final = 3000
"""Files of a comparison; GitHub stops at as many."""
PATCH_BYTES: Final = 64 * 1024
"""Of one patch."""
PATCHES_BYTES: Final = 512 * 1024
"""Of all patches together."""
MESSAGE_BYTES: Final = 64 * 1024
"""Of the message of a commit."""
_PATH_SHOWN: Final = 120
_SHORT: Final = 12


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """The commit that has a head merged into a base."""

    commit: str
    """A merge of ours; `head` where that has the base already; `base` where that has the head already. The same head
    and base are the same commit.
    """
    tree_hash: str
    """Git's tree hash of the files as they will be after merging, without those of submodules."""
    base: str
    """The tip of the base that was merged into."""
    head: str


class MergeConflictError(InputError):
    """A head cannot be merged into its base: the author's to mend."""

    def __init__(
        self, message: str, remedy: str, *, base: str, head: str, files: Sequence[str] = (), more: int = 0
    ) -> None:
        """Keep the commits, and the files with conflicts: at most `FILES_KEPT`; `more` are left out."""
        super().__init__(message, remedy)
        self.base, self.head, self.files, self.more = base, head, tuple(files), more


def conflict(branch: str, base: str, head: str, files: Sequence[str]) -> MergeConflictError:
    """Return the error for conflicts in `files`, of which there is at least one."""
    count = len(files)
    rest = "" if count == 1 else f" and {count - 1} more"
    return MergeConflictError(
        f"Pull request cannot be merged into {branch} ({base[:_SHORT]}): conflicts in {_shown(files[0])}{rest}.",
        f"Merge or rebase onto {branch} and push again.",
        base=base,
        head=head,
        files=files[:FILES_KEPT],
        more=max(0, count - FILES_KEPT),
    )


def unrelated(branch: str, base: str, head: str) -> MergeConflictError:
    """Return the error for commits without a common ancestor."""
    return MergeConflictError(
        f"Pull request cannot be merged into {branch} ({base[:_SHORT]}): the two have no commit in common.",
        f"Begin a branch at {branch}, bring the changes there, and push it again.",
        base=base,
        head=head,
    )


def _shown(path: str) -> str:
    shown = "".join(char if char.isprintable() else "�" for char in path)
    return shown if len(shown) <= _PATH_SHOWN else shown[: _PATH_SHOWN - 1] + "…"


class FileChange(StrEnum):
    """What happened to a file."""

    ADDED = "added"
    CHANGED = "changed"
    """Its content, its mode or its kind (a file became a link)."""
    DELETED = "deleted"
    RENAMED = "renamed"


class ChangedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that differs between two commits."""

    path: str
    kind: FileChange
    added: int = 0
    """Lines."""
    removed: int = 0
    """Lines."""
    old_path: str = ""
    """Of a renamed file."""
    binary: bool = False
    """No lines are counted, since it is no text or larger than 4 MiB. A submodule is one line, its commit."""


class Patch(msgspec.Struct, frozen=True, kw_only=True):
    """How a file differs, as `git diff` writes it."""

    path: str
    text: str
    """Of a binary or very large file git's one line that says so. Where it was cut, the last line says so."""
    cut: bool = False


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What changed between two commits."""

    files: tuple[ChangedFile, ...]
    """In git's order, at most `FILES_MAX`."""
    more: int = 0
    """Files that are left out; where `endless`, there are at least as many."""
    endless: bool = False
    """There were so many files or differences that git was stopped: what stands here is not all there is."""
    patches: tuple[Patch, ...] = ()
    """Of the files that were asked for."""
    more_patches: int = 0
    """Patches that are left out because of their number or size."""
    commits: int = 0
    """Commits that the newer one has and the older has not, counted up to 10,000."""
