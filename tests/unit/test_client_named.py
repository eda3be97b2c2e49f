"""Words that name runs and pull requests."""

import pytest

from nixmill.cli.named import is_pull, run_number
from nixmill.core.errors import InputError


@pytest.mark.parametrize("word", ["#7", "mill#7", "pull/7", "mill/pull/7", "a.b-c_d#1"])
def test_pull_requests(word: str) -> None:
    assert is_pull(word)


@pytest.mark.parametrize(
    "word", ["7", "mill", "#0", "#", "mill#", "mill/7", "a/b#7", "#7x", "-x#7", "#07", "#" + "9" * 30, ""]
)
def test_what_is_none(word: str) -> None:
    assert not is_pull(word)


def test_a_run_is_a_number() -> None:
    assert run_number("41") == 41


@pytest.mark.parametrize("word", ["", "-1", "x", "4.1", "٤", "9" * 30])
def test_what_is_no_run(word: str) -> None:
    with pytest.raises(InputError):
        run_number(word)
