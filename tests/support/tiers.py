"""Prints how long each tier of tests took, above pytest's own summary. Loaded by `make test` with `-p`."""

from collections import Counter, defaultdict

import pytest

_seconds: defaultdict[str, float] = defaultdict(float)
_tests: Counter[str] = Counter()


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
