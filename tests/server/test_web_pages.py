"""Home, project, branch, attribute, evaluation and comparison over a real database and real HTTP."""

import re
from collections.abc import AsyncIterator
from typing import Final

import pytest

from nixmill.core.access import Role, Visibility
from nixmill.core.project import Project
from nixmill.core.run_event import Verdict
from nixmill.core.view.parts import Filter
from tests.support.pages_world import World, attribute
from tests.support.web import WebWorld, web_world

TAG: Final = re.compile(r"<[^>]+>")


@pytest.fixture
async def web() -> AsyncIterator[WebWorld]:
    async with web_world() as made:
        yield made


@pytest.fixture
def world(web: WebWorld) -> World:
    return World(web.database)


def text(page: str) -> str:
    return " ".join(TAG.sub(" ", page.partition("<main")[2]).split())


async def addresses(world: World, project: Project) -> dict[str, str]:
    run = await world.rich(project)
    await world.end(run, Verdict.BUILD_FAILED)
    at = f"/p/{project.name}"
    return {
        "home": "/",
        "project": at,
        "branch": f"{at}/b/main",
        "attribute": f"{at}/a/{'.'.join(attribute('victim').path)}",
        "evaluation": f"/r/{run}",
        "compare": f"/compare/{run - 1}/{run}",
    }


async def test_every_page_is_drawn_from_what_the_database_says(web: WebWorld, world: World) -> None:
    pages = await addresses(world, await world.project("mill"))
    browser = await web.signed_in("ada")
    for name, path in pages.items():
        answer = await browser.get(path)
        assert answer.status_code == 200, (name, text(answer.text))
        twin = await browser.get(path, headers={"Accept": "application/json"})
        assert isinstance(twin.json(), dict), name
    evaluation = text((await browser.get(pages["evaluation"])).text)
    assert "It failed." in evaluation
    assert "newly failing" in evaluation and "Root cause" in evaluation
    assert "1 of 1 default branch is broken" in text((await browser.get("/")).text)


async def test_every_filter_says_as_many_as_it_shows(web: WebWorld, world: World) -> None:
    path = (await addresses(world, await world.project("mill")))["evaluation"]
    browser = await web.browser()
    page = (await browser.get(path)).text
    for which in Filter:
        shown = (await browser.get(path, params={"show": which.value})).text
        table = shown.partition('data-part="table"')[2]
        told = re.search(rf'show={which.value}"[^>]*>.*?<b>(\d+)</b>', page)
        assert table.count("<tr data-row") == (int(told[1]) if told else 0), which


async def test_what_may_not_be_seen_is_not_there(web: WebWorld, world: World) -> None:
    pages = await addresses(world, await world.project("secretive", Visibility.PRIVATE))
    await world.whole(await world.project("open"))
    stranger = await web.browser()
    assert "secretive" not in (await stranger.get("/")).text
    for name, path in pages.items():
        if name != "home":
            assert (await stranger.get(path)).status_code == 404, name


async def test_a_former_name_leads_to_todays_address(web: WebWorld, world: World) -> None:
    project = await world.project("mill")
    pages = await addresses(world, project)
    await web.rename(project, "wheel")
    browser = await web.browser()
    for name in ("project", "branch", "attribute"):
        answer = await browser.get(f"{pages[name]}?before=7" if name == "branch" else pages[name])
        assert answer.status_code == 308, name
        assert answer.headers["location"].startswith("/p/wheel"), name
        assert (await browser.get(answer.headers["location"])).status_code == 200, name


async def test_buttons_stand_there_for_members_only(web: WebWorld, world: World) -> None:
    project = await world.project("mill")
    path = (await addresses(world, project))["evaluation"]
    await web.user("ada")
    assert "Retry failed" not in (await (await web.signed_in("ada")).get(path)).text
    await web.site.members.set_member(project.id, web.users["ada"].id, Role.MEMBER)
    said = text((await (await web.signed_in("ada")).get(path)).text)
    assert "Retry failed tries" in said and "Run anyway looks at all" in said


async def test_a_project_without_runs_has_its_pages(web: WebWorld, world: World) -> None:
    await world.project("empty")
    browser = await web.browser()
    for path in ("/", "/p/empty", "/p/empty/b/main"):
        assert (await browser.get(path)).status_code == 200, path
    assert (await browser.get("/p/empty/a/x")).status_code in {200, 404}
