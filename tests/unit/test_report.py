"""The report of a run, folded from events, and every sentence of a verdict as people read it."""

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nixmill.core.evaluation import EvalFault
from nixmill.core.outcome import Outcome
from nixmill.core.report import ReportBuilder, RunReport, Stop
from nixmill.core.run_event import (
    EXIT_CODE,
    AttributeSettled,
    AttributesRemoved,
    Change,
    RunEvent,
    Verdict,
    WorkStarted,
)
from nixmill.core.status import Status
from tests.support.run_events import (
    compared,
    drv,
    ended,
    erred,
    evaluated,
    found,
    planned,
    settled,
    started,
    work_ended,
    work_started,
)


def report(*events: RunEvent, seconds: float = 132.0, stop: Stop | None = None) -> RunReport:
    builder = ReportBuilder()
    for event in events:
        builder.handle(event)
    return builder.report(seconds=seconds, stop=stop)


def failing(name: str, attempt: int, outcome: Outcome = Outcome.BUILD_FAILED, **more: Any) -> list[RunEvent]:  # noqa: ANN401 (any fields)
    return [work_started(attempt, name), work_ended(attempt, name, outcome, **more)]


def victim(path: str, of: str, outcome: Outcome = Outcome.DEPENDENCY_FAILED, **more: Any) -> AttributeSettled:  # noqa: ANN401 (any fields)
    return settled(path, outcome=outcome, how="", culprit=drv(of), **more)


FAILED = Outcome.BUILD_FAILED
TROUBLE = Outcome.INFRASTRUCTURE


def sentence(*events: RunEvent, stop: Stop | None = None) -> str:
    return report(*events, stop=stop).sentence


def test_sentence_all_good() -> None:
    events = [settled("a"), settled("b", how="present"), settled("c", how="unchanged (passed in run 7)")]
    assert sentence(*events) == "Passed after 2 min 12 s: all 3 attributes are good (1 built, 1 present, 1 unchanged)."
    assert sentence(settled("a")) == "Passed after 2 min 12 s: the attribute is good (1 built)."


def test_sentence_nothing_to_check() -> None:
    assert sentence() == (
        "Passed after 2 min 12 s, but there was nothing to check: the targets hold no derivation; name others."
    )


def test_sentence_one_failure_with_victims() -> None:
    events = [
        *failing("libfoo-1.0", 17, exit_status=37),
        victim("a", "libfoo-1.0"),
        victim("b", "libfoo-1.0"),
        settled("c"),
    ]
    assert sentence(*events) == (
        "Failed after 2 min 12 s: libfoo-1.0 failed with exit status 37 and 2 attributes depend on it; "
        "see `nixmill log 17`."
    )


def test_sentence_one_attribute_killed_by_a_signal_as_before() -> None:
    events = [
        *failing("a-1.0", 3, exit_status=-9, failed_before=12),
        settled("a", outcome=FAILED),
        found("b"),
    ]
    assert sentence(*events) == (
        "Failed after 2 min 12 s: a-1.0 failed by signal 9, as in run 12, 1 other was not tried; see `nixmill log 3`."
    )


def test_sentence_several_failures_and_errors() -> None:
    events: list[RunEvent] = []
    for at, name in enumerate(["a", "b", "c", "d"]):
        events += [*failing(f"{name}-1.0", at, Outcome.TIMED_OUT), settled(name, outcome=Outcome.TIMED_OUT)]
    assert sentence(*events) == (
        "Failed after 2 min 12 s: 4 derivations failed (a-1.0, b-1.0, c-1.0 and 1 more), "
        "so 4 attributes are not good; see `nixmill log 0`."
    )


