"""What follows from a look at a pull request."""

from typing import Any

import msgspec
import pytest

from nixmill.core.change import BuildClass, Change, ChangeState, Origin, supersedes
from nixmill.core.forge import ForgeUser
from nixmill.core.pull_request import (
    BUILD_LABEL,
    SKIP_LABEL,
    Decision,
    Known,
    PullRequest,
    PullState,
    decide,
    is_stale,
    tier_of,
)
from nixmill.core.trust import Permission, Tier

ANN = ForgeUser(id="7", login="ann")


def pull(**fields: Any) -> PullRequest:  # noqa: ANN401 - of a pull request
    made = PullRequest(
        number=3,
        title="A change",
        author=ANN,
        url="https://forge.example/o/r/pull/3",
        head_ref="main",
        head_commit="a" * 40,
        head_repository="99",
        head_owner="",
        fetch_ref="refs/pull/3/head",
        base_ref="refs/heads/main",
        updated_at=100.0,
    )
    return msgspec.structs.replace(made, **fields)


def known(seen: PullRequest, *changes: Change, approved: frozenset[str] = frozenset()) -> Known:
    return Known(seen, Tier.FORK, changes, approved)


def look(before: Known | None, seen: PullRequest, *, tier: Tier = Tier.FORK, **options: bool | str) -> Decision:
    given: Any = {"drafts": True, "backlog": False, **options}
    return decide(before, seen, project=1, jobset=2, tier=tier, **given)


def change_of(decision: Decision, number: int = 1) -> Change:
    (change,) = decision.changes
    return msgspec.structs.replace(change, number=number)


def test_a_fork_waits_and_a_member_does_not() -> None:
    assert change_of(look(None, pull())).state is ChangeState.HELD
    change = change_of(look(None, pull(), tier=Tier.MEMBER))
    assert change.state is ChangeState.WAITING
    assert (change.origin, change.build_class, change.tier) == (
        Origin.PULL_REQUEST,
        BuildClass.PULL_REQUEST,
        Tier.MEMBER,
    )


def test_a_head_branch_called_like_the_default_branch_gains_nothing() -> None:
    change = change_of(look(None, pull(head_ref="main")))
    assert change.ref == "refs/pull/3/head"
    assert change.origin is Origin.PULL_REQUEST


def test_an_approval_counts_for_its_commit_alone() -> None:
    first = change_of(look(None, pull()))
    approved = known(pull(), first, approved=frozenset({"a" * 40}))
    again = change_of(look(approved, pull(head_commit="b" * 40)))
    assert again.state is ChangeState.HELD
    back = known(pull(head_commit="b" * 40), again, approved=frozenset({"a" * 40, "b" * 40}))
    assert change_of(look(back, pull(head_commit="a" * 40))).state is ChangeState.WAITING


def test_the_same_look_again_does_nothing() -> None:
    first = change_of(look(None, pull()))
    assert look(known(pull(), first), pull()) == Decision()
    done = msgspec.structs.replace(first, state=ChangeState.DONE)
    assert look(known(pull(), done), pull(labels=("bug",))) == Decision()


def test_retargeting_is_a_new_change_that_takes_the_place_of_the_old() -> None:
    first = change_of(look(None, pull()))
    second = change_of(look(known(pull(), first), pull(base_ref="refs/heads/stable")), number=2)
    assert second.base_ref == "refs/heads/stable"
    assert supersedes(second, first)


def test_a_new_head_takes_the_place_of_the_old_even_where_that_waits_for_approval() -> None:
    first = change_of(look(None, pull()))
    second = change_of(look(known(pull(), first), pull(head_commit="b" * 40)), number=2)
    assert supersedes(second, first)
    retry = msgspec.structs.replace(second, number=3, origin=Origin.RETRY)
    assert not supersedes(retry, second), "a retry of the same head goes beside it"


