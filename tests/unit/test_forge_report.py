"""Which statuses a run wants."""

import msgspec
import pytest

from nixmill.core.change import ChangeState
from nixmill.core.forge_report import check_state, desired, title
from nixmill.core.posting import EXTRA_MAX, TITLE_MAX, Button, CheckState, Posting
from nixmill.core.report_facts import RunForReport
from nixmill.core.run_event import Change, Verdict
from nixmill.core.size_change import SizeChange, Sized, parse_derivation_name, size_changes
from nixmill.core.status import Status
from tests.support.report_world import PLACE, done, drv, failed_page, line, page, run


def extras(page_: RunForReport, existing: list[Posting] | None = None) -> list[Posting]:
    """Return all but the required status."""
    required, *rest = desired(page_, PLACE, existing or [])
    assert required.required and required.context == "nixmill"
    return rest


def failed(*lines: object, number: int = 12, **counts: int) -> RunForReport:
    known = {"all": 120, "failed": len(lines)} | counts
    return page(done(Verdict.BUILD_FAILED, "Failed after 9.0 s: a failed.", number, counts=known), lines=lines)


@pytest.mark.parametrize(
    ("seen", "state", "expected"),
    [
        (page(run(state=ChangeState.WAITING, counts={})), CheckState.WAITING, "Waiting"),
        (page(run(state=ChangeState.EVALUATING, counts={})), CheckState.RUNNING, "Evaluating"),
        (page(), CheckState.RUNNING, "12 of 214 changed, 9 to build, about 6 min"),
        (failed_page(), CheckState.FAILED, "4 of 120 failed; 2 new"),
        (failed_page(base=None), CheckState.FAILED, "4 of 120 failed"),
        (page(run(state=ChangeState.HELD)), CheckState.HELD,
         "Waits until somebody who may write to the repository approves this commit"),
        (page(done(Verdict.GOOD, "Passed.")), CheckState.GOOD, "All 214 are good, 202 unchanged"),
        (page(done(Verdict.GOOD, "Passed.", counts={})), CheckState.GOOD,
         "Nothing to check: the targets hold no derivation"),
        (page(done(Verdict.EVALUATION_FAILED, "Evaluation failed: no flake.", counts={})), CheckState.FAILED,
         "Evaluation failed: no flake."),
        (page(done(Verdict.INFRASTRUCTURE, "Our trouble: disk full.")), CheckState.TROUBLE, "Our trouble: disk full."),
        (page(done(Verdict.NOT_ALLOWED, "Not allowed: x.")), CheckState.TROUBLE, "Not allowed: x."),
        (page(done(Verdict.CANCELLED, "Cancelled by ann.")), CheckState.CANCELLED, "Cancelled by ann."),
        (page(skipped="the message says [skip ci]"), CheckState.SKIPPED, "Not checked: the message says [skip ci]"),
    ],
)  # fmt: skip
def test_what_the_required_check_says(seen: RunForReport, state: CheckState, expected: str) -> None:
    assert (check_state(seen), title(seen)) == (state, expected)


def test_the_required_check_is_whole() -> None:
    (required, *_) = desired(failed_page(), PLACE)
    assert (required.repository, required.commit, required.pull_request) == ("octo/mill", PLACE.commit, 7)
    assert (required.url, required.run) == ("https://ci.example.org/r/12", 12)
    assert (required.started_at, required.ended_at, required.buttons) == (1004.0, 1256.0, (Button.RETRY,))
    assert required.summary.startswith("**Failed after 4 min 12 s")


def test_generations_rise_with_what_is_said() -> None:
    steps = [
        page(run(state=ChangeState.HELD, counts={})),
        page(run(state=ChangeState.WAITING, counts={})),
        page(),
        page(run(counts={"all": 214, "failed": 1})),
        page(run(counts={"all": 214, "failed": 3})),
        failed_page(),
        page(run(13, state=ChangeState.WAITING, counts={})),
    ]
    generations = [desired(step, PLACE)[0].generation for step in steps]
    assert generations == sorted(set(generations))


def test_who_may_approve_is_led_there() -> None:
    (required,) = desired(page(run(state=ChangeState.HELD, counts={})), PLACE)
    assert (required.url, required.buttons) == ("https://ci.example.org/p/mill/pull/7", (Button.APPROVE,))


def test_newly_failing_culprits_come_first_and_victims_of_one_have_one_status() -> None:
    told = extras(failed_page())
    assert [one.context for one in told] == [
        "nixmill: checks.x86_64-linux.libroof",
        "nixmill: checks.x86_64-linux.docs",
    ]
    assert [one.title for one in told] == ["Newly failing: failed with exit status 2", "Did not evaluate"]
    assert told[0].url == "https://ci.example.org/log/81"
    assert "roof.c:7:3: error" in told[0].summary
    assert "attribute 'roof' missing" in told[1].summary


def test_what_fails_on_the_base_too_has_no_status() -> None:
    assert extras(failed(line("old", change=Change.SAME))) == []


def test_victims_of_a_culprit_that_is_no_attribute_have_one_status() -> None:
    victims = [line(f"v{number}", Status.DEPENDENCY_FAILED, culprit=drv("lib")) for number in range(30)]
    assert [one.context for one in extras(failed(*victims))] == ["nixmill: checks.x86_64-linux.v0"]