def test_sentence_a_failure_that_is_inherited() -> None:
    event = settled('"my test"', name="my", outcome=FAILED, how="fails on the base too (run 7)")
    assert sentence(event) == (
        "Failed after 2 min 12 s: my fails on the base too (run 7); see `nixmill why '\"my test\"'`."
    )


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (Outcome.TIMED_OUT, "took too long"),
        (Outcome.SILENT, "was silent for too long"),
        (Outcome.LOG_TOO_LARGE, "wrote too large a log"),
        (Outcome.OUTPUT_TOO_LARGE, "made too large an output"),
        (Outcome.HASH_MISMATCH, "has another hash than it says"),
        (Outcome.NOT_DETERMINISTIC, "is not deterministic"),
    ],
)
def test_sentence_other_faults(outcome: Outcome, words: str) -> None:
    events = [*failing("a-1.0", 3, outcome), settled("a", outcome=outcome)]
    assert sentence(*events) == f"Failed after 2 min 12 s: a-1.0 {words}; see `nixmill log 3`."


@pytest.mark.parametrize("stop", [None, Stop(verdict=Verdict.CANCELLED), Stop(verdict=Verdict.INFRASTRUCTURE)])
def test_where_nobody_types_no_sentence_says_what_to_type(stop: Stop | None) -> None:
    wrong: list[RunEvent] = [erred("checks.a"), settled("b")]
    for events in (wrong, [*failing("c-1.0", 3), settled("c", outcome=FAILED)]):
        builder = ReportBuilder(typed=False)
        for event in events:
            builder.handle(event)
        said = builder.report(seconds=1.0, stop=stop).sentence
        assert "`" not in said
        assert "run again" not in said
        assert said.endswith(".")


def test_sentence_evaluation_errors() -> None:
    one = sentence(erred("checks.a", fault=EvalFault.INFINITE_RECURSION), settled("b"))
    assert one == (
        "Evaluation failed after 2 min 12 s: checks.a did not evaluate (infinite recursion); mend it and run again."
    )
    several = sentence(erred("a"), erred("b"), *failing("c-1.0", 3), settled("c", outcome=FAILED), settled("d"))
    assert several == (
        "Evaluation failed after 2 min 12 s: 2 attributes did not evaluate (a, b); of 2 others 1 failed; "
        "mend it and run again."
    )


def test_sentence_evaluation_failed_as_a_whole() -> None:
    stop = Stop(verdict=Verdict.EVALUATION_FAILED, because="The flake has no output checks.\nMore from Nix.")
    assert sentence(stop=stop) == "Evaluation failed after 2 min 12 s: The flake has no output checks."


def test_sentence_our_trouble() -> None:
    events = [
        *failing("a-1.0", 3, TROUBLE, message="The connection was lost.\nmore"),
        settled("a", outcome=TROUBLE),
        victim("b", "a-1.0", TROUBLE),
    ]
    assert sentence(*events) == (
        "Our trouble after 2 min 12 s: a-1.0 could not be built (The connection was lost) and 1 attribute depends "
        "on it; nothing is known to be wrong with the project, see `nixmill doctor`, then run again."
    )


def test_sentence_no_machine_is_our_trouble_for_what_depends_on_it_too() -> None:
    event = victim("b", "vm", culprit_outcome=Outcome.NO_MACHINE)
    assert report(event).verdict is Verdict.INFRASTRUCTURE
    assert sentence(event) == (
        "Our trouble after 2 min 12 s: vm cannot be built by any machine and 1 attribute depends on it; "
        "nothing is known to be wrong with the project, see `nixmill doctor`, then run again."
    )


def test_sentence_the_run_could_not_go_on() -> None:
    stop = Stop(verdict=Verdict.INFRASTRUCTURE, because="The daemon does not answer.")
    assert sentence(stop=stop) == (
        "Our trouble after 2 min 12 s: The daemon does not answer; "
        "nothing is known to be wrong with the project, see `nixmill doctor`, then run again."
    )


def test_sentence_not_allowed() -> None:
    stop = Stop(verdict=Verdict.NOT_ALLOWED, because="You may not write to this store.")
    assert sentence(stop=stop) == "Not allowed: You may not write to this store."
    assert sentence(stop=Stop(verdict=Verdict.NOT_ALLOWED)) == "Not allowed: the store does not let you do this."


