"""Tiers: decided by where a commit lives and who may push there, before any name is looked at."""

import itertools

import pytest

from nixmill.core.trust import (
    PERMISSIONS,
    Permission,
    Tier,
    is_untrusted,
    may_reuse,
    may_write,
    needs_approval,
    tier_of_pull_request,
    tier_of_ref,
)


@pytest.mark.parametrize(
    ("same", "own", "author", "tier"),
    [
        (True, False, Permission.NONE, Tier.MEMBER),
        (False, True, Permission.WRITE, Tier.MEMBER),
        (False, True, Permission.ADMIN, Tier.MEMBER),
        (False, True, Permission.READ, Tier.FORK),
        (False, True, Permission.NONE, Tier.FORK),
        (False, False, Permission.ADMIN, Tier.FORK),
    ],
)
def test_a_head_is_trusted_as_far_as_everybody_who_may_push_there(
    same: bool,  # noqa: FBT001 - a row of the table
    own: bool,  # noqa: FBT001 - likewise
    author: Permission,
    tier: Tier,
) -> None:
    assert tier_of_pull_request(same_repository=same, head_owner_is_author=own, author=author) is tier


def test_no_pull_request_is_ever_trusted_like_a_branch() -> None:
    for same, own, author in itertools.product((True, False), (True, False), PERMISSIONS):
        tier = tier_of_pull_request(same_repository=same, head_owner_is_author=own, author=author)
        assert is_untrusted(tier)


def test_refs_of_the_repository() -> None:
    assert tier_of_ref(default=True, protected=False) is Tier.PROTECTED
    assert tier_of_ref(default=False, protected=True) is Tier.PROTECTED
    assert tier_of_ref(default=False, protected=False) is Tier.BRANCH


def test_only_forks_wait_and_both_kinds_of_pull_requests_are_untrusted() -> None:
    assert [tier for tier in Tier if needs_approval(tier)] == [Tier.FORK]
    assert [tier for tier in Tier if is_untrusted(tier)] == [Tier.FORK, Tier.MEMBER]


def test_errors_found_in_the_sandbox_bind_nobody_outside() -> None:
    assert not may_reuse(Tier.FORK, Tier.BRANCH)
    assert may_reuse(Tier.BRANCH, Tier.FORK)
    assert may_reuse(Tier.FORK, Tier.MEMBER)


def test_who_may_write() -> None:
    assert [one for one in PERMISSIONS if may_write(one)] == [Permission.WRITE, Permission.ADMIN]
