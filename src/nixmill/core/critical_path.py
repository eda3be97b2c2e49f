"""The critical path: for each derivation, how long the longest chain is from its end to the end of what needs it.

Kept while the plan grows. A longer chain found late is passed on to inputs in small portions, paid for by the
derivations that are added, so that adding costs the same however large the plan is; `settle` makes all of it exact.
What it does not know: which of the ready ones may start (`nixmill.core.schedule`).
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from nixmill.core.node import Node, State
from nixmill.core.run_event import Work

UNKNOWN_BUILD_S: Final = 10.0
"""Seconds a build is taken to last for the order of work where there is no history."""
FETCH_S: Final = 2.0
"""Seconds a fetch is taken to last; history of fetches says more about the network than about the path."""

_STEPS_PER_EDGE: Final = 2
"""Edges that may be walked again for each edge that is added."""
_STEPS_MAX: Final = 20_000
"""Edges walked at once, some milliseconds: what was saved up is not spent in one go."""


def cost_s(node: Node) -> float:
    """Return the seconds that a derivation is taken to last; one that is to be built too counts as a build."""
    if node.work is Work.FETCH and not node.linked:
        return FETCH_S
    return UNKNOWN_BUILD_S if node.about_s is None else node.about_s


def chain_s(node: Node) -> float:
    """Return the seconds from the start of a derivation to the end of the longest chain that needs it."""
    return node.tail_s + cost_s(node)


class CriticalPath:
    """Keeps `tail_s` of nodes."""

    def __init__(self) -> None:
        """Begin with nothing owed."""
        self._owed: deque[Node] = deque()
        self._steps = 0

    def grow(self, linked: Iterable[Node]) -> list[Node]:
        """Take derivations that were linked to their inputs; return ready ones whose chain became longer."""
        raised: list[Node] = []
        for node in linked:
            self._steps = min(_STEPS_MAX, self._steps + _STEPS_PER_EDGE * (1 + len(node.inputs or ())))
            self._pass_on(node, raised)
        while self._owed and self._steps > 0:
            self._pass_on(self._owed.popleft(), raised)
        return raised

    def settle(self, nodes: Iterable[Node]) -> list[Node]:
        """Make every `tail_s` exact if anything is owed; return ready nodes whose chain became longer.

        One walk over all unfinished derivations; meant for the moment when evaluation has ended.
        """
        if not self._owed:
            return []
        self._owed.clear()
        raised: list[Node] = []
        open_users: dict[Node, int] = {}
        unfinished = [node for node in nodes if node.linked and node.state is not State.DONE]
        for node in unfinished:
            for dep in node.inputs or ():
                open_users[dep] = open_users.get(dep, 0) + 1
        free = [node for node in unfinished if node not in open_users]
        while free:
            node = free.pop()
            self._pass_on(node, raised)
            for dep in node.inputs or ():
                open_users[dep] -= 1
                if open_users[dep] == 0 and dep.linked and dep.state is not State.DONE:
                    free.append(dep)
        self._owed.clear()
        return raised

    def _pass_on(self, node: Node, raised: list[Node]) -> None:
        """Tell inputs that are not there yet how long the chain from their end on is."""
        chain = chain_s(node)
        self._steps -= len(node.input_names)
        for dep, names in zip(node.inputs or (), node.input_names, strict=True):
            if dep.tail_s < chain and not names <= dep.valid:
                dep.tail_s = chain
                if dep.state is State.READY:
                    raised.append(dep)
                if dep.linked and dep.unmet:
                    self._owed.append(dep)
