"""The laws of the plan: they hold for every graph, every order of arrival and every way in which builds end."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nixmill.core.cycle import CycleError
from nixmill.core.node import Node, PlanError, State
from nixmill.core.outcome import Outcome
from nixmill.core.plan import Plan
from nixmill.core.root_cause import root_causes
from nixmill.core.run_event import Work
from tests.property.planning import OUTPUTS, Naive, World, add, answer, path_of, tell, want, worlds


def end_of(world: World, node: Node) -> Outcome:
    recipe = world.recipe(node.drv_path)
    if node.work is Work.FETCH:
        return Outcome.SUCCEEDED if recipe.fetch_works else Outcome.INFRASTRUCTURE
    return recipe.end


STEPS_MAX = 100_000


def run(plan: Plan, world: World, choose: random.Random, facts: list[Callable[[], None]]) -> dict[str, Outcome]:
    """Drive a plan to its end; `facts` arrive in their order, between other things. Returns attribute → outcome."""
    settled: dict[str, Outcome] = {}
    ready: list[Node] = []
    trouble = {number: choose.randrange(2) for number in range(len(world.recipes))}
    now = 0.0
    while facts or not plan.done:
        now += 1.0
        assert now < STEPS_MAX, "it waits for ever"
        if facts and choose.random() < 0.6:
            facts.pop(0)()
        if not facts:
            plan.seal()
            answer(plan, world)
        plan.wake(now)
        ready += plan.take_ready()
        ready = [node for node in dict.fromkeys(ready) if node.state is State.READY]
        if ready and choose.random() < 0.7:
            node = ready.pop(choose.randrange(len(ready)))
            check_inputs_are_there(node)
            plan.start(node.drv_path, "local", now)
        running = list(plan.running.values())
        if running and choose.random() < 0.5:
            end_one(plan, world, choose.choice(running), now, trouble)
        settled |= told_once(plan, settled)
    return settled


def end_one(plan: Plan, world: World, node: Node, now: float, trouble: dict[int, int]) -> None:
    number = world.recipe(node.drv_path).number
    if node.work is Work.BUILD and trouble[number]:
        trouble[number] -= 1
        plan.ended(node.drv_path, Outcome.INFRASTRUCTURE, now=now, retry_at=now + 2)
    else:
        plan.ended(node.drv_path, end_of(world, node), now=now)


def told_once(plan: Plan, before: dict[str, Outcome]) -> dict[str, Outcome]:
    found = [(settled.path[0], settled.outcome) for settled in plan.settled()]
    assert len(dict(found)) == len(found)
    assert not before.keys() & dict(found).keys()
    return dict(found)


def check_inputs_are_there(node: Node) -> None:
    if node.work is Work.BUILD:
        assert node.inputs is not None
        for dep, names in zip(node.inputs, node.input_names, strict=True):
            assert names <= dep.valid


def facts_of(plan: Plan, world: World) -> list[Callable[[], None]]:
    wants = [lambda number=number: want(plan, number) for number in world.wanted]
    adds = [lambda recipe=recipe: add(plan, recipe) for recipe in world.recipes]
    tells = [lambda recipe=recipe: tell(plan, recipe) for recipe in world.recipes]
    return [*wants, *adds, *tells]


@given(worlds(), st.randoms(use_true_random=False), st.data())
@settings(max_examples=300, deadline=None)
def test_every_wanted_attribute_ends_as_the_naive_model_says_in_any_order_of_arrival(
    world: World, choose: random.Random, data: st.DataObject
) -> None:
    plan = Plan()
    facts = data.draw(st.permutations(facts_of(plan, world)))
    doubled = [fact for fact in facts for _ in range(1 + (choose.random() < 0.2))]

    settled = run(plan, world, choose, doubled)

    naive = Naive(world)
    expected = {f"a{number}": naive.good(number, OUTPUTS) for number in world.wanted}
    assert {name: outcome is Outcome.SUCCEEDED for name, outcome in settled.items()} == expected


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_lazily_exactly_what_is_needed_is_built_and_asked_for(world: World, choose: random.Random) -> None:
    plan = Plan()
    for number in world.wanted:
        want(plan, number)

    run(plan, world, choose, [])

    naive = Naive(world)
    for number in world.wanted:
        naive.good(number, OUTPUTS)
    attempted = {world.recipe(node.drv_path).number for node in plan.nodes if node.attempts and node.work is Work.BUILD}
    assert attempted == naive.built
    assert {path_of(number) for number, _ in naive.outcome} == {node.drv_path for node in plan.nodes if node.demand}


@given(worlds(honest=True), st.randoms(use_true_random=False), st.data())
@settings(max_examples=200, deadline=None)
def test_what_caches_have_is_good_where_it_may_stay_there_in_any_order_of_arrival(
    world: World, choose: random.Random, data: st.DataObject
) -> None:
    plan = Plan(leave_in_caches=True)

    settled = run(plan, world, choose, data.draw(st.permutations(facts_of(plan, world))))

    expected, _ = left_in_caches(world)
    assert {name: outcome is Outcome.SUCCEEDED for name, outcome in settled.items()} == expected


@given(worlds(honest=True), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_what_may_stay_in_caches_is_fetched_only_for_builds(world: World, choose: random.Random) -> None:
    plan = Plan(leave_in_caches=True)
    for number in world.wanted:
        want(plan, number)

    run(plan, world, choose, [])

    _, naive = left_in_caches(world)
    attempted = {(node.work, world.recipe(node.drv_path).number) for node in plan.nodes if node.attempts}
    assert {number for work, number in attempted if work is Work.BUILD} == naive.built
    assert {number for work, number in attempted if work is Work.FETCH} <= naive.fetched


def left_in_caches(world: World) -> tuple[dict[str, bool], Naive]:
    """Return how the wanted attributes end where those that caches have may stay there, and what that took."""
    naive = Naive(world)
    expected = {f"a{number}": in_caches(world, number) or naive.good(number, OUTPUTS) for number in world.wanted}
    return expected, naive


def in_caches(world: World, number: int) -> bool:
    recipe = world.recipes[number]
    return frozenset(OUTPUTS) <= recipe.valid | recipe.fetchable


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_each_failure_names_a_root_cause_that_failed_by_itself(world: World, choose: random.Random) -> None:
    plan = Plan()
    run(plan, world, choose, facts_of(plan, world))

    for node in plan.nodes:
        if node.outcome is Outcome.DEPENDENCY_FAILED and node.demand:
            assert node.culprit is not None
            assert node.culprit.outcome in {Outcome.BUILD_FAILED, Outcome.TIMED_OUT}
            assert node.culprit.culprit is None
    causes = root_causes(node for node in plan.nodes if node.demand)
    failed = [path for node in plan.nodes if node.failed and node.demand for path in node.attributes]
    assert sorted(path for cause in causes for path in cause.attributes) == sorted(failed)


@given(worlds(), st.randoms(use_true_random=False), st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_after_cancel_everything_ends_and_nothing_more_starts(world: World, choose: random.Random, steps: int) -> None:
    plan = Plan()
    facts = facts_of(plan, world)
    choose.shuffle(facts)
    for fact in facts[:steps]:
        fact()
    for node in plan.take_ready():
        if node.state is State.READY and choose.random() < 0.5:
            plan.start(node.drv_path, "local", 0.0)

    for node in plan.cancel():
        plan.ended(node.drv_path, Outcome.CANCELLED, now=1.0)
    for fact in facts[steps:]:
        fact()
    plan.seal()

    assert plan.done
    assert not plan.running
    assert not [node for node in plan.take_ready() if node.state is State.READY]
    assert {settled.path[0] for settled in plan.settled()} == {f"a{number}" for number in world.wanted}


@given(worlds(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_with_fail_fast_everything_ends_at_the_first_failure(world: World, choose: random.Random) -> None:
    plan = Plan(keep_going=False)
    settled = run(plan, world, choose, facts_of(plan, world))

    assert settled.keys() == {f"a{number}" for number in world.wanted}
    if any(node.outcome in {Outcome.BUILD_FAILED, Outcome.TIMED_OUT} and node.demand for node in plan.nodes):
        assert plan.cancelled


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_a_node_with_unknown_edges_or_unknown_outputs_is_never_ready(world: World) -> None:
    plan = Plan()
    for number in world.wanted:
        want(plan, number)
    for recipe in world.recipes[::2]:
        add(plan, recipe)
    for recipe in world.recipes[::3]:
        tell(plan, recipe)

    for node in plan.take_ready():
        assert node.told
        assert node.work is Work.FETCH or node.inputs is not None


@given(st.lists(st.integers(0, 6), min_size=1, max_size=7, unique=True), st.integers(0, 3))
def test_a_circle_is_rejected_at_the_seal_with_its_path(circle: list[int], tail: int) -> None:
    plan = Plan()
    tail_numbers = list(range(10, 10 + tail))
    needs = dict(zip(circle, circle[1:] + circle[:1], strict=True)) | dict(
        zip(tail_numbers, [*tail_numbers[1:], circle[0]], strict=False)
    )

    def build_it() -> None:
        for number, needed in needs.items():
            plan.add(path_of(number), system="", inputs={path_of(needed): ("out",)}, outputs={"out": None})
            plan.tell(path_of(number))
        plan.want(("a",), path_of((tail_numbers or circle)[0]), {"out": None})
        plan.seal()

    with pytest.raises(CycleError) as caught:
        build_it()
    path = caught.value.path
    assert path[0] == path[-1]
    assert set(path) == {path_of(number) for number in circle}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("end", [Outcome.SUCCEEDED, Outcome.BUILD_FAILED])
def test_a_chain_of_50000_works(*, backwards: bool, end: Outcome) -> None:
    length = 50_000
    plan = Plan()
    numbers = range(length - 1, -1, -1) if backwards else range(length)
    for number in numbers:
        inputs = {path_of(number - 1): ("out",)} if number else {}
        plan.add(path_of(number), system="", inputs=inputs, outputs={"out": None})
        plan.tell(path_of(number))
    plan.want(("a",), path_of(length - 1), {"out": None})
    plan.seal()

    plan.start(path_of(0), "local", 0.0)
    plan.ended(path_of(0), end, now=1.0)

    if end is Outcome.BUILD_FAILED:
        (settled,) = plan.settled()
        assert settled.outcome is Outcome.DEPENDENCY_FAILED
        assert settled.node.culprit is plan.node(path_of(0))
        assert root_causes(plan.nodes)[0].victims == length - 1
    else:
        assert plan.node(path_of(1)).state is State.READY


def test_what_cannot_be_is_refused_without_effect() -> None:
    plan = Plan()
    want(plan, 0)
    with pytest.raises(PlanError):
        plan.start(path_of(0), "local", 0.0)
    with pytest.raises(PlanError):
        plan.ended(path_of(0), Outcome.SUCCEEDED, now=0.0)
    assert plan.node(path_of(0)).state is State.UNKNOWN
