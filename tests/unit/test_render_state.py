"""What is known of a run while it goes on: counts, root causes and their victims, changes."""

from collections.abc import Iterable

from nixmill.cli.render.commands import again
from nixmill.cli.render.flow import flow, sentence
from nixmill.cli.render.names import host, listed
from nixmill.cli.render.paint import Paint
from nixmill.cli.render.region import region, remaining, rows_allowed
from nixmill.cli.render.state import RunState
from nixmill.cli.render.summary import causes_in_order, summary
from nixmill.cli.render.table import table
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import AttributesRemoved, Change, RunEvent, Work, WorkWaits
from nixmill.core.status import Status
from tests.support.run_events import drv, ended, erred, found, planned, settled, started, work_ended, work_started
from tests.support.sample_run import MISSING, path_of, sample_run

PAINT = Paint(colour=False, unicode=True)


def state_after(events: Iterable[RunEvent]) -> RunState:
    state = RunState()
    for event in events:
        state.apply(event, 0.0)
    return state


def test_counts_follow_a_whole_run() -> None:
    state = state_after(event for _, event in sample_run())
    assert (state.found, len(state.errors), state.built, state.fetched, state.failed, state.retries) == (
        9,
        2,
        2,
        1,
        2,
        1,
    )
    assert state.running == {}
    assert state.settled[Status.PASSED] == 4
    assert dict(state.passed_by) == {"fetched": 1, "built": 2, "unchanged": 1}


def test_victims_are_counted_under_the_derivation_at_fault() -> None:
    state = state_after(event for _, event in sample_run())
    cause = state.failures[drv("libfoo-1.2")]
    assert cause.victims == [path_of("app"), path_of("app-docs"), path_of("libfoo-tests")]
    assert causes_in_order(state)[0] is cause


def test_an_attempt_that_is_tried_again_is_no_failure() -> None:
    again_soon = work_ended(1, "a-1", Outcome.INFRASTRUCTURE, retry_in_s=1.0)
    state = state_after([work_started(1, "a-1"), again_soon, work_started(2, "a-1"), work_ended(2, "a-1")])
    assert (state.failures, state.failed, state.built, state.retries) == ({}, 0, 1, 1)


def test_a_failure_of_an_earlier_run_is_a_root_cause_without_an_attempt() -> None:
    how = "fails on the base too (run 9)"
    state = state_after([settled("checks.a", outcome=Outcome.BUILD_FAILED, how=how)])
    (cause,) = state.failures.values()
    assert (cause.name, cause.ended, cause.how, cause.own) == ("a-1.0", None, how, [("checks", "a")])


def test_what_is_hidden_by_an_error_or_renamed_is_not_removed() -> None:
    removed = ((("a",), None, None), (("b",), ("c",), None), (("d",), None, ("d",)))
    state = state_after([AttributesRemoved(removed=removed)])
    assert state.changed[Change.REMOVED] == [("a",)]
    assert state.renamed == [(("b",), ("c",))]


def test_root_causes_come_before_and_instead_of_their_victims() -> None:
    victims = [
        settled(f"v.v-{n}", outcome=Outcome.DEPENDENCY_FAILED, culprit=drv("libfoo-1.2"), how="") for n in range(37)
    ]
    failed = work_ended(1, "libfoo-1.2", Outcome.BUILD_FAILED, exit_status=2)
    state = state_after([work_started(1, "libfoo-1.2"), failed, *victims])
    text = "\n".join(summary(ended(), state, PAINT, 120, unfolded=False))
    assert "✖ libfoo-1.2 failed with exit status 2 after 12 s; 37 depend on it   nixmill log 1" in text
    assert "v-3" not in text


def test_attributes_with_the_same_evaluation_error_share_a_block() -> None:
    state = state_after([started(), *(erred(f"checks.a-{n}", MISSING) for n in range(40)), erred("checks.b", "other")])
    text = "\n".join(summary(ended(), state, PAINT, 120, unfolded=False))
    assert text.count("attribute 'lbi' missing") == 1
    assert "40 attributes do not evaluate" in text
    assert "✖ checks.b does not evaluate" in text


