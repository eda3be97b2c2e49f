"""A process that is killed at each place of a change's way, and again in its next life: always one verdict."""

import random
from pathlib import Path

from tests.support.journey_world import killed_at, template, ticks_of_a_whole_way

__all__ = ["template"]

TWICE = 25
"""Pairs of places that are tried."""


async def test_killed_at_every_place_it_ends_in_one_verdict(template: Path) -> None:
    for tick in range(1, await ticks_of_a_whole_way(template) + 1):
        await killed_at(template, tick)


async def test_killed_in_each_of_three_lives_it_ends_in_one_verdict(template: Path) -> None:
    dice, most = random.Random(5), await ticks_of_a_whole_way(template)  # noqa: S311 - a test that can be repeated
    for _ in range(TWICE):
        await killed_at(template, *(dice.randrange(1, most) for _ in range(3)))
