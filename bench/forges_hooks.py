"""Many webhooks of a forge while the server builds: how soon they are acknowledged, and whether all are seen to."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final, NamedTuple

from bench.forges_world import FINAL, MEMBER, STRANGER, Delivery, ForgeWorld, Sent, forge_world
from bench.server_world import Figure, Options, percentile, process_of
from tests.support.program import flake, job

WEBHOOKS: Final = 500
WITHIN_S: Final = 10.0
AT_ONCE: Final = 10
PULLS: Final = 50
REPOSITORIES: Final = 5
ACKNOWLEDGED_MS: Final = 200.0
SIZES: Final = range(20 * 1024, 58 * 1024)
WORK: Final = "i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done; echo $i > $out"
"""What a derivation does: something between a fifth of a second and a second of work."""
ROUND: Final = ("pull", "comment", "push", "pull", "twice", "comment", "pull", "push", "comment", "pull")
"""What happens to each pull request, one after another."""


class Burst(NamedTuple):
    """The webhooks, and what should have been looked up afterwards."""

    deliveries: list[Delivery]
    sent: list[Sent]


async def webhooks(options: Options) -> AsyncIterator[Figure]:
    """Send 500 webhooks within 10 s while the server builds."""
    rounds, pulls = (2, 10) if options.quick else (WEBHOOKS // PULLS, PULLS)
    busy = flake(**{f"busy{number}": job(f"busy{number}", WORK) for number in range(40 if options.quick else 400)})
    small = [{"flake__nix": flake(hello=job(f"hello{number}"))} for number in range(1, REPOSITORIES)]
    async with forge_world([{"flake__nix": busy}, *small]) as world:
        await world.until("builds", lambda: _builds(world) > 2)
        numbers = [_open(world, at) for at in range(pulls)]
        moved = {number: _head(world, number, "again") for number in numbers[:: 5 if pulls == PULLS else 2]}
        deliveries = list(_deliveries(world, numbers, rounds))
        cpu, built = process_of(world.server).cpu_s, _builds(world)
        moving = asyncio.create_task(_move(world, moved, deliveries[-1].at_s / 2))
        burst = Burst(deliveries, await world.send(deliveries))
        await moving
        last = max(one.sent_at for one in burst.sent)
        for figure in _acknowledged(burst):
            yield figure
        yield Figure("builds that ended meanwhile", _builds(world) - built, "")
        await world.until("everything is seen to", lambda: not _waiting(world), look_s=0.05)
        yield Figure("all seen to, after the last webhook", time.time() - last, "s")
        for figure in _seen_to(world, burst, numbers):
            yield figure
        await world.until("statuses of all", lambda: not _silent(world, numbers), 300, 0.1)
        yield Figure("all heads have their status, after the last webhook", time.time() - last, "s")
        yield Figure("processor time of the server since the first", process_of(world.server).cpu_s - cpu, "s")
        yield Figure("most memory", process_of(world.server).peak, "MiB")


def _acknowledged(burst: Burst) -> Iterator[Figure]:
    took = [one.took_s * 1e3 for one in burst.sent]
    sizes = [len(one.body) // 1024 for one in burst.deliveries]
    span = max(one.sent_at for one in burst.sent) - min(one.sent_at for one in burst.sent)
    refused = sum(one.status not in {200, 202} for one in burst.sent)
    same = len({one.headers["x-gitea-delivery"] for one in burst.deliveries})
    yield Figure("sent within", span, "s", WITHIN_S, f"{len(took)} webhooks, {min(sizes)} to {max(sizes)} KiB")
    yield Figure("acknowledged, median", percentile(took, 0.5), "ms")
    yield Figure("acknowledged, p99", percentile(took, 0.99), "ms", ACKNOWLEDGED_MS)
    yield Figure("acknowledged, largest", max(took), "ms")
    yield Figure("not acknowledged", refused, "", 0)
    twice = sum(one.status == 202 for one in burst.sent) - same
    yield Figure("taken twice", max(twice, 0), "", 0, f"{len(took) - same} came a second time")


def _seen_to(world: ForgeWorld, burst: Burst, numbers: list[int]) -> Iterator[Figure]:
    """Compare what was looked up at the forge with what webhooks were about."""
    last: dict[str, float] = {}
    for delivery, sent in zip(burst.deliveries, burst.sent, strict=True):
        if delivery.about and sent.status == 202:
            last[delivery.about] = max(last.get(delivery.about, 0.0), sent.sent_at)
    asked = {about: world.hub.asked_at.get(f"GET {about}", []) for about in last}
    missed = [about for about, at in last.items() if max(asked[about], default=0.0) < at]
    looks = sum(len(times) for times in asked.values())
    known = dict(world.ask("select number, head_commit from nm_pull_request"))
    dead = world.ask("select count(*) from nm_hint where state = 'dead'")[0][0]
    yield Figure("given up", dead, "", 0)
    yield Figure("not looked up after its last webhook", len(missed), "", 0, f"{looks} looks at {len(last)} things")
    old = sum(known.get(number) != world.hub.pulls[number]["head"]["sha"] for number in numbers)
    yield Figure("pull requests of which an older head is known", old, "", 0, f"of {len(numbers)}")


def _open(world: ForgeWorld, at: int) -> int:
    path = f"octo/repo{at % REPOSITORIES}"
    head = world.commit(path, f"change {at}", note__txt=f"{at}")
    return world.open(path, MEMBER if at % 2 else STRANGER, head)


def _head(world: ForgeWorld, number: int, text: str) -> str:
    path = world.hub.pulls[number]["base"]["repo"]["full_name"]
    return world.commit(path, f"{text} {number}", note__txt=f"{number} {text}")


async def _move(world: ForgeWorld, heads: dict[int, str], after_s: float) -> None:
    """Push to some pull requests while webhooks come."""
    await asyncio.sleep(after_s)
    for number, head in heads.items():
        world.move(number, head)
        await asyncio.sleep(0.02)


def _deliveries(world: ForgeWorld, numbers: list[int], rounds: int) -> Iterator[Delivery]:
    before: dict[int, Delivery] = {}
    pause_s = WITHIN_S * AT_ONCE / WEBHOOKS * 0.98
    for at in range(rounds * len(numbers)):
        number, kind = numbers[at % len(numbers)], ROUND[at // len(numbers)]
        at_s, size = at // AT_ONCE * pause_s, SIZES[at * 8191 % len(SIZES)]
        if kind == "twice":
            yield before[number]._replace(at_s=at_s)
        elif kind == "push":
            yield world.push_event(world.hub.pulls[number]["base"]["repo"]["full_name"], at_s=at_s, size=size)
        elif kind == "comment":
            yield world.comment_event(number, f"Looks good to me, {at}.", at_s=at_s, size=size)
        else:
            before[number] = world.pull_event(number, at_s=at_s, size=size)
            yield before[number]


def _builds(world: ForgeWorld) -> int:
    return int(world.ask("select count(*) from nm_attempt where work = 'build' and outcome is not null")[0][0])


def _waiting(world: ForgeWorld) -> int:
    return int(world.ask("select count(*) from nm_hint where state = 'waiting'")[0][0])


def _silent(world: ForgeWorld, numbers: list[int]) -> list[int]:
    """Return pull requests whose head has no status yet, or of a member's none that is final."""
    heads = {number: world.hub.pulls[number]["head"]["sha"] for number in numbers}
    final = {number: world.hub.pulls[number]["user"]["login"] == MEMBER for number in numbers}
    states = {number: FINAL if final[number] else FINAL | {"pending"} for number in numbers}
    return [number for number in numbers if world.hub.first(heads[number], states[number]) is None]
