import pytest

from nixmill.nix import log_events
from nixmill.nix.log_events import LogLine, PhaseBegan


def test_ansi_codes_are_removed() -> None:
    assert log_events.plain("\x1b[31;1merror:\x1b[0m no \x1b]8;;x\x07link\x1b]8;;\x1b\\") == "error: no link"


def test_lines_and_phases_are_told_and_counters_are_not() -> None:
    assert log_events.result(101, 7, ("a line",)) == LogLine(7, "a line")
    assert log_events.result(107, 7, ("a hook's line",)) == LogLine(7, "a hook's line", from_hook=True)
    assert log_events.result(104, 7, ("buildPhase",)) == PhaseBegan(7, "buildPhase")
    assert log_events.result(105, 7, (1, 2, 3, 4)) is None
    assert log_events.result(101, 7, ()) is None


@pytest.mark.parametrize(
    "message",
    [
        "note: keeping build directory '/build/nix-1/build'",
        'note: keeping build directory "/build/nix-1/build"',
        "note: keeping build directory \x1b[35;1m/build/nix-1/build\x1b[0m",
        "note: keeping build directory '\x1b[35;1m/build/nix-1/build\x1b[0m'",
    ],
)
def test_the_directory_of_a_failed_build_is_found_in_a_message(message: str) -> None:
    assert log_events.kept_directory(message) == "/build/nix-1/build"


def test_other_messages_name_no_directory() -> None:
    assert log_events.kept_directory("warning: '/build' is full") is None