def test_long_lists_say_what_they_leave_out() -> None:
    failures: list[RunEvent] = [
        settled(f"c.a-{n}", outcome=Outcome.BUILD_FAILED, how="fails on the base too (run 9)") for n in range(60)
    ]
    text = "\n".join(summary(ended(), state_after(failures), PAINT, 120, unfolded=False))
    assert "and 40 more root causes" in text


def test_a_region_is_never_higher_or_wider_than_allowed() -> None:
    builds = [work_started(n, "x" * 200, machine="ssh-ng://" + "y" * 200, about_s=9e5) for n in range(50)]
    waits = WorkWaits(reasons=(("z" * 200, "w" * 200),), waiting=10**6)
    state = state_after([started(), planned(to_build=10**6), *builds, waits])
    for columns in (10, 20, 40, 60, 80, 120, 200):
        for rows in range(1, 20):
            lines = region(state, PAINT, 1e6, columns, rows)
            assert len(lines) <= rows
            assert all(len(line) < columns for line in lines)


def test_a_third_of_the_screen_but_one_row_at_least() -> None:
    assert [rows_allowed(height) for height in (1, 2, 3, 15, 24, 40)] == [1, 1, 1, 5, 8, 13]


def test_the_estimate_runs_down_and_then_is_silent() -> None:
    state = RunState()
    state.apply(planned(about_s=100.0), 0.0)
    assert remaining(state, 5.0) is None
    state.apply(work_started(1, "a", work=Work.BUILD), 10.0)
    assert remaining(state, 40.0) == 70.0
    assert remaining(state, 111.0) is None


def test_names_share_what_they_have_in_common() -> None:
    paths = [path_of("a"), path_of("b"), path_of("c d")]
    assert listed(paths, PAINT, 80) == 'checks.x86_64-linux.{a, b, "c d"}'
    assert listed(paths, PAINT, 32) == "checks.x86_64-linux.a and 2 more"
    assert listed([("a",), ("b",)], PAINT, 80) == "a, b"
    assert listed([("a",), ("a", "b")], PAINT, 80) == "a, a.b"


def test_a_machine_is_called_by_its_host() -> None:
    assert host("local") == ""
    assert host("ssh-ng://ci@builder-2?max-connections=4") == "builder-2"
    assert host("daemon") == "daemon"


def test_lines_break_between_parts_and_keep_their_indent() -> None:
    assert flow(["aa", "bb", "cc"], " · ", 8) == ["aa · bb", "  cc"]
    assert flow([], " ", 8) == []
    assert sentence("  one two three", 10, "    ") == ["  one two", "    three"]


def test_tables_leave_out_empty_columns_and_cut_the_last_cell() -> None:
    rows = [("a", "", "1", "long text"), ("bbb", "", "22", "")]
    assert table(rows, "llrl", PAINT, 16) == ["  a     1  long…", "  bbb  22"]
    assert table([], "l", PAINT, 10) == []


def test_the_command_to_try_again_names_the_attribute_as_nix_does() -> None:
    assert again(path_of("a"), (".#checks",)) == "nixmill run '.#checks.x86_64-linux.a'"
    assert again(("tests", "a b"), ("release.nix -A tests",)) == """nixmill run release.nix -A 'tests."a b"'"""
    assert again(("a",), ("release.nix",)) == "nixmill run release.nix -A a"
    assert again(("packages", "x"), (".#checks", "./sub#packages")) == "nixmill run './sub#packages.x'"
    assert again(("$(rm -rf ~)",), (".#x",)) == """nixmill run '.#"$(rm -rf ~)"'"""


def test_an_attribute_that_was_found_twice_keeps_its_first_name() -> None:
    state = state_after([found("checks.a", "same"), found("packages.a", "same")])
    assert state.attributes_of == {drv("same"): ("checks", "a")}
