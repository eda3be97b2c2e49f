"""Functions and files stay short enough to be read at once. Each failure lists the ten longest."""

import statistics
from typing import Final

from tests.support.house import functions, modules

LONGEST_FUNCTION: Final = 60
MEDIAN_FUNCTION: Final = 8
NINTH_DECILE_FUNCTION: Final = 30
LONGEST_FILE: Final = 400
MOST_DOOR_METHODS: Final = 6

FUNCTIONS: Final = sorted(
    (
        ((function.end_lineno or 0) - function.lineno + 1, f"{module.where(function)} {function.name}")
        for module in modules()
        for function in functions(module)
    ),
    reverse=True,
)
FILES: Final = sorted(((module.lines, module.where(module.tree)) for module in modules()), reverse=True)


def report(rows: list[tuple[int, str]]) -> str:
    """Return the ten longest as lines."""
    return "\n".join(f"{lines:>4} {where}" for lines, where in rows[:10])


def test_no_function_is_longer_than_a_screen() -> None:
    print(f"{len(FUNCTIONS)} functions; the longest:\n{report(FUNCTIONS)}")  # noqa: T201 - `pytest -rP` shows it
    assert FUNCTIONS[0][0] <= LONGEST_FUNCTION, f"\n{report(FUNCTIONS)}"


def test_most_functions_are_much_shorter() -> None:
    lengths = [lines for lines, _ in FUNCTIONS]
    assert statistics.median(lengths) <= MEDIAN_FUNCTION, f"\n{report(FUNCTIONS)}"
    assert statistics.quantiles(lengths, n=10)[-1] <= NINTH_DECILE_FUNCTION, f"\n{report(FUNCTIONS)}"


def test_no_file_is_too_long() -> None:
    print(f"{len(FILES)} files; the longest:\n{report(FILES)}")  # noqa: T201 - `pytest -rP` shows it
    assert FILES[0][0] <= LONGEST_FILE, f"\n{report(FILES)}"
