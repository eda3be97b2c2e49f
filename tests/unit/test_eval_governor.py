"""How many workers walk at a time."""

import itertools

from nixmill.edge.evaluator.governor import REST_MAX_S, Governor


class World:
    """Time that passes in steps of a twentieth of a second; `each` is what a worker's share awake is with n at work."""

    def __init__(self, workers: int, *each: float) -> None:
        self.now = 0.0
        self.each = each
        self.governor = Governor(workers, self.now)
        self.history: list[tuple[float, int]] = []

    def run(self, seconds: float, waiting: int = 0) -> "World":
        until = self.now + seconds
        while self.now < until:
            self.now += 0.05
            busy = max(0, self.governor.allowed - waiting)
            self.governor.saw(self.now, 0.05 * busy * self.each[max(busy, 1) - 1], busy)
            if not self.history or self.history[-1][1] != self.governor.allowed:
                self.history.append((self.now, self.governor.allowed))
        return self


def test_the_first_walks_alone_for_a_moment_then_all_do() -> None:
    world = World(4, 1, 1, 1, 1).run(0.2)
    assert world.governor.allowed == 1
    assert world.run(60).governor.allowed == 4
    assert len(world.history) == 2


def test_workers_that_wait_for_a_daemon_as_long_as_one_alone_does_all_stay() -> None:
    assert World(2, 0.6, 0.55).run(60).governor.allowed == 2


def test_workers_that_keep_each_other_asleep_rest_and_get_ever_rarer_chances() -> None:
    world = World(2, 0.95, 0.5).run(100)

    chances = [at for at, allowed in world.history if allowed == 2]
    pauses = [later - earlier for earlier, later in itertools.pairwise(chances)]
    assert [round(pause) for pause in pauses] == sorted(round(pause) for pause in pauses)
    assert max(pauses) < REST_MAX_S + 2
    together = sum(b[0] - a[0] for a, b in itertools.pairwise(world.history) if a[1] == 2)
    assert together < 12


def test_of_many_only_as_many_as_are_of_use_walk() -> None:
    world = World(8, 1, 0.9, 0.8, 0.5, 0.4, 0.3, 0.3, 0.2).run(3)
    assert world.governor.allowed in (2, 3)


def test_a_rest_ends_when_the_reason_has_gone() -> None:
    world = World(2, 1, 0.5).run(4)
    world.each = (1, 1)
    world.run(30)
    world.history.clear()
    assert world.run(60).governor.allowed == 2
    assert len(world.history) == 1


def test_waiting_for_work_is_not_held_against_anyone() -> None:
    world = World(2, 1, 1).run(1)
    world.run(30, waiting=1)
    assert world.governor.allowed == 2


def test_a_single_worker_is_never_judged() -> None:
    assert World(1, 0.1).run(20).governor.allowed == 1
