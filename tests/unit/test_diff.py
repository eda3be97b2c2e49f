"""The diff against a base, by the scenarios of diff skipping (D1–D18)."""

import pytest

from nixmill.core.diff import ALWAYS_CHANGING_MIN, Base, Known, Removed, Skip, always_changing, change_of
from nixmill.core.evaluation import (
    Argument,
    Attribute,
    EvalError,
    EvalFault,
    EvaluationLimits,
    EvaluationRequest,
    EvaluationSettings,
    FileTarget,
)
from nixmill.core.history import EvaluationRow
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Change
from nixmill.nix.attr_path import AttrPath, parse
from tests.support.run_events import drv

GOOD = (Outcome.SUCCEEDED, 7)
FAILED = (Outcome.BUILD_FAILED, 7)


def attribute(path: str, version: str = "1") -> Attribute:
    return Attribute(path=parse(path), name="x", system="s", drv_path=drv(version), outputs={"out": None})


def error(path: str) -> EvalError:
    return EvalError(path=parse(path), fault=EvalFault.THROW, message="no")


def row(*attributes: Attribute, tree: str = "t", errors: str = "", **outcomes: tuple[Outcome, int]) -> EvaluationRow:
    return EvaluationRow(
        key="k",
        run=7,
        tree_hash=tree,
        commit="c",
        seconds=1.0,
        attributes=attributes,
        errors=tuple(error(path) for path in errors.split()),
        outcomes={parse(path): outcome for path, outcome in outcomes.items()},
    )


def test_new_changed_and_same() -> None:
    base = Base(row(attribute("a"), attribute("b")))
    assert base.change(attribute("a")) is Change.SAME
    assert base.change(attribute("b", "2")) is Change.CHANGED
    assert base.change(attribute("c")) is Change.NEW
    assert [base.same(attribute("a", version)) for version in ("1", "2")] == [True, False]


def test_d1_the_same_derivation_that_passed_is_unchanged_and_says_in_which_run() -> None:
    assert Base(row(attribute("a"), a=GOOD)).reuse(attribute("a")) == Known(
        skip=Skip.UNCHANGED,
        outcome=Outcome.SUCCEEDED,
        run=7,
        drv_path=drv("1"),
        how="unchanged (passed in run 7)",
    )


def test_unchanged_is_not_good_a_result_that_nobody_knows_is_built() -> None:
    assert Base(row(attribute("a"))).reuse(attribute("a")) is None


def test_d2_the_same_derivation_that_failed_inherits_the_failure_and_says_so() -> None:
    known = Base(row(attribute("a"), a=FAILED)).reuse(attribute("a"))
    assert known is not None
    assert (known.skip, known.outcome, known.how) == (
        Skip.FAILS_ON_BASE,
        Outcome.BUILD_FAILED,
        "fails on the base too (run 7)",
    )
    assert change_of(Base(row(attribute("a"), a=FAILED)), attribute("a"), known.outcome) is Change.SAME


def test_d2_without_inheriting_a_failure_is_built_again() -> None:
    assert Base(row(attribute("a"), a=FAILED), inherit=False).reuse(attribute("a")) is None


@pytest.mark.parametrize("outcome", [Outcome.INFRASTRUCTURE, Outcome.CANCELLED, Outcome.TIMED_OUT, Outcome.NO_MACHINE])
def test_only_failures_that_are_remembered_are_inherited(outcome: Outcome) -> None:
    assert Base(row(attribute("a"), a=(outcome, 7))).reuse(attribute("a")) is None


def test_d4_without_a_base_nothing_is_compared() -> None:
    assert change_of(None, attribute("a"), Outcome.SUCCEEDED) is Change.UNKNOWN


def test_another_derivation_under_the_same_path_is_never_reused() -> None:
    assert Base(row(attribute("a"), a=GOOD)).reuse(attribute("a", "2")) is None


