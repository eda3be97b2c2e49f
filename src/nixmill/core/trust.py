"""How far a commit is trusted: four tiers, decided by the forge's own account of it, never by repository content.

What kind of event asks is looked at before any name: the head branch of a fork may be called `main` and gains nothing.
Content may only lower its tier. Source: semantics §7.
"""

from enum import StrEnum
from typing import Final


class Tier(StrEnum):
    """Weakest first."""

    FORK = "fork"
    """A stranger's commit: nothing runs before somebody who may has approved this very commit."""
    MEMBER = "member"
    """A pull request by somebody who may write to the repository: runs at once, without any power."""
    BRANCH = "branch"
    """On a branch of the repository."""
    PROTECTED = "protected"
    """On the default branch, or on one that the forge protects."""


class Permission(StrEnum):
    """What a forge lets somebody do in a repository, weakest first."""

    NONE = "none"
    READ = "read"
    WRITE = "write"
    """Push, or on Gerrit: belongs to a group that the settings name."""
    ADMIN = "admin"


PERMISSIONS: Final = tuple(Permission)


def may_write(permission: Permission) -> bool:
    """Say whether somebody may push to the repository."""
    return PERMISSIONS.index(permission) >= PERMISSIONS.index(Permission.WRITE)


def tier_of_pull_request(*, same_repository: bool, head_owner_is_author: bool, author: Permission) -> Tier:
    """Return the tier of a pull request's head, from where its commit lives and who may push there.

    A branch of the repository itself is pushed to by those who may write. In a fork that belongs to the author alone
    the author's own permission counts; in anybody else's, others may have pushed.
    """
    if same_repository or (head_owner_is_author and may_write(author)):
        return Tier.MEMBER
    return Tier.FORK


def tier_of_ref(*, default: bool, protected: bool) -> Tier:
    """Return the tier of a push, a tag, a timer or a run by hand of a ref of the repository."""
    return Tier.PROTECTED if default or protected else Tier.BRANCH


def needs_approval(tier: Tier) -> bool:
    """Say whether somebody has to approve the head commit before anything of it is evaluated."""
    return tier is Tier.FORK


def is_untrusted(tier: Tier) -> bool:
    """Say whether evaluation belongs into the sandbox, and results into no cache or pin but those of pull requests."""
    return tier in {Tier.FORK, Tier.MEMBER}


def may_reuse(recorded: Tier, wanted: Tier) -> bool:
    """Say whether what an evaluation under one tier could not do also binds one under another.

    The sandbox takes things away (the network, other store paths), so an error found in it may be its own.
    """
    return not is_untrusted(recorded) or is_untrusted(wanted)
