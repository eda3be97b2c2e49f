"""Live pages over real HTTP: an event where something changed, at most one a second, for those who may see it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from nixmill.core.access import Role, Visibility
from nixmill.core.change import ChangeState, Progress
from nixmill.core.project import Project
from nixmill.engine.live import project_topic, run_topic
from tests.support.pages_world import World
from tests.support.web import Browser, WebWorld, web_world

WAIT_S = 10.0


@dataclass
class Stream:
    """Events as they come."""

    lines: AsyncIterator[str]

    async def next(self) -> tuple[str, Any]:
        """Return the kind and the data of the next event."""
        kind = ""
        async with asyncio.timeout(WAIT_S):
            async for line in self.lines:
                name, _, value = line.partition(": ")
                if name == "event":
                    kind = value
                if name == "data":
                    return kind, json.loads(value)
        raise AssertionError("the stream ended")

    async def silent(self, seconds: float) -> bool:
        """Say whether nothing comes for a while. The stream cannot be read afterwards."""
        try:
            async with asyncio.timeout(seconds):
                await self.next()
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def following(browser: Browser, path: str) -> AsyncIterator[Stream]:
    async with browser.http.stream("GET", path, headers={"Accept": "text/event-stream"}) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        yield Stream(answer.aiter_lines())


@pytest.fixture
async def world() -> AsyncIterator[WebWorld]:
    async with web_world() as made:
        yield made


async def running(world: WebWorld, visibility: Visibility = Visibility.PUBLIC) -> tuple[World, Project, int]:
    pages = World(world.database)
    project = await pages.project("mill", visibility)
    return pages, project, await pages.start(project)


async def test_a_run_is_followed_to_its_end(world: WebWorld) -> None:
    pages, project, run = await running(world)
    async with following(await world.browser(), f"/r/{run}") as stream:
        kind, said = await stream.next()
        assert (kind, said["state"], said["verdict"]) == ("changed", "waiting", None)
        await pages.changes.progress(Progress(number=run, state=ChangeState.BUILDING, counts={"all": 3}))
        world.site.live.tell(run_topic(run), project_topic(project.id))
        assert await stream.next() == (
            "changed",
            {"state": "building", "verdict": None, "status": "running", "counts": {"all": 3}},
        )
        await pages.end(run)
        world.site.live.tell(run_topic(run), ended=True)
        kind, said = await stream.next()
        assert (kind, said["verdict"]) == ("ended", "passed")
        assert [line async for line in stream.lines if line] == []


async def test_a_run_that_ended_says_so_at_once(world: WebWorld) -> None:
    pages, _, run = await running(world)
    await pages.end(run)
    async with following(await world.browser(), f"/r/{run}") as stream:
        assert (await stream.next())[0] == "ended"


async def _tell(world: WebWorld, project: Project, seconds: float) -> None:
    """Say again and again that something changed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        world.site.live.tell(project_topic(project.id))
        await asyncio.sleep(0.01)


async def test_many_changes_are_one_event_a_second(world: WebWorld) -> None:
    _, project, _ = await running(world)
    async with following(await world.browser(), "/p/mill/b/main") as stream:
        assert await stream.next() == ("changed", {})
        began, times = time.monotonic(), list[float]()
        telling = asyncio.create_task(_tell(world, project, 2.5))
        while len(times) < 3:
            assert await stream.next() == ("changed", {})
            times.append(time.monotonic() - began)
        telling.cancel()
    assert times[2] - times[0] > 1.8, "they are a second apart"


async def test_what_may_not_be_seen_is_404_and_does_not_show_in_general_events(world: WebWorld) -> None:
    """W19 for events: nobody learns from the home page's events that a hidden project does something."""
    _, project, run = await running(world, Visibility.PRIVATE)
    stranger, member = await world.browser(), await world.signed_in("ada")
    for path in (f"/r/{run}", "/p/mill", "/p/mill/b/main", "/r/999"):
        answer = await stranger.get(path, headers={"Accept": "text/event-stream"})
        assert answer.status_code == 404, path
    await world.site.members.set_member(project.id, world.users["ada"].id, Role.VIEWER)
    async with following(stranger, "/") as hidden, following(member, "/queue") as shown:
        assert [await hidden.next(), await shown.next()] == [("changed", {})] * 2
        world.site.live.tell(project_topic(project.id))
        assert await shown.next() == ("changed", {})
        assert await hidden.silent(0.3)


async def test_who_leaves_is_forgotten(world: WebWorld) -> None:
    browser = await world.browser()
    async with following(browser, "/machines") as stream:
        await stream.next()
    end = time.monotonic() + WAIT_S
    world.site.live.tell("anything")
    while world.site.live._listeners:
        assert time.monotonic() < end, "the stream goes on without anybody"
        world.site.live.tell("anything")
        await asyncio.sleep(0.02)
