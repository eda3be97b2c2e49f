"""The keeper of roots: what should stand stands, what runs rely on is never let go, and any crash heals."""

from collections.abc import Collection
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nixmill.core.pin import HandPin, Pin, PinRule
from nixmill.core.roots import KeptPin, RootFacts, RootRules
from nixmill.doors import DoorError
from nixmill.engine.keeper import GRACE_S, Keeper
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath
from tests.fakes.gc_roots import FakeRoots
from tests.fakes.store import make_path
from tests.support.world import LoopClock

PATHS = [make_path(f"p{number}") for number in range(6)]


@dataclass
class Book:
    """What the database wants, as a set."""

    wanted: set[StorePath] = field(default_factory=set)

    async def facts(self, now: float) -> RootFacts:
        del now
        return RootFacts(pins=[KeptPin((path,)) for path in sorted(self.wanted)])

    async def pins(self, project: int, ref: str) -> list[Pin]:
        raise NotImplementedError

    async def evaluated(self, rule: PinRule, has: Collection[AttrPath], now: float) -> int:
        raise NotImplementedError

    async def tidy(self, refs: dict[int, Collection[str]], gone_s: float, now: float) -> int:
        raise NotImplementedError

    async def pin(self, pin: HandPin) -> HandPin:
        raise NotImplementedError

    async def unpin(self, project: int | None, store_paths: Collection[StorePath]) -> int:
        raise NotImplementedError


@dataclass
class Clock(LoopClock):
    at: float = 1000.0

    def now(self) -> float:
        return self.at


@dataclass
class Kept:
    roots: FakeRoots = field(default_factory=FakeRoots)
    book: Book = field(default_factory=Book)
    clock: Clock = field(default_factory=Clock)

    def keeper(self) -> Keeper:
        return Keeper(self.roots, self.book, self.clock, RootRules())

    def stand(self) -> set[StorePath]:
        return set(self.roots.links.values())


@pytest.fixture
def kept() -> Kept:
    return Kept()


async def test_what_the_database_wants_stands_after_a_pass(kept: Kept) -> None:
    kept.book.wanted = set(PATHS[:3])
    made = await kept.keeper().once()
    assert kept.stand() == set(PATHS[:3])
    assert (made.wanted, made.standing, made.added, made.removed) == (3, 3, 3, 0)


async def test_a_second_pass_does_nothing(kept: Kept) -> None:
    kept.book.wanted = set(PATHS[:3])
    keeper = kept.keeper()
    await keeper.once()
    kept.roots.calls.clear()
    await keeper.once()
    assert [name for name, _ in kept.roots.calls] == ["standing"]


async def test_what_nothing_wants_goes_after_a_grace(kept: Kept) -> None:
    keeper = kept.keeper()
    await kept.roots.add(PATHS[:2])
    kept.book.wanted = {PATHS[0]}
    await keeper.once()
    assert kept.stand() == set(PATHS[:2])
    kept.clock.at += GRACE_S
    await keeper.once()
    assert kept.stand() == {PATHS[0]}


async def test_what_is_wanted_again_in_time_stays_and_begins_a_new_grace(kept: Kept) -> None:
    keeper = kept.keeper()
    await kept.roots.add(PATHS[:1])
    await keeper.once()
    kept.clock.at += GRACE_S / 2
    kept.book.wanted = {PATHS[0]}
    await keeper.once()
    kept.book.wanted = set()
    kept.clock.at += GRACE_S / 2
    await keeper.once()
    assert kept.stand() == {PATHS[0]}


async def test_what_a_run_holds_stays_whatever_the_database_says(kept: Kept) -> None:
    keeper = kept.keeper()
    assert await keeper.hold(1, PATHS[:2]) == {}
    kept.clock.at += 10 * GRACE_S
    await keeper.once()
    kept.clock.at += 10 * GRACE_S
    await keeper.once()
    assert kept.stand() == set(PATHS[:2])
    keeper.let_go(1)
    await keeper.once()
    kept.clock.at += GRACE_S
    await keeper.once()
    assert kept.stand() == set()


async def test_a_run_that_takes_up_its_work_again_keeps_its_roots(kept: Kept) -> None:
    keeper = kept.keeper()
    await keeper.hold(1, PATHS[:1])
    keeper.let_go(1)
    await keeper.hold(1, PATHS[1:2])
    for _ in range(3):
        await keeper.once()
        kept.clock.at += GRACE_S
    assert kept.stand() == set(PATHS[:2])


async def test_faults_are_shown_and_block_nothing_else(kept: Kept) -> None:
    kept.roots.refuses[PATHS[0]] = "no"
    kept.book.wanted = set(PATHS[:3])
    made = await kept.keeper().once()
    assert kept.stand() == set(PATHS[1:3])
    assert made.faults == ((PATHS[0], "no"),)
    assert (made.standing, made.wanted) == (2, 3)


async def test_a_pin_that_is_recorded_while_its_run_is_let_go_is_never_without_a_root(kept: Kept) -> None:
    """The facts are asked for after a lease was given up, never before."""
    keeper = kept.keeper()
    await keeper.hold(1, PATHS[:1])
    facts = kept.book.facts

    async def recorded_meanwhile(now: float) -> RootFacts:
        found = await facts(now)
        kept.book.wanted.add(PATHS[0])
        keeper.let_go(1)
        return found

    kept.book.facts = recorded_meanwhile  # type: ignore[method-assign]
    keeper._grace_s = 0.0
    await keeper.once()
    assert kept.stand() == {PATHS[0]}
    await keeper.once()
    assert kept.stand() == {PATHS[0]}


@given(st.data())
@settings(max_examples=150, deadline=None)
async def test_any_history_with_crashes_ends_with_just_what_is_wanted_and_never_lacks_it(data: st.DataObject) -> None:
    kept = Kept()
    keeper = kept.keeper()
    held: dict[int, set[StorePath]] = {}
    begun = 0
    paths = st.sets(st.sampled_from(PATHS), max_size=4)
    for _ in range(data.draw(st.integers(1, 12))):
        match data.draw(st.sampled_from(["hold", "go", "want", "pass", "crash", "wait", "fail"])):
            case "hold":
                begun += 1
                run, some = data.draw(st.sampled_from([*held, begun])), data.draw(paths)
                await keeper.hold(run, some)
                held.setdefault(run, set()).update(some)
            case "go":
                run = data.draw(st.sampled_from([*held, 0]))
                kept.book.wanted |= held.pop(run, set()) if data.draw(st.booleans()) else set()
                held.pop(run, None)
                keeper.let_go(run)
            case "want":
                kept.book.wanted = data.draw(paths)
                await keeper.once()
            case "pass":
                await keeper.once()
            case "crash":
                keeper = kept.keeper()
                for run, some in held.items():  # runs that go on begin anew
                    await keeper.hold(run, some)
            case "wait":
                kept.clock.at += data.draw(st.sampled_from([1.0, GRACE_S]))
            case "fail":
                kept.roots.failure = DoorError("away", door="roots", action="list", retryable=True)
                with pytest.raises(DoorError):
                    await keeper.once()
                kept.roots.failure = None
        assert {path for some in held.values() for path in some} <= kept.stand()
    for _ in range(2):
        await keeper.once()
        kept.clock.at += GRACE_S
    await keeper.once()
    assert kept.stand() == kept.book.wanted | {path for some in held.values() for path in some}
