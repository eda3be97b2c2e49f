"""Root causes: which derivations are at fault, and what each of them took along."""

from collections.abc import Iterable
from typing import NamedTuple

from nixmill.core.node import Node
from nixmill.core.outcome import Outcome
from nixmill.nix.attr_path import AttrPath


class RootCause(NamedTuple):
    """A derivation at fault and what it took along."""

    node: Node
    outcome: Outcome
    attributes: tuple[AttrPath, ...]
    """Failed attributes, its own included."""
    victims: int
    """Derivations that could not be built because of it."""


def root_causes(nodes: Iterable[Node]) -> list[RootCause]:
    """Return the derivations that failed by themselves, those that took most attributes along first.

    A derivation that waited for several failed ones counts for the one that failed first.
    """
    by_cause: dict[Node, tuple[list[AttrPath], list[Node]]] = {}
    for node in nodes:
        if node.failed and (node.culprit is not None or node.outcome is not Outcome.CANCELLED):
            attributes, victims = by_cause.setdefault(node.culprit or node, ([], []))
            attributes.extend(node.attributes)
            if node.culprit is not None:
                victims.append(node)
    causes = [
        RootCause(node, node.outcome or Outcome.CANCELLED, tuple(attributes), len(victims))
        for node, (attributes, victims) in by_cause.items()
    ]
    return sorted(causes, key=lambda cause: (-len(cause.attributes), -cause.victims, cause.node.name))
