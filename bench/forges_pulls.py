"""Pull requests of one tree, and how soon a forge shows what became of a push."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

from bench.forges_world import FINAL, MEMBER, Delivery, ForgeWorld, forge_world
from bench.server_world import Figure, Options, process_of, spread
from tests.support.program import flake, job

STORM: Final = 100
JOBS: Final = 20
STATUSES_MAX: Final = 3
"""For each change of a storm: it waits, it runs, it is good."""
FIRST_S: Final = 2.0
KNOWN_S: Final = 3.0
PENDING: Final = frozenset({"pending"})


async def storm(options: Options) -> AsyncIterator[Figure]:
    """Open pull requests that have one tree, all at once."""
    count = 10 if options.quick else STORM
    jobs = {f"job{number}": job(f"job{number}") for number in range(JOBS)}
    async with forge_world([{"flake__nix": flake(**jobs)}]) as world:
        await world.until("the first verdict", lambda: _ended(world) == 1)
        process, built = process_of(world.server), _attempts(world)
        evaluated, before, cpu = _evaluations(world), process.resident, process.cpu_s
        process.forget_peak()
        heads = _heads(world, flake(**jobs, more=job("more"), less=job("less")), count)
        events = [world.pull_event(world.open("octo/repo0", MEMBER, head), size=20_000) for head in heads]
        sent = await world.send(events)
        assert {one.status for one in sent} == {202}, sent
        await world.until("all are final", lambda: _final(world, heads) == count, 600, 0.05)
        first = min(one.sent_at for one in sent)
        at = sorted(world.hub.first(head, FINAL) or 0.0 for head in heads)
        await asyncio.sleep(1.0)  # for a status too many
        runs = await _pages(world, range(2, count + 2))
        asked = sum(not any("was evaluated in run" in notice for notice in run["notices"]) for run in runs)
        posted = [sum(one.commit == head for one in world.hub.posted) for head in heads]
        yield Figure("evaluations", _evaluations(world) - evaluated, "", 1, f"of {count} changes")
        yield Figure("runs that did not take the result of another", asked, "", 1)
        yield Figure("attempts to build or to fetch", _attempts(world) - built, "", 2, "2 derivations are new")
        bad = [run["run"]["sentence"] for run in runs if run["run"]["verdict"] != "passed"]
        yield Figure("not good", len(bad), "", 0, "".join(bad[:1]))
        yield Figure("the first is final after", at[0] - first, "s")
        yield Figure(
            "all are final after", at[-1] - first, "s", remark=f"{count / (at[-1] - first):.1f} changes a second"
        )
        yield Figure("statuses posted for a change, mean", sum(posted) / count, "", STATUSES_MAX)
        yield Figure("statuses posted for a change, most", max(posted), "")
        yield Figure("most memory", process.peak, "MiB", remark=f"{before:.0f} before")
        yield Figure("processor time of the server for a change", (process.cpu_s - cpu) / count, "s")


def _heads(world: ForgeWorld, text: str, count: int) -> list[str]:
    tree = world.commit("octo/repo0", "the tree", flake__nix=text)
    return [world.same_tree("octo/repo0", tree, f"change {number}") for number in range(count)]


async def _pages(world: ForgeWorld, numbers: range) -> list[Any]:
    return [await world.server.get(f"/r/{number}") for number in numbers]


def _ended(world: ForgeWorld) -> int:
    return int(world.ask("select count(*) from nm_run where state = 'done'")[0][0])


def _evaluations(world: ForgeWorld) -> int:
    return int(world.ask("select count(*) from nm_evaluation where complete")[0][0])


def _attempts(world: ForgeWorld) -> int:
    return int(world.ask("select count(*) from nm_attempt")[0][0])


def _final(world: ForgeWorld, heads: list[str]) -> int:
    final = {one.commit for one in list(world.hub.posted) if one.context == "nixmill" and one.state in FINAL}
    return len(final & set(heads))


async def first(options: Options) -> AsyncIterator[Figure]:
    """Measure how long after a webhook the forge shows the first pending status, and the verdict of a known tree."""
    pushes = 3 if options.quick else 10
    jobs = {f"job{number}": job(f"job{number}") for number in range(JOBS)}
    pending: list[float] = []
    final: list[float] = []
    known: list[float] = []
    branch: list[float] = []
    async with forge_world([{"flake__nix": flake(**jobs)}]) as world:
        await world.until("the first verdict", lambda: _ended(world) == 1)
        for at in range(pushes):
            tree = world.commit("octo/repo0", f"change {at}", flake__nix=flake(**jobs, more=job(f"more{at}")))
            number = world.open("octo/repo0", MEMBER, tree)
            sent_at = await _send(world, world.pull_event(number))
            pending.append(await _shown(world, sent_at, tree, PENDING))
            final.append(await _shown(world, sent_at, tree, FINAL))
            same = world.same_tree("octo/repo0", tree, "the same again")
            world.move(number, same)
            known.append(await _shown(world, await _send(world, world.pull_event(number)), same, FINAL))
            branch.append(await _pushed(world, world.same_tree("octo/repo0", tree, "merged")))
    for figure in (
        *spread("the first pending status after a webhook", pending, "s", FIRST_S),
        *spread("good after one build, since the webhook", final, "s"),
        *spread("a known tree pushed to a pull request: verdict", known, "s", KNOWN_S),
        *spread("a known tree pushed to main: verdict", branch, "s", KNOWN_S),
    ):
        yield figure


async def _pushed(world: ForgeWorld, head: str) -> float:
    world.tops["octo/repo0"].git("reset", "-q", "--hard", head)
    world.hub.commits.add(head)
    return await _shown(world, await _send(world, world.push_event("octo/repo0")), head, FINAL)


async def _send(world: ForgeWorld, event: Delivery) -> float:
    """Send a webhook; return when it was sent."""
    (sent,) = await world.send([event])
    assert sent.status == 202, sent
    return sent.sent_at


async def _shown(world: ForgeWorld, sent_at: float, head: str, states: frozenset[str]) -> float:
    """Return how many seconds after a webhook the forge has such a status of a commit."""
    await world.until("a status", lambda: world.hub.first(head, states) is not None, 60)
    return max((world.hub.first(head, states) or 0.0) - sent_at, 0.0)
