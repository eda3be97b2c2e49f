"""What several runs share: one attempt for all who want it, places of machines, evaluations of one tree."""

import asyncio

from nixmill.core.fairness import Party
from nixmill.core.history import AttemptRow
from nixmill.core.machine import LOCAL, Machine
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import EvaluationTold, Verdict, WorkEnded, WorkOutput, WorkStarted
from nixmill.engine.gate import Gate
from nixmill.engine.works import Works
from nixmill.nix.build_result import BuildStatus
from tests.fakes.store import Script
from tests.support.world import SYSTEM, LoopClock, World, until


def gate_of(places: int) -> Gate:
    gate = Gate(LoopClock())
    gate.set_places([Machine(address=LOCAL, systems=(SYSTEM,), max_jobs=places)])
    return gate


async def test_two_runs_that_want_the_same_build_share_one_attempt_and_hear_the_same() -> None:
    world, works, gate = World(), Works(), asyncio.Event()
    drv = world.store.derivation("lib")
    world.builder.script(drv, Script(gate=gate, lines=("a line",)))
    world.commit([world.attribute("lib", drv)])
    first = world.flow(works=works)
    heard_first = world.events
    second = world.flow(works=works)
    heard_second = world.events
    tasks = [asyncio.create_task(flow.check()) for flow in (first, second)]
    await until(
        lambda: bool(world.builder.running) and len([e for e in heard_second if isinstance(e, WorkStarted)]) == 1
    )
    gate.set()
    assert await asyncio.gather(*tasks) == [Verdict.GOOD, Verdict.GOOD]
    assert world.builder.attempts == [drv]
    for heard in (heard_first, heard_second):
        assert [type(e) for e in heard if isinstance(e, WorkStarted | WorkOutput | WorkEnded)] == [
            WorkStarted,
            WorkOutput,
            WorkEnded,
        ]
    numbers = {e.attempt for heard in (heard_first, heard_second) for e in heard if isinstance(e, WorkEnded)}
    assert len(numbers) == 1


async def test_a_cancelled_run_leaves_a_shared_build_to_the_other() -> None:
    world, works, gate = World(), Works(), asyncio.Event()
    drv = world.store.derivation("lib")
    world.builder.script(drv, Script(gate=gate))
    world.commit([world.attribute("lib", drv)])
    first, second = world.flow(works=works), world.flow(works=works)
    tasks = [asyncio.create_task(flow.check()) for flow in (first, second)]
    await until(lambda: len([e for e in world.events if isinstance(e, WorkStarted)]) == 1)
    first.cancel()
    assert await tasks[0] is Verdict.CANCELLED
    assert world.builder.cancelled == []
    gate.set()
    assert await tasks[1] is Verdict.GOOD
    assert world.builder.attempts == [drv]
    assert [row.outcome for row in world.history.attempt_rows.values()] == [Outcome.SUCCEEDED]


async def test_the_last_one_to_leave_ends_the_build() -> None:
    world, works = World(), Works()
    drv = world.store.derivation("lib")
    world.builder.script(drv, Script(gate=asyncio.Event()))
    world.commit([world.attribute("lib", drv)])
    flows = [world.flow(works=works) for _ in range(2)]
    tasks = [asyncio.create_task(flow.check()) for flow in flows]
    await until(lambda: len([e for e in world.events if isinstance(e, WorkStarted)]) == 1)
    for flow in flows:
        flow.cancel()
    assert await asyncio.gather(*tasks) == [Verdict.CANCELLED, Verdict.CANCELLED]
    assert world.builder.cancelled == [drv]


async def test_a_machine_takes_no_more_than_its_places_from_all_runs_together() -> None:
    world = World(jobs=2)
    works = Works(gate_of(2))
    for run in range(3):
        drvs = [world.store.derivation(f"job-{run}-{n}") for n in range(4)]
        world.commit([world.attribute(f"{run}-{n}", drv) for n, drv in enumerate(drvs)])
    tasks: list[asyncio.Task[Verdict]] = []
    for commit in world.source.commits:
        request = world.request(revision=commit, party=Party(project=len(tasks)), compare=False)
        tasks.append(asyncio.create_task(world.flow(request, works).check()))
    assert set(await asyncio.gather(*tasks)) == {Verdict.GOOD}
    assert len(world.builder.finished) == 12
    assert world.builder.peak == 2


async def test_what_waits_for_a_place_has_a_reason_and_can_be_cancelled() -> None:
    world, gate, gated = World(), asyncio.Event(), gate_of(1)
    works = Works(gated)
    slow, other = world.store.derivation("slow"), world.store.derivation("other")
    world.builder.script(slow, Script(gate=gate))
    first = world.commit([world.attribute("slow", slow)])
    second = world.commit([world.attribute("other", other)])
    busy = asyncio.create_task(world.flow(world.request(revision=first, party=Party(name="mill")), works).check())
    await until(lambda: bool(gated.inside))
    waiting_flow = world.flow(world.request(revision=second, compare=False), works)
    waiting = asyncio.create_task(waiting_flow.check())
    await until(lambda: bool(gated.waiting()))
    (ticket,) = gated.waiting()
    assert gated.reason(ticket) == "all 1 places of this machine are busy with slow of mill; 0 others want one too"
    waiting_flow.cancel()
    assert await waiting is Verdict.CANCELLED
    assert world.builder.attempts == [slow]
    assert not [e for e in world.events if isinstance(e, WorkStarted)]
    gate.set()
    assert await busy is Verdict.GOOD


