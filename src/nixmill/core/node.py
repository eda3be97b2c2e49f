"""A derivation in the plan: the facts known of it, and the states it goes through.

What it decides: which moves between states are legal. What it does not know: why a move is made
(`nixmill.core.plan`), or when a ready one may start (`nixmill.core.schedule`).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from nixmill.core.outcome import Outcome
from nixmill.core.run_event import Work
from nixmill.nix.attr_path import AttrPath
from nixmill.nix.store_path import StorePath

Names = frozenset[str]
"""Names of outputs."""

NO_NAMES: Final[Names] = frozenset()


IN_A_CACHE: Final = "in a cache"
"""How an attribute is good whose outputs a cache has, and which nothing here needs."""


class State(StrEnum):
    """Where a derivation stands. What it stands for once it is `DONE` is its outcome."""

    UNKNOWN = "unknown"
    """What the store has of it has not been told."""
    UNREAD = "unread"
    """It must be built; what it is built from has not been told."""
    WAITING = "waiting"
    """It must be built, and some inputs are not there yet."""
    READY = "ready"
    """It may be fetched or built now."""
    RUNNING = "running"
    DELAYED = "delayed"
    """An attempt ended by our own trouble; another follows at a set time."""
    DONE = "done"
    """Nothing more is to be done for what is asked of it."""


NEXT: Final[dict[State, frozenset[State]]] = {
    State.UNKNOWN: frozenset({State.UNREAD, State.WAITING, State.READY, State.DONE}),
    State.UNREAD: frozenset({State.UNKNOWN, State.WAITING, State.READY, State.DONE}),
    State.WAITING: frozenset({State.UNKNOWN, State.READY, State.DONE}),
    State.READY: frozenset({State.UNKNOWN, State.WAITING, State.RUNNING, State.DONE}),
    State.RUNNING: frozenset(set(State) - {State.RUNNING}),
    State.DELAYED: frozenset({State.UNKNOWN, State.UNREAD, State.WAITING, State.READY, State.DONE}),
    # Reopened when an output is asked for that nobody needed before, or when one was lost.
    State.DONE: frozenset({State.UNKNOWN, State.UNREAD, State.WAITING, State.READY}),
}


class PlanError(Exception):
    """The plan was told something that cannot be: a fault of nixmill, not of the project."""


class Node:
    """One derivation. Everybody may read it; only `Plan` writes, save for the last group of fields and `learn`."""

    __slots__ = (
        "about_s",
        "asked",
        "attempts",
        "attributes",
        "avoid",
        "culprit",
        "demand",
        "drv_path",
        "features",
        "fetchable",
        "fetching",
        "hard",
        "id",
        "input_names",
        "inputs",
        "key",
        "linked",
        "machine",
        "message",
        "name",
        "outcome",
        "outputs",
        "ready_at",
        "sample",
        "seconds",
        "settled",
        "started_at",
        "state",
        "system",
        "tail_s",
        "told",
        "unmet",
        "until",
        "valid",
        "waiter_names",
        "waiters",
        "work",
    )

    def __init__(self, node_id: int, drv_path: StorePath, name: str) -> None:
        """Start as a name that something refers to."""
        self.id = node_id
        self.drv_path = drv_path
        self.name = name
        # The derivation, as far as it was told.
        self.system = ""
        self.features: Names = NO_NAMES
        self.outputs: Mapping[str, StorePath | None] | None = None
        self.inputs: tuple[Node, ...] | None = None
        self.input_names: tuple[Names, ...] = ()
        """For each input, which of its outputs are needed."""
        self.about_s: float | None = None
        """Estimated seconds of a build; None without history."""
        # What is asked of it, and what the store has of it.
        self.attributes: list[AttrPath] = []
        self.settled = 0
        """How many of `attributes` have been told that they are settled."""
        self.sample: tuple[AttrPath, ...] = ()
        """A few attributes that need it, for display."""
        self.demand: Names = NO_NAMES
        self.hard: Names = NO_NAMES  # of these; for the rest it is enough that a cache has it
        self.told = False
        self.valid: Names = NO_NAMES
        self.fetchable: Names = NO_NAMES
        self.asked = False
        """It is in the frontier, or was handed out and not answered yet."""
        # What happens to it.
        self.state = State.UNKNOWN
        self.work = Work.NONE
        self.linked = False
        self.unmet = 0  # inputs that are not there yet
        self.waiters: list[Node] = []
        """Derivations that wait for some of its outputs."""
        self.waiter_names: list[Names] = []
        """For each of them, which outputs."""
        self.outcome: Outcome | None = None
        """Final outcome; a failure stays even while fetchable outputs are still fetched."""
        self.culprit: Node | None = None
        """The derivation at fault, where it is another one."""
        self.message = self.machine = ""
        self.fetching: Names = NO_NAMES
        self.started_at = 0.0
        self.seconds = 0.0  # that all attempts took together
        self.attempts = 0
        self.until: float | None = None
        """When a delayed one is tried again."""
        self.avoid: frozenset[str] = frozenset()
        """Machines on which an attempt ended by our own trouble."""
        # The scheduler's own notes.
        self.tail_s = 0.0
        """Estimated seconds from its end to the end of the longest chain that needs it."""
        self.ready_at = 0.0
        self.key = 0.0

    def __repr__(self) -> str:
        """Show what matters in a failing test."""
        return f"<{self.name} {self.state} {self.work} {self.outcome or ''}>"

    @property
    def missing(self) -> Names:
        """Outputs that are asked for and still to be realised."""
        lacking = self.demand - self.valid
        if self.told and lacking <= self.fetchable:
            return self.hard - self.valid
        return lacking

    @property
    def failed(self) -> bool:
        """Say whether what had to be built could not be."""
        return self.outcome is not None and self.outcome is not Outcome.SUCCEEDED

    @property
    def how(self) -> str:
        """How it became good: `built`, `fetched`, `present` or `in a cache`."""
        if not self.demand <= self.valid:
            return IN_A_CACHE
        return {Work.NONE: "present", Work.FETCH: "fetched", Work.BUILD: "built"}[self.work]

    def learn(self, outputs: Mapping[str, StorePath]) -> None:
        """Take the paths of outputs that only a build could tell; what was known stays."""
        known = self.outputs or {}
        if any(path is None and name in outputs for name, path in known.items()):
            self.outputs = {name: path or outputs.get(name) for name, path in known.items()}

    def move(self, state: State) -> None:
        """Go to another state; raise `PlanError` where that move is illegal."""
        if state not in NEXT[self.state]:
            raise PlanError(f"{self.drv_path} cannot go from {self.state} to {state}. This is a fault of nixmill.")
        self.state = state


class Settled(NamedTuple):
    """An attribute whose derivation is done."""

    path: AttrPath
    node: Node
    outcome: Outcome


class Counts(NamedTuple):
    """How much there is to do, cumulative, and how much of it is where. Derivations, not attributes."""

    to_build: int
    to_fetch: int
    unfinished: int
    running: int
    ready: int
    waiting: int
