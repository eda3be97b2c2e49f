"""Circles among derivations: found by peeling off what can be done, then walking round what is left.

Nix cannot make a circle of derivations, a declared dependency can. What is on a circle never becomes ready.
"""

from collections.abc import Sequence

from nixmill.core.node import Node, PlanError, State
from nixmill.nix.store_path import StorePath, derivation_name


class CycleError(PlanError):
    """Derivations need one another in a circle; `path` starts and ends with the same one."""

    def __init__(self, path: list[StorePath]) -> None:
        """Name the whole circle."""
        super().__init__("These derivations need one another: " + " → ".join(derivation_name(p) for p in path) + ".")
        self.path = path


def find_cycle(nodes: Sequence[Node]) -> list[StorePath] | None:
    """Return paths that wait for one another in a circle, the first one again at the end; None without one.

    `nodes` is all of a plan, each at the index that is its id.
    """
    left = _peel(nodes)
    if not left:
        return None
    return _walk_round(next(iter(left.values())), left)


def _peel(nodes: Sequence[Node]) -> dict[int, Node]:
    """Let everything end that waits for nothing, then what waited for that, and so on; return what never ends."""
    unmet = [node.unmet for node in nodes]
    free = [node for node in nodes if node.state is not State.WAITING]
    while free:
        for user in free.pop().waiters:
            unmet[user.id] -= 1
            if unmet[user.id] == 0 and user.state is State.WAITING:
                free.append(user)
    return {node.id: node for node in nodes if node.state is State.WAITING and unmet[node.id]}


def _walk_round(node: Node, left: dict[int, Node]) -> list[StorePath]:
    """Follow inputs that are left until one comes twice; everything that is left waits for something that is left."""
    trail: dict[int, Node] = {}
    while node.id not in trail:
        trail[node.id] = node
        node = next(dep for dep in node.inputs or () if dep.id in left)
    seen = list(trail.values())
    return [member.drv_path for member in (*seen[seen.index(node) :], node)]
