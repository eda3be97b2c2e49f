"""The plan, case by case. A graph is written as `a: b c` lines; laws for all graphs are in tests/property."""

import pytest

from nixmill.core.cycle import CycleError
from nixmill.core.node import NEXT, Node, PlanError, State
from nixmill.core.outcome import MEANING, Outcome
from nixmill.core.plan import Plan
from nixmill.core.root_cause import root_causes
from nixmill.core.run_event import Work
from nixmill.nix.store_path import StorePath


def drv(name: str) -> StorePath:
    return StorePath(f"/nix/store/{'0' * 32}-{name}.drv")


def grow(plan: Plan, graph: str) -> Plan:
    """Add derivations, absent everywhere, that are written as `name: inputs` a line."""
    for line in graph.strip().splitlines():
        name, inputs = line.strip().split(":")
        plan.add(
            drv(name), system="s", inputs={drv(needed): ("out",) for needed in inputs.split()}, outputs={"out": None}
        )
        plan.tell(drv(name))
    return plan


def want(plan: Plan, *names: str) -> None:
    for name in names:
        plan.want((name,), drv(name), {"out": None})


def state(plan: Plan, name: str) -> State:
    return plan.node(drv(name)).state


def end(plan: Plan, name: str, outcome: Outcome = Outcome.SUCCEEDED, retry_at: float | None = None) -> None:
    plan.start(drv(name), "local", 0.0)
    plan.ended(drv(name), outcome, now=1.0, retry_at=retry_at)


def settled(plan: Plan) -> dict[str, Outcome]:
    return {one.path[0]: one.outcome for one in plan.settled()}


def names(nodes: list[Node]) -> list[str]:
    return [node.name for node in nodes]


def test_present_outputs_need_neither_inputs_nor_a_job() -> None:
    plan = Plan()
    want(plan, "hello")
    assert names(plan.frontier()) == ["hello"]
    plan.tell(drv("hello"), valid=["out"])
    plan.seal()

    (one,) = plan.settled()
    assert (one.outcome, one.node.how) == (Outcome.SUCCEEDED, "present")
    assert plan.done
    assert plan.counts().to_build == plan.counts().to_fetch == 0


def test_what_must_be_built_is_read_and_its_inputs_are_looked_at() -> None:
    plan = Plan()
    want(plan, "hello")
    plan.frontier()
    plan.tell(drv("hello"))
    assert state(plan, "hello") is State.UNREAD
    assert names(plan.frontier()) == ["hello"]

    plan.add(drv("hello"), system="s", inputs={drv("lib"): ["out"]}, outputs={"out": None})
    assert state(plan, "hello") is State.WAITING
    assert names(plan.frontier()) == ["lib"]


def test_nothing_is_handed_out_twice() -> None:
    plan = Plan()
    want(plan, "hello")
    assert plan.frontier()
    assert not plan.frontier()


def test_a_fetch_needs_no_inputs() -> None:
    plan = Plan()
    want(plan, "hello")
    plan.tell(drv("hello"), fetchable=["out"])
    assert state(plan, "hello") is State.READY
    assert plan.counts().to_fetch == 1

    end(plan, "hello")
    assert plan.settled()[0].node.how == "fetched"


def test_a_fetch_that_fails_becomes_a_build_whose_inputs_expand_late() -> None:
    plan = Plan()
    want(plan, "hello")
    plan.tell(drv("hello"), fetchable=["out"])
    plan.frontier()
    end(plan, "hello", Outcome.INFRASTRUCTURE)

    assert state(plan, "hello") is State.UNREAD
    assert names(plan.frontier()) == ["hello"]
    counts = plan.counts()
    assert (counts.to_build, counts.to_fetch) == (1, 0)
    grow(plan, "hello: lib\nlib:")
    end(plan, "lib")
    end(plan, "hello")
    assert settled(plan) == {"hello": Outcome.SUCCEEDED}


def test_only_the_outputs_that_are_needed_count() -> None:
    plan = Plan()
    grow(plan, "hello: lib")
    want(plan, "hello")
    plan.tell(drv("lib"), valid=["out"])
    assert state(plan, "hello") is State.READY
    assert plan.node(drv("lib")).work is Work.NONE


def test_an_output_asked_for_late_reopens_what_was_done() -> None:
    plan = Plan()
    grow(plan, "hello: lib")
    want(plan, "hello")
    plan.add(drv("lib"), system="s", inputs={}, outputs={"out": None, "dev": None})
    plan.tell(drv("lib"), valid=["out"])
    assert state(plan, "lib") is State.DONE

    plan.want(("lib",), drv("lib"), {"out": None, "dev": None})
    assert state(plan, "lib") is State.READY
    assert state(plan, "hello") is State.READY
    end(plan, "lib", Outcome.BUILD_FAILED)
    assert settled(plan) == {"lib": Outcome.BUILD_FAILED}
    assert state(plan, "hello") is State.READY


