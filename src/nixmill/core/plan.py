"""The plan: which derivations have to be fetched or built for the wanted attributes, and what follows from each end.

It grows while evaluation goes on. Only what is needed is expanded: the inputs of a derivation matter once it must be
built. `frontier` says what to look at next; `add` and `tell` answer, in any order, early or late. A node's state is
decided in one place (`_decide`) from facts alone, so the order in which facts arrive does not change the result.
What it does not know: time, machines, order of work (`nixmill.core.schedule`), stores (the engine asks them).
Pattern: ninja's Plan, without I/O. No walk recurses; a chain of 50,000 derivations is fine.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush

from nixmill.core.cycle import CycleError, find_cycle
from nixmill.core.node import NO_NAMES, Counts, Names, Node, PlanError, Settled, State
from nixmill.core.outcome import MEANING, Outcome
from nixmill.core.run_event import Work
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath, derivation_name

SAMPLE_SIZE = 3  # attributes shown for a derivation
Refuse = Callable[[str, Names], str]
"""Given system and features: why no machine can ever build such a thing, or ""."""


class Plan:
    """Derivations needed by attributes; see the module for how it is driven."""

    def __init__(self, *, keep_going: bool = True, refuse: Refuse | None = None, leave_in_caches: bool = False) -> None:
        """Begin empty. With `leave_in_caches` attributes may stay in caches: only what builds need is fetched."""
        self.nodes: list[Node] = []
        self.keep_going = keep_going
        self.sealed = False
        self.cancelled = False
        self.running: dict[int, Node] = {}
        self._refuse = refuse
        self._leave_in_caches = leave_in_caches
        self._by_path: dict[StorePath, Node] = {}
        self._names: dict[Names, Names] = {}
        self._name_rows: dict[tuple[Names, ...], tuple[Names, ...]] = {}
        self._wanted: dict[AttrPath, int] = {}
        self._work: dict[Work, int] = dict.fromkeys(Work, 0)
        self._states: dict[State, int] = dict.fromkeys(State, 0)
        self._delayed: list[tuple[float, int]] = []
        self._todo: deque[Node] = deque()
        self._failed = False
        # What others take: each list is emptied by its reader.
        self._frontier: list[Node] = []
        self._settled: list[Settled] = []
        self._ready: list[Node] = []
        self._grown: list[Node] = []
        self._freed: list[tuple[Node, str, Work]] = []

    def node(self, drv_path: StorePath) -> Node:
        """Return what is known of a derivation; raise `PlanError` where it was never named."""
        if drv_path not in self._by_path:
            raise PlanError(f"{drv_path} is not in the plan. This is a fault of nixmill.")
        return self._by_path[drv_path]

    # Facts come in.

    def want(self, path: AttrPath, drv_path: StorePath, outputs: Mapping[str, StorePath | None]) -> Node:
        """Ask for all outputs of an attribute's derivation. Asking twice is the same as once."""
        node = self._named(drv_path)
        if self._wanted.get(path) == node.id:
            return node
        self._wanted[path] = node.id
        node.attributes.append(path)
        node.sample = (path, *node.sample)[:SAMPLE_SIZE]
        if node.outputs is None:
            node.outputs = outputs
        self._demand(node, self._intern(outputs), hard=not self._leave_in_caches)
        self._drain(node)
        return node

    def add(
        self,
        drv_path: StorePath,
        *,
        system: str,
        features: Iterable[str] = (),
        inputs: Mapping[StorePath, Iterable[str]],
        outputs: Mapping[str, StorePath | None],
        about_s: float | None = None,
    ) -> Node:
        """Tell a derivation: what it needs and what it makes. Telling it again changes nothing."""
        if (node := self._named(drv_path)).inputs is not None:
            return node
        if drv_path in inputs:
            raise CycleError([drv_path, drv_path])
        node.system, node.features = system, self._intern(features)
        node.inputs = tuple(self._named(path) for path in inputs)
        names = tuple(self._intern(names) for names in inputs.values())
        node.input_names = self._name_rows.setdefault(names, names)
        node.outputs = outputs
        node.about_s = about_s if about_s is not None else node.about_s
        self._drain(node)
        return node

    def tell(
        self, drv_path: StorePath, *, valid: Iterable[str] = (), fetchable: Iterable[str] = (), hopeless: str = ""
    ) -> None:
        """Tell what the store has of all outputs of a derivation: valid, fetchable, and the rest absent.

        Told again, only what has become valid counts; `lost` takes it back. `hopeless` says why building it is known
        to fail: then it is not tried.
        """
        node = self._named(drv_path)
        node.asked = False
        self._gain(node, self._intern(valid))
        if not node.told:
            node.told = True
            node.fetchable = self._intern(fetchable)
            if hopeless:
                self._blame(node, Outcome.BUILD_FAILED, None, hopeless)
        self._drain(node)

    def lost(self, drv_path: StorePath, names: Iterable[str]) -> None:
        """Take back that outputs are valid: the store says so no longer. They are looked at again."""
        node = self.node(drv_path)
        node.valid = self._intern(node.valid.difference(names))
        node.told = node.asked = False
        self._drain(node)

    def seal(self) -> None:
        """Say that no more attributes come; raise `CycleError` where derivations wait for one another in a circle."""
        self.sealed = True
        if path := find_cycle(self.nodes):
            raise CycleError(path)

    # Work is done.

    def start(self, drv_path: StorePath, machine: str, now: float) -> Node:
        """Mark a ready derivation as running on a machine; raise `PlanError` where it is not ready."""
        if (node := self.node(drv_path)).state is not State.READY:
            raise PlanError(f"{drv_path} cannot start: it is {node.state}. This is a fault of nixmill.")
        self._move(node, State.RUNNING)
        self.running[node.id] = node
        node.machine, node.started_at = machine, now
        node.attempts += 1
        node.fetching = node.missing & node.fetchable
        return node

    def ended(
        self, drv_path: StorePath, outcome: Outcome, *, now: float, message: str = "", retry_at: float | None = None
    ) -> None:
        """Take the end of an attempt; with `retry_at`, another one follows then.

        A fetch that fails turns into a build. Raises `PlanError` where no attempt is running.
        """
        node = self._stopped(drv_path, now)
        if outcome is Outcome.SUCCEEDED:
            self._gain(node, node.fetching if node.work is Work.FETCH else self._intern(node.outputs or ()))
        elif retry_at is not None:
            self._delay(node, retry_at)
        elif node.work is Work.FETCH and outcome is not Outcome.CANCELLED:
            node.fetchable = NO_NAMES
        else:
            self._blame(node, outcome, None, message)
        self._drain(node)

    def fail(self, drv_path: StorePath, outcome: Outcome, message: str = "") -> None:
        """Give up on a derivation without an attempt, such as one that is known to fail."""
        if (node := self.node(drv_path)).id in self.running:
            raise PlanError(f"{drv_path} is running, so it cannot be given up. This is a fault of nixmill.")
        node.told = True
        self._blame(node, outcome, None, message)
        self._drain(node)

    def wake(self, now: float) -> float | None:
        """Make delayed derivations ready whose time has come; return when the next one is due."""
        while self._delayed and self._delayed[0][0] <= now:
            node = self.nodes[heappop(self._delayed)[1]]
            if node.state is State.DELAYED:
                node.until = None
                node.linked = node.unmet > 0  # else look at all inputs anew: one may have been lost meanwhile
                self._drain(node)
        return self._delayed[0][0] if self._delayed else None

    def cancel(self) -> list[Node]:
        """Cancel everything that has not started; return what is running, whose ends are still to be told."""
        self.cancelled = True
        self._drain(*(node for node in self.nodes if node.demand))
        return list(self.running.values())

    # What is asked of it.

    @property
    def done(self) -> bool:
        """Say whether everything that is wanted has ended and nothing more can come."""
        return self.sealed and self.counts().unfinished == 0

    def frontier(self) -> list[Node]:
        """Take derivations to look at, each once.

        One that is `UNKNOWN` wants `tell` (and before it `add`, where `outputs` is None); an `UNREAD` one wants `add`.
        """
        taken, self._frontier = dict.fromkeys(self._frontier), []
        return [node for node in taken if node.state in {State.UNKNOWN, State.UNREAD}]

    def settled(self) -> list[Settled]:
        """Take attributes whose derivation is done since the last call; each attribute comes once."""
        taken, self._settled = self._settled, []
        return taken

    def take_ready(self) -> list[Node]:
        """Take what became ready since the last call; for the scheduler."""
        taken, self._ready = self._ready, []
        return taken

    def take_grown(self) -> list[Node]:
        """Take what was linked to its inputs since the last call; for the scheduler."""
        taken, self._grown = self._grown, []
        return taken

    def take_freed(self) -> list[tuple[Node, str, Work]]:
        """Take (derivation, machine, work) of attempts that ended since the last call; for the scheduler."""
        taken, self._freed = self._freed, []
        return taken

    def counts(self) -> Counts:
        """Count derivations."""
        states = self._states
        return Counts(
            to_build=self._work[Work.BUILD],
            to_fetch=self._work[Work.FETCH],
            unfinished=sum(states.values()) - states[State.DONE],
            running=len(self.running),
            ready=states[State.READY],
            waiting=states[State.WAITING] + states[State.DELAYED] + states[State.UNREAD] + states[State.UNKNOWN],
        )

    # How it decides.

    def _named(self, drv_path: StorePath) -> Node:
        node = self._by_path.get(drv_path)
        if node is None:
            node = self._by_path[drv_path] = Node(len(self.nodes), drv_path, derivation_name(drv_path))
            self.nodes.append(node)
        return node

    def _intern(self, names: Iterable[str]) -> Names:
        """Share equal sets: most derivations have the output `out` and nothing else."""
        return self._names.setdefault(found := frozenset(names), found)

    def _demand(self, node: Node, names: Names, *, hard: bool = True) -> None:
        if hard and not names <= node.hard:
            node.hard = self._intern(node.hard | names)
        if not node.demand:
            self._states[node.state] += 1
            self._work[node.work] += 1
        if not names <= node.demand:
            node.demand = self._intern(node.demand | names)

    def _gain(self, node: Node, names: Names) -> None:
        """Note valid outputs and let go what waited for no more than these."""
        if names <= node.valid:
            return
        node.valid = self._intern(node.valid | names)
        waiters, names_of = node.waiters, node.waiter_names
        node.waiters, node.waiter_names = [], []
        for user, needed in zip(waiters, names_of, strict=True):
            if not needed <= node.valid:
                node.waiters.append(user)
                node.waiter_names.append(needed)
                continue
            user.unmet -= 1
            if user.unmet == 0:
                self._todo.append(user)

    def _stopped(self, drv_path: StorePath, now: float) -> Node:
        node = self.node(drv_path)
        if self.running.pop(node.id, None) is None:
            raise PlanError(f"{drv_path} ended, but it was {node.state} and not running. This is a fault of nixmill.")
        node.seconds += now - node.started_at
        self._freed.append((node, node.machine, node.work))
        return node

    def _delay(self, node: Node, until: float) -> None:
        node.until = until
        node.avoid |= {node.machine}
        heappush(self._delayed, (until, node.id))

    @staticmethod
    def _blame(node: Node, outcome: Outcome, culprit: Node | None, message: str = "") -> None:
        """Note a failure; the first one stays."""
        if not node.failed:
            node.outcome, node.culprit, node.message = outcome, culprit, message

    def _drain(self, *nodes: Node) -> None:
        """Decide about everything that something happened to, and about what that happens to in turn."""
        todo = self._todo
        todo.extend(nodes)
        while todo:
            self._decide(todo.popleft())
            if not todo and self._failed and not self.keep_going and not self.cancelled:
                self.cancelled = True
                todo.extend(node for node in self.nodes if node.demand)

    def _decide(self, node: Node) -> None:
        """Decide from the facts alone what state a derivation is in."""
        if not node.demand or node.id in self.running:
            return
        if not node.missing:
            self._finish(node, Outcome.SUCCEEDED)
            return
        if node.outcome is Outcome.SUCCEEDED:
            node.outcome = None  # more is asked of it than before
        if self.cancelled:
            self._blame(node, Outcome.CANCELLED, None)
            self._finish(node, node.outcome or Outcome.CANCELLED)
        elif not node.told:
            self._ask(node, State.UNKNOWN)
        elif node.missing & node.fetchable:
            self._may_run(node, Work.FETCH)
        elif node.outcome is not None:
            self._finish(node, node.outcome)
        elif node.inputs is None:
            self._set_work(node, Work.BUILD)
            self._ask(node, State.UNREAD)
        else:
            self._to_build(node)

    def _to_build(self, node: Node) -> None:
        self._set_work(node, Work.BUILD)
        reason = self._refuse(node.system, node.features) if self._refuse else ""
        if reason:
            self._blame(node, Outcome.NO_MACHINE, None, reason)
            self._finish(node, Outcome.NO_MACHINE)
            return
        if not node.linked and node.until is None:
            self._link(node)
        if node.unmet:
            self._move(node, State.WAITING)
        else:
            self._may_run(node, Work.BUILD)

    def _link(self, node: Node) -> None:
        """Ask for inputs and wait for those that are not valid."""
        node.linked, node.unmet = True, 0
        for dep, names in zip(node.inputs or (), node.input_names, strict=True):
            if names <= dep.valid:
                continue
            if not names <= dep.hard or dep.state is State.DONE:
                self._demand(dep, names)
                self._todo.append(dep)
            dep.waiters.append(node)
            dep.waiter_names.append(names)
            node.unmet += 1
            if len(dep.sample) < SAMPLE_SIZE:
                dep.sample = tuple(dict.fromkeys(dep.sample + node.sample))[:SAMPLE_SIZE]
        self._grown.append(node)

    def _may_run(self, node: Node, work: Work) -> None:
        changed = self._set_work(node, work)
        if node.until is not None:
            self._move(node, State.DELAYED)
        elif node.state is not State.READY or changed:
            self._move(node, State.READY)
            self._ready.append(node)

    def _ask(self, node: Node, state: State) -> None:
        self._move(node, state)
        if not node.asked:
            node.asked = True
            self._frontier.append(node)

    def _finish(self, node: Node, outcome: Outcome) -> None:
        """End a derivation; what waits for it in vain shares the fault. Doing so again reaches late comers only."""
        self._move(node, State.DONE)
        node.outcome = outcome
        self._settled.extend(Settled(path, node, outcome) for path in node.attributes[node.settled :])
        node.settled = len(node.attributes)
        if outcome is Outcome.SUCCEEDED:
            node.culprit = None
            return
        self._failed = self._failed or outcome is not Outcome.CANCELLED
        if not node.attempts:
            self._set_work(node, Work.NONE)  # nothing was done for it, and nothing will be
        theirs = Outcome.DEPENDENCY_FAILED if MEANING[outcome].propagates else outcome
        for user in node.waiters:
            self._blame(user, theirs, node.culprit or node)
        self._todo.extend(node.waiters)
        node.waiters, node.waiter_names = [], []

    def _set_work(self, node: Node, work: Work) -> bool:
        if node.work is work:
            return False
        self._work[node.work] -= 1
        self._work[work] += 1
        node.work = work
        node.attempts, node.avoid = 0, NO_NAMES
        return True

    def _move(self, node: Node, state: State) -> None:
        if node.state is not state:
            self._states[node.state] -= 1
            node.move(state)
            self._states[state] += 1