def test_d7_a_renamed_attribute_costs_nothing_and_is_listed() -> None:
    base = Base(row(attribute("old"), attribute("gone", "9"), old=GOOD))
    known = base.reuse(attribute("new"))
    assert known is not None
    assert (known.skip, known.how) == (Skip.RENAMED, "was old (passed in run 7)")
    assert base.removed([attribute("new")], []) == (
        Removed(path=("gone",)),
        Removed(path=("old",), renamed_to=("new",)),
    )


def test_a_second_name_is_no_rename() -> None:
    base = Base(row(attribute("old"), old=GOOD))
    assert base.removed([attribute("old"), attribute("new")], []) == ()


def test_d7_what_an_evaluation_error_hides_is_not_taken_for_removed() -> None:
    base = Base(row(attribute("set.a"), attribute("set.b", "2"), errors="set.c lost"))
    assert base.removed([], [error("set")]) == (
        Removed(path=("lost",)),
        Removed(path=("set", "a"), hidden_by=("set",)),
        Removed(path=("set", "b"), hidden_by=("set",)),
        Removed(path=("set", "c"), hidden_by=("set",)),
    )


@pytest.mark.parametrize(
    ("path", "change"),
    [("a", Change.NEWLY_FAILING), ("set", Change.NEWLY_FAILING), ("bad", Change.SAME), ("other", Change.NEW)],
)
def test_an_evaluation_error_is_new_newly_failing_or_as_before(path: str, change: Change) -> None:
    base = Base(row(attribute("a"), attribute("set.x", "2"), errors="bad"))
    assert base.erred(error(path)) is change


@pytest.mark.parametrize(
    ("before", "version", "now", "change"),
    [
        (GOOD, "1", Outcome.SUCCEEDED, Change.SAME),
        (GOOD, "2", Outcome.SUCCEEDED, Change.CHANGED),
        (GOOD, "2", Outcome.BUILD_FAILED, Change.NEWLY_FAILING),
        (GOOD, "1", Outcome.DEPENDENCY_FAILED, Change.NEWLY_FAILING),
        (FAILED, "2", Outcome.SUCCEEDED, Change.FIXED),
        (FAILED, "2", Outcome.TIMED_OUT, Change.CHANGED),
        (GOOD, "2", Outcome.INFRASTRUCTURE, Change.CHANGED),
        (GOOD, "2", Outcome.CANCELLED, Change.CHANGED),
        ((Outcome.INFRASTRUCTURE, 7), "2", Outcome.BUILD_FAILED, Change.CHANGED),
        (None, "2", Outcome.BUILD_FAILED, Change.CHANGED),
    ],
)
def test_a_result_is_newly_failing_or_fixed_only_where_both_sides_are_known(
    before: tuple[Outcome, int] | None, version: str, now: Outcome, change: Change
) -> None:
    base = Base(row(attribute("a"), a=before) if before else row(attribute("a")))
    assert change_of(base, attribute("a", version), now) is change


def test_what_did_not_evaluate_before_is_fixed_when_it_is_good() -> None:
    base = Base(row(errors="a"))
    assert change_of(base, attribute("a"), Outcome.SUCCEEDED) is Change.FIXED
    assert change_of(base, attribute("a"), Outcome.BUILD_FAILED) is Change.CHANGED
    assert isinstance(base.before(("a",)), EvalError)


def request(*, systems: str = "", argument: str = "", attr: AttrPath = (), workers: int = 1) -> EvaluationRequest:
    arguments = (Argument(name="x", value=argument, is_string=True),) if argument else ()
    return EvaluationRequest(
        targets=(FileTarget(file="/t/release.nix", tree_path="/t", attr=attr),),
        settings=EvaluationSettings(systems=tuple(systems.split()), arguments=arguments),
        limits=EvaluationLimits(workers=workers),
    )


def test_d18_an_attribute_that_differs_every_time_is_flagged() -> None:
    rows = [row(attribute("a", str(at)), attribute("b"), tree=f"t{at}") for at in range(ALWAYS_CHANGING_MIN)]
    assert always_changing(rows) == {("a",)}
    assert always_changing(rows[1:]) == frozenset()
    assert always_changing([*rows, row(attribute("a", "0"), tree="t99")]) == frozenset()
