"""The laws of plan and schedule together, held against a naive account of what runs where."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from nixmill.core.critical_path import chain_s, cost_s
from nixmill.core.machine import LOCAL, Machine
from nixmill.core.node import Node, State
from nixmill.core.outcome import Outcome
from nixmill.core.plan import Plan
from nixmill.core.run_event import Work
from nixmill.core.schedule import Assignment, Scheduler
from nixmill.core.waiting import reasons, why
from tests.property.planning import OUTPUTS, SYSTEM, Naive, World, add, answer, machines, path_of, tell, want, worlds

FETCH_PLACES = 2


class Engine(RuleBasedStateMachine):
    """An engine whose every move is drawn: facts come early, late and twice; builds end well, badly or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.running: list[Assignment] = []
        self.settled: dict[str, Outcome] = {}

    @initialize(world=worlds(size_max=10), sizes=st.lists(st.integers(0, 3), min_size=1, max_size=3).filter(any))
    def begin(self, world: World, sizes: list[int]) -> None:
        self.world = world
        self.plan = Plan()
        self.machines = machines(*sizes)
        self.scheduler = Scheduler(self.plan, self.machines, fetch_places=FETCH_PLACES)

    @rule(at=st.integers(0, 20))
    def want_something(self, at: int) -> None:
        want(self.plan, self.world.wanted[at % len(self.world.wanted)])

    @rule(at=st.integers(0, 20))
    def read_a_derivation(self, at: int) -> None:
        add(self.plan, self.world.recipes[at % len(self.world.recipes)])

    @rule(at=st.integers(0, 20))
    def tell_what_the_store_has(self, at: int) -> None:
        tell(self.plan, self.world.recipes[at % len(self.world.recipes)])

    @rule()
    def answer_the_frontier(self) -> None:
        answer(self.plan, self.world)

    @rule(seconds=st.integers(1, 10))
    def let_time_pass(self, seconds: int) -> None:
        self.now += seconds

    @rule(at=st.integers(0, 2), seconds=st.integers(1, 10))
    def lose_a_machine(self, at: int, seconds: int) -> None:
        self.scheduler.away(self.machines[at % len(self.machines)].address, self.now + seconds, "no route to host")

    @rule()
    def pick(self) -> None:
        assignment = self.scheduler.pick(self.now)
        if assignment is None:
            self.check_nothing_could_start()
            return
        self.check_inputs_are_there(assignment.node)
        if assignment.work is Work.BUILD:
            assert assignment.machine.fits(SYSTEM, frozenset())
        self.running.append(assignment)

    @precondition(lambda self: self.running)
    @rule(at=st.integers(0, 20), trouble=st.booleans())
    def end_one(self, at: int, *, trouble: bool) -> None:
        assignment = self.running.pop(at % len(self.running))
        if trouble and assignment.node.attempts < 3:
            self.plan.ended(assignment.drv_path, Outcome.INFRASTRUCTURE, now=self.now, retry_at=self.now + 3)
        else:
            self.plan.ended(assignment.drv_path, self.end_of(assignment), now=self.now)

    @invariant()
    def never_over_capacity(self) -> None:
        if not hasattr(self, "machines"):
            return
        busy = Counter((running.machine.address, running.work) for running in self.running)
        assert busy[LOCAL, Work.FETCH] <= FETCH_PLACES
        for machine in self.machines:
            assert busy[machine.address, Work.BUILD] <= machine.max_jobs
        assert len({running.drv_path for running in self.running}) == len(self.running)

    @invariant()
    def everything_that_waits_has_a_reason(self) -> None:
        if hasattr(self, "plan"):
            for node in self.plan.nodes:
                assert bool(why(self.scheduler, node, self.now)) == (node.state is not State.DONE)
            assert all(name and reason for name, reason in reasons(self.scheduler, self.now))

    def teardown(self) -> None:
        if not hasattr(self, "plan"):
            return
        for number in self.world.wanted:
            want(self.plan, number)
        self.plan.seal()
        while not self.plan.done:
            answer(self.plan, self.world)
            self.now += 11
            while assignment := self.scheduler.pick(self.now):
                self.running.append(assignment)
            assert self.running or self.plan.counts().ready == 0
            while self.running:
                self.end_one(0, trouble=False)
        self.settled |= {settled.path[0]: settled.outcome for settled in self.plan.settled()}
        naive = Naive(self.world)
        expected = {f"a{number}": naive.good(number, OUTPUTS) for number in self.world.wanted}
        assert {name: outcome is Outcome.SUCCEEDED for name, outcome in self.settled.items()} == expected

    def end_of(self, assignment: Assignment) -> Outcome:
        recipe = self.world.recipe(assignment.drv_path)
        if assignment.work is Work.FETCH:
            return Outcome.SUCCEEDED if recipe.fetch_works else Outcome.BUILD_FAILED
        return recipe.end

    def check_inputs_are_there(self, node: Node) -> None:
        if node.work is Work.BUILD:
            assert node.inputs is not None
            for dep, names in zip(node.inputs, node.input_names, strict=True):
                assert names <= dep.valid

    def check_nothing_could_start(self) -> None:
        for node in self.plan.nodes:
            if node.state is State.READY:
                assert not any(host.free(self.now) for host in self.scheduler.hosts_for(node))