@pytest.mark.parametrize("state", [PullState.CLOSED, PullState.MERGED])
def test_closing_withdraws_what_is_open_and_reopening_begins_anew(state: PullState) -> None:
    first = change_of(look(None, pull()))
    closed = look(known(pull(), first), pull(state=state))
    assert closed.withdraw == (1,)
    assert not closed.changes
    withdrawn = msgspec.structs.replace(first, state=ChangeState.DONE, cancel_asked=True, withdrawn=True)
    assert len(look(known(pull(state=state), withdrawn), pull()).changes) == 1


def test_what_ended_before_it_was_closed_is_not_run_again_when_it_is_reopened() -> None:
    done = msgspec.structs.replace(change_of(look(None, pull())), state=ChangeState.DONE)
    assert look(known(pull(state=PullState.CLOSED), done), pull()) == Decision()


def test_drafts_and_labels() -> None:
    assert not change_of(look(None, pull(draft=True))).skipped
    assert not change_of(look(None, pull(draft=True, labels=(BUILD_LABEL,)), drafts=False)).skipped
    for seen in (pull(draft=True), pull(labels=(SKIP_LABEL,))):
        skipped = change_of(look(None, seen, drafts=False))
        assert skipped.skipped, "a run that ends at once says why"
        assert (skipped.state, skipped.cancel_asked) == (ChangeState.WAITING, True)
        ended = msgspec.structs.replace(skipped, state=ChangeState.DONE)
        assert look(known(seen, ended), seen, drafts=False) == Decision(), "once for each head"
        assert not change_of(look(known(seen, ended), pull(), drafts=False)).skipped, "then it is ready"


def test_the_backlog_of_a_new_project_is_not_run() -> None:
    assert look(None, pull(), backlog=True) == Decision()
    assert look(known(pull()), pull()) == Decision(), "nor at the next look"
    assert look(known(pull()), pull(head_commit="b" * 40)).changes, "but once it changes"
    assert look(known(pull()), pull(), insist=True).changes, "or a person wants it"
    assert look(known(pull(draft=True)), pull(), drafts=False).changes, "or it is ready for review"
    assert look(None, pull(draft=True), drafts=False, backlog=True) == Decision()


def test_an_older_answer_is_stale() -> None:
    assert is_stale(known(pull()), pull(updated_at=99.0))
    assert not is_stale(known(pull()), pull(updated_at=100.0))
    assert not is_stale(known(pull()), pull(updated_at=0.0)), "a forge that tells no time is believed"
    assert not is_stale(None, pull())


@pytest.mark.parametrize(
    ("fields", "tier"),
    [
        ({"head_repository": "1"}, Tier.MEMBER),
        ({"head_repository": ""}, Tier.FORK),
        ({"head_repository": "99", "head_owner": "7", "author_permission": Permission.WRITE}, Tier.MEMBER),
        ({"head_repository": "99", "head_owner": "8", "author_permission": Permission.ADMIN}, Tier.FORK),
        ({"head_repository": "99", "head_owner": "", "author_permission": Permission.ADMIN}, Tier.FORK),
    ],
)
def test_tiers_of_heads(fields: dict[str, Any], tier: Tier) -> None:
    assert tier_of(pull(**fields), "1") is tier


def test_a_deleted_fork_is_never_the_repository_itself() -> None:
    assert tier_of(pull(head_repository=""), "") is Tier.FORK


def test_where_all_jobsets_are_off_the_check_says_so_and_what_runs_goes_on() -> None:
    off = "all jobsets of the project are switched off"
    skipped = change_of(look(None, pull(), off=off))
    assert (skipped.skipped, skipped.cancel_asked) == (off, True)
    running = change_of(look(None, pull(), tier=Tier.MEMBER))
    assert look(known(pull(), running), pull(), off=off) == Decision()
    assert look(known(pull(), skipped), pull(), tier=Tier.MEMBER).changes, "switched on again"
    assert look(known(pull(), running), pull(state=PullState.CLOSED), off=off).withdraw == (1,)
