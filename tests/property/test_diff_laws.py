"""The laws of the diff: every attribute is told once, nothing is lost, only what is known may be skipped."""

import random

from hypothesis import given
from hypothesis import strategies as st

from nixmill.core.diff import Base, change_of
from nixmill.core.evaluation import Attribute, EvalError, EvalFault
from nixmill.core.history import EvaluationRow
from nixmill.core.outcome import MEANING, Outcome
from nixmill.core.run_event import Change
from nixmill.nix.attr_path import AttrPath
from tests.property.planning import path_of

paths = st.lists(st.sampled_from(["a", "b.c", "", "..", "${x}"]), min_size=1, max_size=3).map(tuple)
worlds = st.dictionaries(paths, st.none() | st.integers(0, 4), max_size=12)
"""Attribute path → derivation, or None where it does not evaluate."""
outcomes = st.sampled_from([None, *Outcome])


def attributes_of(world: dict[AttrPath, int | None]) -> list[Attribute]:
    return [
        Attribute(path=path, name="x", system="s", drv_path=path_of(number), outputs={"out": None})
        for path, number in world.items()
        if number is not None
    ]


def errors_of(world: dict[AttrPath, int | None]) -> list[EvalError]:
    return [EvalError(path=path, fault=EvalFault.THROW, message="") for path, number in world.items() if number is None]


def row_of(world: dict[AttrPath, int | None], ends: dict[AttrPath, Outcome | None]) -> EvaluationRow:
    return EvaluationRow(
        key="",
        run=1,
        tree_hash="",
        commit="",
        seconds=0.0,
        attributes=tuple(attributes_of(world)),
        errors=tuple(errors_of(world)),
        outcomes={path: (outcome, 1) for path in world if (outcome := ends.get(path)) is not None},
    )


ends = st.dictionaries(paths, outcomes, max_size=12)


@given(worlds, worlds, ends)
def test_only_the_very_same_derivation_of_known_result_is_skipped(
    old: dict[AttrPath, int | None], new: dict[AttrPath, int | None], past: dict[AttrPath, Outcome | None]
) -> None:
    base = Base(row_of(old, past))
    for attribute in attributes_of(new):
        known = base.reuse(attribute)
        if known is not None:
            same = [
                path for path, number in old.items() if number is not None and path_of(number) == attribute.drv_path
            ]
            assert any(past.get(path) is known.outcome for path in same)
            assert known.outcome is Outcome.SUCCEEDED or MEANING[known.outcome].remembered
            assert "run 1" in known.how


@given(worlds, worlds)
def test_nothing_of_the_base_is_silently_lost(old: dict[AttrPath, int | None], new: dict[AttrPath, int | None]) -> None:
    removed = Base(row_of(old, {})).removed(attributes_of(new), errors_of(new))
    assert {one.path for one in removed} == old.keys() - new.keys()
    for one in removed:
        assert one.renamed_to is None or (one.renamed_to in new and one.renamed_to not in old)
        assert one.hidden_by is None or (new[one.hidden_by] is None and one.path[: len(one.hidden_by)] == one.hidden_by)


@given(worlds, ends)
def test_an_evaluation_compared_with_itself_has_only_what_is_the_same(
    world: dict[AttrPath, int | None], past: dict[AttrPath, Outcome | None]
) -> None:
    base = Base(row_of(world, past))
    assert all(base.change(attribute) is Change.SAME for attribute in attributes_of(world))
    assert all(base.erred(error) is Change.SAME for error in errors_of(world))
    assert base.removed(attributes_of(world), errors_of(world)) == ()
    for attribute in attributes_of(world):
        if (outcome := past.get(attribute.path)) is not None:
            assert change_of(base, attribute, outcome) is Change.SAME


@given(worlds, worlds, ends, st.sampled_from(Outcome), st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(
    old: dict[AttrPath, int | None],
    new: dict[AttrPath, int | None],
    past: dict[AttrPath, Outcome | None],
    outcome: Outcome,
    choose: random.Random,
) -> None:
    base = Base(row_of(old, past))
    shuffled = attributes_of(new)
    choose.shuffle(shuffled)
    assert base.removed(shuffled, errors_of(new)) == base.removed(attributes_of(new), errors_of(new))
    assert {one.path: change_of(base, one, outcome) for one in shuffled} == {
        one.path: change_of(base, one, outcome) for one in attributes_of(new)
    }


@given(worlds, worlds, ends, st.sampled_from(Outcome))
def test_better_is_never_told_as_worse(
    old: dict[AttrPath, int | None],
    new: dict[AttrPath, int | None],
    past: dict[AttrPath, Outcome | None],
    outcome: Outcome,
) -> None:
    base = Base(row_of(old, past))
    for attribute in attributes_of(new):
        change = change_of(base, attribute, outcome)
        assert change is not Change.NEWLY_FAILING or (outcome is not Outcome.SUCCEEDED and base.good(attribute.path))
        assert change is not Change.FIXED or (outcome is Outcome.SUCCEEDED and base.good(attribute.path) is False)
