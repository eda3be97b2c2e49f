import itertools

import pytest

from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Verdict
from nixmill.core.status import LOOK, Status, fold, of_outcome, verdict_of

USERS = {
    Outcome.BUILD_FAILED,
    Outcome.DEPENDENCY_FAILED,
    Outcome.TIMED_OUT,
    Outcome.SILENT,
    Outcome.LOG_TOO_LARGE,
    Outcome.OUTPUT_TOO_LARGE,
    Outcome.HASH_MISMATCH,
    Outcome.NOT_DETERMINISTIC,
}


@pytest.mark.parametrize("outcome", Outcome)
def test_our_faults_never_look_like_the_users(outcome: Outcome) -> None:
    verdict = verdict_of(outcome)
    assert (verdict is Verdict.BUILD_FAILED) == (outcome in USERS)
    assert (of_outcome(outcome) in {Status.FAILED, Status.DEPENDENCY_FAILED}) == (outcome in USERS)


def test_what_depends_on_a_failure_counts_as_that_failure() -> None:
    assert verdict_of(Outcome.DEPENDENCY_FAILED, Outcome.NO_MACHINE) is Verdict.INFRASTRUCTURE
    assert verdict_of(Outcome.DEPENDENCY_FAILED, Outcome.TIMED_OUT) is Verdict.BUILD_FAILED


@pytest.mark.parametrize(
    ("verdicts", "errors", "expected"),
    [
        ([], 0, Verdict.GOOD),
        ([Verdict.GOOD], 0, Verdict.GOOD),
        ([Verdict.GOOD, Verdict.INFRASTRUCTURE], 0, Verdict.INFRASTRUCTURE),
        ([Verdict.BUILD_FAILED, Verdict.INFRASTRUCTURE, Verdict.CANCELLED], 0, Verdict.BUILD_FAILED),
        ([Verdict.BUILD_FAILED], 1, Verdict.EVALUATION_FAILED),
        ([], 1, Verdict.EVALUATION_FAILED),
        ([Verdict.CANCELLED, Verdict.GOOD], 0, Verdict.CANCELLED),
    ],
)
def test_the_worst_wins(verdicts: list[Verdict], errors: int, expected: Verdict) -> None:
    assert fold(verdicts, errors=errors) is expected


def test_the_fold_does_not_depend_on_order_and_more_never_makes_it_better() -> None:
    for some in itertools.product(Verdict, repeat=3):
        assert len({fold(order) for order in itertools.permutations(some)}) == 1
        assert fold([fold(some[:2]), some[2]]) is fold(some)


def test_every_status_has_a_look_of_its_own() -> None:
    assert set(LOOK) == set(Status)
    for field in zip(*LOOK.values(), strict=True):
        assert all(field)
    assert len({look.glyph for look in LOOK.values()}) == len({look.ascii for look in LOOK.values()}) == len(Status)
