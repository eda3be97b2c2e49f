"""Whole runs in which something is needed that only a cache of ours holds, or says that it holds."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from nixmill.app import App
from nixmill.cli.wiring import StoreChoice
from nixmill.core.report import RunReport
from nixmill.core.run_event import RunEvent, Verdict
from nixmill.edge.binary_cache.holdings import CacheHoldings, ReadCache
from nixmill.edge.binary_cache.holdings_http import HttpFiles
from nixmill.edge.daemon.store import DaemonStore
from nixmill.edge.daemon.with_caches import BuilderWithCaches, StoreWithCaches
from nixmill.engine.flow import Flow
from nixmill.engine.request import RunRequest
from nixmill.nix.store_path import StorePath
from tests.support.faulty_cache import PUBLIC, Answer, Fault, FaultyCache, always, faulty_cache, publish
from tests.support.held_world import IMPATIENT
from tests.support.program import Project, flake, job
from tests.support.scratch_store import ScratchStore

LIB = job("lib", "echo from the cache > $out")
APP = job("app", "read x < $dep; echo $x > $out", f"dep = {LIB};")


@dataclass
class Ended:
    """How a run ended."""

    verdict: Verdict
    report: RunReport
    notices: list[str]

    @property
    def how(self) -> dict[str, str]:
        """How each attribute became what it is."""
        return {one.name: one.how for one in self.report.attributes}


@pytest.fixture
def project(tmp_path: Path, fresh_store: ScratchStore) -> Project:
    """A checkout whose `lib` was built and published, and is in the store no more; `app` needs it."""
    top = tmp_path / "mill"
    top.mkdir()
    project = Project(top, fresh_store)
    project.commit(flake__nix=flake(lib=LIB))
    done = project.nixmill("run", "--json")
    (lib,) = (StorePath(path) for one in done.report["attributes"] for path in one["outputs"].values())
    publish(fresh_store, lib)
    project.nix_store("--delete", lib)
    assert not Path(lib).exists()
    return project


async def ended(project: Project, cache: FaultyCache, **checks: str) -> Ended:
    """Run the whole of a flake with these checks, with the cache behind the store."""
    project.commit(flake__nix=flake(**checks))
    notices: list[str] = []
    events: list[RunEvent] = []
    files = HttpFiles(cache.url, "main")
    async with App(project.store.environment).open_run(StoreChoice(), notices.append) as doors:
        caches = [ReadCache(name="main", files=files, keys=(PUBLIC,))]
        holdings = CacheHoldings(caches, project.store.store_dir, notices.append, IMPATIENT)
        stocked = StoreWithCaches(cast("DaemonStore", doors.store), holdings, notices.append, holdings.public_keys)
        builders = {name: BuilderWithCaches(builder, stocked) for name, builder in doors.builders.items()}
        request = RunRequest(directory=str(project.top), words=(), compare=False, place=project.store.store_dir)
        flow = Flow(request, replace(doors, store=stocked, builders=builders, may_fetch=True), events.append)
        verdict = await flow.check()
    await files.aclose()
    return Ended(verdict, flow.report(), notices)


async def test_a_dependency_that_only_our_cache_holds_is_fetched_and_the_dependent_built(
    project: Project, fresh_store: ScratchStore
) -> None:
    async with faulty_cache(fresh_store.root / "published") as cache:
        run = await ended(project, cache, lib=LIB, app=APP)
    assert (run.verdict, run.how) == (Verdict.GOOD, {"app": "built", "lib": "fetched"})
    assert run.notices == []


async def test_a_dependency_that_is_no_attribute_is_fetched_too(project: Project, fresh_store: ScratchStore) -> None:
    async with faulty_cache(fresh_store.root / "published") as cache:
        run = await ended(project, cache, app=APP)
    assert (run.verdict, run.how) == (Verdict.GOOD, {"app": "built"})
    assert [attempt.work for attempt in run.report.attempts] == ["fetch", "build"]


TROUBLES: dict[str, tuple[str, Answer]] = {
    "it hangs": ("", Fault.HANG),
    "it fails": ("", 500),
    "it has nothing": ("", 404),
    "it lies": ("nar/", 404),
    "its NARs are corrupt": ("nar/", bytes(100)),
    "its NARs never end": ("nar/", Fault.ENDLESS),
    "its NARs break off": ("nar/", Fault.BREAK),
    "its NARs stall": ("nar/", Fault.STALL),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_whatever_the_cache_does_the_run_ends_well(
    project: Project, fresh_store: ScratchStore, trouble: str
) -> None:
    part, answer = TROUBLES[trouble]
    async with faulty_cache(fresh_store.root / "published") as cache:
        cache.fault = always(part, answer)
        run = await ended(project, cache, lib=LIB, app=APP)
    assert (run.verdict, run.how) == (Verdict.GOOD, {"app": "built", "lib": "built"})
    assert bool(run.notices) is (answer != 404 or part != "")
    assert all("main" in notice for notice in run.notices)
