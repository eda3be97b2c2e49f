"""What is left to walk: a queue of runs of attributes that workers take from, in batches sized to their speed.

An item is one attribute of an opened set, known by its index path from the list of targets (`"0.3.17"`); a segment is a
run of items of one set. Decides who walks what next and what must be walked again after a worker was lost.
What this file does not know: processes, records, time other than the durations it is told. Pure.
"""

from collections import deque
from typing import Final

import msgspec

from nixmill.nix.attr_path import AttrPath

BATCH_SECONDS: Final = 0.25
"""How long a batch should take: long against the 4 ms of a round trip, short against an evaluation."""
FIRST_BATCH: Final = 8
SMALLEST_SHARE: Final = 8
"""Towards the end batches shrink, but not below this part of what a worker does in `BATCH_SECONDS`."""
BATCH_MAX: Final = 5000
SEGMENTS_MAX: Final = 16
"""A command stays short: purely evaluating workers read it bit by bit."""


class Node(msgspec.Struct, eq=False):
    """A set that was opened: where it is and what its names are."""

    at: str
    """Index path; empty for the list of targets."""
    paths: tuple[AttrPath, ...] | None
    """Attribute paths of the targets, for the list of targets only."""
    path: AttrPath = ()
    names: list[str] = []

    def item_path(self, index: int) -> AttrPath:
        """Return the attribute path of an item."""
        return self.paths[index] if self.paths is not None else (*self.path, self.names[index])

    def item_at(self, index: int) -> str:
        """Return the index path of an item."""
        return f"{self.at}.{index}" if self.at else str(index)


class Segment(msgspec.Struct, eq=False):
    """Items `start` to `stop` (exclusive) of a set; walked items are cut off its front."""

    node: Node
    start: int
    stop: int

    def __len__(self) -> int:
        """Return how many items are left."""
        return self.stop - self.start


class OverrunError(Exception):
    """A worker has come to items of its batch that others walk by now."""


class Batch(msgspec.Struct, eq=False):
    """What one worker was asked to walk, front first; shrinks as items are begun."""

    left: deque[Segment]
    alone: bool = False
    """The single item is tried again in a fresh process, since a worker was lost with it."""
    robbed: bool = False
    """Others walk its last items; the worker does not know and may begin them all the same."""

    def command(self) -> list[tuple[list[int], int, int]]:
        """Return the argument of the walker's `run`."""
        return [([int(i) for i in s.node.at.split(".") if i], s.start, s.stop) for s in self.left]

    def begin(self, at: str) -> tuple[Node, int]:
        """Cut the item that a worker begins off the front; raise where it is not the one expected.

        `OverrunError` if it may be one that others walk, `ValueError` if it makes no sense.
        """
        while self.left and not len(self.left[0]):
            self.left.popleft()
        front = self.left[0] if self.left else None
        expected = front.node.item_at(front.start) if front is not None else "nothing more"
        if front is None or expected != at:
            message = f"A worker began item {at} instead of {expected}."
            raise OverrunError(message) if self.robbed else ValueError(message)
        front.start += 1
        return front.node, front.start - 1

    def rob(self) -> deque[Segment]:
        """Take away the last half of what is left."""
        wanted, self.robbed = -(-len(self) // 2), True
        taken: deque[Segment] = deque()
        while wanted > 0:
            last = self.left.pop()
            keep = max(0, len(last) - wanted)
            taken.appendleft(Segment(last.node, last.start + keep, last.stop))
            wanted -= len(taken[0])
            if keep:
                self.left.append(Segment(last.node, last.start, last.start + keep))
        return taken

    def descend(self, node: Node) -> None:
        """Put the items of a small set in front: the walker goes through it at once."""
        self.left.appendleft(Segment(node, 0, len(node.names)))

    def __len__(self) -> int:
        """Return how many items are left."""
        return sum(len(s) for s in self.left)


class Pace:
    """How many items a worker should be given, learnt from what it did."""

    def __init__(self, seconds: float = BATCH_SECONDS) -> None:
        """Aim at batches that take about `seconds`."""
        self._seconds = seconds
        self.size = FIRST_BATCH

    def learn(self, items: int, seconds: float) -> None:
        """Adapt to a batch of `items` that took `seconds`; at most four times up or down at once."""
        if items > 0:
            wanted = items * self._seconds / max(seconds, 1e-6)
            self.size = int(max(1, self.size / 4, min(wanted, self.size * 4, BATCH_MAX)))


class Frontier:
    """Everything still to be walked. Newest sets first, so that derivations come early and memory stays small."""

    def __init__(self, targets: tuple[AttrPath, ...]) -> None:
        """Start with the targets themselves."""
        top = Node(at="", paths=targets)
        self._pending: deque[Segment] = deque([Segment(top, 0, len(targets))])
        self._alone: deque[Segment] = deque()
        self._waiting = len(targets)
        self._taken = 0

    @property
    def finished(self) -> bool:
        """Say whether nothing is left and nobody may find more."""
        return not self._taken and not self.available

    @property
    def available(self) -> int:
        """Return how many items wait for a worker."""
        return self._waiting + len(self._alone)

    def add(self, node: Node) -> None:
        """Queue all items of a set that was opened."""
        self._put(Segment(node, 0, len(node.names)))

    def take(self, size: int, workers: int) -> Batch | None:
        """Return up to `size` items for one of `workers` workers, few enough that others get some; None if none."""
        if self._alone:
            self._taken += 1
            return Batch(left=deque([self._alone.popleft()]), alone=True)
        share = self._waiting if workers == 1 else -(-self._waiting // (2 * workers))
        room = min(size, max(share, size // SMALLEST_SHARE, 1))
        left: deque[Segment] = deque()
        while self._pending and room > 0 and len(left) < SEGMENTS_MAX:
            left.append(self._cut(room))
            room -= len(left[-1])
        if not left:
            return None
        self._taken += 1
        return Batch(left=left)

    def rob(self, batch: Batch) -> Batch:
        """Take over half of a batch whose worker is stuck with one item."""
        self._taken += 1
        return Batch(left=batch.rob())

    def give_back(self, batch: Batch) -> None:
        """Hear that a worker is done with a batch; what it did not begin is queued again."""
        self._taken -= 1
        for segment in reversed(batch.left):
            self._put(segment)

    def again(self, node: Node, index: int) -> None:
        """Queue an item to be walked alone in a fresh process."""
        self._alone.append(Segment(node, index, index + 1))

    def _put(self, segment: Segment) -> None:
        if len(segment):
            self._pending.appendleft(segment)
            self._waiting += len(segment)

    def _cut(self, room: int) -> Segment:
        front = self._pending[0]
        cut = Segment(front.node, front.start, min(front.stop, front.start + room))
        front.start = cut.stop
        self._waiting -= len(cut)
        if not len(front):
            self._pending.popleft()
        return cut