def test_sentence_cancelled() -> None:
    events = [
        settled("a"),
        *failing("b-1.0", 3),
        settled("b", outcome=FAILED),
        settled("c", outcome=Outcome.CANCELLED),
        found("d"),
    ]
    assert sentence(*events, stop=Stop(verdict=Verdict.CANCELLED)) == (
        "Cancelled after 2 min 12 s: 2 of 4 attributes had ended, 1 of them failed; "
        "run again to go on where it stopped."
    )


def whole_run() -> list[RunEvent]:
    return [
        found("a"),
        found("b"),
        found("c"),
        erred("bad"),
        compared(),
        evaluated(3, 1),
        planned(),
        *failing("libfoo", 1, exit_status=1, tail=("last",)),
        *failing("c-1.0", 2, TROUBLE, retry_in_s=2.0),
        work_started(3, "c-1.0"),
        work_ended(3, "c-1.0"),
        victim("a", "libfoo", change=Change.NEWLY_FAILING),
        victim("b", "libfoo"),
        settled("c", change=Change.NEW),
        AttributesRemoved(removed=((("x",), None, None), (("old",), ("c",), None), (("y",), None, ("bad",)))),
    ]


def test_a_report_holds_everything_that_is_known() -> None:
    found_report = report(started(), *whole_run())
    assert (found_report.run, found_report.project, found_report.base_reused) == (12, "demo", True)
    assert found_report.verdict is Verdict.EVALUATION_FAILED
    assert found_report.exit_code == 3
    counts = found_report.counts
    assert (counts.attributes, counts.errors, counts.unfinished) == (3, 1, 0)
    assert counts.by_status == {Status.DEPENDENCY_FAILED: 2, Status.PASSED: 1}
    assert counts.by_how == {"built": 1}
    assert counts.by_change == {
        Change.NEW: 1,
        Change.CHANGED: 1,
        Change.REMOVED: 1,
        Change.NEWLY_FAILING: 1,
        Change.UNKNOWN: 1,
    }
    (cause,) = found_report.root_causes
    assert (cause.name, cause.outcome, cause.attributes, cause.victims) == ("libfoo", FAILED, (), (("a",), ("b",)))
    assert cause.attempt is not None
    assert (cause.attempt.machine, cause.attempt.tail) == ("local", ("last",))
    assert [(one.attempt, one.retried) for one in found_report.attempts] == [(1, False), (2, True), (3, False)]
    assert [one.attribute for one in found_report.removed] == ["x", "old", "y"]
    assert [one.attribute for one in found_report.failed] == ["a", "b"]
    assert found_report.evaluation.complete
    assert found_report.plan == planned()


@given(st.randoms(use_true_random=False))
def test_the_order_in_which_things_end_does_not_change_a_report(choose: random.Random) -> None:
    began = [event for event in whole_run() if isinstance(event, WorkStarted)]
    others = [event for event in whole_run() if not isinstance(event, WorkStarted)]
    choose.shuffle(others)
    assert report(*began, *others) == report(*whole_run())


def test_before_the_end_a_report_tells_what_is_unfinished() -> None:
    early = report(found("a"), found("b"), settled("a"))
    assert early.counts.unfinished == 1
    assert [one.outcome for one in early.attributes] == [Outcome.SUCCEEDED, None]
    assert not early.evaluation.complete


def test_after_the_end_verdict_and_sentence_are_those_that_were_told() -> None:
    told = report(settled("a", outcome=FAILED), ended(Verdict.CANCELLED, "As it was."))
    assert (told.verdict, told.sentence, told.seconds, told.exit_code) == (Verdict.CANCELLED, "As it was.", 192.0, 130)


def test_causes_with_most_victims_come_first_and_victims_count_once() -> None:
    events = [victim("a", "few"), victim("b", "many"), victim("c", "many"), settled("d", outcome=FAILED)]
    assert [cause.name for cause in report(*events).root_causes] == ["many", "few", "d-1.0"]


def test_a_report_survives_json() -> None:
    original = report(started(), *whole_run())
    assert msgspec.json.decode(msgspec.json.encode(original), type=RunReport) == original


def test_every_verdict_has_an_exit_code() -> None:
    assert set(EXIT_CODE) == set(Verdict)
