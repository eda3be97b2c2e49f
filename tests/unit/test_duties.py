"""What is owed for good results, whichever way they became good: roots first, pins and uploads with the outcome."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import pytest

from nixmill.core.history import RunRow
from nixmill.core.node import IN_A_CACHE
from nixmill.core.outcome import Outcome
from nixmill.core.pin import Pin, PinRule, RootPolicy
from nixmill.core.run_event import AttributeSettled, Noticed, Verdict
from nixmill.core.upload import Made, Upload
from nixmill.doors import DoorError
from nixmill.engine import duties
from nixmill.engine.flow import Flow
from nixmill.engine.request import CacheDuty, RunRequest
from nixmill.nix.store_path import StorePath
from tests.fakes.store import Script
from tests.support.world import World

RUN = RunRow(project="mill", checkout="/mill", commit="c", tree_hash="t", targets=(), process=1, started_at=0.0)
RULE = PinRule(project=1, ref="refs/heads/main", order=7)


@dataclass
class Leases:
    """Roots in memory; `refuses` says which cannot be made and how many tries it takes until they can."""

    world: World
    refuses: dict[StorePath, int] = field(default_factory=dict)
    failure: DoorError | None = None
    held: set[StorePath] = field(default_factory=set)
    before_asking: list[bool] = field(default_factory=list)
    """For each call, whether the store had not been asked about the paths yet."""

    times: Counter[StorePath] = field(default_factory=Counter)
    """How often each path was to be rooted."""

    async def hold(self, run: int, paths: Collection[StorePath]) -> dict[StorePath, str]:
        del run
        self.times.update(list(paths))
        self.before_asking.append(not self.world.store.held.intersection(set(paths) - self.held))
        if self.failure is not None:
            raise self.failure
        faults = {}
        for path in paths:
            if self.refuses.get(path, 0) > 0:
                self.refuses[path] -= 1
                faults[path] = "the directory is full."
        self.held.update(path for path in paths if path not in faults)
        return faults


@dataclass
class Kept:
    world: World
    leases: Leases

    async def check(self, **changes: object) -> Verdict:
        number = await self.world.history.start_run(RUN)
        given: dict[str, object] = {"pin": RULE, "caches": (CacheDuty(name="main"),), "number": number, **changes}
        request: RunRequest = self.world.request(**given)
        self.world.events = []
        doors = replace(self.world.doors(), leases=self.leases)
        return await Flow(request, doors, self.world.events.append).check()

    def rows(self, kind: type[Pin | Upload | Made]) -> list[Pin | Upload | Made]:
        return [row for row in self.world.history.duty_rows if isinstance(row, kind)]

    def pins(self) -> dict[str, Pin]:
        return {row.path[-1]: row for row in self.rows(Pin) if isinstance(row, Pin)}

    def uploads(self) -> set[StorePath]:
        return {row.path for row in self.rows(Upload) if isinstance(row, Upload)}


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr(duties, "WAITS_S", (0.0, 0.0))
    world = World()
    return Kept(world, Leases(world))


def commit(world: World, *names: str, needs: Sequence[StorePath] = ()) -> dict[str, StorePath]:
    drvs = {name: world.store.derivation(name, list(needs)) for name in names}
    world.commit([world.attribute(name, drv_path) for name, drv_path in drvs.items()])
    return {name: next(iter(world.store.outputs(drv_path).values())) for name, drv_path in drvs.items()}


async def test_what_was_built_is_rooted_pinned_and_published_in_one_go(kept: Kept) -> None:
    outs = commit(kept.world, "a", "b")
    assert await kept.check() is Verdict.GOOD
    assert set(outs.values()) <= kept.leases.held
    assert all(kept.leases.before_asking), "the root comes first, then the question"
    assert {name: tuple(pin.outputs.values()) for name, pin in kept.pins().items()} == {
        n: (p,) for n, p in outs.items()
    }
    assert {(pin.order, pin.run, pin.held) for pin in kept.pins().values()} == {(7, 1, "")}
    assert kept.uploads() == set(outs.values())
    assert {row.path for row in kept.rows(Made)} == set(outs.values())


async def test_what_was_there_already_owes_the_same(kept: Kept) -> None:
    outs = commit(kept.world, "a", "b")
    for path in outs.values():
        kept.world.store.add(path)
    assert await kept.check() is Verdict.GOOD
    assert kept.world.settled()["a"].how == "present"
    assert kept.pins().keys() == {"a", "b"}
    assert kept.uploads() == set(outs.values())
    assert kept.rows(Made) == [], "nobody built it here"


async def test_what_equals_a_good_base_and_is_gone_is_built_again_for_its_pin(kept: Kept) -> None:
    drv_path = kept.world.store.derivation("a")
    first = {"a": next(iter(kept.world.store.outputs(drv_path).values()))}
    base = kept.world.commit([kept.world.attribute("a", drv_path)])
    assert await kept.check() is Verdict.GOOD
    kept.world.history.duty_rows.clear()
    del kept.world.store.contents[first["a"]]
    kept.world.commit([kept.world.attribute("a", drv_path)])
    assert await kept.check(base=base) is Verdict.GOOD
    assert kept.pins().keys() == {"a"}
    assert first["a"] in kept.world.store.contents


async def test_without_a_rule_a_run_is_rooted_and_owes_nothing_more(kept: Kept) -> None:
    outs = commit(kept.world, "a")
    assert await kept.check(pin=None, caches=()) is Verdict.GOOD
    assert set(outs.values()) <= kept.leases.held
    assert kept.pins() == {}
    assert kept.uploads() == set()


async def test_one_path_of_hundreds_that_cannot_be_rooted_is_its_own_attributes_trouble(kept: Kept) -> None:
    outs = commit(kept.world, *(f"a{number}" for number in range(300)))
    kept.leases.refuses[outs["a150"]] = 1000
    await kept.check()
    settled = kept.world.settled()
    assert settled["a150"].outcome is Outcome.INFRASTRUCTURE
    assert "the directory is full" in settled["a150"].how
    assert {event.outcome for name, event in settled.items() if name != "a150"} == {Outcome.SUCCEEDED}
    assert len(kept.pins()) == 299
    assert "a150" not in kept.pins()
    attempts = [row for row in kept.world.history.attempt_rows.values() if row.outcome is not Outcome.SUCCEEDED]
    assert attempts == [], "no build's result is rewritten"


async def test_a_root_that_can_be_made_at_the_second_try_is_no_trouble(kept: Kept) -> None:
    outs = commit(kept.world, "a")
    kept.leases.refuses[outs["a"]] = 1
    assert await kept.check() is Verdict.GOOD
    assert kept.pins().keys() == {"a"}


async def test_a_root_that_can_be_made_by_the_end_is_no_trouble(kept: Kept) -> None:
    outs = commit(kept.world, "a")
    kept.leases.refuses[outs["a"]] = 1 + len(duties.WAITS_S)  # all tries when it was found
    assert await kept.check() is Verdict.GOOD
    assert kept.pins().keys() == {"a"}


async def test_a_directory_of_roots_that_is_away_troubles_runs_that_pin_and_no_others(kept: Kept) -> None:
    commit(kept.world, "a")
    kept.leases.failure = DoorError("The roots are away.", door="roots", action="add", retryable=True)
    await kept.check()
    assert kept.world.settled()["a"].outcome is Outcome.INFRASTRUCTURE
    assert kept.pins() == {}
    assert await kept.check(pin=None, caches=()) is Verdict.GOOD
    assert any("no root of their own" in event.text for event in kept.world.told(Noticed) if isinstance(event, Noticed))


async def test_what_only_a_cache_has_is_fetched_where_a_branch_wants_it_here(kept: Kept) -> None:
    outs = commit(kept.world, "a")
    kept.world.may_fetch = True
    kept.world.store.substitutable[outs["a"]] = Script()
    rule = PinRule(project=1, ref="refs/heads/main", order=7, policy=RootPolicy.REQUIRE_LOCAL)
    assert await kept.check(pin=rule) is Verdict.GOOD
    assert kept.world.settled()["a"].how == "fetched"
    assert kept.pins()["a"].held == ""


@pytest.mark.parametrize("policy", [RootPolicy.PIN_IF_LOCAL, RootPolicy.PIN_IN_CACHE])
async def test_what_only_a_cache_has_stays_there_and_is_recorded_so(kept: Kept, policy: RootPolicy) -> None:
    outs = commit(kept.world, "a")
    kept.world.may_fetch = True
    kept.world.store.substitutable[outs["a"]] = Script()
    rule = PinRule(project=1, ref="refs/heads/main", order=7, policy=policy)
    assert await kept.check(pin=rule) is Verdict.GOOD
    event = kept.world.settled()["a"]
    assert isinstance(event, AttributeSettled)
    assert event.how == IN_A_CACHE
    assert outs["a"] not in kept.world.store.contents, "nothing was downloaded"
    assert kept.pins()["a"].held == "substituter"
    assert kept.uploads() == set()


async def test_what_is_deleted_by_force_is_never_announced_good(kept: Kept) -> None:
    outs = commit(kept.world, "a")
    kept.world.store.add(outs["a"])
    seen = kept.world.store.hold

    async def gone_the_second_time(paths: Collection[StorePath]) -> set[StorePath]:
        found = await seen(paths)
        kept.world.store.contents.pop(outs["a"], None)
        return found

    kept.world.store.hold = gone_the_second_time  # type: ignore[method-assign]
    await kept.check()
    event = kept.world.settled()["a"]
    assert event.outcome is Outcome.INFRASTRUCTURE
    assert "vanished" in event.how
    assert kept.pins() == {}


async def test_what_is_built_on_the_way_is_rooted_as_well(kept: Kept) -> None:
    needed = kept.world.store.derivation("needed", [])
    commit(kept.world, "user", needs=[needed])
    await kept.check()
    assert set(kept.world.store.outputs(needed).values()) <= kept.leases.held


async def test_what_was_not_there_when_it_was_rooted_is_rooted_again_once_it_is(kept: Kept) -> None:
    """A collection that had looked for roots in between has passed over that root."""
    paths = commit(kept.world, "built", "there")
    kept.world.store.add(paths["there"])
    await kept.check()
    assert (kept.leases.times[paths["built"]], kept.leases.times[paths["there"]]) == (2, 1)
