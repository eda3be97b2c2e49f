"""For `make test`, loaded with `-p`: no test may hang, and how long each tier took stands above the summary."""

import signal
from collections import Counter, defaultdict
from collections.abc import Generator
from types import FrameType
from typing import Final

import pytest

TIME_LIMIT_S: Final = 300
"""For one test; the slowest, the examples of the documentation, takes a minute."""

_seconds: defaultdict[str, float] = defaultdict(float)
_tests: Counter[str] = Counter()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Bound a set-up."""
    yield from _bounded(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Bound a test."""
    yield from _bounded(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Bound a tear-down."""
    yield from _bounded(item)


def _bounded(item: pytest.Item) -> Generator[None]:
    """Fail what does not end, wherever it hangs."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        pytest.fail(f"{item.nodeid} did not end within {TIME_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(TIME_LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add the time of a set-up, a call or a tear-down to its tier (the folder below `tests/`)."""
    tier = report.nodeid.split("/")[1]
    _seconds[tier] += report.duration
    _tests[tier] += report.when == "call"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write one line for each tier, in the order in which they ran."""
    terminalreporter.section("tiers")
    for tier, seconds in _seconds.items():
        terminalreporter.write_line(f"{tier:<10} {_tests[tier]:>5} tests {seconds:>7.1f} s")
