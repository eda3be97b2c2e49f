"""The schedule: which ready derivation starts next, and where; and for whatever waits, why.

What it decides: order by critical path, ageing so that nothing starves, fit of machines by system and features,
never more at once than a machine allows; fetches have places of their own. What it does not know: what is ready
(`nixmill.core.plan`), how a build is done, time (`now` is passed in, seconds of a clock that never goes back).
"""

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple

from nixmill.core.critical_path import CriticalPath, chain_s
from nixmill.core.estimate import run_s
from nixmill.core.machine import ANY_SYSTEM, LOCAL, Machine
from nixmill.core.node import NO_NAMES, Names, Node, State
from nixmill.core.plan import Plan
from nixmill.core.run_event import Work
from nixmill.nix.store_path import StorePath

AGEING: Final = 1.0
"""Seconds of critical path that a second of being ready is worth: after waiting as long as the longest chain
of a newcomer lasts, it starts before it."""

FETCH_PLACES: Final = 8
"""Fetches at once: enough to hide a cache's latency, few enough for a home connection."""

Kind = tuple[Work, str, Names]
"""Work, system and required features: what a machine must offer."""


class Assignment(NamedTuple):
    """Something to start now; its place is taken until the plan is told that the attempt ended."""

    node: Node
    work: Work
    machine: Machine

    @property
    def drv_path(self) -> StorePath:
        """The derivation to fetch or build."""
        return self.node.drv_path


class Host:
    """A machine, what runs on it now, and whether it can be reached."""

    __slots__ = ("away_because", "away_until", "machine", "running")

    def __init__(self, machine: Machine) -> None:
        """Begin idle and within reach."""
        self.machine = machine
        self.running: dict[int, Node] = {}
        self.away_until = float("-inf")
        self.away_because = ""

    def free(self, now: float) -> bool:
        """Say whether one more may start here now."""
        return len(self.running) < self.machine.max_jobs and self.away_until <= now

    def load(self, node: Node) -> tuple[bool, float, float, int]:
        """Rank it for a node, lowest first: no bad memory, least busy for its speed, fastest, least special."""
        machine = self.machine
        return (
            machine.address in node.avoid,
            len(self.running) / machine.speed_factor,
            -machine.speed_factor,
            len(machine.supported_features | machine.mandatory_features),
        )


class Queue:
    """Ready derivations of one kind, best first, and the hosts that may take them."""

    __slots__ = ("_heap", "hosts", "kind")

    def __init__(self, kind: Kind, hosts: Sequence[Host]) -> None:
        """Begin empty."""
        self.kind = kind
        self.hosts = hosts
        self._heap: list[tuple[float, int, Node]] = []

    def push(self, node: Node) -> None:
        """Add a node, or move it after its key has changed: the old entry no longer counts."""
        node.key = AGEING * node.ready_at - chain_s(node)
        heappush(self._heap, (node.key, node.id, node))

    def top(self) -> Node | None:
        """Return the best node that is still ready."""
        while self._heap and not self._counts(self._heap[0]):
            heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def first(self, count: int) -> list[Node]:
        """Return about the best `count` nodes: those at the front of the heap."""
        return [entry[2] for entry in sorted(self._heap[: 4 * count]) if self._counts(entry)][:count]

    def _counts(self, entry: tuple[float, int, Node]) -> bool:
        key, _, node = entry
        return node.state is State.READY and node.key == key and kind_of(node) == self.kind