def test_failure_reaches_all_that_depend_on_it_and_names_the_root_cause() -> None:
    plan = grow(Plan(), "app: mid\nmid: lib\nlib:\nother:")
    want(plan, "app", "mid", "other")
    end(plan, "lib", Outcome.BUILD_FAILED)

    found = {one.path[0]: (one.outcome, one.node.culprit) for one in plan.settled()}
    lib = plan.node(drv("lib"))
    assert found == {"app": (Outcome.DEPENDENCY_FAILED, lib), "mid": (Outcome.DEPENDENCY_FAILED, lib)}
    assert state(plan, "other") is State.READY
    (cause,) = root_causes(plan.nodes)
    assert (cause.node, cause.outcome, cause.victims) == (lib, Outcome.BUILD_FAILED, 2)


@pytest.mark.parametrize("outcome", [one for one in Outcome if one is not Outcome.SUCCEEDED])
def test_what_follows_from_an_outcome_stands_in_its_table(outcome: Outcome) -> None:
    plan = grow(Plan(), "app: lib\nlib:")
    want(plan, "app")
    end(plan, "lib", outcome)
    expected = Outcome.DEPENDENCY_FAILED if MEANING[outcome].propagates else outcome
    assert settled(plan) == {"app": expected}


def test_late_comers_share_a_failure_that_has_happened() -> None:
    plan = grow(Plan(), "lib:")
    want(plan, "lib")
    end(plan, "lib", Outcome.BUILD_FAILED)
    plan.settled()

    grow(plan, "app: lib")
    want(plan, "app")
    assert settled(plan) == {"app": Outcome.DEPENDENCY_FAILED}


def test_attributes_share_one_derivation_and_one_build() -> None:
    plan = grow(Plan(), "lib:")
    for name in ("a", "b", "a"):
        plan.want((name,), drv("lib"), {"out": None})
    end(plan, "lib")
    plan.want(("c",), drv("lib"), {"out": None})
    assert sorted(one.path[0] for one in plan.settled()) == ["a", "b", "c"]
    assert plan.node(drv("lib")).attempts == 1


def test_our_own_trouble_is_tried_again_at_its_time_and_elsewhere() -> None:
    plan = grow(Plan(), "lib:")
    want(plan, "lib")
    end(plan, "lib", Outcome.INFRASTRUCTURE, retry_at=10.0)
    assert state(plan, "lib") is State.DELAYED
    assert plan.node(drv("lib")).avoid == {"local"}
    assert plan.wake(9.0) == 10.0
    assert state(plan, "lib") is State.DELAYED
    assert plan.wake(10.0) is None
    assert state(plan, "lib") is State.READY
    end(plan, "lib")
    assert settled(plan) == {"lib": Outcome.SUCCEEDED}


def test_trouble_without_another_try_is_never_a_dependency_failure() -> None:
    plan = grow(Plan(), "app: lib\nlib:")
    want(plan, "app")
    end(plan, "lib", Outcome.INFRASTRUCTURE)
    (one,) = plan.settled()
    assert one.outcome is Outcome.INFRASTRUCTURE
    assert one.node.culprit is plan.node(drv("lib"))


def test_an_input_that_was_lost_is_looked_at_again_before_the_next_try() -> None:
    plan = grow(Plan(), "app: lib\nlib:")
    want(plan, "app")
    end(plan, "lib")
    plan.frontier()
    plan.start(drv("app"), "local", 0.0)
    plan.lost(drv("lib"), ["out"])
    plan.ended(drv("app"), Outcome.INFRASTRUCTURE, now=1.0, retry_at=1.0)
    plan.wake(1.0)

    assert names(plan.frontier()) == ["lib"]
    assert state(plan, "app") is State.WAITING
    plan.tell(drv("lib"))
    end(plan, "lib")
    end(plan, "app")
    assert settled(plan) == {"app": Outcome.SUCCEEDED}


def test_what_was_read_is_asked_for_again_when_it_is_lost() -> None:
    plan = Plan()
    want(plan, "a")
    plan.frontier()
    plan.tell(drv("a"))
    plan.frontier()
    plan.add(drv("a"), system="s", inputs={}, outputs={"out": None})
    end(plan, "a")
    plan.lost(drv("a"), ["out"])
    assert names(plan.frontier()) == ["a"]


def test_a_cancelled_plan_tries_nothing_again() -> None:
    plan = grow(Plan(), "a:")
    want(plan, "a")
    plan.start(drv("a"), "local", 0.0)
    plan.cancel()
    plan.ended(drv("a"), Outcome.CANCELLED, now=1.0, retry_at=2.0)
    assert settled(plan) == {"a": Outcome.CANCELLED}


def test_a_victim_whose_output_turns_up_blames_nobody_any_more() -> None:
    plan = grow(Plan(), "app: lib\nlib:")
    want(plan, "app")
    end(plan, "lib", Outcome.BUILD_FAILED)
    plan.tell(drv("app"), valid=["out"])
    assert plan.node(drv("app")).outcome is Outcome.SUCCEEDED
    assert plan.node(drv("app")).culprit is None


