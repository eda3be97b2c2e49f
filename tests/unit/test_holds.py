"""Who is left alone: a repository, its forge, never another forge."""

from nixmill.doors import DoorError
from nixmill.doors.server import RetryLaterError
from nixmill.engine.holds import HELD_MAX_S, IN_A_ROW, Holds

AWAY = DoorError("It does not answer.", door="forge", action="ask", retryable=True)


def test_one_repository_holds_up_no_other() -> None:
    holds = Holds()
    holds.failed("hub", "a/b", AWAY, 8.0, now=100.0)
    assert holds.until("hub", "a/b", 101.0) == 108.0
    assert holds.until("hub", "a/c", 101.0) == 0.0
    assert holds.until("hub", "a/b", 108.0) == 0.0


def test_several_in_a_row_hold_their_forge_and_one_answer_frees_it_from_the_count() -> None:
    holds = Holds()
    for number in range(IN_A_ROW):
        assert holds.until("hub", "other", 100.0) == 0.0
        holds.failed("hub", f"a/{number}", AWAY, 1000.0, now=100.0)
    assert holds.until("hub", "other", 100.0) == 100.0 + HELD_MAX_S
    assert holds.until("lab", "other", 100.0) == 0.0
    holds.went_well("hub", "other")
    holds.failed("hub", "again", AWAY, 5.0, now=200.0)
    assert holds.until("hub", "other", 201.0) == 0.0


def test_a_forge_that_names_a_time_is_left_alone_until_then() -> None:
    holds = Holds()
    limited = RetryLaterError("Later.", door="forge", action="post", after_s=3600.0)
    holds.failed("hub", "a/b", limited, 2.0, now=100.0)
    assert holds.until("hub", "other", 3000.0) == 3700.0
    assert holds.pauses(3000.0) == [3700.0]
    assert holds.pauses(3700.0) == []
