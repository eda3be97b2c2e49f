"""The schedule and its reasons, case by case; the laws are in tests/property."""

import pytest

from nixmill.core.machine import Machine, refusal
from nixmill.core.node import Node, State
from nixmill.core.outcome import Outcome
from nixmill.core.plan import Plan
from nixmill.core.run_event import Work
from nixmill.core.schedule import Scheduler
from nixmill.core.waiting import reasons, why
from nixmill.nix.store_path import StorePath

LINUX = "x86_64-linux"


def drv(name: str) -> StorePath:
    return StorePath(f"/nix/store/{'0' * 32}-{name}.drv")


def machine(address: str, max_jobs: int = 1, *, speed: float = 1.0, features: str = "", mandatory: str = "") -> Machine:
    return Machine(
        address=address,
        systems=(LINUX,),
        max_jobs=max_jobs,
        speed_factor=speed,
        supported_features=frozenset(features.split()),
        mandatory_features=frozenset(mandatory.split()),
    )


class World:
    """A plan and its scheduler, driven with few words."""

    def __init__(self, *machines: Machine, fetch_places: int = 8) -> None:
        self.plan = Plan(refuse=lambda system, features: refusal(machines, system, features))
        self.scheduler = Scheduler(self.plan, machines, fetch_places=fetch_places)

    def build(
        self, name: str, *inputs: str, about: float | None = None, features: str = "", system: str = LINUX
    ) -> None:
        self.plan.add(
            drv(name),
            system=system,
            features=features.split(),
            inputs={drv(needed): ("out",) for needed in inputs},
            outputs={"out": None},
            about_s=about,
        )
        self.plan.tell(drv(name))
        self.plan.want((name,), drv(name), {"out": None})

    def fetch(self, name: str) -> None:
        self.plan.tell(drv(name), fetchable=["out"])
        self.plan.want((name,), drv(name), {"out": None})

    def start_all(self, now: float = 0.0) -> list[tuple[str, str]]:
        started = []
        while assignment := self.scheduler.pick(now):
            started.append((assignment.node.name, assignment.machine.address))
        return started

    def end(
        self, name: str, outcome: Outcome = Outcome.SUCCEEDED, now: float = 1.0, retry_at: float | None = None
    ) -> None:
        self.plan.ended(drv(name), outcome, now=now, retry_at=retry_at)

    def why(self, name: str, now: float = 0.0) -> str:
        return why(self.scheduler, self.node(name), now)

    def node(self, name: str) -> Node:
        return self.plan.node(drv(name))


def test_what_most_depends_on_starts_first() -> None:
    world = World(machine("local"))
    world.build("short", about=50)
    world.build("lib", about=1)
    world.build("app", "lib", about=60)
    assert world.start_all() == [("lib", "local")]


def test_without_history_the_longer_chain_starts_first() -> None:
    world = World(machine("local"))
    world.build("alone")
    world.build("a")
    world.build("b", "a")
    assert world.start_all() == [("a", "local")]


def test_a_machine_takes_no_more_than_its_places() -> None:
    world = World(machine("local", 2))
    for name in "abc":
        world.build(name)
    assert len(world.start_all()) == 2
    world.end("a")
    assert world.start_all() == [("c", "local")]


def test_the_least_busy_machine_for_its_speed_takes_it() -> None:
    world = World(machine("slow", 4), machine("fast", 4, speed=2.0))
    for name in "abcdef":
        world.build(name)
    started = [address for _, address in world.start_all()]
    assert started == ["fast", "slow", "fast", "fast", "slow", "fast"]


def test_ordinary_builds_leave_special_machines_free() -> None:
    world = World(machine("special", features="kvm"), machine("plain"))
    world.build("ordinary")
    world.build("vm", features="kvm")
    assert dict(world.start_all()) == {"ordinary": "plain", "vm": "special"}


def test_a_machine_with_mandatory_features_takes_only_what_needs_them() -> None:
    world = World(machine("reserved", mandatory="bench"), machine("local", 1))
    world.build("a")
    world.build("b")
    world.build("measured", features="bench")
    assert dict(world.start_all()) == {"a": "local", "measured": "reserved"}


