"""Timers: what a schedule means."""

from datetime import UTC, datetime

import pytest

from nixmill.core.errors import InputError
from nixmill.engine.timers import check_schedule, latest


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_the_latest_time_up_to_now() -> None:
    assert latest("30 4 * * *", "UTC", at("2026-11-20T12:00:00")) == at("2026-11-20T04:30:00")
    assert latest("30 4 * * *", "UTC", at("2026-11-20T04:00:00")) == at("2026-11-19T04:30:00")
    assert latest("30 4 * * *", "UTC", at("2026-11-20T04:30:00")) == at("2026-11-20T04:30:00")


def test_a_time_zone_counts_also_when_clocks_are_changed() -> None:
    assert latest("0 12 * * *", "Europe/Berlin", at("2026-07-01T23:00:00")) == at("2026-07-01T10:00:00")
    assert latest("0 12 * * *", "Europe/Berlin", at("2026-12-01T23:00:00")) == at("2026-12-01T11:00:00")


def test_a_good_schedule_is_taken() -> None:
    check_schedule("*/10 * * * 1-5", "UTC")


@pytest.mark.parametrize(
    ("schedule", "zone", "sentence"),
    [
        ("every day", "UTC", "is no schedule"),
        ("61 * * * *", "UTC", "is no schedule"),
        ("0 0 31 2 *", "UTC", "is no schedule"),
        ("0 0 * * *", "Nowhere/City", "is no time zone"),
        ("0 0 * * *", "../../etc/passwd", "is no time zone"),
    ],
)
def test_a_bad_one_is_refused_in_a_sentence(schedule: str, zone: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        check_schedule(schedule, zone)
