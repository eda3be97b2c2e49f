"""What every `History` and `Archive` does, on the real database and on the fake."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from nixmill.core.history import EvaluationPartRow, EvaluationRow, Keep, RunEndRow
from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Verdict, Work
from nixmill.doors import Archive, DoorError, History
from nixmill.edge.database.database import open_database
from nixmill.edge.database.history import SqlHistory, open_history
from tests.fakes.history import FakeHistory
from tests.support.databases import a_place, postgres
from tests.support.history_rows import a_run, an_attempt, an_evaluation, an_outcome, drv

__all__ = ["postgres"]


class Both(History, Archive, Protocol):
    """What nixmill's own history is."""


def _alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


@pytest.fixture(params=["file", "sqlite", "postgresql", "fake"])
async def history(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Both]:
    match request.param:
        case "fake":
            yield FakeHistory(alive=_alive, now=lambda: 1e9)
        case "file":
            async with open_history(tmp_path / "state" / "history.sqlite", now=lambda: 1e9) as opened:
                yield opened
        case kind:
            with a_place(kind, request, tmp_path) as where:
                async with open_database(where) as database:
                    yield SqlHistory(database, lambda: 1e9)


async def test_runs_are_numbered_from_one(history: Both) -> None:
    assert [await history.start_run(a_run()) for _ in range(3)] == [1, 2, 3]


async def test_an_unknown_run_is_none(history: Both) -> None:
    assert await history.run(None) is None
    assert await history.run(7) is None


async def test_a_run_comes_back_as_it_was_recorded_with_its_attempts_in_order(history: Both) -> None:
    number = await history.start_run(a_run())
    await history.start_run(a_run())
    attempts = [an_attempt(n, number, outcome=None if n == 2 else Outcome.BUILD_FAILED) for n in (1, 2, 3)]
    await history.record(attempts[::-1])
    assert await history.run(number) == (msgspec.structs.replace(a_run(), number=number), attempts)


async def test_the_latest_run_is_the_one_with_the_highest_number(history: Both) -> None:
    await history.start_run(a_run(started_at=500))
    last = await history.start_run(a_run(started_at=1))
    found = await history.run(None)
    assert found is not None
    assert found[0].number == last


async def test_an_ended_run_has_a_verdict(history: Both) -> None:
    number = await history.start_run(a_run())
    await history.record([RunEndRow(number=number, ended_at=200.0, verdict=Verdict.BUILD_FAILED, sentence="1 failed")])
    found = await history.run(number)
    assert found is not None
    assert (found[0].ended_at, found[0].verdict, found[0].sentence) == (200.0, Verdict.BUILD_FAILED, "1 failed")


async def test_rows_of_an_unknown_run_are_refused_and_none_of_the_call_is_recorded(history: Both) -> None:
    number = await history.start_run(a_run())
    with pytest.raises(DoorError):
        await history.record([an_attempt(1, number), an_attempt(2, 99)])
    with pytest.raises(DoorError):
        await history.record([RunEndRow(number=99, ended_at=1.0, verdict=Verdict.GOOD, sentence="")])
    found = await history.run(number)
    assert found is not None
    assert found[1] == []


