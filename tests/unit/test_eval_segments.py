"""The queue of what is left to walk."""

import pytest
from hypothesis import given, strategies

from nixmill.edge.evaluator.segments import Batch, Frontier, Node, OverrunError, Pace


def names(count: int) -> list[str]:
    return [f"n{i}" for i in range(count)]


def walk_all(frontier: Frontier, size: int = 3, workers: int = 2) -> list[tuple[str, ...]]:
    found = []
    while (batch := frontier.take(size, workers)) is not None:
        for segment in list(batch.left):
            for index in range(segment.start, segment.stop):
                node, got = batch.begin(segment.node.item_at(index))
                found.append(node.item_path(got))
        frontier.give_back(batch)
    return found


def test_targets_are_the_first_items() -> None:
    frontier = Frontier((("checks",), ()))

    assert sorted(walk_all(frontier)) == [(), ("checks",)]
    assert frontier.finished


def test_a_set_is_walked_in_batches_whose_names_are_addressed_by_index() -> None:
    frontier = Frontier((("a",),))
    walk_all(frontier)
    frontier.add(Node(at="0", paths=None, path=("a",), names=names(5)))

    batch = frontier.take(3, 1)

    assert batch is not None
    assert batch.command() == [([0], 0, 3)]
    assert not frontier.finished
    assert frontier.available == 2


def test_what_a_lost_worker_had_not_begun_is_walked_again() -> None:
    frontier = Frontier((("a",),))
    walk_all(frontier)
    frontier.add(Node(at="0", paths=None, path=("a",), names=names(4)))
    batch = frontier.take(4, 1)
    assert batch is not None
    batch.begin("0.0")
    frontier.give_back(batch)

    assert walk_all(frontier, workers=1) == [("a", "n1"), ("a", "n2"), ("a", "n3")]
    assert frontier.finished


def test_a_small_set_goes_in_front_of_the_rest_of_its_batch() -> None:
    frontier = Frontier((("a",), ("b",)))
    batch = frontier.take(9, 1)
    assert batch is not None
    batch.begin("0")
    batch.descend(Node(at="0", paths=None, path=("a",), names=names(2)))
    node, index = batch.begin("0.0")
    assert node.item_path(index) == ("a", "n0")
    frontier.give_back(batch)

    assert sorted(walk_all(frontier)) == [("a", "n1"), ("b",)]


def test_an_item_out_of_turn_is_refused() -> None:
    frontier = Frontier((("a",), ("b",)))
    batch = frontier.take(2, 1)
    assert batch is not None
    with pytest.raises(ValueError, match="item 1 instead of 0"):
        batch.begin("1")
    batch.begin("0")
    frontier.give_back(batch)
    with pytest.raises(ValueError, match="instead of nothing more"):
        Batch(left=type(batch.left)()).begin("0")


@given(count=strategies.integers(2, 60), begun=strategies.integers(0, 20), rounds=strategies.integers(1, 4))
def test_a_robbed_batch_and_what_was_taken_from_it_are_the_whole(count: int, begun: int, rounds: int) -> None:
    frontier = Frontier(tuple((str(i),) for i in range(count)))
    batch = frontier.take(999, 1)
    assert batch is not None
    found = [batch.begin(str(i))[1] for i in range(min(begun, count))]
    taken = [frontier.rob(batch) for _ in range(rounds) if len(batch)]

    left = [i for part in (batch, *reversed(taken)) for s in part.left for i in range(s.start, s.stop)]

    assert found + left == list(range(count))
    for part in (batch, *taken):
        frontier.give_back(part)
    assert len(walk_all(frontier)) == len(left)
    assert frontier.finished


def test_a_worker_that_comes_to_what_was_taken_from_it_has_overrun() -> None:
    frontier = Frontier((("a",), ("b",), ("c",)))
    batch = frontier.take(3, 1)
    assert batch is not None
    batch.begin("0")
    assert frontier.rob(batch).command() == [([], 2, 3)]
    batch.begin("1")
    with pytest.raises(OverrunError):
        batch.begin("2")


def test_an_item_tried_again_is_alone_and_comes_first() -> None:
    frontier = Frontier((("a",), ("b",)))
    batch = frontier.take(1, 1)
    assert batch is not None
    node, index = batch.begin("0")
    frontier.again(node, index)
    frontier.give_back(batch)

    alone = frontier.take(9, 1)

    assert alone is not None
    assert alone.alone
    assert alone.command() == [([], 0, 1)]
    assert len(alone) == 1


@given(
    sizes=strategies.lists(strategies.integers(0, 40), max_size=12),
    size=strategies.integers(1, 50),
    workers=strategies.integers(1, 8),
)
def test_every_item_of_every_set_is_walked_exactly_once(sizes: list[int], size: int, workers: int) -> None:
    frontier = Frontier(tuple((str(i),) for i in range(len(sizes))))
    walk_all(frontier)
    for i, count in enumerate(sizes):
        frontier.add(Node(at=str(i), paths=None, path=(str(i),), names=names(count)))

    found = walk_all(frontier, size, workers)

    assert sorted(found) == sorted((str(i), name) for i, count in enumerate(sizes) for name in names(count))
    assert frontier.finished


def test_the_pace_aims_at_a_tenth_of_a_second_and_changes_by_steps() -> None:
    pace = Pace(0.1)
    pace.learn(8, 0.008)
    assert pace.size == 32
    pace.learn(32, 0.032)
    assert pace.size == 100
    pace.learn(100, 10.0)
    assert pace.size == 25
    for _ in range(9):
        pace.learn(1, 100.0)
    assert pace.size == 1
    pace.learn(0, 1.0)
    assert pace.size == 1
