"""The desks that empty the outbox and run hooks, with a clock that leaps to the next thing that happens."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import count, pairwise

import msgspec
import pytest
import structlog

from nixmill.core.hook import Hook, HookRun, HookState
from nixmill.core.message import ChannelKind, Ended, Parcel
from nixmill.doors import DoorError
from nixmill.doors.server import RetryLaterError
from nixmill.engine.courier import AT_ONCE, TRIES, CourierDesk, back_off_s
from nixmill.engine.hook_desk import NO_LONGER, HookDesk
from tests.fakes.outbox import FakeOutbox
from tests.support.world import until


class LeapClock:
    """Time stands still until `leap`, which goes on to the next sleeper."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._numbers = count()

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        event = asyncio.Event()
        heapq.heappush(self._sleepers, (self.time + seconds, next(self._numbers), event))
        await event.wait()

    def leap(self) -> None:
        if self._sleepers:
            self.time, _, event = heapq.heappop(self._sleepers)
            event.set()


class FakeCourier:
    """Takes messages; a target whose name has answers left gives them first."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.tried: list[tuple[float, str]] = []
        self.answers: dict[str, list[Exception | asyncio.Event]] = {}
        self.at_once = 0
        self.most_at_once = 0
        self.clock: LeapClock | None = None

    async def deliver(self, parcel: Parcel) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.tried.append((self.clock.now() if self.clock else 0.0, parcel.key))
            await asyncio.sleep(0)
            answers = self.answers.get(parcel.target, [])
            match answers.pop(0) if answers else None:
                case Exception() as error:
                    raise error
                case asyncio.Event() as event:
                    await event.wait()
                case None:
                    pass
            self.taken.append(parcel.key)
        finally:
            self.at_once -= 1


def _fault(*, retryable: bool = True) -> DoorError:
    return DoorError("It said no.", door="notify", action="deliver", retryable=retryable)


def _later(after_s: float) -> RetryLaterError:
    return RetryLaterError("It said later.", door="notify", action="deliver", after_s=after_s)


def _parcel(number: int, target: str = "a", channel: ChannelKind = ChannelKind.WEBHOOK, tries: int = 0) -> Parcel:
    return Parcel(
        id=number,
        key=f"{target}{number}",
        project=1,
        run=1,
        channel=channel,
        target=target,
        credential="",
        title="t",
        text="t",
        body="{}",
        tries=tries,
        created_at=1000.0,
    )


class Bench:
    """A desk that runs."""

    def __init__(self, *parcels: Parcel) -> None:
        self.outbox = FakeOutbox(*parcels)
        self.courier = FakeCourier()
        self.clock = LeapClock()
        self.courier.clock = self.clock
        self.desk = CourierDesk(
            self.outbox,
            {ChannelKind.WEBHOOK: self.courier},
            self.clock,
            structlog.get_logger(),
            chance=lambda: 0.5,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.desk.run())
        try:
            yield
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    async def leaping_until(self, true: Callable[[], bool]) -> None:
        """Leap on whenever everything has come to rest, until a condition holds."""
        for _ in range(2000):
            for _ in range(20):
                await asyncio.sleep(0)
            if true():
                return
            self.clock.leap()
        raise AssertionError("it never came true")


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 1), (1, 2), (2, 4), (3, 8), (9, 512), (10, 1024), (11, 1024), (11000, 1024)]
)
async def test_back_off_doubles_up_to_a_limit(failures: int, seconds: float) -> None:
    assert back_off_s(failures) == seconds


async def test_what_is_due_is_delivered_and_recorded() -> None:
    bench = Bench(_parcel(1), _parcel(2, "b"))
    async with bench.running():
        await until(lambda: len(bench.outbox.outcomes) == 2)
    assert sorted(bench.courier.taken) == ["a1", "b2"]
    assert {(outcome.id, outcome.fault, outcome.again_at) for outcome in bench.outbox.outcomes} == {
        (1, "", None),
        (2, "", None),
    }
    assert (bench.desk.delivered, bench.desk.retried, bench.desk.dead) == (2, 0, 0)


async def test_something_new_is_delivered_at_once_when_the_desk_is_woken() -> None:
    bench = Bench()
    async with bench.running():
        for number in range(1, 4):
            bench.outbox.add(_parcel(number))
            bench.desk.wake()
            await until(lambda: not bench.outbox.due_at)
    assert bench.clock.time == 1000.0


async def test_something_new_is_found_without_waking_too() -> None:
    bench = Bench()
    async with bench.running():
        await until(lambda: bool(bench.clock._sleepers))
        bench.outbox.add(_parcel(1))
        await bench.leaping_until(lambda: bench.courier.taken == ["a1"])
    assert bench.clock.time == 1030.0


async def test_a_failed_try_is_followed_by_another_later_and_later() -> None:
    bench = Bench(_parcel(1))
    bench.courier.answers["a"] = [_fault() for _ in range(4)]
    async with bench.running():
        await bench.leaping_until(lambda: bench.courier.taken == ["a1"])
    times = [at for at, _ in bench.courier.tried]
    # 2^n and half of a quarter of it: chance is 0.5
    assert [after - before for before, after in pairwise(times)] == [2.25, 4.5, 9.0, 18.0]
    assert bench.desk.retried == 4


async def test_after_ten_tries_it_is_a_dead_letter() -> None:
    bench = Bench(_parcel(1))
    bench.courier.answers["a"] = [_fault() for _ in range(100)]
    async with bench.running():
        await bench.leaping_until(lambda: bench.desk.dead == 1 and not bench.outbox.due_at)
    assert len(bench.courier.tried) == TRIES
    assert (bench.outbox.outcomes[-1].fault, bench.outbox.outcomes[-1].again_at) == ("It said no.", None)


async def test_what_will_never_be_taken_is_a_dead_letter_at_once() -> None:
    bench = Bench(_parcel(1), _parcel(2))
    bench.courier.answers["a"] = [_fault(retryable=False)]
    async with bench.running():
        await until(lambda: len(bench.outbox.outcomes) == 2)
    assert bench.courier.taken == ["a2"]
    assert bench.outbox.outcomes[0].again_at is None
    assert bench.clock.time == 1000.0


async def test_a_channel_that_is_not_set_up_says_so() -> None:
    bench = Bench(_parcel(1, channel=ChannelKind.EMAIL))
    async with bench.running():
        await until(lambda: bench.desk.dead == 1 and bool(bench.outbox.outcomes))
    assert "cannot send by email: add it to the settings" in bench.outbox.outcomes[0].fault


async def test_the_other_side_may_name_the_time() -> None:
    bench = Bench(_parcel(1))
    bench.courier.answers["a"] = [_later(500.0), _later(0.0)]
    async with bench.running():
        await bench.leaping_until(lambda: bench.courier.taken == ["a1"])
    times = [at for at, _ in bench.courier.tried]
    assert 500.0 <= times[1] - times[0] < 502.0
    assert 4.0 <= times[2] - times[1] < 6.0  # never sooner than our own pause


async def test_messages_to_a_target_stay_in_order_even_when_one_has_to_wait() -> None:
    bench = Bench(_parcel(1), _parcel(2), _parcel(3, "b"))
    bench.courier.answers["a"] = [_fault(), _fault()]
    async with bench.running():
        await until(lambda: "b3" in bench.courier.taken)
        bench.outbox.add(_parcel(4))
        bench.desk.wake()
        await bench.leaping_until(lambda: len(bench.courier.taken) == 4)
    assert [key for key in bench.courier.taken if key.startswith("a")] == ["a1", "a2", "a4"]
    assert bench.outbox.parcels[2].tries == 0


async def test_a_target_that_does_not_answer_holds_up_nobody_else() -> None:
    bench = Bench(_parcel(1))
    never = asyncio.Event()
    bench.courier.answers["a"] = [never]
    async with bench.running():
        await until(lambda: bench.courier.at_once == 1)
        for number in range(2, 30):
            bench.outbox.add(_parcel(number, "b"))
        bench.desk.wake()
        await until(lambda: len(bench.courier.taken) == 28)
        never.set()
        await until(lambda: len(bench.courier.taken) == 29)
    assert len(bench.courier.tried) == 29


async def test_old_messages_to_a_target_that_waits_do_not_hide_younger_ones() -> None:
    bench = Bench(*(_parcel(number) for number in range(1, 500)))
    bench.courier.answers["a"] = [_fault()]
    async with bench.running():
        await until(lambda: bench.desk.retried == 1)
        bench.outbox.add(_parcel(500, "b"))
        bench.desk.wake()
        await until(lambda: "b500" in bench.courier.taken)
    assert bench.courier.taken == ["b500"]


async def test_only_so_many_are_on_their_way_at_once() -> None:
    bench = Bench(*(_parcel(number, f"target {number}") for number in range(1, 60)))
    async with bench.running():
        await until(lambda: len(bench.outbox.outcomes) == 59)
    assert bench.courier.most_at_once == AT_ONCE


async def test_each_message_is_sent_once_while_nothing_fails() -> None:
    bench = Bench(*(_parcel(number, f"t{number % 7}-") for number in range(1, 200)))
    async with bench.running():
        for _ in range(50):
            bench.desk.wake()
            await asyncio.sleep(0)
        await until(lambda: len(bench.outbox.outcomes) == 199)
    assert len(bench.courier.tried) == len(set(bench.courier.tried)) == 199


async def test_what_was_delivered_is_recorded_when_the_database_is_back_and_not_sent_again() -> None:
    bench = Bench(_parcel(1))
    release = asyncio.Event()
    bench.courier.answers["a"] = [release]
    async with bench.running():
        await until(lambda: bench.courier.at_once == 1)
        bench.outbox.trouble = 4
        release.set()
        await bench.leaping_until(lambda: len(bench.outbox.outcomes) == 1)
    assert len(bench.courier.tried) == 1


async def test_an_outbox_that_cannot_be_read_is_read_again() -> None:
    bench = Bench(_parcel(1))
    bench.outbox.trouble = 3
    async with bench.running():
        await bench.leaping_until(lambda: bench.courier.taken == ["a1"])


async def test_a_mistake_in_a_courier_stops_nothing() -> None:
    bench = Bench(_parcel(1), _parcel(2, "b"))
    bench.courier.answers["a"] = [ZeroDivisionError("hush")]
    async with bench.running():
        await bench.leaping_until(lambda: len(bench.courier.taken) == 2)
    fault = next(outcome.fault for outcome in bench.outbox.outcomes if outcome.fault)
    assert "ZeroDivisionError" in fault
    assert "hush" not in fault


async def test_stopping_in_the_middle_leaves_the_message_due() -> None:
    bench = Bench(_parcel(1), _parcel(2))
    bench.courier.answers["a"] = [asyncio.Event()]
    async with bench.running():
        await until(lambda: bench.courier.at_once == 1)
    assert bench.courier.at_once == 0
    assert bench.outbox.outcomes == []
    assert set(bench.outbox.due_at) == {1, 2}


async def test_a_crash_after_sending_and_before_recording_sends_this_one_message_again() -> None:
    bench = Bench(_parcel(1), _parcel(2), _parcel(3), _parcel(4, "b"))
    bench.outbox.hangs_at = 2
    async with bench.running():
        await until(lambda: bench.outbox.hanging and 4 not in bench.outbox.due_at)
    bench.outbox.hangs_at = 0
    async with bench.running():
        await until(lambda: not bench.outbox.due_at)
    assert [key for key in bench.courier.taken if key.startswith("a")] == ["a1", "a2", "a2", "a3"]
    assert bench.courier.taken.count("b4") == 1


# Hooks


class FakeRunner:
    """Ends hooks with exit code 0; attribute `slow` waits for `release`, `broken` raises."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, bytes]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.release = asyncio.Event()
        self.cleaned = 0

    async def run(self, hook: Hook, run: HookRun, document: bytes, started: Callable[[], Awaitable[None]]) -> HookRun:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.ran.append((run.id, document))
            await started()
            await asyncio.sleep(0)
            if run.attribute == "slow":
                await self.release.wait()
            if run.attribute == "broken":
                raise ZeroDivisionError
            return _with(run, state=HookState.EXITED, exit_code=0, ended_at=2000.0)
        finally:
            self.at_once -= 1

    def log_location(self, run: str) -> str:
        return run

    async def read_log(self, run: str, offset: int = 0, limit: int | None = None) -> bytes:
        return b""

    async def delete_logs(self, runs: Sequence[str]) -> None:
        pass

    async def keep_only(self, known: Callable[[Sequence[str]], Awaitable[Collection[str]]]) -> None:
        """Nothing is kept anyway."""

    async def clean_up(self) -> None:
        self.cleaned += 1


