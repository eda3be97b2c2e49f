"""Whose turn it is between runs."""

from nixmill.core.change import BuildClass
from nixmill.core.fairness import CLASS_STEP_S, Party, Shares, Ticket
from nixmill.nix.store_path import StorePath

DRV = StorePath("/nix/store/00000000000000000000000000000000-x.drv")


def ticket(
    project: int,
    *,
    since: float = 0.0,
    weight: int = 1,
    build_class: BuildClass = BuildClass.BRANCH,
    about_s: float | None = 10.0,
) -> Ticket:
    party = Party(run=project, project=project, name=f"p{project}", weight=weight, build_class=build_class)
    return Ticket(party=party, drv_path=DRV, name="x", machine="local", since=since, about_s=about_s)


def test_nobody_waits() -> None:
    assert Shares().first([], 0.0) is None


def test_a_better_class_goes_first() -> None:
    bulk = ticket(1, build_class=BuildClass.BULK)
    queue = ticket(2, build_class=BuildClass.MERGE_QUEUE, since=5.0)
    assert Shares().first([bulk, queue], 6.0) is queue


def test_waiting_long_lifts_into_a_better_class() -> None:
    bulk = ticket(1, build_class=BuildClass.BULK)
    branch = ticket(2, since=CLASS_STEP_S + 1)
    assert Shares().first([branch, bulk], CLASS_STEP_S - 1) is branch
    assert Shares().first([branch, bulk], CLASS_STEP_S + 2) is bulk


def test_projects_take_turns() -> None:
    shares = Shares()
    first, second, other = ticket(1), ticket(1, since=1.0), ticket(2, since=2.0)
    assert shares.first([first, second, other], 3.0) is first
    shares.started(first)
    assert shares.first([second, other], 3.0) is other


def test_weight_divides_what_was_used() -> None:
    shares = Shares()
    heavy, light = ticket(1, weight=3), ticket(2)
    order = []
    for _ in range(8):
        chosen = shares.first([heavy, light], 0.0)
        assert chosen is not None
        order.append(chosen.party.project)
        shares.started(chosen)
        shares.ended(chosen, 10.0)
    assert order.count(1) == 6


def test_a_newcomer_does_not_claim_the_past() -> None:
    shares = Shares()
    old, new = ticket(1), ticket(2, since=100.0)
    for _ in range(10):
        shares.started(old)
        shares.ended(old, 10.0)
    shares.started(new)
    shares.ended(new, 10.0)
    assert shares.first([old, new], 101.0) is old, "after one build of its own it has had as much as the other"


def test_what_was_used_is_corrected_at_the_end() -> None:
    shares = Shares()
    quick, slow = ticket(1), ticket(2)
    shares.started(quick)
    shares.started(slow)
    shares.ended(quick, 1.0)
    shares.ended(slow, 100.0)
    assert shares.order([slow, quick], 0.0) == [quick, slow]
