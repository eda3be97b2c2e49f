"""The way of a change, in a world in memory: what is built, skipped, told and remembered."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

import msgspec

from nixmill.core.attempt import RetryPolicy
from nixmill.core.evaluation import (
    EvalError,
    EvalFault,
    EvalRecord,
    EvaluationRequest,
    EvaluationSettings,
    FlakeTarget,
    NoSuchTargetError,
)
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import (
    AttributeErred,
    AttributesRemoved,
    BaseCompared,
    Change,
    ErrorsCompared,
    EvaluationTold,
    Noticed,
    Planned,
    RunEnded,
    RunStarted,
    Verdict,
    WorkEnded,
    WorkStarted,
)
from nixmill.core.target import FlakeWord
from nixmill.doors import DoorError
from nixmill.nix.build_result import BuildStatus
from tests.fakes.store import Script
from tests.support.world import CommitEvaluator, World, broken, until


async def test_what_is_absent_is_built_leaves_first_and_settles_good() -> None:
    world = World()
    lib = world.store.derivation("lib")
    app = world.store.derivation("app", [lib])
    world.commit([world.attribute("app", app)])
    assert await world.check() is Verdict.GOOD
    assert world.builder.finished == [lib, app]
    assert world.settled()["app"].how == "built"
    assert isinstance(world.events[0], RunStarted)
    assert isinstance(world.events[-1], RunEnded)


async def test_every_derivation_and_output_is_leased_before_more_records_are_asked_for() -> None:
    world = World()
    drvs = [world.store.derivation(f"job-{n}") for n in range(3)]
    gate = asyncio.Event()
    world.commit([world.attribute("0", drvs[0])], gate, [world.attribute("1", drvs[1]), world.attribute("2", drvs[2])])
    flow = asyncio.create_task(world.flow().check())
    await until(lambda: drvs[0] in world.builder.finished)
    assert not world.told(EvaluationTold), "the first build has ended before evaluation has"
    assert drvs[0] in world.store.held
    gate.set()
    assert await flow is Verdict.GOOD
    assert world.store.collect_garbage() == set()


async def test_what_is_present_is_neither_read_nor_built() -> None:
    world = World()
    drv = world.store.derivation("lib", outputs=("out", "dev"))
    for path in world.store.outputs(drv).values():
        world.store.add(path)
    world.commit([world.attribute("lib", drv)])
    assert await world.check() is Verdict.GOOD
    assert world.builder.attempts == []
    assert "derivations" not in {call for call, _ in world.store.calls}
    assert world.settled()["lib"].how == "present"


async def test_a_failure_names_the_culprit_and_leaves_others_alone() -> None:
    world = World()
    bad = world.store.derivation("bad")
    victim = world.store.derivation("victim", [bad])
    fine = world.store.derivation("fine")
    world.builder.script(
        bad, Script(BuildStatus.PERMANENT_FAILURE, "builder failed with exit code 37", lines=("oh", "no"))
    )
    world.commit([world.attribute(n, d) for n, d in (("bad", bad), ("victim", victim), ("fine", fine))])
    assert await world.check() is Verdict.BUILD_FAILED
    settled = world.settled()
    assert settled["bad"].outcome is Outcome.BUILD_FAILED
    assert (settled["victim"].outcome, settled["victim"].culprit) == (Outcome.DEPENDENCY_FAILED, bad)
    assert settled["fine"].outcome is Outcome.SUCCEEDED
    ended = next(e for e in world.told(WorkEnded) if isinstance(e, WorkEnded) and e.drv_path == bad)
    assert (ended.exit_status, ended.tail) == (37, ("oh", "no"))


async def test_attributes_that_share_a_derivation_cost_one_build() -> None:
    world = World()
    drv = world.store.derivation("same")
    world.commit([world.attribute("a", drv), world.attribute("b", drv)])
    assert await world.check() is Verdict.GOOD
    assert world.builder.attempts == [drv]
    assert set(world.settled()) == {"a", "b"}


async def test_the_second_run_of_the_same_tree_evaluates_nothing_and_builds_nothing() -> None:
    world = World()
    old = world.store.derivation("lib", seed="1")
    new = world.store.derivation("lib", seed="2")
    world.commit([world.attribute("lib", old)])
    world.commit([world.attribute("lib", new)])
    assert await world.check() is Verdict.GOOD
    assert [event.reused for event in world.told(BaseCompared) if isinstance(event, BaseCompared)] == [False]
    world.evaluator.asked.clear()
    world.builder.attempts.clear()
    assert await world.check() is Verdict.GOOD
    assert [event.reused for event in world.told(BaseCompared) if isinstance(event, BaseCompared)] == [True]
    assert world.evaluator.asked == []
    assert world.builder.attempts == []
    assert await world.check(evaluate_again=True) is Verdict.GOOD
    assert len(world.evaluator.asked) == 1


async def test_changes_against_the_base_are_told_and_nothing_removed_is_lost() -> None:
    world = World()
    same, old, new, gone, fresh = (world.store.derivation(n) for n in ("same", "old", "new", "gone", "fresh"))
    world.commit([world.attribute("same", same), world.attribute("lib", old), world.attribute("gone", gone)])
    world.commit([world.attribute("same", same), world.attribute("lib", new), world.attribute("fresh", fresh)])
    assert await world.check() is Verdict.GOOD
    changes = {name: event.change for name, event in world.settled().items()}
    assert changes == {"same": Change.SAME, "lib": Change.CHANGED, "fresh": Change.NEW}
    (removed,) = world.told(AttributesRemoved)
    assert isinstance(removed, AttributesRemoved)
    assert [path for path, _, _ in removed.removed] == [("checks", "gone")]


async def test_what_equals_a_good_base_is_not_built_though_its_output_is_gone() -> None:
    world = World()
    drv = world.store.derivation("lib")
    world.commit([world.attribute("lib", drv)])
    assert await world.check() is Verdict.GOOD
    world.commit([world.attribute("lib", drv)])
    for path in world.store.outputs(drv).values():
        del world.store.contents[path]
    world.builder.attempts.clear()
    assert await world.check() is Verdict.GOOD
    assert world.settled()["lib"].how == "unchanged (passed in run 1)"
    assert world.builder.attempts == []
    assert await world.check(rebuild=True) is Verdict.GOOD
    assert world.builder.attempts == [drv]


async def test_what_equals_a_failing_base_inherits_that_failure_and_is_not_green() -> None:
    world = World()
    drv = world.store.derivation("lib")
    world.builder.script(drv, Script(BuildStatus.PERMANENT_FAILURE, "failed with exit code 1"))
    world.commit([world.attribute("lib", drv)])
    assert await world.check() is Verdict.BUILD_FAILED
    world.commit([world.attribute("lib", drv)])
    assert await world.check() is Verdict.BUILD_FAILED
    assert world.settled()["lib"].how == "fails on the base too (run 1)"
    assert world.settled()["lib"].change is Change.SAME
    assert world.builder.attempts == [drv]


async def test_our_own_trouble_is_tried_again_and_never_remembered_as_a_failure() -> None:
    world = World()
    drv = world.store.derivation("lib")
    lost = DoorError("The connection was lost.", door="store", action="build", retryable=True)
    world.builder.script(drv, Script(error=lost), Script())
    world.commit([world.attribute("lib", drv)])
    assert await world.check(retry=RetryPolicy(first_s=0.001)) is Verdict.GOOD
    ends = [event for event in world.told(WorkEnded) if isinstance(event, WorkEnded)]
    assert [end.outcome for end in ends] == [Outcome.INFRASTRUCTURE, Outcome.SUCCEEDED]
    assert ends[0].retry_in_s is not None


async def test_an_evaluation_error_is_one_attribute_and_the_rest_is_built() -> None:
    world = World()
    drv = world.store.derivation("lib")
    error = EvalError(path=("checks", "bad"), fault=EvalFault.THROW, message="no")
    world.commit([world.attribute("lib", drv), error])
    assert await world.check() is Verdict.EVALUATION_FAILED
    assert world.builder.finished == [drv]
    assert [event.error for event in world.told(AttributeErred) if isinstance(event, AttributeErred)] == [error]


async def test_an_evaluation_that_breaks_off_fails_and_what_was_begun_is_finished() -> None:
    world = World()
    drv = world.store.derivation("lib")
    world.commit([world.attribute("lib", drv)], broken())
    assert await world.check() is Verdict.EVALUATION_FAILED
    assert world.settled()["lib"].outcome is Outcome.SUCCEEDED
    (ended,) = world.told(RunEnded)
    assert isinstance(ended, RunEnded)
    assert "The flake cannot be read" in ended.sentence


async def test_an_error_that_the_base_does_not_have_is_newly_failing() -> None:
    world = World()
    drv = world.store.derivation("lib")
    old = EvalError(path=("checks", "old"), fault=EvalFault.THROW, message="no")
    new = EvalError(path=("checks", "lib"), fault=EvalFault.THROW, message="no")
    world.commit([world.attribute("lib", drv), old])
    world.commit([new, old])
    assert await world.check() is Verdict.EVALUATION_FAILED
    (compared,) = world.told(ErrorsCompared)
    assert isinstance(compared, ErrorsCompared)
    assert dict(compared.changes) == {("checks", "lib"): Change.NEWLY_FAILING, ("checks", "old"): Change.SAME}


async def test_cancelling_stops_builders_and_says_what_was_cancelled() -> None:
    world = World()
    drvs = [world.store.derivation(f"job-{n}") for n in range(4)]
    for drv in drvs:
        world.builder.script(drv, Script(gate=asyncio.Event()))
    world.commit([world.attribute(str(n), drv) for n, drv in enumerate(drvs)])
    flow = world.flow()
    checking = asyncio.create_task(flow.check())
    await until(lambda: len(world.builder.running) == 2)
    flow.cancel()
    assert await checking is Verdict.CANCELLED
    assert sorted(world.builder.cancelled) == sorted(world.builder.attempts)
    assert {event.outcome for event in world.settled().values()} == {Outcome.CANCELLED}
    assert len(world.told(WorkEnded)) == 2


async def test_cancelling_before_a_chosen_build_has_begun_ends_at_once() -> None:
    """Between choosing a build and its first step there is a moment in which its task can be cancelled unstarted."""
    world = World()
    world.commit([world.attribute("a", world.store.derivation("a"))])
    flow = world.flow()
    give = world.history.next_attempts

    async def give_and_cancel(count: int) -> int:
        asyncio.get_running_loop().call_soon(flow.cancel)  # comes before the first step of the task made next
        return await give(count)

    world.history.next_attempts = give_and_cancel  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        assert await flow.check() is Verdict.CANCELLED
    assert world.builder.attempts == []
    assert {event.outcome for event in world.settled().values()} == {Outcome.CANCELLED}


async def test_cancelling_before_the_evaluation_has_begun_ends_at_once() -> None:
    world = World()
    world.commit([world.attribute("a", world.store.derivation("a"))])
    flow = world.flow()
    flow.cancel()
    async with asyncio.timeout(5):
        assert await flow.check() is Verdict.CANCELLED
    assert world.evaluator.asked == []


async def test_cancelling_during_evaluation_ends_at_once() -> None:
    world = World()
    world.commit(asyncio.Event())
    flow = world.flow()
    checking = asyncio.create_task(flow.check())
    await until(lambda: bool(world.evaluator.asked))
    flow.cancel()
    async with asyncio.timeout(5):
        assert await checking is Verdict.CANCELLED


async def test_fail_fast_stops_what_runs_at_the_first_failure() -> None:
    world = World()
    bad, slow = world.store.derivation("bad"), world.store.derivation("slow")
    gate = asyncio.Event()
    world.builder.script(bad, Script(BuildStatus.PERMANENT_FAILURE, "failed with exit code 1"))
    world.builder.script(slow, Script(gate=gate))
    world.commit([world.attribute("bad", bad), world.attribute("slow", slow)])
    async with asyncio.timeout(5):
        assert await world.check(fail_fast=True) is Verdict.BUILD_FAILED
    assert world.builder.cancelled == [slow]


async def test_a_store_that_is_gone_is_our_trouble_and_ends_the_run_with_a_sentence() -> None:
    world = World()
    drv = world.store.derivation("lib")
    world.commit([world.attribute("lib", drv)])
    world.store.failure = DoorError("The daemon is gone.", door="store", action="hold", retryable=True)
    assert await world.check() is Verdict.INFRASTRUCTURE
    (ended,) = world.told(RunEnded)
    assert isinstance(ended, RunEnded)
    assert "The daemon is gone" in ended.sentence


async def test_a_fetchable_output_is_fetched_and_a_lying_cache_leads_to_a_build() -> None:
    world = World(may_fetch=True)
    honest, lied = world.store.derivation("honest"), world.store.derivation("lied")
    world.store.substitutable = {
        world.store.outputs(honest)["out"]: Script(BuildStatus.SUBSTITUTED),
        world.store.outputs(lied)["out"]: Script(BuildStatus.NO_SUBSTITUTERS, "404"),
    }
    world.commit([world.attribute("honest", honest), world.attribute("lied", lied)])
    assert await world.check(retry=RetryPolicy(first_s=0.001)) is Verdict.GOOD
    assert world.settled()["honest"].how == "fetched"
    assert world.settled()["lied"].how == "built"
    assert world.builder.finished == [lied]
    assert any("did not deliver it" in event.text for event in world.told(Noticed) if isinstance(event, Noticed))


async def test_a_dry_run_plans_everything_and_touches_nothing() -> None:
    world = World()
    lib = world.store.derivation("lib")
    app = world.store.derivation("app", [lib])
    world.commit([world.attribute("app", app)])
    await world.check(plan_only=True)
    assert world.builder.attempts == []
    assert world.history.run_rows == {}
    planned = [event for event in world.told(Planned) if isinstance(event, Planned)][-1]
    assert (planned.complete, planned.to_build) == (True, 2)
    assert not world.told(WorkStarted)


async def test_the_limits_of_an_attribute_reach_its_own_build_only() -> None:
    world = World()
    lib = world.store.derivation("lib")
    app = world.store.derivation("app", [lib])
    world.commit([world.attribute("app", app, timeout_s=5)])
    assert await world.check() is Verdict.GOOD
    assert (world.builder.limits[app].timeout_s, world.builder.limits[lib].timeout_s) == (5, 0)


async def test_what_differs_in_every_evaluation_is_flagged_as_always_changing() -> None:
    world = World()
    steady = world.store.derivation("steady")
    for number in range(7):
        impure = world.store.derivation("impure", seed=str(number))
        world.commit([world.attribute("impure", impure), world.attribute("steady", steady)])
        assert await world.check() is Verdict.GOOD
    said = [event.text for event in world.told(Noticed) if isinstance(event, Noticed)]
    assert any(text.startswith("checks.impure: changed in each of the last") for text in said)
    assert not any("steady" in text for text in said)


async def test_a_base_that_was_evaluated_with_other_settings_is_not_taken_for_this_one() -> None:
    world = World()
    drv = world.store.derivation("lib")
    world.commit([world.attribute("lib", drv)])
    assert await world.check() is Verdict.GOOD
    world.commit([world.attribute("lib", drv)])
    assert await world.check(settings=EvaluationSettings(force_recurse=True)) is Verdict.GOOD
    assert [event.reused for event in world.told(BaseCompared) if isinstance(event, BaseCompared)] == [False]
    assert await world.check() is Verdict.GOOD
    assert [event.reused for event in world.told(BaseCompared) if isinstance(event, BaseCompared)] == [True]


async def test_a_known_evaluation_is_made_anew_where_a_derivation_is_gone_or_chance_had_a_part_in_it() -> None:
    world = World()
    drv = world.store.derivation("lib")
    killed = EvalError(path=("checks", "big"), fault=EvalFault.OUT_OF_MEMORY, message="too big")
    world.commit([world.attribute("lib", drv), killed])
    for _ in range(2):
        assert await world.check() is Verdict.EVALUATION_FAILED
    assert len(world.evaluator.asked) == 2
    world.commit([world.attribute("lib", drv)])
    assert await world.check() is Verdict.GOOD
    del world.store.contents[drv]
    assert await world.check() is Verdict.GOOD
    assert len(world.evaluator.asked) == 4


async def test_a_known_evaluation_tells_the_same_attributes_and_errors() -> None:
    world = World()
    drv = world.store.derivation("lib")
    error = EvalError(path=("checks", "bad"), fault=EvalFault.THROW, message="no")
    world.commit([world.attribute("lib", drv), error])
    assert await world.check() is Verdict.EVALUATION_FAILED
    first = (
        world.settled().keys(),
        [event.error for event in world.told(AttributeErred) if isinstance(event, AttributeErred)],
    )
    assert await world.check() is Verdict.EVALUATION_FAILED
    again = (
        world.settled().keys(),
        [event.error for event in world.told(AttributeErred) if isinstance(event, AttributeErred)],
    )
    assert first == again
    assert len(world.evaluator.asked) == 1


async def test_a_server_records_an_evaluation_while_it_goes_on() -> None:
    world, gate = World(), asyncio.Event()
    drvs = [world.store.derivation(f"job-{n}") for n in range(2)]
    world.commit([world.attribute("0", drvs[0])], gate, [world.attribute("1", drvs[1])])
    keys: list[str] = []
    flow = world.flow(world.request(compare=False, insist=True))
    flow.keys_known = lambda: keys.append(flow.evaluation_key)
    checking = asyncio.create_task(flow.check())
    await until(lambda: bool(world.history.part_rows))
    assert [one.path[-1] for one in world.history.part_rows[0].attributes] == ["0"]
    gate.set()
    assert await checking is Verdict.GOOD
    assert [one.path[-1] for part in world.history.part_rows for one in part.attributes] == ["0", "1"]
    assert {part.key for part in world.history.part_rows} == set(keys)


class WithoutChecks(CommitEvaluator):
    """Evaluates a flake that has every output but `checks` and `hydraJobs`."""

    def evaluate(self, request: EvaluationRequest) -> AsyncGenerator[Sequence[EvalRecord], None]:
        target = request.targets[0]
        if isinstance(target, FlakeTarget) and target.attr != ("packages",):
            raise NoSuchTargetError(f"There is no attribute {target.attr}.")
        return super().evaluate(request)


async def test_a_flake_without_checks_is_checked_by_what_it_has() -> None:
    world = World(evaluator=WithoutChecks())
    drv = world.store.derivation("lib")
    world.commit([world.attribute("lib", drv)])
    assert await world.check(compare=False) is Verdict.GOOD
    assert [event.text for event in world.told(Noticed) if isinstance(event, Noticed)] == [
        "There is no .#checks: .#hydraJobs is checked instead.",
        "There is no .#hydraJobs: .#packages is checked instead.",
    ]
    assert world.builder.finished == [drv]


async def test_what_somebody_named_has_to_be_there() -> None:
    world = World(evaluator=WithoutChecks())
    world.commit([])
    request = msgspec.structs.replace(world.request(compare=False), words=(FlakeWord(".", ("checks",)),))
    assert await world.flow(request).check() is Verdict.EVALUATION_FAILED