def test_fail_fast_cancels_what_has_not_started() -> None:
    plan = grow(Plan(keep_going=False), "a:\nb:\nc:")
    want(plan, "a", "b", "c")
    plan.start(drv("c"), "local", 0.0)
    end(plan, "a", Outcome.BUILD_FAILED)

    assert plan.cancelled
    assert names(list(plan.running.values())) == ["c"]
    assert settled(plan) == {"a": Outcome.BUILD_FAILED, "b": Outcome.CANCELLED}
    plan.ended(drv("c"), Outcome.CANCELLED, now=2.0)
    assert settled(plan) == {"c": Outcome.CANCELLED}


def test_cancelled_derivations_blame_nobody() -> None:
    plan = grow(Plan(), "app: lib\nlib:")
    want(plan, "app")
    plan.cancel()
    assert settled(plan) == {"app": Outcome.CANCELLED}
    assert root_causes(plan.nodes) == []


def test_a_derivation_that_no_machine_can_build_ends_at_once_and_its_inputs_are_not_asked_for() -> None:
    plan = Plan(refuse=lambda system, features: "needs kvm; no machine offers it" if "kvm" in features else "")
    want(plan, "vm")
    plan.add(drv("vm"), system="s", features=["kvm"], inputs={drv("lib"): ["out"]}, outputs={"out": None})
    plan.frontier()
    plan.tell(drv("vm"))

    (one,) = plan.settled()
    assert (one.outcome, one.node.message) == (Outcome.NO_MACHINE, "needs kvm; no machine offers it")
    assert plan.frontier() == []


def test_what_is_known_to_fail_needs_no_attempt_but_never_wins_against_a_valid_output() -> None:
    plan = grow(Plan(), "a:")
    want(plan, "a", "b")
    plan.fail(drv("a"), Outcome.BUILD_FAILED, "failed before in run 12")
    plan.tell(drv("b"), valid=["out"])
    plan.fail(drv("b"), Outcome.BUILD_FAILED)
    assert settled(plan) == {"a": Outcome.BUILD_FAILED, "b": Outcome.SUCCEEDED}
    assert state(plan, "b") is State.DONE


def test_what_runs_cannot_be_given_up() -> None:
    plan = grow(Plan(), "a:")
    want(plan, "a")
    plan.start(drv("a"), "local", 0.0)
    with pytest.raises(PlanError, match="is running"):
        plan.fail(drv("a"), Outcome.BUILD_FAILED)


def test_at_most_three_attributes_are_shown_for_a_derivation_the_direct_one_first() -> None:
    plan = grow(Plan(), "lib:")
    for name in "abcd":
        grow(plan, f"{name}: lib")
    want(plan, "a", "b", "c", "d", "lib")
    assert plan.node(drv("lib")).sample == (("lib",), ("a",), ("b",))


def test_counts_are_of_what_is_needed() -> None:
    plan = grow(Plan(), "app: lib\nlib:\nunused:")
    want(plan, "app")
    counts = plan.counts()
    assert (counts.to_build, counts.unfinished, counts.ready, counts.waiting) == (2, 2, 1, 1)
    end(plan, "lib")
    counts = plan.counts()
    assert (counts.to_build, counts.unfinished, counts.ready, counts.waiting) == (2, 1, 1, 0)


def test_it_is_done_only_when_no_more_can_come() -> None:
    plan = grow(Plan(), "a:")
    want(plan, "a")
    end(plan, "a")
    assert not plan.done
    plan.seal()
    assert plan.done


def test_a_derivation_that_needs_itself_is_rejected() -> None:
    with pytest.raises(CycleError, match="a → a"):
        grow(Plan(), "a: a")


def test_a_circle_is_rejected_with_its_path() -> None:
    plan = grow(Plan(), "top: a\na: b\nb: c\nc: a")
    want(plan, "top")
    with pytest.raises(CycleError) as caught:
        plan.seal()
    assert {*caught.value.path} == {drv("a"), drv("b"), drv("c")}
    assert caught.value.path[0] == caught.value.path[-1]


def test_every_state_is_in_the_table_and_illegal_moves_raise() -> None:
    assert set(NEXT) == set(State)
    for start in State:
        for goal in State:
            node = Node(0, drv("a"), "a")
            node.state = start
            if goal in NEXT[start]:
                node.move(goal)
                assert node.state is goal
            else:
                with pytest.raises(PlanError, match="fault of nixmill"):
                    node.move(goal)
                assert node.state is start


def test_what_was_never_named_is_a_fault() -> None:
    with pytest.raises(PlanError, match="not in the plan"):
        Plan().node(drv("a"))


def test_a_node_shows_itself_in_a_failing_test() -> None:
    assert repr(Node(0, drv("a"), "a")) == "<a unknown present >"