class Scheduler:
    """Assigns what a plan has ready to machines."""

    def __init__(self, plan: Plan, machines: Iterable[Machine], *, fetch_places: int = FETCH_PLACES) -> None:
        """Serve one plan with these machines; fetches go to the run's own store."""
        self.plan = plan
        self.hosts = [Host(machine) for machine in machines]
        self.fetcher = Host(Machine(address=LOCAL, systems=(ANY_SYSTEM,), max_jobs=max(1, fetch_places)))
        self._queues: dict[Kind, Queue] = {}
        self._path = CriticalPath()
        self._sealed = False

    def pick(self, now: float) -> Assignment | None:
        """Start the best ready derivation that a machine has a place for; None where nothing can start now."""
        self._absorb(now)
        best: tuple[Node, Queue] | None = None
        for queue in self._queues.values():
            if any(host.free(now) for host in queue.hosts):
                node = queue.top()
                if node is not None and (best is None or (node.key, node.id) < (best[0].key, best[0].id)):
                    best = node, queue
        return self._assign(*best, now) if best else None

    def away(self, address: str, until: float, because: str) -> None:
        """Give a machine nothing before `until`; `because` is a sentence part such as `connection refused`."""
        for host in self.hosts:
            if host.machine.address == address:
                host.away_until, host.away_because = until, because

    def next_change(self, now: float) -> float | None:
        """Return when to call `pick` again though nothing was told: a delayed attempt or an absent machine is due."""
        due = [host.away_until for host in self.hosts if host.away_until > now]
        delayed = self.plan.wake(now)
        return min([*due, delayed] if delayed is not None else due, default=None)

    def remaining_s(self) -> float | None:
        """Estimate the seconds until everything known is built; None where too little is known.

        Walks the whole plan: ask when it has grown, not for every event.
        """
        self._absorb_growth()
        builds = [node for node in self.plan.nodes if node.work is Work.BUILD and node.state is not State.DONE]
        known = [node.about_s for node in builds if node.about_s is not None]
        return run_s(
            longest_chain_s=max(map(chain_s, builds), default=0.0),
            work_s=sum(known),
            capacity=sum(host.machine.max_jobs * host.machine.speed_factor for host in self.hosts),
            known=len(known),
            total=len(builds),
        )

    def ready(self, count: int) -> list[Node]:
        """Return about the first `count` ready derivations of each kind, best first."""
        nodes = [node for queue in self._queues.values() for node in queue.first(count)]
        return sorted(dict.fromkeys(nodes), key=lambda node: (node.key, node.id))

    def hosts_for(self, node: Node) -> Sequence[Host]:
        """Return the hosts that may take a node."""
        if node.work is Work.FETCH:
            return [self.fetcher]
        return [host for host in self.hosts if host.machine.fits(node.system, node.features)]

    def _assign(self, node: Node, queue: Queue, now: float) -> Assignment:
        host = min((host for host in queue.hosts if host.free(now)), key=lambda host: host.load(node))
        self.plan.start(node.drv_path, host.machine.address, now)
        host.running[node.id] = node
        return Assignment(node, node.work, host.machine)

    def _absorb(self, now: float) -> None:
        """Hear what the plan has to tell."""
        self.plan.wake(now)
        self._absorb_growth()
        ready, freed = self.plan.take_ready(), self.plan.take_freed()
        for node, address, work in freed:
            self._release(node, address, work)
        for node in ready:
            node.ready_at = now
            self._push(node)

    def _absorb_growth(self) -> None:
        for node in self._path.grow(self.plan.take_grown()):
            self._push(node)
        if self.plan.sealed and not self._sealed:
            self._sealed = True
            for node in self._path.settle(self.plan.nodes):
                self._push(node)

    def _release(self, node: Node, address: str, work: Work) -> None:
        hosts = [self.fetcher] if work is Work.FETCH else self.hosts
        for host in hosts:
            if host.machine.address == address:
                host.running.pop(node.id, None)

    def _push(self, node: Node) -> None:
        if node.state is State.READY:
            kind = kind_of(node)
            queue = self._queues.get(kind)
            if queue is None:
                queue = self._queues[kind] = Queue(kind, self.hosts_for(node))
            queue.push(node)


def kind_of(node: Node) -> Kind:
    """Return what a machine must offer for what is due for a node."""
    return (Work.FETCH, "", NO_NAMES) if node.work is Work.FETCH else (Work.BUILD, node.system, node.features)