def test_there_are_never_more_than_a_few() -> None:
    lines = [line(f"a{number:02}") for number in range(50)]
    told = extras(failed(*lines))
    assert len(told) == EXTRA_MAX
    cut = page(done(Verdict.CANCELLED, "Cancelled.", 13), lines=tuple(lines[5:]))
    later = extras(cut, told)
    assert {one.context for one in later} <= {one.context for one in told}


def test_room_that_is_free_again_is_used() -> None:
    lines = [line(f"a{number:02}") for number in range(30)]
    first = extras(failed(*lines[:10]))
    second = extras(failed(*lines[8:], number=13), first)
    assert [one.state for one in second].count(CheckState.FAILED) == EXTRA_MAX
    assert [one.state for one in second].count(CheckState.GOOD) == 8
    third = extras(failed(*lines, number=14), second)
    assert len(third) == EXTRA_MAX
    assert {one.context for one in third} == {one.context for one in second if one.state is CheckState.FAILED}


def test_a_failure_is_said_at_once() -> None:
    running = page(run(counts={"all": 214, "changed": 12, "failed": 1}), lines=(line("a"),))
    required, extra = desired(running, PLACE)
    assert required.title == "12 of 214 changed, 9 to build, about 6 min; 1 failed so far"
    assert (extra.state, extra.buttons) == (CheckState.FAILED, ())


def test_what_passes_now_is_taken_back() -> None:
    earlier = extras(failed(line("a"), line("b")))
    now = extras(failed(line("b"), number=13), earlier)
    assert [(one.context[-1], one.state, one.title) for one in now] == [
        ("b", CheckState.FAILED, "Newly failing: failed with exit status 2"),
        ("a", CheckState.GOOD, "Passes now, run 13"),
    ]
    assert extras(failed(line("b"), number=14), now) == [
        msgspec.structs.replace(now[0], run=14, generation=now[0].generation + 16)
    ]


def test_what_is_gone_is_not_said_to_pass() -> None:
    earlier = extras(failed(line("a")))
    gone = line("a", Status.PASSED, Change.REMOVED, drv_path=None)
    (taken,) = extras(page(done(Verdict.GOOD, "Passed.", 13), lines=(gone,)), earlier)
    assert (taken.state, taken.title) == (CheckState.GOOD, "No longer there, run 13")


@pytest.mark.parametrize(
    "later",
    [
        page(run(13)),
        page(done(Verdict.CANCELLED, "Cancelled.", 13)),
        page(done(Verdict.INFRASTRUCTURE, "Our trouble.", 13)),
        page(done(Verdict.EVALUATION_FAILED, "Evaluation failed.", 13, counts={})),
        page(
            done(Verdict.EVALUATION_FAILED, "Evaluation failed.", 13),
            lines=(msgspec.structs.replace(line("x", error="error: x", drv_path=None), name="checks.x86_64-linux"),),
        ),
        page(done(Verdict.GOOD, "Passed.", 13), lines=(line("a", Status.TROUBLE, Change.CHANGED),)),
        page(done(Verdict.BUILD_FAILED, "Failed.", 13, counts={"all": 9000, "failed": 3000}), lines=(line("b"),)),
        page(
            done(Verdict.BUILD_FAILED, "Failed.", 13, counts={"all": 9, "failed": 1, "trouble": 1}), lines=(line("b"),)
        ),
    ],
    ids=["running", "cancelled", "trouble", "did not evaluate", "hidden", "not tried", "too many", "trouble elsewhere"],
)
def test_what_nobody_knows_to_pass_stays(later: RunForReport) -> None:
    earlier = extras(failed(line("a")))
    assert [one for one in extras(later, earlier) if one.state is CheckState.GOOD] == []


def test_statuses_of_others_are_left_alone() -> None:
    (mine,) = extras(failed(line("a")))
    others = [msgspec.structs.replace(mine, project=2), msgspec.structs.replace(mine, context="other: a")]
    assert extras(page(done(Verdict.GOOD, "Passed.", 13)), others) == []


def test_titles_are_short_lines() -> None:
    hostile = page(done(Verdict.INFRASTRUCTURE, "Our trouble: " + "x\n\x1b[31m\u202e" * 300))
    assert len(title(hostile)) == TITLE_MAX and title(hostile).isprintable()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("hello-2.12.1", ("hello", "2.12.1")),
        ("gcc-wrapper-13.2.0", ("gcc-wrapper", "13.2.0")),
        ("hello", ("hello", "")),
        ("nix-unstable", ("nix-unstable", "")),
        ("a-", ("a-", "")),
        ("a--1", ("a", "-1")),
        ("python3-3.11-env", ("python3", "3.11-env")),
        ("", ("", "")),
    ],
)
def test_names_come_apart_as_nix_does_it(name: str, parts: tuple[str, str]) -> None:
    assert parse_derivation_name(name) == parts


def test_the_largest_change_of_size_is_first_and_equals_are_left_out() -> None:
    before = [Sized(("a",), "a-1", 100), Sized(("b",), "b-1", 100), Sized(("c",), "c-1", 7), Sized(("d",), "d-1", 1)]
    after = [Sized(("a",), "a-1", 100), Sized(("b",), "b-1", 40), Sized(("c",), "c-2", None), Sized(("e",), "e", 30)]
    changes = size_changes(before, after)
    assert [change.path for change in changes] == [("b",), ("e",), ("d",), ("c",)]  # whose size is unknown is last
    assert changes[0].difference == -60
    assert changes[1] == SizeChange(path=("e",), name="e", version_before=None, version_after="", closure_after=30)