Engine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestPlanAndSchedule = Engine.TestCase


def drive_on(scheduler: Scheduler, number: int, about_s: float) -> None:
    scheduler.plan.want((f"a{number}",), path_of(number), {"out": None})
    scheduler.plan.add(path_of(number), system=SYSTEM, inputs={}, outputs={"out": None}, about_s=about_s)
    scheduler.plan.tell(path_of(number))


@given(st.integers(1, 60))
def test_nothing_starves_behind_an_endless_stream_of_more_important_builds(about_s: int) -> None:
    plan = Plan()
    scheduler = Scheduler(plan, machines(1))
    drive_on(scheduler, 0, about_s=0.0)
    started: list[Node] = []
    for now in range(about_s + 2):
        drive_on(scheduler, now + 1, about_s=float(about_s))
        assignment = scheduler.pick(float(now))
        assert assignment
        started.append(assignment.node)
        plan.ended(assignment.drv_path, Outcome.SUCCEEDED, now=now + 0.5)

    assert plan.node(path_of(0)) in started
    assert started[0] is not plan.node(path_of(0))


def waits_for(user: Node, node: Node) -> bool:
    """Say whether an output of `node` that is not there yet stands between `user` and its build."""
    if not user.linked or not user.inputs or node not in user.inputs:
        return False
    return not user.input_names[user.inputs.index(node)] <= node.valid


@given(worlds(size_max=25), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_the_critical_path_is_exact_once_evaluation_has_ended(world: World, choose: object) -> None:
    plan = Plan()
    scheduler = Scheduler(plan, machines(1))
    for number in reversed(world.wanted):
        want(plan, number)
        answer(plan, world)
        scheduler.remaining_s()
    plan.seal()
    scheduler.remaining_s()

    longest: dict[Node, float] = {}
    for node in sorted(plan.nodes, key=lambda node: -world.recipe(node.drv_path).number):
        users = [user for user in plan.nodes if user.state is not State.DONE and waits_for(user, node)]
        longest[node] = cost_s(node) + max((longest[user] for user in users), default=0.0)
        if node.state is not State.DONE and node.demand:
            assert chain_s(node) == longest[node]


@given(st.permutations(range(6)))
def test_the_longest_chain_starts_first(order: list[int]) -> None:
    plan = Plan()
    scheduler = Scheduler(plan, [Machine(address="m", systems=(SYSTEM,), max_jobs=1)])
    for number in order:
        drive_on(scheduler, number, about_s=float(number))
    plan.seal()

    started = []
    while assignment := scheduler.pick(0.0):
        started.append(assignment.node)
        plan.ended(assignment.drv_path, Outcome.SUCCEEDED, now=0.0)
    assert started == [plan.node(path_of(number)) for number in range(5, -1, -1)]