async def test_one_refused_call_does_not_harm_those_beside_it(history: Both) -> None:
    number = await history.start_run(a_run())
    calls = [history.record([an_attempt(n, 99 if n % 3 == 0 else number)]) for n in range(1, 31)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [n for n, result in enumerate(results, 1) if isinstance(result, DoorError)] == list(range(3, 31, 3))
    found = await history.run(number)
    assert found is not None
    assert [row.number for row in found[1]] == [n for n in range(1, 31) if n % 3]


async def test_attempt_numbers_are_never_given_twice(history: Both) -> None:
    counts = [3, 1, 10, 1] * 5
    firsts = await asyncio.gather(*(history.next_attempts(count) for count in counts))
    given = [n for first, count in zip(firsts, counts, strict=True) for n in range(first, first + count)]
    assert sorted(given) == list(range(1, sum(counts) + 1))


async def test_an_unknown_evaluation_is_none(history: Both) -> None:
    assert await history.evaluation("key") is None


async def test_an_evaluation_comes_back_in_its_order(history: Both) -> None:
    run = await history.start_run(a_run())
    row = an_evaluation(run, ("b",), ("a", "x.y"), ("a", "..", "\n", '"${'), ())
    await history.record([row])
    assert await history.evaluation("key") == row


async def test_an_evaluation_recorded_again_replaces_the_first_but_keeps_outcomes(history: Both) -> None:
    run = await history.start_run(a_run())
    await history.record([an_evaluation(run, ("a",), ("b",)), an_outcome(run, "a")])
    again = await history.start_run(a_run())
    await history.record([an_evaluation(again, ("a",))])
    found = await history.evaluation("key")
    assert found == msgspec.structs.replace(an_evaluation(again, ("a",)), outcomes={("a",): (Outcome.SUCCEEDED, run)})


async def test_outcomes_may_come_before_their_evaluation_which_is_unknown_until_complete(history: Both) -> None:
    run = await history.start_run(a_run())
    await history.record([an_outcome(run, "a")])
    assert await history.evaluation("key") is None
    await history.record([an_evaluation(run, ("a",), ("b",))])
    found = await history.evaluation("key")
    assert found is not None
    assert found.outcomes == {("a",): (Outcome.SUCCEEDED, run)}


async def test_the_latest_outcome_of_each_attribute_counts(history: Both) -> None:
    first, second = await history.start_run(a_run()), await history.start_run(a_run())
    await history.record([an_evaluation(first, ("a",), ("b",), ("c",))])
    await history.record([an_outcome(first, "a"), an_outcome(first, "b", outcome=Outcome.BUILD_FAILED)])
    await history.record([an_outcome(second, "b"), an_outcome(second, "a", outcome=Outcome.CANCELLED)])
    await history.record([an_outcome(second, "a", outcome=Outcome.TIMED_OUT)])
    found = await history.evaluation("key")
    assert found is not None
    assert found.outcomes == {("a",): (Outcome.TIMED_OUT, second), ("b",): (Outcome.SUCCEEDED, second)}


async def test_a_run_s_outcomes_are_listed_in_the_order_of_paths(history: Both) -> None:
    run, other = await history.start_run(a_run()), await history.start_run(a_run())
    rows = [an_outcome(run, "a", "b"), an_outcome(run, "a-b"), an_outcome(run, "z", outcome=Outcome.DEPENDENCY_FAILED)]
    await history.record([*rows[::-1], an_outcome(other, "a")])
    assert await history.attributes(run) == rows
    assert await history.attributes(99) == []


async def test_past_builds_know_the_newest_ended_attempt(history: Both) -> None:
    first, second = await history.start_run(a_run()), await history.start_run(a_run())
    await history.record([an_attempt(1, first, "a"), an_attempt(2, second, "a", outcome=Outcome.TIMED_OUT)])
    await history.record([an_attempt(3, second, "a", outcome=None), an_attempt(4, second, "b", outcome=None)])
    past, _ = await history.past_builds([drv("a"), drv("b"), drv("c")], [])
    assert list(past) == [drv("a")]
    found = past[drv("a")]
    assert (found.last_outcome, found.last_run, found.last_attempt) == (Outcome.TIMED_OUT, second, 2)
    assert (found.last_at, found.failed_in_run) == (1005.0, None)


async def test_a_failure_is_remembered_until_a_success(history: Both) -> None:
    run = await history.start_run(a_run())
    await history.record([an_attempt(1, run, "a", outcome=Outcome.BUILD_FAILED)])
    await history.record([an_attempt(2, run, "a", outcome=Outcome.INFRASTRUCTURE)])
    past, _ = await history.past_builds([drv("a")], [])
    assert past[drv("a")].failed_in_run == run
    await history.record([an_attempt(3, run, "a", work=Work.FETCH)])
    past, _ = await history.past_builds([drv("a")], [])
    assert past[drv("a")].failed_in_run is None


async def test_estimates_are_the_median_of_the_newest_five_successful_builds(history: Both) -> None:
    run = await history.start_run(a_run())
    await history.record([an_attempt(n, run, "a", seconds=float(n)) for n in range(1, 21)])
    await history.record([an_attempt(21, run, "a", seconds=900.0, outcome=Outcome.BUILD_FAILED)])
    await history.record([an_attempt(22, run, "a", seconds=900.0, work=Work.FETCH)])
    await history.record([an_attempt(23, run, "b", outcome=Outcome.CANCELLED)])
    _, seconds = await history.past_builds([], ["a", "b", "c"])
    assert seconds == {"a": 18.0}


async def _process() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec("sleep", "1000")


async def test_a_run_whose_process_is_gone_was_killed(history: Both) -> None:
    process = await _process()
    crashed = await history.start_run(a_run(process=process.pid))
    await history.start_run(a_run())
    assert await history.crashed_runs() == []
    process.kill()
    await process.wait()
    assert [row.number for row in await history.crashed_runs()] == [crashed]


async def test_runs_are_listed_from_the_newest_in_pages(history: Both) -> None:
    for _ in range(5):
        await history.start_run(a_run())
    assert [row.number for row in await history.runs(2)] == [5, 4]
    assert [row.number for row in await history.runs(10, before=4)] == [3, 2, 1]


async def _ended(history: Both, days_ago: float, key: str) -> int:
    started = 1e9 - days_ago * 86_400
    run = await history.start_run(a_run(started_at=started))
    await history.record([an_evaluation(run, ("a",), key=key), an_outcome(run, "a", key=key)])
    await history.record([an_attempt(run * 10, run), an_attempt(run * 10 + 1, run)])
    await history.record([RunEndRow(number=run, ended_at=started, verdict=Verdict.GOOD, sentence="")])
    return run


async def test_pruning_removes_runs_that_are_neither_new_enough_nor_young_enough(history: Both) -> None:
    old, young, newest = [await _ended(history, days, key) for days, key in ((50, "k1"), (2, "k2"), (40, "k3"))]
    dry = await history.prune(Keep(runs=1, days=30), dry_run=True)
    assert (dry.runs, dry.attempts, dry.evaluations) == ((old,), (old * 10, old * 10 + 1), 1)
    assert len(await history.runs(10)) == 3
    assert await history.prune(Keep(runs=1, days=30)) == dry
    assert [row.number for row in await history.runs(10)] == [newest, young]
    assert await history.run(old) is None
    assert await history.attributes(old) == []
    assert await history.evaluation("k1") is None
    assert await history.evaluation("k2") is not None
    assert await history.check() == []


async def test_pruning_keeps_an_evaluation_that_a_later_run_relied_on(history: Both) -> None:
    old = await _ended(history, 50, "k")
    new = await history.start_run(a_run(started_at=1e9))
    await history.record([an_outcome(new, "a", key="k")])
    assert (await history.prune(Keep(runs=0, days=1))).runs == (old,)
    found = await history.evaluation("k")
    assert found is not None
    assert (found.run, found.outcomes) == (0, {("a",): (Outcome.SUCCEEDED, new)})


async def test_pruning_never_touches_a_run_that_goes_on_but_takes_killed_ones(history: Both) -> None:
    going = await history.start_run(a_run(started_at=0.0))
    process = await _process()
    killed = await history.start_run(a_run(started_at=0.0, process=process.pid))
    process.kill()
    await process.wait()
    assert (await history.prune(Keep(runs=0, days=0))).runs == (killed,)
    assert [row.number for row in await history.runs(10)] == [going]


async def test_run_numbers_are_not_given_again_after_pruning(history: Both) -> None:
    last = await _ended(history, 50, "k")
    await history.prune(Keep(runs=0, days=1))
    assert await history.start_run(a_run()) == last + 1


async def test_recent_evaluations_from_a_checkout_come_newest_first(history: Both) -> None:
    number = await history.start_run(a_run())
    other = await history.start_run(msgspec.structs.replace(a_run(), checkout="/other"))
    for key in ("one", "two", "three"):
        await history.record([an_evaluation(number, ("a",), key=key)])
    await history.record([an_evaluation(other, ("a",), key="elsewhere")])
    assert [row.key for row in await history.recent_evaluations("/src/example", 2)] == ["three", "two"]
    assert [row.key for row in await history.recent_evaluations("/other", 9)] == ["elsewhere"]
    assert await history.recent_evaluations("/unknown", 9) == []


def a_part(run: int, whole: EvaluationRow, start: int, end: int) -> EvaluationPartRow:
    errors = whole.errors if start == 0 else ()
    return EvaluationPartRow(
        key=whole.key,
        run=run,
        start=start,
        attributes=whole.attributes[start:end],
        errors_start=0 if start == 0 else len(whole.errors),
        errors=errors,
    )


async def test_an_evaluation_recorded_in_parts_is_the_same_as_one_recorded_whole(history: Both) -> None:
    run = await history.start_run(a_run())
    whole = an_evaluation(run, ("a",), ("b",), ("c",))
    await history.record([a_part(run, whole, 0, 2)])
    assert await history.evaluation("key") is None, "it is not complete"
    await history.record([a_part(run, whole, 2, 3), msgspec.structs.replace(whole, in_parts=True)])
    assert await history.evaluation("key") == whole


async def test_parts_of_an_evaluation_that_was_broken_off_do_not_stay(history: Both) -> None:
    run = await history.start_run(a_run())
    old, new = an_evaluation(run, ("a",), ("b",), ("c",)), an_evaluation(run, ("c",), ("d",))
    await history.record([a_part(run, old, 0, 3)])
    await history.record([a_part(run, new, 0, 1)])
    await history.record([a_part(run, new, 1, 2), msgspec.structs.replace(new, in_parts=True)])
    assert await history.evaluation("key") == new


async def test_a_complete_evaluation_stays_until_another_one_is_complete(history: Both) -> None:
    run = await history.start_run(a_run())
    old, new = an_evaluation(run, ("a",)), an_evaluation(run, ("b",), ("c",))
    await history.record([old])
    await history.record([a_part(run, new, 0, 2)])
    assert await history.evaluation("key") == old
    await history.record([msgspec.structs.replace(new, in_parts=True)])
    assert await history.evaluation("key") == new