async def test_the_same_tree_is_evaluated_once_however_many_ask_at_the_same_time() -> None:
    world, works, gate = World(), Works(), asyncio.Event()
    drv = world.store.derivation("lib")
    commit = world.commit(gate, [world.attribute("lib", drv)])
    request = world.request(revision=commit, compare=False)
    tasks = [asyncio.create_task(world.flow(request, works).check()) for _ in range(3)]
    await until(lambda: world.evaluator.asked == [commit])
    gate.set()
    assert await asyncio.gather(*tasks) == [Verdict.GOOD] * 3
    assert world.evaluator.asked == [commit]
    assert len(world.told(EvaluationTold)) == 1


async def test_a_remembered_failure_is_not_tried_again_but_says_where_it_is_from() -> None:
    world = World()
    bad = world.store.derivation("bad")
    victim = world.store.derivation("victim", [bad])
    world.builder.script(bad, Script(BuildStatus.PERMANENT_FAILURE, "no"))
    world.commit([world.attribute("bad", bad), world.attribute("victim", victim)])
    party = Party(project=7, name="mill")
    assert await world.check(remember=True, party=party, compare=False) is Verdict.BUILD_FAILED
    world.commit([world.attribute("bad", bad), world.attribute("victim", victim), world.attribute("new", bad)])
    assert await world.check(remember=True, party=party, compare=False) is Verdict.BUILD_FAILED
    assert world.builder.attempts == [bad]
    assert world.settled()["bad"].how.startswith("failed in run 1, attempt ")
    assert world.settled()["victim"].outcome is Outcome.DEPENDENCY_FAILED
    world.commit([world.attribute("bad", bad)])
    assert await world.check(remember=True, party=Party(project=8), compare=False) is Verdict.BUILD_FAILED
    assert world.builder.attempts == [bad, bad], "memory is each project's own"


async def test_a_forgiven_failure_is_tried_again_and_forgotten_when_it_turns_out_good() -> None:
    world = World()
    flaky = world.store.derivation("flaky")
    world.builder.script(flaky, Script(BuildStatus.PERMANENT_FAILURE, "no"), Script())
    world.commit([world.attribute("flaky", flaky)])
    party = Party(project=7)
    assert await world.check(remember=True, party=party, compare=False) is Verdict.BUILD_FAILED
    again = {"remember": True, "party": party, "forgive": frozenset([flaky]), "compare": False}
    assert await world.check(**again) is Verdict.GOOD
    assert world.failures.known == {}


async def test_a_run_that_goes_on_after_a_crash_keeps_what_it_found() -> None:
    world = World()
    fine, bad = world.store.derivation("fine"), world.store.derivation("bad")
    world.builder.script(bad, Script(BuildStatus.TIMED_OUT, "too slow"))
    world.commit([world.attribute("fine", fine), world.attribute("bad", bad)])
    assert await world.check(compare=False) is Verdict.BUILD_FAILED
    attempts = list(world.builder.attempts)
    assert await world.check(compare=False, number=1) is Verdict.BUILD_FAILED
    assert world.builder.attempts == attempts
    assert world.settled()["fine"].how == "built"
    assert world.settled()["bad"].outcome is Outcome.TIMED_OUT


async def test_the_same_tree_again_inherits_a_time_out_and_says_from_where() -> None:
    world = World()
    slow = world.store.derivation("slow")
    world.builder.script(slow, Script(BuildStatus.TIMED_OUT, "too slow"))
    world.commit([world.attribute("slow", slow)])
    assert await world.check(remember=True, compare=False) is Verdict.BUILD_FAILED
    assert await world.check(remember=True, compare=False) is Verdict.BUILD_FAILED
    assert world.builder.attempts == [slow]
    assert world.settled()["slow"].how == "known from run 1: too slow"
    assert await world.check(remember=True, compare=False, rebuild=True) is Verdict.BUILD_FAILED
    assert world.builder.attempts == [slow, slow], "by hand it is tried again"


async def test_a_build_goes_on_alone_where_another_run_will_come_to_it() -> None:
    world, works, gate, late = World(jobs=1), Works(), asyncio.Event(), asyncio.Event()
    lib, other = world.store.derivation("lib"), world.store.derivation("other")
    world.builder.script(lib, Script(gate=gate))
    first = world.commit([world.attribute("lib", lib)])
    second = world.commit([world.attribute("other", other)], late, [world.attribute("lib", lib)])
    rows: list[AttemptRow] = []
    older = world.flow(world.request(revision=first, compare=False), works)
    going = asyncio.create_task(older.check())
    await until(lambda: lib in world.builder.running)
    works.wanted, works.ended_alone = (lambda drv: drv == lib), rows.append
    newer = asyncio.create_task(world.flow(world.request(revision=second, compare=False), works).check())
    await until(lambda: other in world.builder.finished)
    older.cancel()
    assert await going is Verdict.CANCELLED
    gate.set()
    await until(lambda: bool(rows))
    late.set()
    assert await newer is Verdict.GOOD
    assert world.builder.attempts == [lib, other]
    assert [(row.drv_path, row.outcome) for row in rows] == [(lib, Outcome.SUCCEEDED)]