def test_another_machine_is_tried_after_our_own_trouble() -> None:
    world = World(machine("one", speed=2.0), machine("two"))
    world.build("a")
    assert world.start_all() == [("a", "one")]
    world.end("a", Outcome.INFRASTRUCTURE, retry_at=5.0)
    assert world.start_all(4.0) == []
    assert world.scheduler.next_change(4.0) == 5.0
    assert world.start_all(5.0) == [("a", "two")]


def test_fetches_have_places_of_their_own() -> None:
    world = World(machine("local", 1), fetch_places=2)
    for name in "xyz":
        world.fetch(name)
    world.build("a")
    started = world.start_all()
    assert len([name for name, _ in started if name in "xyz"]) == 2
    assert ("a", "local") in started
    world.end("x")
    assert world.start_all() == [("z", "local")]


def test_an_absent_machine_gets_nothing_until_it_is_due() -> None:
    world = World(machine("ssh-ng://far"))
    world.build("a")
    world.scheduler.away("ssh-ng://far", 30.0, "connection refused")
    assert world.start_all(10.0) == []
    assert world.scheduler.next_change(10.0) == 30.0
    assert world.why("a", 10.0) == "far is away (connection refused), tried again in 20 s"
    assert world.start_all(30.0) == [("a", "ssh-ng://far")]


def test_a_build_that_became_more_important_moves_up() -> None:
    world = World(machine("local"))
    world.build("a", about=20)
    world.build("b", about=10)
    assert world.scheduler.ready(2) == []
    world.scheduler.remaining_s()
    world.build("c", "b", about=100)
    assert world.start_all() == [("b", "local")]


def test_nothing_is_left_to_estimate_when_nothing_is_to_be_built() -> None:
    assert World(machine("local")).scheduler.remaining_s() == 0.0


def test_the_estimate_is_the_longest_chain_or_the_work_divided() -> None:
    world = World(machine("local", 2))
    world.build("a", about=10)
    world.build("b", "a", about=20)
    assert world.scheduler.remaining_s() == 30.0
    for name in "cdef":
        world.build(name, about=30)
    assert world.scheduler.remaining_s() == 75.0


def test_nothing_is_estimated_where_most_is_unknown() -> None:
    world = World(machine("local"))
    world.build("a", about=10)
    world.build("b")
    world.build("c")
    assert world.scheduler.remaining_s() is None


def test_reasons_name_the_running_input() -> None:
    world = World(machine("local", 2))
    world.build("libfoo-1.0")
    world.build("mid", "libfoo-1.0")
    world.build("zlib")
    world.build("app", "mid", "zlib")
    world.start_all(0.0)
    assert world.why("mid", 12.0) == "waits for libfoo-1.0 (running 12 s)"
    assert world.why("app", 12.0) == "waits for zlib (running 12 s) and 1 more"
    assert world.why("zlib", 12.0) == "running 12 s"
    world.end("zlib")
    assert world.why("app", 12.0) == "waits for libfoo-1.0 (running 12 s)"


def test_reasons_name_busy_machines_and_about_how_long() -> None:
    world = World(machine("local", 4))
    for name in "abcd":
        world.build(name, about=100)
    world.build("e", about=1)
    world.start_all(0.0)
    assert world.why("e", 60.0) == "all 4 places of this machine are busy; about 40 s"


def test_reasons_name_the_build_that_holds_the_only_place() -> None:
    world = World(machine("ssh-ng://builder-3", features="kvm"))
    world.build("x", features="kvm", about=300)
    world.build("y", features="kvm", about=1)
    world.start_all(0.0)
    assert world.why("y", 60.0) == "needs kvm; builder-3 is busy with x; about 4 min"


def test_reasons_count_several_machines() -> None:
    world = World(machine("one", 2), machine("two", 1))
    for name in "abcd":
        world.build(name)
    world.start_all()
    assert world.why("d") == "all 3 places of 2 machines are busy"


