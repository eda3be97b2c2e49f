"""Until when something is to hold, as people write it."""

import pytest

from nixmill.core.errors import InputError
from nixmill.core.time_limit import until

NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12h", 43_200), ("30d", 2_592_000), (" 8W ", 4_838_400), ("1y", 31_536_000), ("3 d", 259_200)],
)
def test_lengths_begin_now(text: str, seconds: int) -> None:
    assert until(text, NOW) == NOW + seconds


def test_a_date_holds_until_its_end() -> None:
    assert until("2027-01-31", NOW) == 1_801_440_000.0
    assert until("2027-01-15", NOW) == 1_800_057_600.0


@pytest.mark.parametrize("text", ["", "  "])
def test_nothing_is_for_ever(text: str) -> None:
    assert until(text, NOW) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("soon", "no time"),
        ("0d", "no time"),
        ("-3d", "no time"),
        ("3m", "no time"),
        ("1e9d", "no time"),
        ("2027-02-30", "no time"),
        ("2026-12-31", "past"),
        ("99999y", "century"),
        ("9999-12-31", "no time"),
        ("9999-12-30", "century"),
    ],
)
def test_everything_else_is_refused_with_an_example(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        until(text, NOW)
