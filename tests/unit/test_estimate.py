import pytest

from nixmill.core.estimate import median, run_s, span, stem


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hello-2.12", "hello"),
        ("hello", "hello"),
        ("python3.11-numpy-1.26.4", "python3.11-numpy"),
        ("source", "source"),
        ("linux-6.1.0-rc3", "linux-6.1.0-rc"),
        ("2048", "2048"),
        ("x-unstable-2024-01-02", "x-unstable"),
        ("", ""),
    ],
)
def test_a_stem_is_the_name_without_its_version(name: str, expected: str) -> None:
    assert stem(name) == expected


def test_the_median_ignores_what_is_out_of_line() -> None:
    assert median([10.0, 12.0, 900.0]) == 12.0
    assert median([]) is None


@pytest.mark.parametrize(
    ("longest", "work", "capacity", "known", "total", "expected"),
    [
        (100.0, 120.0, 4.0, 3, 3, 100.0),
        (10.0, 120.0, 4.0, 3, 3, 30.0),
        (10.0, 120.0, 4.0, 3, 6, 60.0),
        (10.0, 120.0, 4.0, 2, 6, None),
        (10.0, 120.0, 0.0, 3, 3, None),
        (0.0, 0.0, 4.0, 0, 0, 0.0),
    ],
)
def test_a_run_lasts_as_long_as_its_longest_chain_or_all_work_divided(
    longest: float, work: float, capacity: float, known: int, total: int, expected: float | None
) -> None:
    assert run_s(longest_chain_s=longest, work_s=work, capacity=capacity, known=known, total=total) == expected


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (12.4, "12 s"),
        (59.6, "1 min"),
        (240, "4 min"),
        (3599, "1 h"),
        (7500, "2 h 5 min"),
    ],
)
def test_a_span_is_said_as_people_say_it(seconds: float, words: str) -> None:
    assert span(seconds) == words