def test_reasons_for_fetches_delays_and_what_is_not_known_yet() -> None:
    world = World(machine("local"), fetch_places=1)
    world.fetch("x")
    world.fetch("y")
    world.plan.want(("new",), drv("new"), {"out": None})
    world.plan.want(("unread",), drv("unread"), {"out": None})
    world.plan.tell(drv("unread"))
    world.start_all()
    assert world.why("y") == "the only place for fetches is busy"
    assert world.why("x", 3.0) == "being fetched 3 s"
    assert world.why("new") == "is being looked for in the store"
    assert world.why("unread") == "its inputs are being read"
    world.end("x", Outcome.INFRASTRUCTURE, now=4.0, retry_at=10.0)
    assert world.why("x", 4.0) == "tried again in 6 s, after attempt 1 failed on local by our own trouble"


def test_a_build_that_no_machine_can_do_ends_with_its_reason() -> None:
    world = World(machine("local"))
    world.build("vm", features="kvm")
    assert world.node("vm").outcome is Outcome.NO_MACHINE
    assert world.node("vm").message == "needs kvm; no machine offers it"
    assert world.why("vm") == ""


def test_ready_work_with_a_free_place_starts_next() -> None:
    world = World(machine("local"))
    world.build("a")
    assert world.why("a") == "starts next"


def test_the_first_reasons_are_of_what_is_ready_then_of_what_waits_for_running_builds() -> None:
    world = World(machine("local"))
    world.build("a", about=100)
    world.build("b", "a")
    world.build("c")
    world.start_all()
    assert reasons(world.scheduler, 0.0) == (
        ("c", "this machine is busy with a; about 2 min"),
        ("b", "waits for a (running 0 s)"),
    )
    assert len(reasons(world.scheduler, 0.0, limit=1)) == 1


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.BUILD_FAILED, Outcome.CANCELLED])
def test_a_place_is_free_again_however_an_attempt_ends(outcome: Outcome) -> None:
    world = World(machine("local"))
    world.build("a")
    world.build("b")
    world.start_all()
    world.end("a", outcome)
    assert world.start_all() == [("b", "local")]


def test_a_fetch_that_fails_frees_its_place_and_is_queued_as_a_build() -> None:
    world = World(machine("local"), fetch_places=1)
    world.fetch("x")
    world.plan.add(drv("x"), system=LINUX, inputs={}, outputs={"out": None})
    assert world.start_all() == [("x", "local")]
    assert world.node("x").work is Work.FETCH
    world.end("x", Outcome.INFRASTRUCTURE)
    assert world.start_all() == [("x", "local")]
    assert world.node("x").work is Work.BUILD
    assert world.node("x").state is State.RUNNING
    world.fetch("y")
    assert world.start_all() == [("y", "local")]


def test_a_ready_build_that_has_something_to_fetch_first_moves_to_the_fetches() -> None:
    world = World(machine("ssh://far"))
    world.plan.add(drv("lib"), system=LINUX, inputs={}, outputs={"out": None, "dev": None})
    world.plan.tell(drv("lib"), fetchable=["dev"])
    world.build("app", "lib")
    world.scheduler.away("ssh://far", 1.0, "it sleeps")
    assert world.start_all(0.0) == []
    assert world.node("lib").work is Work.BUILD

    world.plan.want(("lib",), drv("lib"), {"out": None, "dev": None})
    world.scheduler.away("ssh://far", 0.0, "it is back")
    assert world.start_all(0.0) == [("lib", "local")]
    world.end("lib")
    assert world.start_all(3.0) == [("lib", "ssh://far")]


def test_what_is_tried_again_queues_again() -> None:
    world = World(machine("local"))
    world.build("a")
    world.build("b")
    first = world.scheduler.pick(0.0)
    assert first is not None
    assert first.node.name == "a"
    world.end("a", Outcome.INFRASTRUCTURE, retry_at=10.0)
    started = []
    while assignment := world.scheduler.pick(10.0):
        started.append(assignment.node.name)
        world.plan.ended(assignment.drv_path, Outcome.SUCCEEDED, now=10.0)
    assert started == ["b", "a"]


def test_a_chain_that_arrived_backwards_has_its_true_length_when_evaluation_ends() -> None:
    world = World(machine("local"))
    world.build("single", about=150)
    for at in range(200):
        world.build(f"chain{at}", *([f"chain{at - 1}"] if at else []), about=1)
        world.scheduler.remaining_s()
    assert world.scheduler.remaining_s() is not None
    world.plan.seal()
    assert world.start_all() == [("chain0", "local")]