class FakeStory:
    """Run 7 has a hundred attributes and some with a name."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def told(self, number: int) -> Ended | None:
        return None

    async def attributes_for_hooks(self, number: int) -> Sequence[tuple[str, bool, bytes]]:
        self.asked.append(number)
        names = [*(f"a{n}" for n in range(100)), "slow", "broken"]
        return [(name, True, f"{number} {name}".encode()) for name in names]


def _with(run: HookRun, **changes: object) -> HookRun:
    return msgspec.structs.replace(run, **changes)


def _hook_run(attribute: str, *, state: HookState = HookState.WAITING, hook: str = "tell", run: int = 7) -> HookRun:
    return HookRun(
        id=f"{run} {attribute}", hook=hook, command=("old",), run=run, project=1, attribute=attribute, state=state
    )


class HookBench:
    """A desk for hooks that runs."""

    def __init__(self, *runs: HookRun, at_once: int = 4) -> None:
        self.outbox = FakeOutbox()
        self.outbox.hooks = {run.id: run for run in runs}
        self.runner = FakeRunner()
        self.story = FakeStory()
        self.told: list[HookRun] = []
        self.clock = LeapClock()
        self.desk = HookDesk(
            self.outbox,
            self.runner,
            self.story,
            [Hook(name="tell", command=("true",))],
            self.clock,
            structlog.get_logger(),
            at_once=at_once,
            told=self.told.append,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.desk.run())
        try:
            yield
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    def states(self) -> dict[str, HookState]:
        return {run.attribute: run.state for run in self.outbox.hooks.values()}


async def test_waiting_hooks_are_run_a_few_at_once_each_with_its_document() -> None:
    bench = HookBench(*(_hook_run(f"a{n}") for n in range(100)))
    async with bench.running():
        await until(lambda: set(bench.states().values()) == {HookState.EXITED})
    assert bench.runner.most_at_once == 4
    assert sorted(bench.runner.ran) == sorted((f"7 a{n}", f"7 a{n}".encode()) for n in range(100))
    assert bench.story.asked == [7]
    assert bench.desk.ended == 100


async def test_a_hook_is_recorded_as_running_before_it_starts() -> None:
    bench = HookBench(_hook_run("slow"))
    async with bench.running():
        await until(lambda: bench.runner.at_once == 1)
        assert bench.states() == {"slow": HookState.RUNNING}
        assert bench.outbox.hooks["7 slow"].started_at == 1000.0
        assert [run.state for run in bench.told] == [HookState.RUNNING]
        bench.runner.release.set()
        await until(lambda: bench.states() == {"slow": HookState.EXITED})
    assert [run.state for run in bench.told] == [HookState.RUNNING, HookState.EXITED]


async def test_what_ran_when_the_server_was_killed_is_lost_and_never_run_again() -> None:
    bench = HookBench(_hook_run("a1", state=HookState.RUNNING), _hook_run("a2"))
    async with bench.running():
        await until(lambda: bench.states() == {"a1": HookState.LOST, "a2": HookState.EXITED})
    assert [name for name, _ in bench.runner.ran] == ["7 a2"]
    assert bench.runner.cleaned == 1
    assert bench.outbox.hooks["7 a1"].ended_at == 1000.0
    assert bench.desk.lost == 1


async def test_a_server_that_stops_kills_its_hooks_and_records_them_as_lost() -> None:
    bench = HookBench(_hook_run("slow"))
    async with bench.running():
        await until(lambda: bench.runner.at_once == 1)
    assert bench.runner.at_once == 0
    assert bench.states() == {"slow": HookState.LOST}


async def test_a_slow_hook_holds_up_the_others_only_at_its_place() -> None:
    bench = HookBench(_hook_run("slow"), *(_hook_run(f"a{n}") for n in range(20)), at_once=2)
    async with bench.running():
        await until(lambda: list(bench.states().values()).count(HookState.EXITED) == 20)
        assert bench.states()["slow"] is HookState.RUNNING


async def test_new_hooks_are_run_when_the_desk_is_woken() -> None:
    bench = HookBench()
    async with bench.running():
        await until(lambda: bool(bench.clock._sleepers))
        bench.outbox.hooks["7 a1"] = _hook_run("a1")
        bench.desk.wake()
        await until(lambda: bench.states() == {"a1": HookState.EXITED})


@pytest.mark.parametrize("run", [_hook_run("a1", hook="no longer"), _hook_run("no longer")])
async def test_what_is_no_longer_configured_or_there_is_not_run(run: HookRun) -> None:
    bench = HookBench(run)
    async with bench.running():
        await until(lambda: set(bench.states().values()) == {HookState.COULD_NOT_START})
    assert bench.runner.ran == []
    assert bench.outbox.hooks[run.id].errno == NO_LONGER


async def test_a_mistake_costs_one_hook() -> None:
    bench = HookBench(_hook_run("broken"), _hook_run("a1"), at_once=1)
    async with bench.running():
        await until(lambda: bench.states() == {"broken": HookState.LOST, "a1": HookState.EXITED})


async def test_hooks_wait_for_a_database_that_is_away() -> None:
    bench = HookBench(_hook_run("a1", state=HookState.RUNNING), _hook_run("a2"))
    bench.outbox.trouble = 3
    async with bench.running():
        for _ in range(200):
            await asyncio.sleep(0)
            bench.clock.leap()
        await until(lambda: bench.states() == {"a1": HookState.LOST, "a2": HookState.EXITED})
