"""Runs of several projects and of pull requests while garbage is collected without a pause."""

import asyncio
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.contract.forge_world import Where
from tests.support.kept import HURRIED, collect_garbage, is_valid, kept_pulls, pins, roots_of, run_of, until
from tests.support.mill import declared
from tests.support.nix_world import run
from tests.support.program import Project, flake, job
from tests.support.pull_server import PullServer
from tests.support.scratch_store import ScratchStore

WATCHED: Final = ("one", "two")
"""Projects that are polled, beside the one of the forge."""
FORGED: Final = "hello"
FAILS_EVERY: Final = 7
"""One push of so many has an attribute that fails."""
ATTRIBUTES: Final = 5


@dataclass
class Stress:
    """What came of it."""

    runs: int = 0
    collections: int = 0
    crashed: int = 0
    """Collections that ended by a fault of Nix's own: 2.8 aborts where one of its threads is left behind."""
    deleted: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    """Sentences about what is not as it should be."""


def text_of(project: str, number: int) -> str:
    """Return the flake of a project's push: some attributes change with each one, some seldom; each has an input."""
    checks = {}
    for at in range(ATTRIBUTES):
        name = f"{project}-{at}-{number // (at + 1)}"
        checks[f"a{at}"] = job(name, "read x < $needs; echo $x > $out", f"needs = {job(f'{name}-input')};")
    ends = "exit 1" if fails(number) else "echo > $out"
    return flake(**checks, flaky=job(f"{project}-flaky-{number}", ends))


def fails(number: int) -> bool:
    """Say whether a push has an attribute that fails."""
    return number % FAILS_EVERY == FAILS_EVERY - 1


async def stressed(directory: Path, store: ScratchStore, runs: int) -> Stress:
    """Let about as many runs go through; return what came of it."""
    made = Stress()
    projects = {}
    for name in WATCHED:
        (directory / name).mkdir()
        projects[name] = Project(directory / name, store)
        projects[name].commit(flake__nix=text_of(name, 0))
    lines = "".join(declared(name, f"file://{project.top}") for name, project in projects.items())
    (directory / "projects.toml").write_text(lines)
    settings = f'projects-file = "{directory / "projects.toml"}"\nroots.pull-request-days = 0'
    async with kept_pulls(directory, store, settings) as world:
        world.server.program = HURRIED
        world.project.commit(flake__nix=text_of(FORGED, 0))
        world.server.start()
        await world.server.ready()
        began = time.monotonic()
        await _with_collections(made, world, projects, runs)
        made.seconds = time.monotonic() - began
        await _look_at_the_end(made, world)
    return made


async def _with_collections(made: Stress, world: PullServer, projects: dict[str, Project], runs: int) -> None:
    each = max(2, runs // 4)
    over = asyncio.Event()
    collecting = asyncio.create_task(_collect(made, world.project.store, over))
    pushing = [_push(made, world, name, project, each) for name, project in projects.items()]
    await asyncio.gather(*pushing, _pull_requests(made, world, each))
    over.set()
    await collecting


async def _collect(made: Stress, store: ScratchStore, over: asyncio.Event) -> None:
    while not over.is_set():
        try:
            made.deleted += await asyncio.to_thread(collect_garbage, store)
            made.collections += 1
        except AssertionError as error:
            if "terminate called" not in str(error):
                raise
            made.crashed += 1


async def _push(made: Stress, world: PullServer, name: str, project: Project, count: int) -> None:
    await _ended(made, world, name, project.git("rev-parse", "main"), 0)
    for number in range(1, count):
        commit = await asyncio.to_thread(project.commit, flake__nix=text_of(name, number))
        await _ended(made, world, name, commit, number)


async def _pull_requests(made: Stress, world: PullServer, count: int) -> None:
    """Open pull requests one after another; two of three are merged, and their trees are known to main then."""
    await world.look()
    await _ended(made, world, FORGED, world.project.git("rev-parse", "main"), 0)
    for number in range(1, count):
        pull = world.open("mia", Where.SAME, flake__nix=text_of(FORGED, number))
        await world.told(pull)
        page = await world.server.until(f"/p/{FORGED}/pull/{pull}", lambda page: bool(page["runs"]))
        _note(made, await world.server.ended(page["runs"][0]["number"]), number)
        is_merged = number % 3 != 0
        if is_merged:
            world.project.git("merge", "-q", "--ff-only", world.hub.head(pull))
        world.hub.close(pull, merged=is_merged)
        await world.told(pull)
        if is_merged:
            await world.look()
            await _ended(made, world, FORGED, world.project.git("rev-parse", "main"), number)


async def _ended(made: Stress, world: PullServer, name: str, commit: str, number: int) -> None:
    _note(made, await run_of(world.server, name, commit, verdict=""), number)


def _note(made: Stress, page: Any, number: int) -> None:  # noqa: ANN401 - a page
    """Count a run; note where it came to anything else than was to be expected."""
    made.runs += 1
    wanted = "failed" if fails(number) else "passed"
    if page["run"]["verdict"] != wanted:
        bad = [(row["name"], row["status"]) for row in page["rows"] if row["status"] != "passed"]
        made.faults.append(f"run {page['run']['number']}: {page['run']['sentence']} {page['causes']} {bad}")


async def _look_at_the_end(made: Stress, world: PullServer) -> None:
    """Compare pins, roots and the store, once nothing goes on any more."""
    store = world.project.store
    pinned = {
        path
        for name in (*WATCHED, FORGED)
        for one in await pins(world.server, name)
        for path in one["outputs"].values()
    }
    if len(pinned) != 3 * (ATTRIBUTES + 1):
        made.faults.append(f"{len(pinned)} paths are pinned")
    made.faults += [f"{path} is pinned and not valid" for path in pinned if not is_valid(store, path)]
    try:
        await until(lambda: roots_of(store) == pinned, "roots of just what is pinned", 30.0)
    except AssertionError:
        made.faults.append(f"roots: {_differing(roots_of(store), pinned)}")
    world.server.stop()
    run(store, "nix-collect-garbage", "--option", "keep-derivations", "false")
    good = [path for path in pinned if is_valid(store, path)]
    closure = set(run(store, "nix-store", "--query", "--requisites", *good).split())
    there = {f"{store.store_dir}/{name}" for name in os.listdir(store.store_dir) if name != ".links"}  # noqa: PTH208
    if there != closure:
        made.faults.append(f"the store: {_differing(there, closure)}")


def _differing(found: Iterable[str], wanted: Iterable[str]) -> str:
    surplus, lacking = sorted(set(found) - set(wanted)), sorted(set(wanted) - set(found))
    return f"{len(surplus)} too many, such as {surplus[:5]}, and {len(lacking)} lacking, such as {lacking[:5]}"
